"""The half MBB beam of mbb_beam.yaml, by optimality criteria and by the method of moving asymptotes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla import (
    MMA,
    Compliance,
    ConeFilter,
    DesignProblem,
    Dirichlet,
    ElasticityProblem,
    OptimalityCriteria,
    Parameter,
    PointLoad,
    RectangleMesh,
    Variable,
)

if TYPE_CHECKING:
    from torch_sla.problems.design.optimizers import Optimizer


def declare(optimizer: Optimizer | None = None) -> DesignProblem:
    beam = ElasticityProblem(
        mesh=RectangleMesh(cells=(60, 20), size=(60.0, 20.0), cell="quad"),
        model="plane_stress",
        young_modulus="1e-9 + (1 - 1e-9)*rho**3",
        poisson_ratio=0.3,
        boundary=[
            Dirichlet("left", 0.0, component=0),
            Dirichlet(at=[(60.0, 0.0)], value=0.0, component=1),
            PointLoad(at=[(0.0, 20.0)], value=[0.0, -1.0]),
        ],
        parameters=[Parameter("rho", on="cells")],
        outputs=[Compliance("compliance")],
    )
    return DesignProblem(
        name="half MBB beam",
        of=beam,
        variables=[Variable("rho", bounds=(0.0, 1.0), initial=0.5, transform=[ConeFilter(2.4)])],
        objective="compliance",
        constraints=["mean(rho) <= 0.5"],
        optimizer=optimizer or OptimalityCriteria(),
    )


def main() -> list[float]:
    found = {}
    for optimizer in (OptimalityCriteria(), MMA(max_iterations=100)):
        solution = declare(optimizer).solve()
        found[optimizer.type] = solution.objective
        print(
            f"{optimizer.type}: compliance {solution.history['objective'][0]:.4f} -> "
            f"{solution.objective:.4f} in {solution.iterations} iterations"
        )
    return list(found.values())


if __name__ == "__main__":
    main()
