"""Marks of what runs on a CUDA device, real or simulated, where there is one."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.simulated import SIMULATED

__all__ = ["NEEDS_CUDA", "ON_CUDA", "SIMULATION"]

NEEDS_CUDA = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
ON_CUDA = pytest.param("cuda", marks=NEEDS_CUDA)
SIMULATION = [
    pytest.mark.gpu,
    pytest.mark.skipif(not SIMULATED, reason="needs TORCH_SLA_SIMULATED_CUDA=1"),
]
