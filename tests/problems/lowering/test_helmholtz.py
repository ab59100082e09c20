"""What waves carry through the boundary."""

from __future__ import annotations

import pytest

from torch_sla import Dirichlet, Flux, HelmholtzProblem, Integral, Neumann, RectangleMesh, Robin


def test_what_leaves_is_what_waves_and_sources_make() -> None:
    """The equation tested with 1: sources and k² n² u leave through all sides together, to rounding."""
    k, n = 3.0, 1.2
    sides = {"left": "left", "right": "right", "bottom": "bottom", "top": "top"}
    tube = HelmholtzProblem(
        mesh=RectangleMesh(cells=(6, 5), size=(1.0, 0.5), cell="quad"),
        wavenumber=k,
        refraction=n,
        stiffness=0.7,
        source="x + 2*y",
        boundary=[
            Neumann("left", flux="2.0 - 1.0j"),
            Robin("right", "-3.0j", "y + 0.5"),
            Dirichlet("bottom", "x"),
        ],
        outputs=[
            *(Flux(name, on=side) for name, side in sides.items()),
            Flux("two", on=["left", "right"]),
            Integral("whole", "u"),
            Integral("seen", "-3.0j*(u - y - 0.5)", "right"),
        ],
    )
    found = tube.solve()
    left, right, bottom, top, two, whole, seen = (
        complex(found[name]) for name in (*sides, "two", "whole", "seen")
    )
    assert left == pytest.approx(-0.5 * (2 - 1j), rel=1e-12)
    assert top == 0
    assert right == pytest.approx(seen, rel=1e-12)
    assert two == pytest.approx(left + right, rel=1e-12)
    made = 0.5 * (0.5 + 0.5) + (k * n) ** 2 * whole
    assert left + right + bottom == pytest.approx(made, rel=1e-10)
