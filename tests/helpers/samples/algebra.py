"""Problems without a mesh: matrices by entries, and equations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla import (
    Component,
    EigenProblem,
    Entries,
    LinearProblem,
    NonlinearProblem,
    Parameter,
    Root,
)
from torch_sla.problems.specs.arrays import Array

if TYPE_CHECKING:
    from torch_sla.problems.specs.problem import Problem

__all__ = ["equations", "spectrum", "system"]

ROWS, COLS = Array([0, 0, 1, 1, 1, 2, 2]), Array([0, 1, 0, 1, 2, 1, 2])
DIAGONAL = Array([0, 1, 2])


def system() -> Problem:
    """An unsymmetric matrix by entries."""
    return LinearProblem(
        matrix=Entries(
            rows=ROWS,
            cols=COLS,
            shape=[3, 3],
            values=Parameter("a", shape=(7,), default=[2.0, -0.5, -1.0, 2.5, -0.7, -0.4, 3.0]),
        ),
        rhs=Parameter("b", shape=(3,), default=[1.0, 2.0, 0.5]),
        outputs=[Component("last", index=[2, 0])],
    )


def spectrum() -> Problem:
    """A generalised eigenproblem; the two equal entries off the diagonal are one parameter."""
    return EigenProblem(
        matrix=Entries(
            rows=DIAGONAL,
            cols=DIAGONAL,
            shape=[3, 3],
            values=Parameter("a", shape=(3,), default=[2.0, 3.5, 6.0]),
        ),
        mass=Entries(
            rows=DIAGONAL,
            cols=DIAGONAL,
            shape=[3, 3],
            values=Parameter("m", shape=(3,), default=[1.0, 1.2, 0.9]),
        ),
        k=2,
        outputs=[Component("first", index=[0])],
    )


def equations() -> Problem:
    """Two equations."""
    return NonlinearProblem(
        unknowns=[Root("x", start=1.0), Root("y", start=2.0)],
        residual=["x**2 + y**2 - r2", "x - a*y + sin(x)*c"],
        parameters=[
            Parameter("r2", default=8.0),
            Parameter("a", default=1.1),
            Parameter("c", default=0.2),
        ],
        outputs=[Component("y", index=[1])],
    )
