"""Batches of loads on one matrix: sums of a few solutions, or block after block; the same as each alone."""

from __future__ import annotations

import pytest
import torch

import torch_sla.problems.lowering.blocks as blocks
from tests.helpers.batches import same_as_alone
from torch_sla import (
    Dirichlet,
    ElasticityProblem,
    Field,
    Integral,
    Maximum,
    Neumann,
    Parameter,
    PoissonProblem,
    Probe,
    Reaction,
    RectangleMesh,
    Robin,
    SweepProblem,
    TransientProblem,
    clear_cache,
)
from torch_sla.linalg import cache_counters, clear_factor_cache

MESH = RectangleMesh(cells=(6, 5))


def plate(**more: object) -> PoissonProblem:
    return PoissonProblem(
        **{
            "mesh": MESH,
            "diffusivity": Parameter("k", default=1.0),
            "source": "f*x + sin(f)*y - 1",
            "parameters": [Parameter("f"), Parameter("g", default=0.5)],
            "boundary": [
                Dirichlet("left", "g*y"),
                Robin("right", coefficient=2.0, ambient="f"),
            ],
            "outputs": [
                Probe("p", at=[(0.7, 0.4)]),
                Integral("mean", "u + 2"),
                Integral("flow", "k*grad(u)[0]", on="right"),
                Integral("square", "u**2"),
                Reaction("r", "left"),
                Maximum("top", "u"),
                Field("field", "u"),
            ],
            **more,
        }
    )


def test_loads_linear_in_numbers_take_as_many_solves_as_summands() -> None:
    f = torch.linspace(-2.0, 3.0, 12, dtype=torch.float64)
    every = same_as_alone(plate(), {"f": f})
    assert "12 loads are sums of 3" in every.info.notes
    every = same_as_alone(plate(), {"f": f, "g": f**2})
    assert "12 loads are sums of 4" in every.info.notes
    both = plate().solve(f=f[:, None], g=f[:4])
    torch.testing.assert_close(both.u[:4].diagonal().T, plate().solve(f=f[:4], g=f[:4]).u)


def test_vectors_and_iterations() -> None:
    of = ElasticityProblem(
        mesh=MESH,
        model="plane_stress",
        young_modulus=2.0,
        body_force=["f", "f**2"],
        parameters=[Parameter("f")],
        boundary=[Dirichlet("left", 0.0), Neumann("right", traction=["0.1", "-f"])],
        outputs=[Probe("p", at=[(0.7, 0.4)]), Integral("d", "div(u)"), Reaction("r", "left")],
    )
    f = torch.linspace(0.0, 1.0, 9, dtype=torch.float64)
    for method in ("auto", "cg"):
        problem = of.updated(solver={"method": method})
        assert "9 loads are sums of 4" in same_as_alone(problem, {"f": f}).info.notes


@pytest.mark.parametrize(
    ("problem", "values"),
    [
        (plate(), {"k": torch.linspace(1.0, 2.0, 12).double(), "f": torch.ones(12).double()}),
        (plate(source="x**f"), {"f": torch.linspace(1.0, 2.0, 12).double()}),
        (plate(source="f*x"), {"f": torch.linspace(1.0, 2.0, 3).double()}),
    ],
)
def test_other_batches_are_solved_as_they_are(
    problem: PoissonProblem, values: dict[str, torch.Tensor]
) -> None:
    every = same_as_alone(problem, values)
    assert not any("sums of" in note for note in every.info.notes)


def test_summands_that_cancel_are_solved_together() -> None:
    problem = PoissonProblem(
        mesh=MESH,
        source="f*x - g*x",
        parameters=[Parameter("f"), Parameter("g")],
        boundary=[Dirichlet("left", 0.0)],
    )
    f = torch.full((9,), 1e9, dtype=torch.float64)
    every = problem.solve(f=f, g=f - torch.arange(9.0).double() - 1.0)
    assert not any("sums of" in note for note in every.info.notes)
    one = problem.solve(f=1.0, g=0.0).u
    for i in range(9):
        torch.testing.assert_close(every.u[i], (i + 1.0) * one, rtol=1e-7, atol=1e-9)


