"""The search of source.yaml: a sound source from complex pressures at two frequencies."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from torch_sla import (
    DesignProblem,
    HelmholtzProblem,
    LevenbergMarquardt,
    Measured,
    Parameter,
    Probe,
    RectangleMesh,
    Robin,
    Variable,
)

DATA = Path(__file__).parent / "data" / "source.npz"
ALONG = (0.1, 0.26, 0.42, 0.58, 0.74, 0.9)
WAVENUMBERS = {"low": 4.0, "high": 9.0}


def room(wavenumber: float, cells: int = 16) -> HelmholtzProblem:
    return HelmholtzProblem(
        mesh=RectangleMesh(cells=(cells, cells), cell="quad"),
        order=2,
        wavenumber=wavenumber,
        source="(a + 1j*b)*exp(-((x - xs)**2 + (y - ys)**2)/0.01)",
        boundary=[Robin(["left", "right", "bottom", "top"], f"-{wavenumber}j", 0.0)],
        parameters=[Parameter("xs"), Parameter("ys"), Parameter("a"), Parameter("b")],
        outputs=[Probe("heard", at=[*((0.05, s) for s in ALONG), *((s, 0.95) for s in ALONG)])],
    )


def declare() -> DesignProblem:
    data = np.load(DATA)
    return DesignProblem(
        name="source localisation",
        of={name: room(k) for name, k in WAVENUMBERS.items()},
        variables=[
            Variable("xs", bounds=(0.1, 0.9), initial=0.4),
            Variable("ys", bounds=(0.1, 0.9), initial=0.6),
            Variable("a", initial=1.0),
            Variable("b", initial=0.0),
        ],
        objective="misfit(low_heard, low) + misfit(high_heard, high)",
        data={
            name: Measured(data[f"{name}_real"], imaginary=data[f"{name}_imag"], noise=0.0005)
            for name in WAVENUMBERS
        },
        optimizer=LevenbergMarquardt(),
    )


def main() -> list[float]:
    found = declare().solve()
    print(found)
    return [float(found.design[name]) for name in ("xs", "ys", "a", "b")]


if __name__ == "__main__":
    main()
