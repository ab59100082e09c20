"""A bound of a law is the same for a number that is declared and for what is given or computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from torch_sla import (
    Dirichlet,
    EigenProblem,
    ElasticityProblem,
    Parameter,
    PoissonProblem,
    Radiation,
    RectangleMesh,
    Spring,
    StokesProblem,
    SweepProblem,
    TransientProblem,
)
from torch_sla.errors import ArgumentError, SpecError
from torch_sla.problems.expression import Ranked
from torch_sla.problems.lowering.bounds import require_within
from torch_sla.problems.specs.laws import laws
from torch_sla.problems.specs.place import POSITIVE
from torch_sla.problems.specs.value import ArrayFile

if TYPE_CHECKING:
    from pathlib import Path

FLAT = RectangleMesh(cells=(2, 2))
HELD = Dirichlet("left", 0.0)
ORTHOTROPIC = {"young_modulus": [1.0, 1.0, 1.0], "poisson_ratio": [0.0, 0.0, 0.0]}


def heat(**laws: Any) -> Any:
    return PoissonProblem(mesh=FLAT, source=1.0, boundary=[HELD], **laws)


def body(**laws: Any) -> Any:
    return ElasticityProblem(mesh=FLAT, model="plane_stress", boundary=[HELD], **laws)


def radiating(**laws: Any) -> Any:
    chosen = {"emissivity": 0.5, "ambient": 1.0, **laws}
    boundary = [Dirichlet("left", 1.0), Radiation("right", constant=1.0, **chosen)]
    return PoissonProblem(mesh=FLAT, boundary=boundary)


# Of each law: the problem, what is solved of it, and a value beyond each of its ends.
BOUNDED: dict[str, tuple[Any, list[float]]] = {
    "diffusivity": (lambda v: heat(diffusivity=v), [0.0, -1.0]),
    "capacity": (lambda v: TransientProblem(of=heat(capacity=v), end=1.0, steps=2), [-1.0]),
    "boundary.1.emissivity": (lambda v: radiating(emissivity=v), [-0.5, 1.5]),
    "boundary.1.ambient": (lambda v: radiating(ambient=v), [-1.0]),
    "young_modulus": (lambda v: body(young_modulus=v), [0.0, -1.0]),
    "shear_modulus": (lambda v: body(shear_modulus=[v, 1.0, 1.0], **ORTHOTROPIC), [0.0, -1.0]),
    "thickness": (lambda v: body(thickness=v), [0.0, -1.0]),
    "density": (lambda v: EigenProblem(of=body(density=v), k=1), [-1.0]),
    "boundary.1.stiffness": (
        lambda v: body().updated(boundary=[HELD, Spring("right", v)]),
        [-1.0],
    ),
    "viscosity": (
        lambda v: StokesProblem(mesh=FLAT, viscosity=v, boundary=[Dirichlet("left", 0.0)]),
        [0.0, -1.0],
    ),
    "mass_damping": (lambda v: EigenProblem(of=body(), k=1, mass_damping=v), [-1.0]),
    "stiffness_damping": (lambda v: EigenProblem(of=body(), k=1, stiffness_damping=v), [-1.0]),
}
EACH = [(path, value) for path, (_, values) in BOUNDED.items() for value in values]


@pytest.mark.parametrize(("path", "value"), EACH)
def test_a_number_that_is_declared(path: str, value: float) -> None:
    with pytest.raises(SpecError, match=rf"{path}(\.0)?: it must .*; received {value:g}"):
        BOUNDED[path][0](value)


@pytest.mark.parametrize(("path", "value"), EACH)
def test_a_value_that_is_given(path: str, value: float) -> None:
    problem = BOUNDED[path][0](Parameter("given"))
    with pytest.raises(ArgumentError, match=rf"{path} must .*; it is {value:g}"):
        problem.solve(given=value)


@pytest.mark.parametrize(("path", "value"), EACH)
def test_a_value_that_is_computed(path: str, value: float) -> None:
    problem = BOUNDED[path][0](f"{value} + 0*2")
    with pytest.raises(ArgumentError, match=rf"{path} must .*; it is {value:g}"):
        problem.solve()


def test_every_bound_is_tried() -> None:
    problems = [heat(), radiating(), body(thickness=1.0), StokesProblem(mesh=FLAT)]
    problems += [body().updated(boundary=[HELD, Spring("right", 1.0)])]
    problems += [body(shear_modulus=[1.0, 1.0, 1.0], **ORTHOTROPIC)]
    problems += [EigenProblem(of=body(), mass_damping=1.0, stiffness_damping=1.0)]
    found = {".".join(map(str, law.path)) for p in problems for law in laws(p) if law.place.within}
    assert {path.removeprefix("of.") for path in found} == BOUNDED.keys()


def test_cases_of_a_sweep_name_the_member() -> None:
    sweep = SweepProblem(of=radiating(ambient=Parameter("T")), cases={"T": [1.0, -2.0]})
    with pytest.raises(ArgumentError, match=r"ambient must not be negative; it is -2 of batch"):
        sweep.solve()


def test_arrays_name_the_cell(tmp_path: Path) -> None:
    on_cells = np.ones(8)
    on_cells[5] = -3.0
    np.save(tmp_path / "a.npy", on_cells)
    message = "must be positive; it is -3 in cell 5"
    with pytest.raises(ArgumentError, match=f"young_modulus {message}"):
        body(young_modulus=Parameter("E", on="cells")).solve(E=torch.as_tensor(on_cells))
    with pytest.raises(ArgumentError, match=f"thickness {message}"):
        body(thickness=ArrayFile(str(tmp_path / "a.npy"), on="cells")).solve()


def test_values_on_the_bound_are_solved() -> None:
    black = radiating(emissivity=Parameter("e"), ambient=Parameter("T")).solve(e=1.0, T=0.0)
    assert float(black.u.min()) < 1.0


@pytest.mark.parametrize("d", [1, 2, 3])
def test_matrices_are_judged_by_their_symmetric_part(d: int) -> None:
    rng = np.random.default_rng(d)
    turn = np.linalg.qr(rng.standard_normal((200, d, d)))[0]
    eigenvalues = 10.0 ** rng.uniform(-6, 6, (200, d)) * 1e-150
    eigenvalues[::2, -1] *= -1
    skew = rng.standard_normal((200, d, d)) * 1e-150
    given = (turn * eigenvalues[:, None]) @ turn.transpose(0, 2, 1) + skew - skew.transpose(0, 2, 1)
    # Of eigenvalues beyond rounding of the largest it is certain which sign they have.
    clear = np.abs(eigenvalues).min(1) > 1e-12 * np.abs(eigenvalues).max(1)
    assert clear.sum() > 180
    for m, w in zip(given[clear], eigenvalues[clear], strict=True):
        found = Ranked(torch.as_tensor(m).expand(1, 1, d, d), 2)
        if w.min() > 0:
            require_within(found, POSITIVE, "k")
        else:
            with pytest.raises(ArgumentError, match="k must be positive definite"):
                require_within(found, POSITIVE, "k")


def test_only_a_message_takes_eigenvalues(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longer than a product with the matrix of the problem, and a device would be waited for."""
    law = [["1 + x", 0.5], [0.5, 1.0]]
    with pytest.raises(ArgumentError, match=r"least eigenvalue is -0\.\d+ in cell \d"):
        heat(diffusivity=[["x", 0.5], [0.5, 1.0]]).check()
    monkeypatch.delattr(torch.linalg, "eigvalsh")
    heat(diffusivity=law).check()
