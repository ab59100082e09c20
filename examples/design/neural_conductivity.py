"""The search of neural_conductivity.yaml: a conductivity field as a network, which needs no regulariser."""

from __future__ import annotations

import numpy as np
from conductivity import DATA, declare as with_smoothness
from make_data import true_conductivity

from torch_sla import LBFGS, DesignProblem, Logit, Measured, NeuralField, Variable


def declare() -> DesignProblem:
    network = NeuralField(width=10, depth=1, features=4, frequency=0.3, seed=0)
    return DesignProblem(
        name="conductivity of a plate by a neural field",
        of=with_smoothness().of,
        variables=[Variable("kappa", transform=[network, Logit(0.1, 10.0)], initial=1.0)],
        objective="misfit(sensors)",
        data={"sensors": Measured(np.load(DATA)["sensors"], noise=0.01)},
        optimizer=LBFGS(max_iterations=60),
    )


def main() -> float:
    problem = declare()
    found = problem.solve()
    truth = true_conductivity(problem.of.of.sites("kappa"))
    error = float((found.design["kappa"] - truth).norm() / truth.norm())
    print(f"{len(found.unknowns)} weights, misfit {found.objective:.1f}, error {error:.4f}")
    return error


if __name__ == "__main__":
    main()
