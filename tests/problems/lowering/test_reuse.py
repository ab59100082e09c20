"""A tangent kept across Newton steps: fewer factorisations, the same solution and gradient."""

from __future__ import annotations

import torch

from torch_sla import (
    Dirichlet,
    HyperelasticityProblem,
    Newton,
    NonlinearProblem,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    Root,
    Solver,
    clear_cache,
)
from torch_sla.linalg import cache_counters


def warm(reuse: float, **solver: str) -> PoissonProblem:
    return PoissonProblem(
        mesh=RectangleMesh(cells=(6, 6)),
        diffusivity="1 + u**2/4",
        source=Parameter("f", default=5.0),
        boundary=[Dirichlet(["left", "right"], 0.0)],
        outputs=[Probe("p", at=[(0.41, 0.33)])],
        solver=Solver(nonlinear=Newton(reuse=reuse), **solver),
    )


def solved(problem: PoissonProblem) -> tuple[float, float, int, int]:
    """Return output, gradient, numeric factorisations, iterations."""
    clear_cache()
    f = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    before = cache_counters()["factorize"]
    solution = problem.solve(f=f)
    factorised = cache_counters()["factorize"] - before
    solution["p"].sum().backward()
    return float(solution["p"].detach()), float(f.grad), factorised, solution.info.iterations


def test_factors_are_reused() -> None:
    value, slope, factorised, iterations = solved(warm(0.0))
    again, slope_again, fewer, more = solved(warm(0.5))
    assert factorised == iterations
    assert fewer < factorised
    assert fewer < more
    assert abs(again - value) < 1e-9 * abs(value)
    assert abs(slope_again - slope) < 1e-8 * abs(slope)


def test_hierarchies_are_reused() -> None:
    kind = {"method": "bicgstab", "preconditioner": "multigrid", "backend": "pytorch"}
    value, _, made, _ = solved(warm(0.0, **kind))
    again, _, fewer, _ = solved(warm(0.5, **kind))
    assert fewer < made
    assert abs(again - value) < 1e-7 * abs(value)


def test_a_tangent_lives_across_load_steps() -> None:
    def stretched(reuse: float) -> HyperelasticityProblem:
        return HyperelasticityProblem(
            mesh=RectangleMesh(cells=(3, 3)),
            law="neo_hookean",
            constants={"mu": 1.0, "lam": 2.0},
            boundary=[Dirichlet("left", 0.0), Dirichlet("right", [0.05, 0.02])],
            load_steps=4,
            outputs=[Probe("p", at=[(0.41, 0.33)])],
            solver=Solver(nonlinear=Newton(reuse=reuse)),
        )

    clear_cache()
    before = cache_counters()["factorize"]
    solution = stretched(0.5).solve()
    assert cache_counters()["factorize"] - before < 4
    assert any("with an older one" in note for note in solution.info.notes)
    torch.testing.assert_close(solution["p"], stretched(0.0).solve()["p"], rtol=1e-8, atol=0)


def test_a_handful_of_equations() -> None:
    problem = NonlinearProblem(
        unknowns=[Root("x", start=2.0)],
        residual=["x**3 - c"],
        parameters=[Parameter("c", default=27.0)],
        solver=Solver(nonlinear=Newton(reuse=0.3)),
    )
    assert abs(float(problem.solve().x) - 3) < 1e-9