def test_gradients_through_sums() -> None:
    f = torch.linspace(-1.0, 1.0, 10, dtype=torch.float64, requires_grad=True)
    k = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)

    def total(f: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        found = plate().solve(f=f, k=k)
        return found["mean"] ** 2 + found["r"] + found["flow"] + found["square"]

    assert torch.autograd.gradcheck(total, (f, k))
    assert torch.autograd.gradgradcheck(lambda f: total(f, k.detach()).sum(), (f[:8],))


@pytest.mark.parametrize("batch", [(11,), (2, 11)])
@pytest.mark.parametrize("sizes", [(4, 1000), (1000, 3), (5, 2)])
def test_blocks_and_their_pieces(
    monkeypatch: pytest.MonkeyPatch, batch: tuple[int, ...], sizes: tuple[int, int]
) -> None:
    problem = plate(source=Parameter("s", on="cells"), boundary=[Dirichlet("left", "g*y")])
    cells = problem.compile().counts["cells"]
    s = torch.rand(*batch, cells, generator=torch.Generator().manual_seed(1)).double()
    g = torch.linspace(0.0, 1.0, 11, dtype=torch.float64)
    whole = problem.solve(s=s, g=g)
    beside = batch[0] if len(batch) > 1 else 1
    points = problem.compile().counts["quadrature"]
    monkeypatch.setattr(blocks, "_BYTES", 8 * 42 * beside * sizes[0])
    monkeypatch.setattr(blocks, "_PIECE", 8 * points * beside * sizes[1])
    clear_cache()
    clear_factor_cache()
    before = cache_counters()["factorize"]
    some = problem.solve(s=s, g=g)
    assert cache_counters()["factorize"] - before == 1
    assert some.batch == whole.batch
    torch.testing.assert_close(some.u, whole.u, rtol=1e-10, atol=1e-12)
    for name, value in whole.outputs.items():
        torch.testing.assert_close(some[name], value, rtol=1e-9, atol=1e-12, msg=name)
    at = torch.tensor([[0.3, 0.3]], dtype=torch.float64)
    torch.testing.assert_close(some.evaluate("u", at), whole.evaluate("u", at))


def test_a_sweep_over_loads_solves_two_systems() -> None:
    of = plate(
        source=Parameter("s"), boundary=[Dirichlet("left", 1.0)], outputs=[Integral("i", "u")]
    )
    loads = [0.5 * i for i in range(20)]
    found = SweepProblem(of=of, cases={"s": loads}).solve()
    assert "20 loads are sums of 2" in found.info.notes
    for row in found.table:
        assert row["i"] == pytest.approx(1.0 + row["s"] * (found.table[2]["i"] - 1.0), rel=1e-9)


def heated(**changes: object) -> ElasticityProblem:
    return ElasticityProblem(
        mesh=RectangleMesh(cells=(4, 4)),
        model="plane_stress",
        young_modulus=1.0,
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Probe("p", at=[(1.0, 0.5)])],
        **changes,
    )


def test_loads_that_multiply_each_other_are_no_sum() -> None:
    a, T = torch.linspace(0.1, 0.2, 12).double(), torch.linspace(1.0, 2.0, 12).double()
    both = heated(thermal_expansion=Parameter("a"), temperature=Parameter("T"))
    coupled = heated(
        thermal_expansion="0.1*(1+0.5*T)", temperature="T", parameters=[Parameter("T")]
    )
    for problem, given in ((both, {"a": a, "T": T}), (coupled, {"T": T})):
        batch = problem.solve(**given)["p"]
        for i in (0, 7):
            alone = problem.solve(**{name: value[i] for name, value in given.items()})["p"]
            torch.testing.assert_close(batch[i], alone, rtol=1e-9, atol=1e-12)
    times = {"end": 1.0, "steps": 4}
    warm = heated(thermal_expansion="0.1*(1+t)", temperature="t")
    same = heated(thermal_expansion=0.1, temperature="t*(1+t)")
    found, wanted = (TransientProblem(of=of, **times).solve()["p"] for of in (warm, same))
    torch.testing.assert_close(found, wanted)
    assert wanted.abs().max() > 0.05


def test_laws_that_do_not_count_are_left_out_and_branches_too() -> None:
    of = PoissonProblem(
        mesh=RectangleMesh(cells=(4, 4)),
        source="where(x > 2, 1/t, t)",
        boundary=[Dirichlet("left", "q*t"), Dirichlet("left", 0.0)],
        parameters=[Parameter("q", default=1.0)],
        outputs=[Probe("p", at=[(1.0, 0.5)])],
    )
    plain = of.updated(source="t", boundary=[Dirichlet("left", 0.0)], parameters=[])
    found, wanted = (TransientProblem(of=p, end=1.0, steps=3).solve()["p"] for p in (of, plain))
    torch.testing.assert_close(found, wanted)
