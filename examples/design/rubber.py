"""The search of rubber.yaml: two constants from a force-displacement curve."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from torch_sla import (
    DesignProblem,
    Dirichlet,
    HyperelasticityProblem,
    LevenbergMarquardt,
    Log,
    Measured,
    Parameter,
    Reaction,
    RectangleMesh,
    SweepProblem,
    Variable,
)

DATA = Path(__file__).parent / "data" / "rubber.npz"


def declare() -> DesignProblem:
    sheet = HyperelasticityProblem(
        mesh=RectangleMesh(cells=(12, 8), size=(1.5, 1.0), cell="quad"),
        law="neo_hookean",
        constants={"mu": Parameter("mu", unit="MPa"), "lam": Parameter("lam", unit="MPa")},
        boundary=[Dirichlet("left", 0.0), Dirichlet("right", ["1.5*stretch", 0.0])],
        parameters=[Parameter("stretch")],
        outputs=[Reaction("force", on="right", unit="N/mm")],
    )
    return DesignProblem(
        name="constants of a foam rubber",
        of=SweepProblem(of=sheet, cases={"stretch": [0.05, 0.1, 0.2, 0.3, 0.4, 0.5]}),
        variables=[
            Variable("mu", transform=[Log()], initial=1.0),
            Variable("lam", transform=[Log()], initial=1.0),
        ],
        objective="misfit(force[0], curve)",
        data={"curve": Measured(np.load(DATA)["force"], noise=0.002)},
        optimizer=LevenbergMarquardt(),
    )


def main() -> list[float]:
    found = declare().solve()
    print(found)
    return [float(found.design[name]) for name in ("mu", "lam")]


if __name__ == "__main__":
    main()
