"""Modes in parts against those of one process: eigenvalues to 1e-10, their gradients, vectors up to a sign."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import torch

import torch_sla as sla
from torch_sla import distribute
from torch_sla.errors import ArgumentError, GradientError, SpecError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from tests.helpers.ranks import Ranks

Values = dict[str, Any]


def plate(cells: int = 4, **more: Any) -> tuple[Any, Values]:
    of = sla.ElasticityProblem(
        mesh=sla.RectangleMesh(cells=(2 * cells, cells), size=(2.0, 1.1)),
        model="plane_stress",
        young_modulus=sla.Parameter("E", on="cells"),
        poisson_ratio=0.3,
        density=sla.Parameter("rho", default=1.0),
        **{"boundary": [sla.Dirichlet("left", 0.0)], **more},
    )
    torch.manual_seed(5)
    values = {"E": (4 * cells * cells,), "rho": ()}
    made = {n: 0.5 + torch.rand(s, dtype=torch.float64) for n, s in values.items()}
    return sla.EigenProblem(of=of, k=3, outputs=[sla.Component("first", index=[0])]), made


def membrane() -> tuple[Any, Values]:
    of = sla.PoissonProblem(
        mesh=sla.DiskMesh(cells=4),
        diffusivity=sla.Parameter("kappa", on="cells"),
        boundary=[sla.Dirichlet("x < 0", 0.0)],
    )
    torch.manual_seed(5)
    kappa = 0.5 + torch.rand(of.mesh_data().n_cells, dtype=torch.float64)
    return sla.EigenProblem(of=of, k=2), {"kappa": kappa}


def floating() -> tuple[Any, Values]:
    """Three rigid motions, and two more."""
    problem, values = plate(8, boundary=[])
    return problem.updated(k=5), values


def pressed(kind: str) -> tuple[Any, Values]:
    problem, values = plate(
        boundary=[sla.Dirichlet("left", 0.0), sla.Neumann("right", traction=(-0.01, 0.0))]
    )
    if kind == "buckling":
        del values["rho"]  # nothing moves
    return problem.updated(kind=kind, k=2), values


def hollow() -> tuple[Any, Values]:
    """A part without mass, more unknowns than are taken for a basis, rollers on one side."""
    problem, values = plate(
        6, boundary=[sla.Dirichlet("left", 0.0), sla.Dirichlet("bottom", 0.0, component=1)]
    )
    of = problem.of.updated(density=sla.Parameter("rho", on="cells"))
    rho = 0.5 + torch.rand(144, dtype=torch.float64)
    rho[:80] = 0.0
    return problem.updated(of=of), {**values, "rho": rho}


def insulated() -> tuple[Any, Values]:
    """A membrane without mass on most of it."""
    problem, values = membrane()
    of = problem.of.updated(capacity=sla.Parameter("c", on="cells"))
    c = torch.zeros_like(values["kappa"])
    c[:20] = 0.5 + torch.rand(20, dtype=torch.float64)
    return problem.updated(of=of), {**values, "c": c}


CASES = {
    "plate": plate,
    "large": lambda: plate(8),
    "free": floating,
    "membrane": membrane,
    "prestressed": lambda: pressed("prestressed"),
    "buckling": lambda: pressed("buckling"),
    "hollow": hollow,
    "insulated": insulated,
}


def found(problem: Any, values: Values) -> dict[str, Tensor]:
    """Eigenvalues, squares of the vectors, and the gradients of a functional of both."""
    given = {name: value.clone().requires_grad_() for name, value in values.items()}
    solution = problem.solve(given)
    modes = solution.whole("modes") if hasattr(problem, "comm") else solution.modes
    outputs = dict(solution.outputs)
    loss = (solution.eigenvalues[-2:] ** 2).sum() + (modes[-1] ** 4).sum()
    loss.backward()
    gradients = {f"gradient of {n}": x.grad for n, x in given.items()}
    every = {"eigenvalues": solution.eigenvalues, "modes": modes[-1] ** 2, **outputs}
    return {n: x.detach() for n, x in (every | gradients).items()}


@cache
def alone(case: str) -> dict[str, Tensor]:
    return found(*CASES[case]())


def same(mine: dict[str, Tensor], case: str) -> None:
    wanted = alone(case)
    assert mine.keys() == wanted.keys()
    for name, value in wanted.items():
        scale = max(float(value.abs().max()), 1e-6)
        # Of vectors found by iterations the error is the square root of that of the values.
        exact = case in ("plate", "membrane", "prestressed") or name == "eigenvalues"
        limit = 1e-10 if exact else 1e-7
        assert float((mine[name] - value).abs().max()) <= limit * scale, name


@pytest.mark.parametrize("case", CASES)
def test_parts_in_one_process(case: str) -> None:
    problem, values = CASES[case]()
    same(found(distribute(problem, 70 if case == "plate" else 3), values), case)


def on_ranks(group: Any, case: str) -> dict[str, Tensor]:
    problem, values = CASES[case]()
    return found(distribute(problem, group=group), values)


@pytest.mark.distributed
@pytest.mark.parametrize(("case", "size"), [("large", 3), ("membrane", 2), ("hollow", 2)])
def test_processes(ranks: Ranks, case: str, size: int) -> None:
    for mine in ranks.run(size, on_ranks, case):
        same(mine, case)


def test_eigenvalues_have_the_names_of_one_process() -> None:
    for case, name, other in (
        ("buckling", "load_factors", "frequencies"),
        ("plate", "frequencies", "load_factors"),
    ):
        problem, values = CASES[case]()
        one, parts = problem.solve(values), distribute(problem, 2).solve(values)
        assert torch.allclose(getattr(parts, name), getattr(one, name), rtol=1e-8)
        for solution in (one, parts):
            with pytest.raises(
                (sla.errors.ArgumentError, AttributeError),
                match=name if case == "buckling" else other,
            ):
                getattr(solution, other)


def test_eigenvalues_of_a_matrix_in_parts_are_frequencies_too() -> None:
    squares = torch.tensor([1.0, 4.0, 9.0, 16.0], dtype=torch.float64)
    A = sla.SparseTensor.diag(squares)
    solution = distribute(sla.EigenProblem(matrix=sla.Parameter("A"), k=2), 2).solve(A=A)
    wanted = squares[:2].sqrt() / (2 * torch.pi)
    assert torch.allclose(solution.frequencies, wanted, rtol=1e-9)
    with pytest.raises(AttributeError, match="load_factors"):
        _ = solution.load_factors


def test_masses_and_files(tmp_path: Path) -> None:
    meshio = pytest.importorskip("meshio")
    problem, values = plate()
    one, parts = problem.solve(values), distribute(problem, 2).solve(values)
    assert torch.allclose(parts.effective_mass, one.effective_mass, rtol=1e-9, atol=1e-12)
    assert torch.allclose(parts.frequencies, one.frequencies, rtol=1e-10)
    for ending in parts.endings:
        parts.save(tmp_path / f"out{ending}")
    piece = meshio.read(tmp_path / "out.1.vtu")
    assert {"mode_1", "mode_2", "mode_3"} <= set(piece.point_data)
    assert "eigenvalues" in (tmp_path / "out.json").read_text()


def test_what_is_refused() -> None:
    problem, values = plate(body_force=("g", 0.0), parameters=[sla.Parameter("g")])
    g = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    with pytest.raises(GradientError, match="'g' requires grad, but neither stiffness nor mass"):
        distribute(problem, 2).solve({**values, "g": g})
    damped = plate()[0].updated(mass_damping=0.1, which="SM")
    with pytest.raises(SpecError, match="damped modes come of factors"):
        distribute(damped, 2)
    drifting = sla.PoissonProblem(
        mesh=sla.RectangleMesh(cells=(3, 3)),
        advection=[1.0, 0.0],
        boundary=[sla.Dirichlet("left", 0.0)],
    )
    with pytest.raises(SpecError, match="not symmetric"):
        distribute(sla.EigenProblem(of=drifting, k=1), 2).solve()


@pytest.mark.parametrize(
    ("changes", "more", "said"),
    [
        ({}, {"boundary": []}, "6 of the 18 free unknowns .* of a body that is held"),
        ({"which": "LM"}, {}, "but for the least modes"),
        ({"sigma": 3.0}, {}, "but for the least modes"),
        ({"k": 14}, {}, "which leaves 9 modes, and 14 were asked for"),
        ({}, {"reaction": -30.0}, "the stiffness has the eigenvalue -.* solve in one process"),
        ({}, {"advection": (9.0, 0.0), "order": 2}, "the operator is not symmetric"),
    ],
)
def test_what_needs_mass_everywhere(
    changes: dict[str, Any], more: dict[str, Any], said: str
) -> None:
    of = sla.PoissonProblem(
        mesh=sla.RectangleMesh(cells=(5, 2), cell="quad"),
        capacity=sla.Parameter("c", on="cells"),
        **{"boundary": [sla.Dirichlet("left", 0.0)], **more},
    )
    c = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0], dtype=torch.float64).repeat(2)
    with pytest.raises((ArgumentError, SpecError), match=said):
        distribute(sla.EigenProblem(of=of, k=2).updated(**changes), 2).solve(c=c)


def test_signs_do_not_depend_on_the_cut() -> None:
    """Two entries of the second mode are equally large and of opposite sign."""
    of = sla.PoissonProblem(
        mesh=sla.RectangleMesh(cells=(16, 9), size=(2.0, 1.1)),
        boundary=[sla.Dirichlet("left", 0.0), sla.Dirichlet("right", 0.0)],
    )
    problem = sla.EigenProblem(of=of, k=3)
    alone = problem.solve().modes
    for parts in (2, 3, 5):
        modes = distribute(problem, parts=parts).solve().whole("modes")
        torch.testing.assert_close(modes, alone, rtol=1e-6, atol=1e-6)


def test_rigid_motions_have_the_frequency_zero() -> None:
    free, values = floating()
    E = values["E"].requires_grad_()
    slopes = []
    for solution in (free.solve(values), distribute(free, 2).solve(values)):
        f = solution["frequencies"]
        assert f[:3].tolist() == [0.0, 0.0, 0.0]
        assert any(note.startswith("3 eigenvalues are") for note in solution.info.notes)
        slopes += torch.autograd.grad(f.sum(), E)
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-6, atol=1e-9)
