"""Coefficients that see the solution: modules, tables, one graph node, starts and failures."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tests.helpers.devices import NEEDS_CUDA
from tests.helpers.samples import SAMPLES
from torch_sla import (
    Dirichlet,
    Flux,
    Integral,
    IntervalMesh,
    Newton,
    NonlinearProblem,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    Root,
    Solver,
    WeakFormProblem,
)
from torch_sla.errors import ArgumentError, GradientError, SolveError, SpecError

MESH = RectangleMesh(cells=(4, 4))


def learned() -> PoissonProblem:
    return PoissonProblem(
        mesh=MESH,
        diffusivity=Parameter("k", on="quadrature", of=("x", "u")),
        source=3.0,
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Probe("p", at=[(0.81, 0.43)])],
    )


class Law(nn.Module):
    """A positive function of place and solution."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double()

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        return torch.exp(self.net(seen))


def test_the_weights_of_a_law_of_the_solution_get_gradients() -> None:
    problem, law = learned(), Law()
    assert problem.compile().nonlinear
    value = problem.solve(k=law)["p"].sum()
    value.backward()
    weights = list(law.parameters())
    base = [w.detach().clone() for w in weights]
    moves = [torch.randn_like(w) for w in base]
    slope = sum(float((w.grad * m).sum()) for w, m in zip(weights, moves, strict=True))
    remainders = []
    for h in (2e-3, 1e-3):
        with torch.no_grad():
            for w, b, m in zip(weights, base, moves, strict=True):
                w.copy_(b + h * m)
            there = float(problem.solve(k=law)["p"].sum())
        remainders.append(abs(there - float(value.detach()) - h * slope))
    assert remainders[0] > 3.8 * remainders[1]


def test_a_law_of_the_solution_may_be_a_field_after_all() -> None:
    problem = learned()
    field = 1 + torch.rand(problem.compile().counts["quadrature"], dtype=torch.float64)
    plain = problem.updated(diffusivity=Parameter("k", on="quadrature"))
    assert not plain.compile().nonlinear
    torch.testing.assert_close(problem.solve(k=field).u, plain.solve(k=field).u, rtol=1e-9, atol=0)


def test_a_module_of_wrong_shape_is_named() -> None:
    with pytest.raises(ArgumentError, match="'k': the module maps"):
        learned().solve(k=nn.Linear(3, 2).double())


def test_a_law_of_the_solution_is_refused_where_it_cannot_be_seen() -> None:
    with pytest.raises(SpecError, match="law of u"):
        PoissonProblem(mesh=MESH, capacity=Parameter("k", on="quadrature", of=("u",)))
    with pytest.raises(SpecError, match="law of u"):
        PoissonProblem(mesh=MESH, diffusivity=Parameter("k", on="cells", of=("u",)))


def test_one_node_however_many_iterations() -> None:
    def nodes(problem: WeakFormProblem) -> tuple[int, int]:
        lam = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
        solution = problem.solve(lam=lam)
        seen, stack = set(), [solution.u.grad_fn]
        while stack:
            node = stack.pop()
            if node is not None and node not in seen:
                seen.add(node)
                stack += [below for below, _ in node.next_functions]
        return len(seen), solution.info.iterations

    counts = []
    for rtol in (1e-1, 1e-12):
        problem = WeakFormProblem(
            mesh=MESH,
            residual="dot(grad(u), grad(v)) - lam*exp(u)*v",
            parameters=[Parameter("lam")],
            boundary=[Dirichlet(["left", "right"], 0.0)],
            solver=Solver(nonlinear=Newton(rtol=rtol)),
        )
        counts.append(nodes(problem))
    assert counts[0][0] == counts[1][0]
    assert counts[1][1] > counts[0][1]


def test_no_solution_is_an_error_and_no_number() -> None:
    """Bratu's problem beyond its turning point."""
    problem = WeakFormProblem(
        mesh=MESH,
        residual="dot(grad(u), grad(v)) - 50*exp(u)*v",
        boundary=[Dirichlet(["left", "right", "top", "bottom"], 0.0)],
    )
    with pytest.raises(SolveError, match="newton"):
        problem.solve()
    assert not problem.solve(throw=False).info.converged


