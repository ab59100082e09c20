"""Matrices and equations without a mesh."""

from __future__ import annotations

from typing import Any

import torch

import torch_sla as sla
from tests.helpers.shared.values import TIGHT, number, rand
from torch_sla.linalg import SparseTensor

__all__ = ["drums", "links", "pair", "reaction", "system"]


def _ring(n: int) -> SparseTensor:
    """A symmetric matrix of a ring, with weights."""
    i = torch.arange(n)
    w = rand(n)
    row, col = torch.cat([i, (i + 1) % n, i]), torch.cat([(i + 1) % n, i, i])
    return SparseTensor(torch.cat([-w, -w, 2.5 + rand(n)]), row, col, (n, n))


def system() -> tuple[Any, dict[str, Any]]:
    """A matrix given at solve time, two right-hand sides, components."""
    problem = sla.LinearProblem(
        matrix=sla.Parameter("A"),
        rhs=sla.Parameter("b", shape=(30,)),
        outputs=[sla.Component("some", index=[3, 17, 3]), sla.Component("first", index=[0])],
        solver=TIGHT,
    )
    return problem, {"A": _ring(30), "b": rand(2, 30)}


def drums() -> tuple[Any, dict[str, Any]]:
    """Modes of a given matrix with a given mass."""
    problem = sla.EigenProblem(
        matrix=sla.Parameter("K"),
        mass=sla.Parameter("M"),
        k=3,
        outputs=[sla.Component("second", index=[1])],
    )
    M = SparseTensor.eye(40, dtype=torch.float64)
    return problem, {"K": _ring(40), "M": SparseTensor.from_pattern(M.pattern, rand(40))}


def reaction() -> tuple[Any, dict[str, Any]]:
    """Equations of a vector and a number, with products over the whole, components and a branch."""
    n = 30
    problem = sla.NonlinearProblem(
        unknowns=[sla.Root("u", size=n, start=0.1), sla.Root("s", start=1.0)],
        matrices={"A": sla.Parameter("A")},
        residual=[
            "dot(A, u) + where(s > 0.02, k*u**3, exp(u)) - s*f",
            "s - 2 + dot(u, u)/10 + u[2]*norm(f)*dot(p, p)",
        ],
        parameters=[
            sla.Parameter("k"),
            sla.Parameter("f", shape=(n,)),
            sla.Parameter("p", shape=(2,)),
        ],
        outputs=[sla.Component("some", index=[2, n])],
        solver=TIGHT,
    )
    return problem, {"A": _ring(n), "k": number(0.7), "f": rand(n), "p": 0.1 * rand(2)}


def pair() -> tuple[Any, dict[str, Any]]:
    """Two equations, for more parts than there are."""
    problem = sla.LinearProblem(
        matrix=[[2.0, 1.0], [1.0, 3.0]],  # type: ignore[arg-type]  # made an array of
        rhs=sla.Parameter("b", shape=(2,)),
        solver=TIGHT,
    )
    return problem, {"b": rand(3, 2)}


def links() -> tuple[Any, dict[str, Any]]:
    """Two numbers that satisfy two equations, for more parts than there are."""
    problem = sla.NonlinearProblem(
        unknowns=[sla.Root("u", start=1.0), sla.Root("s", start=1.0)],
        residual=["u**3 + s - k", "s**3 - u/2 - 1"],
        parameters=[sla.Parameter("k")],
        solver=TIGHT,
    )
    return problem, {"k": number(2.7)}
