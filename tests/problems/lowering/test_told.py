"""What `check` finds before anything is given: what a solve would refuse of the declaration alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from torch_sla import (
    Dirichlet,
    ElasticityProblem,
    HelmholtzProblem,
    IntervalMesh,
    MeshArrays,
    Neumann,
    Parameter,
    PointLoad,
    PoissonProblem,
    RectangleMesh,
    Robin,
    SweepProblem,
    TransientProblem,
)
from torch_sla.errors import ArgumentError
from torch_sla.problems.specs.value import ArrayFile, Grid

if TYPE_CHECKING:
    from pathlib import Path

FLAT = RectangleMesh(cells=(2, 3))
HELD = Dirichlet("left", 0.0)


def heat(**changes: Any) -> PoissonProblem:
    return PoissonProblem(**{"mesh": FLAT, "source": 1.0, "boundary": [HELD], **changes})


def body(**changes: Any) -> ElasticityProblem:
    return ElasticityProblem(
        **{"mesh": FLAT, "model": "plane_stress", "boundary": [HELD], **changes}
    )


def written(path: Path, array: Any) -> Any:
    np.save(path / "a.npy", np.asarray(array))
    return str(path / "a.npy")


def refuses(problem: Any, message: str) -> None:
    """Both verbs say the same."""
    with pytest.raises(ArgumentError, match=message):
        problem.check()
    with pytest.raises(ArgumentError, match=message):
        problem.solve()


@pytest.mark.parametrize("home", ["cells", "facets", "nodes", "quadrature"])
def test_arrays_of_another_length(tmp_path: Path, home: Any) -> None:
    file = ArrayFile(written(tmp_path, np.ones(7)), on=home)
    refuses(heat(diffusivity=file), rf"diffusivity: .* \(7,\); there are \d+ {home}")


def test_arrays_that_fit_nothing(tmp_path: Path) -> None:
    refuses(
        heat(source=ArrayFile(written(tmp_path, np.ones(7)))), "source: .* fits no kind of site"
    )


@pytest.mark.parametrize("home", ["cells", "facets", "nodes", "quadrature"])
def test_defaults_of_another_length(tmp_path: Path, home: Any) -> None:
    file = ArrayFile(written(tmp_path, np.ones(7)))
    condition = Robin("right", Parameter("h", on=home, default=file), 0.0)
    if home == "quadrature":
        problem = heat(source=Parameter("h", on=home, default=file))
    else:
        problem = heat(boundary=[HELD, condition])
    refuses(problem, rf"'h' has shape \(7,\); expected \[\d+\] \(it lives on {home}\)")


def test_lists_as_defaults() -> None:
    refuses(heat(source=Parameter("f", on="cells", default=[1.0, 2.0])), r"'f' has shape \(2,\)")


def test_conditions(tmp_path: Path) -> None:
    file = ArrayFile(written(tmp_path, np.ones(7)), on="nodes")
    refuses(heat(boundary=[Dirichlet("left", file)]), r"boundary\.0\.value: .*there are 12 nodes")
    refuses(heat(boundary=[HELD, Neumann("right", flux=file)]), r"boundary\.1\.flux: .*12 nodes")
    load = PointLoad(at=[(0.5, 0.5)], value=file)
    refuses(heat(boundary=[HELD, load]), r"boundary\.1\.value: .*12 nodes")


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (heat(advection=[1.0, 0.0, 0.0]), "advection: a vector of 2 components .* received 3"),
        (heat(diffusivity=np.eye(3).tolist()), "diffusivity: a matrix of 2 rows and columns"),
        (body(body_force=[0.0, 0.0, -1.0]), "body_force: a vector of 2 components"),
        (
            body(boundary=[HELD, Neumann("right", traction=[0.0])]),
            r"boundary\.1\.traction: a vector of 2 components",
        ),
        (
            body(boundary=[Dirichlet("left", [0.0, 0.0, 0.0])]),
            r"boundary\.0\.value: .* 3 components",
        ),
        (heat(source="1/(x - x)"), "source: the law is NaN or infinite"),
        (heat(diffusivity="x - 0.5"), "diffusivity must be positive"),
        (body(thickness="y - 10"), "thickness must be positive"),
        (body(poisson_ratio="1.2"), "poisson_ratio: got values from 1.2"),
        (body(young_modulus=[1.0, 1.0, 1.0]), "young_modulus: an orthotropic material has vectors"),
        (
            body(boundary=[HELD, PointLoad(at=[(0.5, 0.5)], value=1.0)]),
            r"boundary\.1\.value: a force has 2 components",
        ),
        (body(model="plane_strain", dilatation="averaged"), "dilatation: simplices of order 1"),
        (HelmholtzProblem(mesh=FLAT, wavenumber=0.0, boundary=[HELD]), "wavenumber must not be"),
    ],
    ids=str,
)
def test_laws_that_need_no_value(problem: Any, message: str) -> None:
    refuses(problem, message)


def test_an_entry_of_a_map_beside_a_parameter(tmp_path: Path) -> None:
    square = MeshArrays(
        points=[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]],
        cells=[[0, 1, 2], [0, 2, 3]],
        cell="triangle",
        cell_tags={"upper": [1]},
    )
    file = ArrayFile(written(tmp_path, np.ones(7)), on="cells")
    problem = PoissonProblem(
        mesh=square,
        diffusivity={"upper": file, "*": Parameter("k", default=1.0)},
        boundary=[Dirichlet("x < 1e-9", 0.0)],
    )
    refuses(problem, "diffusivity.*: .*there are 2 cells")


def test_the_state_at_the_start(tmp_path: Path) -> None:
    file = ArrayFile(written(tmp_path, np.ones(7)), on="nodes")
    at_start: list[Any] = [file, Parameter("u0", on="nodes", default=ArrayFile(file.file))]
    for initial, message in zip(at_start, ["initial: .*12 nodes", r"'u0' has shape"], strict=True):
        refuses(TransientProblem(of=heat(), initial=initial, end=1.0, steps=2), message)


def test_the_problem_of_a_sweep_is_checked(tmp_path: Path) -> None:
    file = ArrayFile(written(tmp_path, np.ones(7)), on="cells")
    of = heat(diffusivity=file, source=Parameter("f"))
    refuses(SweepProblem(of=of, cases={"f": [1.0]}), r"of\.diffusivity: .*12 cells")


def test_what_a_solve_takes_is_taken(tmp_path: Path) -> None:
    np.save(tmp_path / "grid.npy", np.ones((3, 3)))
    grid = Grid(str(tmp_path / "grid.npy"), lower=[0.0, 0.0], upper=[1.0, 1.0])
    inner = PoissonProblem(
        mesh=IntervalMesh(cells=4),
        order=2,
        diffusivity=Parameter("k", default=0.0),  # a place for a value that is always given
        source=Parameter("f"),
        capacity={"*": "1 + x"},
        boundary=[Dirichlet("left", "sin(t)"), Dirichlet("right", 1.0), Neumann("right", flux=0.0)][
            :2
        ],
    )
    TransientProblem(of=inner, initial="x", end=1.0, steps=2).check()
    heat(
        diffusivity=grid, reaction="1 + u**2", boundary=[HELD, Neumann("top", flux="normal[1]")]
    ).check()