def test_no_solution_has_no_derivative() -> None:
    """The flux depends on the given value and on `k` besides the solution: that part alone is no gradient."""
    bar = PoissonProblem(
        mesh=IntervalMesh(cells=8),
        diffusivity="1 + k*u**2",
        source=1e7,
        parameters=[Parameter("k"), Parameter("held")],
        boundary=[Dirichlet("left", "held"), Dirichlet("right", 0.0)],
        outputs=[Flux("heat", "left")],
        solver=Solver(nonlinear=Newton(maxiter=3)),
    )
    given = {n: torch.tensor(1.0, dtype=torch.float64, requires_grad=True) for n in ("k", "held")}
    found = bar.solve(given, throw=False)
    assert not found.info.converged
    for value in (found["heat"], found.u):
        with pytest.raises(GradientError, match="did not converge"):
            value.sum().backward(retain_graph=True)
    root = NonlinearProblem(
        residual=["x**3 - 8*c"],
        unknowns=[Root("x", start=1.0)],
        parameters=[Parameter("c")],
        solver=Solver(nonlinear=Newton(maxiter=1)),
    )
    c = torch.ones((), dtype=torch.float64, requires_grad=True)
    with pytest.raises(GradientError, match="did not converge"):
        (root.solve(c=c, throw=False)["x"] + c).sum().backward()


def test_a_start_near_the_solution_saves_iterations() -> None:
    problem = PoissonProblem(
        mesh=MESH, diffusivity="1 + u**2", source=5.0, boundary=[Dirichlet("left", 0.0)]
    )
    first = problem.solve()
    again = problem.solve(start=first.u)
    assert again.info.iterations < first.info.iterations
    torch.testing.assert_close(again.u, first.u, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "name"), [(k, n) for k, samples in SAMPLES.items() for n in samples]
)
def test_single_precision(kind: str, name: str) -> None:
    problem = SAMPLES[kind][name].make()
    exact = problem.solve()
    solver = Solver(dtype="float32")
    if problem.inner is None:
        single = problem.updated(solver=solver).solve()
    else:
        single = problem.updated(of=problem.inner.updated(solver=solver)).solve()
    for field, u in exact.fields.items():
        found = single[field]
        assert found.dtype in (torch.float32, torch.complex64)
        scale = float(u.abs().max())
        assert float((found.to(u) - u).abs().max()) < 2e-3 * scale


def test_modules_of_single_precision_work_in_that_of_the_problem():
    torch.manual_seed(0)
    law = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 1), nn.Softplus())
    twin = copy.deepcopy(law).double()
    problem = PoissonProblem(
        mesh=RectangleMesh(cells=(3, 2)),
        diffusivity=Parameter("k", on="quadrature", of=("x", "u")),
        source=1.0,
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Integral("mean", "u")],
    )
    found, wanted = (problem.solve(k=k)["mean"] for k in (law, twin))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)
    found.backward()
    wanted.backward()
    for a, b in zip(law.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad.float())


@pytest.mark.parametrize(
    ("works", "lies"),
    [pytest.param(*at, marks=NEEDS_CUDA) for at in (("cuda", "cpu"), ("cpu", "cuda"))],
)
def test_what_a_law_holds_besides_weights_moves_too(works: str, lies: str) -> None:
    """Indices and masks are asked beside weights; results return to where the weights are."""

    class Masked(Law):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("order", torch.tensor([2, 0, 1]))
            self.register_buffer("mask", torch.tensor([True, False, True]))

        def forward(self, seen: torch.Tensor) -> torch.Tensor:
            return super().forward(torch.where(self.mask, seen.index_select(-1, self.order), seen))

    law = Masked()
    twin = copy.deepcopy(law).to(lies)
    wanted = learned().solve(k=law)["p"]
    found = learned().updated(solver=Solver(device=works)).solve(k=twin)["p"]
    assert found.device.type == lies
    torch.testing.assert_close(found.detach().cpu(), wanted.detach())
    found.sum().backward()
    wanted.sum().backward()
    for a, b in zip(twin.parameters(), law.parameters(), strict=True):
        torch.testing.assert_close(a.grad.cpu(), b.grad, rtol=1e-6, atol=1e-12)
