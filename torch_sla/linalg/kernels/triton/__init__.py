"""Triton kernels for CUDA tensors; every one has a torch fallback that says what it computes.

Importing a file of this folder imports triton, which CUDA builds of torch bring along. The faces
beside this folder do so on first use, where `runs` says that the kernels can run.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["installed", "runs"]


@cache
def installed() -> bool:
    """Whether triton can be imported."""
    return find_spec("triton") is not None


def runs(*tensors: Tensor) -> bool:
    """Whether kernels can take these tensors: on CUDA, or anywhere under Triton's interpreter.

    The interpreter is asked for by ``TRITON_INTERPRET=1`` before the first use, and is for tests.

    Examples
    --------
    >>> import torch
    >>> runs(torch.ones(1, device="meta"))
    False
    """
    for t in tensors:
        if not (t.is_cuda or (t.is_cpu and _interpreted())):
            return False
    return installed()


@cache
def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"
