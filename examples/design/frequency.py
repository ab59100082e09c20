"""The beam of frequency.yaml, whose lowest natural frequency is maximised."""

from __future__ import annotations

from torch_sla import (
    MMA,
    ConeFilter,
    DesignProblem,
    Dirichlet,
    EigenProblem,
    ElasticityProblem,
    Parameter,
    RectangleMesh,
    Symmetry,
    Variable,
)


def declare() -> DesignProblem:
    beam = ElasticityProblem(
        mesh=RectangleMesh(cells=(40, 8), size=(5.0, 1.0), cell="quad"),
        model="plane_stress",
        young_modulus="0.001 + rho/(1 + 6*(1 - rho))",
        poisson_ratio=0.3,
        density="0.001 + rho + where(abs(x - 2.5) < 0.13 and abs(y - 0.5) < 0.26, 20, 0)",
        boundary=[Dirichlet(["left", "right"], 0.0)],
        parameters=[Parameter("rho", on="cells")],
    )
    return DesignProblem(
        name="stiff beam",
        of=EigenProblem(of=beam, k=3),
        variables=[
            Variable(
                "rho",
                bounds=(0.0, 1.0),
                initial=0.5,
                transform=[Symmetry("x", at=2.5), Symmetry("y", at=0.5), ConeFilter(0.3)],
            )
        ],
        objective="ks(-frequencies, 50, 0.1)",
        constraints=["mean(rho) <= 0.5"],
        optimizer=MMA(max_iterations=40),
    )


def main() -> list[float]:
    problem = declare()
    uniform = problem.of.solve(rho=problem.of.of.sites("rho")[:, 0] * 0 + 0.5).frequencies
    found = problem.solve().solution.frequencies
    print("uniform  ", *(f"{f:.5f}" for f in uniform.tolist()), "Hz")
    print("designed ", *(f"{f:.5f}" for f in found.tolist()), "Hz")
    return found.tolist()


if __name__ == "__main__":
    main()
