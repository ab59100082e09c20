"""Values and tolerances of the problems that several processes share."""

from __future__ import annotations

import torch
from torch import Tensor

import torch_sla as sla

__all__ = ["TIGHT", "net", "number", "rand"]

TIGHT = sla.Solver(rtol=1e-13, nonlinear=sla.Newton(rtol=1e-13))


def rand(*shape: int) -> Tensor:
    """Return numbers between 0.5 and 1.5, the same each time."""
    generator = torch.Generator().manual_seed(7)
    return 0.5 + torch.rand(*shape, generator=generator, dtype=torch.float64)


def number(x: float) -> Tensor:
    """Return a number of 64 bits."""
    return torch.tensor(x, dtype=torch.float64)


def net(inputs: int) -> torch.nn.Module:
    """Return a small network whose value is positive."""
    torch.manual_seed(3)
    layers = (torch.nn.Linear(inputs, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    return torch.nn.Sequential(*layers, torch.nn.Softplus()).double()
