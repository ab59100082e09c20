"""Methods that look for a minimum: one per file, options and algorithm, over an `Oracle`."""

from __future__ import annotations

from torch_sla.problems.design.optimizers.base import Optimizer
from torch_sla.problems.design.optimizers.function import FunctionOracle, Quantities
from torch_sla.problems.design.optimizers.gauss_newton import GaussNewton, LevenbergMarquardt
from torch_sla.problems.design.optimizers.lbfgs import LBFGS
from torch_sla.problems.design.optimizers.mma import MMA
from torch_sla.problems.design.optimizers.newton_cg import NewtonCG
from torch_sla.problems.design.optimizers.optimality_criteria import OptimalityCriteria
from torch_sla.problems.design.optimizers.oracle import Evaluation, Oracle, RejectedPoint
from torch_sla.problems.design.optimizers.scipy import Scipy
from torch_sla.problems.design.optimizers.state import State
from torch_sla.problems.design.optimizers.torch_optim import Adam, TorchOptim

__all__ = [
    "LBFGS",
    "MMA",
    "OPTIMIZERS",
    "Adam",
    "Evaluation",
    "FunctionOracle",
    "GaussNewton",
    "LevenbergMarquardt",
    "NewtonCG",
    "OptimalityCriteria",
    "Optimizer",
    "Oracle",
    "Quantities",
    "RejectedPoint",
    "Scipy",
    "State",
    "TorchOptim",
]

OPTIMIZERS: tuple[type[Optimizer], ...] = (
    LBFGS,
    GaussNewton,
    LevenbergMarquardt,
    NewtonCG,
    MMA,
    OptimalityCriteria,
    Adam,
    TorchOptim,
    Scipy,
)
"""Every optimizer; each has a `type` of its own."""
