"""Gradients of everything that can be given, and of graphs that share structure."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad

from torch_sla import (
    Dirichlet,
    Integral,
    Neumann,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    Robin,
    Solver,
    clear_cache,
)
from torch_sla.errors import GradientError
from torch_sla.linalg import cache_counters


def everything() -> PoissonProblem:
    """A problem with a parameter of every kind in every place."""
    return PoissonProblem(
        mesh=RectangleMesh(cells=(5, 4), size=(1.0, 1.3)),
        diffusivity="(1 + kc)*k*kn*kq",
        parameters=[
            Parameter("k", on="cells", default=1.0),
            Parameter("kc", default=0.2),
            Parameter("kn", on="nodes", default=1.0),
            Parameter("kq", on="quadrature", default=1.0),
        ],
        reaction=Parameter("c", default=0.7),
        source=Parameter("f", on="nodes", default=2.0),
        boundary=[
            Dirichlet("left", Parameter("g", on="nodes", default=1.5)),
            Dirichlet("bottom", Parameter("g0", default=1.0)),
            Neumann("top", flux=Parameter("q", on="facets", default=0.3)),
            Robin("right", Parameter("h", default=3.0), Parameter("Ta", on="nodes", default=2.0)),
        ],
        outputs=[Probe("p", at=[(0.33, 0.41)]), Integral("i", "u*kc")],
    )


def given(problem: PoissonProblem) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(4471)
    model = problem.compile()
    values = {}
    for name, parameter in problem.declared.items():
        shape = () if parameter.on == "constant" else (model.counts[parameter.on],)
        values[name] = 0.5 + torch.rand(shape, generator=generator, dtype=torch.float64)
    return values


def test_taylor_orders() -> None:
    problem = everything()
    check = problem.check_gradients(**given(problem), points=problem.mesh_data().points)
    assert set(check.orders) == {*problem.declared, "points"}
    assert check.passed
    assert all(1.95 <= order < 2.3 for order in check.orders.values())


@pytest.mark.parametrize("output", ["p", "i", lambda s: (s["p"] ** 3).sum() + s.u.pow(3).sum()])
def test_taylor_orders_of_outputs(output) -> None:
    problem = everything()
    assert problem.check_gradients(given(problem), output=output).passed


def test_a_wrong_gradient_is_caught() -> None:
    problem = everything()

    def detached(solution):
        return (solution.u * solution.u.detach() ** 2).mean()

    values = given(problem)
    check = problem.check_gradients({"kc": values["kc"], "f": values["f"]}, output=detached)
    assert not check.passed
    assert "<- wrong" in str(check)


def test_second_order() -> None:
    problem = PoissonProblem(
        mesh=RectangleMesh(cells=(3, 3)),
        diffusivity=Parameter("k", on="cells"),
        source=1.0,
        boundary=[Dirichlet("left", 0.0), Robin("right", Parameter("h"), 1.0)],
    )

    def functional(k, h):
        return (problem.solve(k=k, h=h).u ** 2).sum()

    k = 1 + torch.rand(18, dtype=torch.float64)
    h = torch.tensor(2.0, dtype=torch.float64)
    inputs = (k.requires_grad_(), h.requires_grad_())
    assert torch.autograd.gradgradcheck(functional, inputs, fast_mode=True)


def test_two_backward_passes_agree() -> None:
    problem = everything()
    values = given(problem)
    k = values["k"].requires_grad_()
    loss = problem.solve(values)["p"].square().sum()
    (first,) = torch.autograd.grad(loss, k, retain_graph=True)
    (second,) = torch.autograd.grad(loss, k)
    assert torch.equal(first, second)


def test_two_solves_one_backward() -> None:
    problem = everything()
    values = given(problem)
    first, second = values["k"].clone().requires_grad_(), (2 * values["k"]).requires_grad_()

    def loss(k):
        return problem.solve({**values, "k": k})["p"].square().sum()

    (loss(first) + loss(second)).backward()
    for k in (first, second):
        alone = k.detach().clone().requires_grad_()
        loss(alone).backward()
        torch.testing.assert_close(k.grad, alone.grad, rtol=1e-12, atol=0)


def test_line_search_then_backward() -> None:
    problem = everything()
    values = given(problem)
    k = values["k"].clone().requires_grad_()
    loss = problem.solve({**values, "k": k}).u.square().sum()
    with torch.no_grad():
        for step in (0.5, 0.25, 0.1):
            problem.solve({**values, "k": k * (1 + step)})
    loss.backward()
    alone = k.detach().clone().requires_grad_()
    problem.solve({**values, "k": alone}).u.square().sum().backward()
    assert torch.equal(k.grad, alone.grad)


def test_the_second_solve_analyses_nothing() -> None:
    problem = everything()
    values = given(problem)
    problem.solve({**values, "k": values["k"].requires_grad_()}).u.sum().backward()
    before = cache_counters()["analyze"]
    for factor in (2.0, 3.0):
        k = (factor * values["k"]).detach().requires_grad_()
        problem.solve({**values, "k": k}).u.sum().backward()
    # A problem declared anew with other values shares the structure too.
    problem.updated(reaction=2.0).solve({k: v for k, v in values.items() if k != "c"})
    assert cache_counters()["analyze"] == before


def test_loads_in_a_batch_share_one_factor() -> None:
    problem = everything()
    values = given(problem)
    loads = torch.rand(5, problem.compile().counts["facets"], dtype=torch.float64)
    clear_cache()
    before = cache_counters()["factorize"]
    q = loads.requires_grad_()
    problem.solve({**values, "q": q}).u.square().sum().backward()
    assert cache_counters()["factorize"] - before == 1
    assert q.grad.shape == loads.shape


def test_a_network_over_sites() -> None:
    torch.manual_seed(515)
    net = torch.nn.Sequential(
        torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1), torch.nn.Softplus()
    ).double()
    problem = PoissonProblem(
        mesh=RectangleMesh(cells=(6, 6)),
        diffusivity=Parameter("kappa", on="quadrature", of=("x",)),
        source=1.0,
        boundary=[Dirichlet("left", 0.0)],
    )
    by_module = problem.solve(kappa=net).u
    by_tensor = problem.solve(kappa=net(problem.sites("kappa"))[:, 0]).u
    torch.testing.assert_close(by_module, by_tensor)
    loss = by_module.square().sum()
    loss.backward()
    weight = net[0].weight
    direction = torch.randn_like(weight)
    with torch.no_grad():
        slope = (weight.grad * direction).sum()
        losses = []
        for sign in (1, -1):
            weight += sign * 1e-5 * direction
            losses.append(problem.solve(kappa=net).u.square().sum())
            weight -= sign * 1e-5 * direction
    torch.testing.assert_close((losses[0] - losses[1]) / 2e-5, slope, rtol=1e-5, atol=0)


def test_value_and_grad() -> None:
    problem = everything()
    value, gradient = problem.value_and_grad("i", kc=0.4, f=torch.tensor(1.0))
    assert value.shape == ()
    assert gradient["kc"].shape == gradient["f"].shape == ()
    assert gradient["f"].dtype == torch.float32
    with pytest.raises(ValueError, match="one number"):
        problem.value_and_grad(lambda s: s.u, kc=0.4)
    with pytest.raises(GradientError, match="does not depend"):
        problem.value_and_grad(lambda s: torch.zeros(()), kc=0.4)


def test_module() -> None:
    problem = everything()
    module = problem.module(["k", "c"])
    target = problem.solve(k=2.0, c=0.3)["p"].detach()
    optimiser = torch.optim.Adam(module.parameters(), lr=0.1)
    losses = []
    for _ in range(15):
        optimiser.zero_grad()
        loss = (module(f=2.0)["p"] - target).square().sum()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    assert module.trained["k"].shape == (problem.mesh_data().n_cells,)
    with pytest.raises(ValueError, match="trained by this module"):
        module(k=1.0)
    with pytest.raises(ValueError, match="no parameter with a default"):
        problem.module(["nothing"])


def test_moving_points_match_a_mesh_declared_there() -> None:
    problem = PoissonProblem(
        mesh=RectangleMesh(cells=(6, 6)),
        source="exp(x + 2*y)",
        boundary=[Dirichlet("x < 1e-9", "y")],
        outputs=[Probe("p", at=[(0.4, 0.3)])],
    )
    declared = problem.updated(mesh=RectangleMesh(cells=(6, 6), size=(1.0, 2.0)))
    scale = torch.tensor([1.0, 2.0], dtype=torch.float64)
    moved = problem.solve(points=problem.mesh_data().points * scale)
    there = declared.solve()
    torch.testing.assert_close(moved.u, there.u)
    torch.testing.assert_close(moved["p"], there["p"])
    inverted = problem.mesh_data().points.clone()
    inverted[8] = torch.tensor([0.9, 0.9])
    with pytest.raises(ValueError, match=r"cell .* is inverted"):
        problem.solve(points=inverted)


@pytest.mark.parametrize("law", ["k", "k*(1 + 0.1*u*u)"])
def test_small_derivatives_are_not_within_the_absolute_tolerance(law: str) -> None:
    found = []
    for solver in (Solver(), Solver(backend="pytorch", method="bicgstab", atol=1e-6)):
        problem = PoissonProblem(
            mesh=RectangleMesh(cells=(5, 4)),
            diffusivity=law,
            parameters=[Parameter("k", default=1.0)],
            source=10.0,
            boundary=[Dirichlet("left", 0.0)],
            outputs=[Integral("mean", "u")],
            solver=solver,
        )
        k = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
        (g,) = torch.autograd.grad(1e-9 * problem.solve(k=k)["mean"], k)
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(k.detach(), torch.tensor(1e-9, dtype=torch.float64))
            t = forward_ad.unpack_dual(problem.solve(k=dual)["mean"]).tangent
        found.append(torch.stack([g, t]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=0)
