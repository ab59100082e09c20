"""The cantilever of cantilever_3d.yaml."""

from __future__ import annotations

from torch_sla import (
    MMA,
    BoxMesh,
    Compliance,
    DesignProblem,
    Dirichlet,
    ElasticityProblem,
    HelmholtzFilter,
    Integral,
    Neumann,
    Parameter,
    Projection,
    Symmetry,
    Variable,
)


def declare() -> DesignProblem:
    block = ElasticityProblem(
        mesh=BoxMesh(cells=(16, 4, 8), size=(2.0, 0.5, 1.0), cell="hexahedron"),
        young_modulus="1e-6 + (1 - 1e-6)*rho**3",
        poisson_ratio=0.3,
        boundary=[
            Dirichlet("left", 0.0),
            Neumann("x > 1.999 and z < 0.126", traction=[0.0, 0.0, -1.0]),
        ],
        parameters=[Parameter("rho", on="cells")],
        outputs=[Compliance("compliance"), Integral("volume", "rho")],
    )
    return DesignProblem(
        name="cantilever",
        of=block,
        variables=[
            Variable(
                "rho",
                bounds=(0.0, 1.0),
                initial=0.3,
                transform=[Symmetry("y", at=0.25), HelmholtzFilter(0.25), Projection(beta=2.0)],
            )
        ],
        objective="compliance",
        constraints=["volume <= 0.3"],
        optimizer=MMA(max_iterations=20),
        stages=[{"variables.0.transform.2.beta": 8.0}],
    )


def main() -> float:
    found = declare().solve()
    print(found)
    return found.objective


if __name__ == "__main__":
    main()
