"""The search of inclusion.yaml: a field that jumps, by total variation and by smoothness."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from conductivity import HEATERS, SENSORS
from make_data import true_inclusion

from torch_sla import (
    LBFGS,
    DesignProblem,
    Dirichlet,
    Log,
    Measured,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    SweepProblem,
    Variable,
)

DATA = Path(__file__).parent / "data" / "inclusion.npz"


def plate(cells: int = 20, order: int = 1) -> SweepProblem:
    one = PoissonProblem(
        mesh=RectangleMesh(cells=(cells, cells), cell="quad"),
        order=order,
        diffusivity=Parameter("kappa", on="cells", unit="W/(m K)"),
        source="50*exp(-40*((x - x0)**2 + (y - y0)**2))",
        boundary=[Dirichlet(["left", "right", "bottom", "top"], 0.0)],
        parameters=[Parameter("x0"), Parameter("y0")],
        outputs=[Probe("sensors", at=SENSORS)],
    )
    cases = [{"x0": x, "y0": y} for x, y in zip(HEATERS["x0"], HEATERS["y0"], strict=True)]
    return SweepProblem(of=one, cases=cases)


def declare(regulariser: str = "30*total_variation(log(kappa), 0.05)") -> DesignProblem:
    return DesignProblem(
        name="inclusion in a plate",
        of=plate(),
        variables=[Variable("kappa", transform=[Log()], bounds=(0.1, 10.0), initial=1.0)],
        objective=f"misfit(sensors) + {regulariser}",
        data={"sensors": Measured(np.load(DATA)["sensors"], noise=0.005)},
        optimizer=LBFGS(max_iterations=300, memory=20),
    )


def main() -> list[float]:
    errors = []
    for problem in (declare(), declare("10*smoothness(log(kappa))")):
        kappa = problem.solve().design["kappa"]
        truth = true_inclusion(problem.of.of.sites("kappa"))
        errors.append(float((kappa - truth).norm() / truth.norm()))
        print(f"{problem.objective}: error {errors[-1]:.4f}")
    return errors


if __name__ == "__main__":
    main()
