"""A perfectly matched layer with walls that take up sound: the walls are stretched with it."""

from __future__ import annotations

from torch_sla import PML, Dirichlet, HelmholtzProblem, Neumann, Probe, RectangleMesh, Robin


def lined(end: float) -> complex:
    """Return the wave in a lined duct whose layer begins at `end`."""
    duct = HelmholtzProblem(
        mesh=RectangleMesh(cells=(round(20 * (end + 0.5)), 2), size=(end + 0.5, 0.2), cell="quad"),
        order=2,
        wavenumber=8.0,
        layer=PML(lower=[-1.0, -1.0], upper=[end, 1.0], thickness=0.5),
        boundary=[
            Dirichlet("left", 1.0),
            Dirichlet("right", 0.0),
            Robin("bottom", "-0.3 - 0.4j", 0.0),
            Robin("top", "-0.3 - 0.4j", 0.0),
            Neumann("top", flux="0.5*(x < 0.5)"),
        ],
        outputs=[Probe("p", at=[(0.31, 0.1)])],
    )
    return complex(duct.solve()["p"][0])


def test_where_the_layer_begins_does_not_matter() -> None:
    near, far = lined(0.5), lined(1.5)
    assert abs(near - far) < 3e-3 * abs(far)
