"""Find a conductivity field from noisy sensors, and the weight of its smoothness by the L-curve.

The same search as conductivity.yaml, for five weights: the misfit falls as the weight does, until it follows the
noise and the field gets rough. The corner of the curve, in logarithms, is where both are small (Hansen, SIAM Review
34 (1992), 561-580).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from make_data import true_conductivity

from torch_sla import (
    DesignProblem,
    Dirichlet,
    GaussNewton,
    Log,
    Measured,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    SweepProblem,
    Variable,
)

SENSORS = [
    (round(0.08 + 0.14 * i, 2), round(0.08 + 0.14 * j, 2)) for j in range(7) for i in range(7)
]
HEATERS = {"x0": [0.3, 0.7, 0.3, 0.7], "y0": [0.3, 0.3, 0.7, 0.7]}
DATA = Path(__file__).parent / "data" / "conductivity.npz"


def declare(weight: float = 30.0) -> DesignProblem:
    plate = PoissonProblem(
        mesh=RectangleMesh(cells=(20, 20)),
        diffusivity=Parameter("kappa", on="nodes", default=1.0, unit="W/(m K)"),
        source="50*exp(-40*((x - x0)**2 + (y - y0)**2))",
        boundary=[Dirichlet(["left", "right", "bottom", "top"], 0.0)],
        parameters=[Parameter("x0"), Parameter("y0")],
        outputs=[Probe("sensors", at=SENSORS)],
    )
    cases = [{"x0": x, "y0": y} for x, y in zip(HEATERS["x0"], HEATERS["y0"], strict=True)]
    return DesignProblem(
        name="conductivity of a plate",
        of=SweepProblem(of=plate, cases=cases),
        variables=[Variable("kappa", transform=[Log()], bounds=(0.1, 10.0), initial=1.0)],
        objective=f"misfit(sensors) + {weight:g}*smoothness(log(kappa))",
        data={"sensors": Measured(np.load(DATA)["sensors"], noise=0.01)},
        optimizer=GaussNewton(),
    )


def main() -> float:
    curve = []
    for weight in (1.0, 6.0, 30.0, 150.0, 750.0):
        problem = declare(weight)
        found = problem.solve()
        plate = problem.of.of
        truth = true_conductivity(plate.sites("kappa"))
        error = float((found.design["kappa"] - truth).norm() / truth.norm())
        misfit = float((found["sensors"] - torch.as_tensor(np.load(DATA)["sensors"])).norm()) / 0.01
        rough = (2 * (found.objective - 0.5 * misfit**2) / weight) ** 0.5
        curve.append((weight, misfit, rough, error))
        print(f"weight {weight:4g}  misfit {misfit:6.3f}  roughness {rough:.3f}  error {error:.4f}")
    corner = bend(np.log([row[1:3] for row in curve]))
    print(f"the L-curve bends at weight {curve[corner][0]:g}; the noise alone is a misfit of 14")
    return curve[corner][3]


def bend(points: np.ndarray) -> int:
    """Return the inner point where a curve ``[n, 2]`` turns most to the left."""
    step = np.diff(points, axis=0)
    angle = np.arctan2(step[:, 1], step[:, 0])
    return 1 + int(np.diff(angle).argmax())


if __name__ == "__main__":
    main()
