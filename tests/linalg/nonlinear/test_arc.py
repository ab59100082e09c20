"""Paths over limit points against the truss of von Mises, whose limit loads are known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from torch_sla.errors import Result
from torch_sla.linalg.nonlinear.arc import follow

LIMIT = 2 / 27**0.5
"""Of w (w - 1)(w - 2): at w = 1 - 1/√3; Crisfield, Non-linear Finite Element Analysis 1, Wiley 1991, 1.1."""


def truss(spring: float) -> tuple[object, object]:
    """A truss that a spring pushes: the displacement of the load is the second unknown."""

    def residual(u: Tensor, t: float) -> Tensor:
        w, d = u[0], u[1]
        push = spring * (d - w)
        return torch.stack([w * (w - 1) * (w - 2) - push, push - t])

    def solve(u: Tensor, t: float, b: Tensor) -> Tensor:
        k = 3 * u[0] ** 2 - 6 * u[0] + 2
        J = torch.tensor([[k + spring, -spring], [-spring, spring]], dtype=u.dtype)
        return torch.linalg.solve(J, b)

    return residual, solve


@pytest.mark.parametrize("spring", [10.0, 0.5], ids=["snap-through", "snap-back"])
def test_limit_loads_and_the_end(spring: float) -> None:
    residual, solve = truss(spring)
    path = follow(residual, solve, torch.zeros(2, dtype=torch.float64), first=0.05)
    assert path.result is Result.CONVERGED
    assert path.limits == pytest.approx([LIMIT, -LIMIT], rel=1e-2)
    w, d = path.u.tolist()
    assert w * (w - 1) * (w - 2) == pytest.approx(1.0, rel=1e-9)
    assert d - w == pytest.approx(1 / spring, rel=1e-9)


def test_limit_loads_converge_with_the_step() -> None:
    residual, solve = truss(10.0)
    off = []
    for first in (0.04, 0.01):
        path = follow(residual, solve, torch.zeros(2, dtype=torch.float64), first=first, to=0.38)
        assert path.result is Result.CONVERGED
        assert not path.limits
        path = follow(residual, solve, torch.zeros(2, dtype=torch.float64), first=first)
        off.append(abs(path.limits[0] - LIMIT))
    assert off[1] < 1e-3


def test_a_load_that_is_never_carried() -> None:
    # Softening without end: u exp(-u) stays below 1/e.
    path = follow(
        lambda u, t: u * torch.exp(-u) - t,
        lambda u, t, b: b / ((1 - u) * torch.exp(-u)),
        torch.zeros(1, dtype=torch.float64),
    )
    assert not path.result.ok
    assert path.limits[0] == pytest.approx(0.36788, rel=2e-2)


@pytest.mark.parametrize("first", [0.02, 0.1, 0.25])
@pytest.mark.parametrize("share", [0.9, 0.97, 0.98, 0.99, 0.999, 0.99999, 1.00001, 1.01, 3.0])
def test_a_load_near_the_limit_is_carried_before_the_snap_or_after_it(
    share: float, first: float
) -> None:
    # A step over the limit point must not leave out that the load was carried on the way.
    peak = 2 / 27**0.5
    load = share * peak
    path = follow(
        lambda w, t: w * (w - 1) * (w - 2) - t * load,
        lambda w, t, b: b / (3 * w**2 - 6 * w + 2),
        torch.zeros(1, dtype=torch.float64),
        first=first,
    )
    roots = np.roots([1.0, -3.0, 2.0, -load])
    carried = np.sort(roots[abs(roots.imag) < 1e-9].real)[0 if share < 1 else -1]
    assert float(path.u) == pytest.approx(carried, rel=1e-7)
    assert path.limits == pytest.approx([peak / load, -peak / load] if share > 1 else [], rel=1e-3)
