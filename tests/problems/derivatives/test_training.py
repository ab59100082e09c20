"""Problems inside training loops: modules, networks as coefficients, batches, loaders, copies."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from torch_sla import Dirichlet, Parameter, PoissonProblem, Probe, RectangleMesh
from torch_sla.errors import ArgumentError
from torch_sla.linalg import cache_counters


def plate() -> PoissonProblem:
    return PoissonProblem(
        mesh=RectangleMesh(cells=(6, 6)),
        diffusivity=Parameter("kappa", on="cells", default=1.0),
        source=Parameter("f", default=1.0),
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Probe("T", at=[(0.5, 0.5), (0.9, 0.1), (0.3, 0.8)])],
    )


class Physical(nn.Module):
    """A network for the conductivity, and the physics behind it."""

    def __init__(self, problem: PoissonProblem) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 12), nn.Tanh(), nn.Linear(12, 1), nn.Softplus())
        self.physics = problem.module()
        self.register_buffer("x", problem.sites("kappa").float())

    def forward(self, f: Tensor) -> Tensor:
        return self.physics(kappa=self.net(self.x)[:, 0], f=f)["T"]


def test_a_network_is_trained_through_the_physics_from_a_loader() -> None:
    torch.manual_seed(4)
    problem = plate()
    x = problem.sites("kappa")
    truth = 1.0 + 0.8 * x[:, 0]
    loads = torch.linspace(0.5, 2.0, 12, dtype=torch.float64)
    readings = problem.solve(kappa=truth, f=loads)["T"]
    loader = DataLoader(TensorDataset(loads, readings), batch_size=4)
    model = Physical(problem)
    assert all(name.startswith("net.") for name, _ in model.named_parameters())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(20):
        for f, wanted in loader:
            optimizer.zero_grad()
            loss = (model(f) - wanted).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    assert sum(losses[-3:]) < 0.1 * sum(losses[:3])
    assert model.net[0].weight.grad.dtype == torch.float32


def test_a_batch_of_loads_is_one_factor() -> None:
    model = Physical(plate())
    model(torch.ones(2))
    before = cache_counters()
    with torch.no_grad():
        model.net[0].bias.add_(0.1)
    model(torch.rand(16)).sum().backward()
    after = cache_counters()
    done = {n: after[n] - before.get(n, 0) for n in ("analyze", "factorize", "solve")}
    assert done["analyze"] == 0
    assert done["factorize"] <= 1
    assert done["solve"] == 2


def test_a_module_itself_is_the_value() -> None:
    model = Physical(plate())
    there = plate().solve(kappa=model.net, f=1.0)["T"]
    assert torch.allclose(there, model(torch.tensor(1.0)), rtol=1e-6)
    there.sum().backward()
    assert all(p.grad is not None for p in model.net.parameters())


def test_states_copies_and_pickles() -> None:
    problem = plate()
    module = problem.module(["kappa"])
    with torch.no_grad():
        module.trained["kappa"].mul_(1.7)
    expected = module(f=2.0)["T"]
    fresh = plate().module(["kappa"])
    assert list(module.state_dict()) == ["trained.kappa"]
    fresh.load_state_dict(module.state_dict())
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    for other in (fresh, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(f=2.0)["T"], expected)
    copied = copy.deepcopy(module)
    with torch.no_grad():
        copied.trained["kappa"].mul_(2.0)
    assert torch.equal(module(f=2.0)["T"], expected)
    again = pickle.loads(pickle.dumps(problem))
    assert again == problem
    assert again.spec_hash == problem.spec_hash
    assert torch.equal(again.solve()["T"], problem.solve()["T"])
    with pytest.raises(ArgumentError, match="trained by this module"):
        module(kappa=1.0)


class Simulated(Dataset):
    """Readings made where they are asked for."""

    def __init__(self, problem: PoissonProblem) -> None:
        self.problem = problem

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        f = torch.tensor(1.0 + i, dtype=torch.float64)
        return f, self.problem.solve(f=f)["T"]


def test_workers_of_a_loader_solve() -> None:
    problem = plate()
    unit = problem.solve(f=1.0)["T"]
    for f, T in DataLoader(Simulated(problem), batch_size=2, num_workers=2):
        assert torch.allclose(T, f[:, None] * unit)


def test_a_law_of_the_solution_is_trained() -> None:
    problem = PoissonProblem(
        mesh=RectangleMesh(cells=(4, 4)),
        diffusivity=Parameter("k", on="quadrature", of=("u",)),
        source=1.0,
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Probe("T", at=[(0.9, 0.5)])],
    )
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1), nn.Softplus()).double()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = (problem.solve(k=net)["T"] - 0.3).square().sum()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]
