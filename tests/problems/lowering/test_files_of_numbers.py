"""Numbers that laws take from files: their shapes, which nobody knows before the file is read."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from torch_sla import (
    Dirichlet,
    ElasticityProblem,
    Integral,
    MeshFile,
    Neumann,
    Parameter,
    PoissonProblem,
    RectangleMesh,
    TransientProblem,
    distribute,
)
from torch_sla.assembly import rectangle_mesh, write_mesh
from torch_sla.errors import SpecError

if TYPE_CHECKING:
    from pathlib import Path

CELLS, NODES = 8, 9
HELD = Dirichlet("left", 0.0)


def poisson(**more: Any) -> PoissonProblem:
    return PoissonProblem(
        **{"mesh": RectangleMesh(cells=(2, 2)), "source": 1.0, "boundary": [HELD], **more}
    )


def elastic(**more: Any) -> ElasticityProblem:
    return ElasticityProblem(
        **{
            "mesh": RectangleMesh(cells=(2, 2)),
            "model": "plane_strain",
            "young_modulus": 1.0,
            "poisson_ratio": 0.3,
            "boundary": [HELD],
            **more,
        }
    )


def kept(folder: Path, array: np.ndarray, on: str) -> dict[str, Any]:
    np.save(folder / "k.npy", array)
    return {"type": "file", "file": str(folder / "k.npy"), "on": on}


@pytest.mark.parametrize(
    ("make", "on", "shape", "message"),
    [
        # As many columns as cells have quadrature points, or one: these were members of a batch.
        (lambda k: poisson(source=k), "cells", (CELLS, 1), "source: this is a vector.*of one"),
        (lambda k: poisson(source=k), "cells", (CELLS, 3), r"source.*shape \[3\]; a scalar"),
        (lambda k: poisson(reaction=k), "cells", (CELLS, 1), "reaction: this is a vector"),
        (lambda k: poisson(source=k), "constant", (1,), "source: this is a vector"),
        (lambda k: poisson(source=k), "nodes", (NODES, 1), "source: this is a vector"),
        (lambda k: poisson(diffusivity=k), "constant", (2,), "a scalar or a matrix is needed"),
        (lambda k: poisson(source={"*": k}), "cells", (CELLS, 1), "source: this is a vector"),
        (
            lambda k: poisson(boundary=[HELD, Neumann("right", flux=k)]),
            "cells",
            (CELLS, 1),
            "boundary.1.flux: this is a vector",
        ),
        (lambda k: elastic(density=k, body_force=[1.0, k]), "cells", (CELLS, 2), "need one shape"),
        (
            lambda k: TransientProblem(of=elastic(), end=1.0, steps=1, mass_damping=k),
            "constant",
            (1,),
            "mass_damping: one number",
        ),
        (
            lambda k: TransientProblem(of=poisson(), end=1.0, steps=1, initial=k),
            "nodes",
            (NODES, 2, 1),
            r"initial: this is a matrix.*\[2, 1\]; a scalar or a vector",
        ),
    ],
)
def test_a_shape_that_the_law_has_not_is_refused(make, on, shape, message, tmp_path) -> None:
    problem = make(kept(tmp_path, np.ones(shape), on))
    with pytest.raises(SpecError, match=message):
        problem.solve()


def test_a_list_of_a_file_and_a_number_is_a_vector(tmp_path) -> None:
    f = np.random.default_rng(0).random(CELLS)
    law = kept(tmp_path, f, "cells")
    np.save(tmp_path / "f.npy", np.stack([f, np.full(CELLS, 2.0)], 1))
    together = elastic(body_force={"file": str(tmp_path / "f.npy"), "on": "cells"}).solve().u
    torch.testing.assert_close(elastic(body_force=[law, 2.0]).solve().u, together)
    with pytest.raises(SpecError, match="body_force: the entries of a list need one shape"):
        elastic(body_force=[law, 2.0, [1.0, 2.0]])


def test_what_acts_on_some_cells_is_nothing_of_its_own_shape_elsewhere(tmp_path) -> None:
    """Files and names do not show where they stand that they are vectors."""
    mesh = rectangle_mesh((4, 2))
    there = mesh.points[mesh.cells].mean(1)[:, 0] < 0.3
    tags = {"near": torch.nonzero(there)[:, 0]}
    write_mesh(tmp_path / "m.npz", dataclasses.replace(mesh, cell_tags=tags))
    f = np.random.default_rng(0).random((mesh.n_cells, 2))
    np.save(tmp_path / "every.npy", np.where(there[:, None], f, 0.0))
    own = MeshFile(str(tmp_path / "m.npz"))
    outputs = [Integral("square", "dot(u, u)")]
    g = Parameter("g", on="cells", shape=[2])

    def body(force: Any, **more: Any) -> ElasticityProblem:
        return elastic(mesh=own, body_force=force, outputs=outputs, **more)

    expected = body({"file": str(tmp_path / "every.npy"), "on": "cells"}).solve()["square"]
    law = kept(tmp_path, f, "cells")
    for force in ({"value": law, "on": "near"}, {"near": law, "*": 0}):
        torch.testing.assert_close(body(force).solve()["square"], expected)
    for force in ({"value": "g", "on": "near"}, {"value": g, "on": "near"}):
        named = body(force, parameters=[g])
        torch.testing.assert_close(named.solve(g=f)["square"], expected)
        # Where a process has no cell of the tag, nothing of what acts there is at hand.
        torch.testing.assert_close(distribute(named, 3).solve(g=f)["square"], expected)
