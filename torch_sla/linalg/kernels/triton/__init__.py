"""Triton kernels for CUDA tensors; every one has a torch fallback that says what it computes.

Importing a file of this folder imports triton, which CUDA builds of torch bring along. The faces
beside this folder do so on first use, where `runs` says that the kernels can run.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

    from torch import Tensor

__all__ = ["chosen", "installed", "runs"]


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


def chosen(name: str, fallback: ModuleType, *tensors: Tensor) -> Any:
    """Return the file of this folder that runs these tensors, or its fallback, which has the same functions."""
    return _file(name) if runs(*tensors) else fallback


@cache
def _file(name: str) -> ModuleType:
    return import_module(f"{__name__}.{name}")


@cache
def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"
