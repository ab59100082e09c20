"""Marks of what runs on a CUDA device, real or simulated, where there is one."""

from __future__ import annotations

import pytest
import torch

__all__ = ["NEEDS_CUDA", "ON_CUDA"]

NEEDS_CUDA = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
ON_CUDA = pytest.param("cuda", marks=NEEDS_CUDA)
