"""The search of warming_rod.yaml: three thermal properties from a transient."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from torch_sla import (
    DesignProblem,
    IntervalMesh,
    LevenbergMarquardt,
    Log,
    Measured,
    Neumann,
    Parameter,
    PoissonProblem,
    Probe,
    Robin,
    TransientProblem,
    Variable,
)

DATA = Path(__file__).parent / "data" / "warming_rod.npz"


def declare() -> DesignProblem:
    rod = PoissonProblem(
        mesh=IntervalMesh(cells=12, size=0.1),
        diffusivity=Parameter("k", unit="W/(m K)"),
        capacity=Parameter("c", unit="J/(m3 K)"),
        boundary=[
            Neumann("left", flux=5000.0),
            Robin("right", coefficient=Parameter("h", unit="W/(m2 K)"), ambient=20.0),
        ],
        outputs=[Probe("T", at=[(0.01,), (0.05,), (0.09,)], unit="C")],
    )
    return DesignProblem(
        name="thermal properties from a transient",
        of=TransientProblem(of=rod, initial=20.0, end=1200.0, steps=20, scheme="crank_nicolson"),
        variables=[
            Variable("k", transform=[Log()], initial=5.0),
            Variable("c", transform=[Log()], initial=1e6),
            Variable("h", transform=[Log()], initial=20.0),
        ],
        objective="misfit(T)",
        data={"T": Measured(np.load(DATA)["T"], noise=0.2)},
        optimizer=LevenbergMarquardt(),
    )


def main() -> list[float]:
    found = declare().solve()
    print(found)
    return [float(found.design[name]) for name in ("k", "c", "h")]


if __name__ == "__main__":
    main()
