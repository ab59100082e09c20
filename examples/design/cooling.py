"""The heat sink of cooling.yaml, by moving asymptotes and by optimality criteria."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla import (
    MMA,
    Compliance,
    ConeFilter,
    DesignProblem,
    Dirichlet,
    Maximum,
    OptimalityCriteria,
    Parameter,
    PoissonProblem,
    RectangleMesh,
    Symmetry,
    Variable,
)

if TYPE_CHECKING:
    from torch_sla.problems.design.optimizers import Optimizer


def declare(optimizer: Optimizer | None = None) -> DesignProblem:
    plate = PoissonProblem(
        mesh=RectangleMesh(cells=(40, 40), cell="quad"),
        diffusivity="0.001 + 0.999*rho**3",
        source=1.0,
        boundary=[Dirichlet("y < 1e-9 and abs(x - 0.5) < 0.101", 0.0)],
        parameters=[Parameter("rho", on="cells")],
        outputs=[Compliance("compliance"), Maximum("hottest", "u")],
    )
    return DesignProblem(
        name="heat sink",
        of=plate,
        variables=[
            Variable(
                "rho",
                bounds=(0.0, 1.0),
                initial=0.4,
                transform=[Symmetry("x", at=0.5), ConeFilter(0.05)],
            )
        ],
        objective="compliance",
        constraints=["mean(rho) <= 0.4"],
        optimizer=optimizer or MMA(max_iterations=60),
    )


def main() -> list[float]:
    found = []
    for optimizer in (MMA(max_iterations=60), OptimalityCriteria(max_iterations=60)):
        solution = declare(optimizer).solve()
        found.append(solution.objective)
        print(f"{optimizer.type}: {found[-1]:.5f}, hottest {float(solution['hottest']):.3f}")
    return found


if __name__ == "__main__":
    main()
