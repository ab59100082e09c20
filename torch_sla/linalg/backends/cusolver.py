"""NVIDIA cuSOLVER's sparse solvers: kept for comparison, never chosen by a plan.

The library factorises anew in every solve, one right-hand side at a time, and NVIDIA has deprecated
this part of it in favour of cuDSS. Its LU exists for host memory only. Reached through
nvmath-python's bindings of ``cusolverSp``.
"""

from __future__ import annotations

import importlib.util
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from torch_sla.errors import Result, SolveError
from torch_sla.linalg.backends.base import (
    Backend,
    Capabilities,
    Method,
    Mode,
    Numeric,
    Solution,
    SolveOptions,
    Symbolic,
)

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["CuSolver"]

_LETTERS = {torch.float32: "s", torch.float64: "d", torch.complex64: "c", torch.complex128: "z"}
_CALLS = {"cholesky": "csrlsvchol", "qr": "csrlsvqr", "lu": "csrlsvlu_host"}
# Reverse Cuthill-McKee: the one ordering that every call knows.
_REORDER = 1


@cache
def _unavailable() -> str | None:
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    if importlib.util.find_spec("nvmath") is None:
        return (
            "nvmath-python is not installed; pip install 'torch-sla-physics[cuda13]' (or [cuda12])"
        )
    try:
        _library(torch.cuda.current_device())
    except (ImportError, RuntimeError, OSError) as error:
        return f"cuSOLVER's sparse solvers do not load ({error})"
    return None


class _Library:
    """The bindings with a matrix description and a handle, of the current device; one call at a time."""

    def __init__(self) -> None:
        from nvmath.bindings import cusolverSp, cusparse

        self.solvers: Any = cusolverSp
        self.lock = threading.Lock()
        self.handle = int(cusolverSp.create())
        self.description = int(cusparse.create_mat_descr())


@cache
def _library(device: int) -> _Library:
    with torch.cuda.device(device):
        return _Library()


class CuSolver(Backend):
    """``cholesky``, ``qr`` and ``lu`` of cuSOLVER; there is nothing to keep between solves."""

    name = "cusolver"
    capabilities = Capabilities(
        methods=(
            Method("cholesky", "direct", "positive_definite", aliases=("llt",)),
            Method("lu", "direct"),
            Method("qr", "direct"),
        ),
        devices=frozenset({"cuda"}),
        recommended=False,
    )

    def unavailable(self) -> str | None:
        return _unavailable()

    def analyze(self, pattern: Pattern, method: str, structure: Structure) -> Symbolic:
        if pattern.ccol.dtype is not torch.int32 or pattern.crow.dtype is not torch.int32:
            raise SolveError(Result.OUT_OF_MEMORY, "cuSOLVER takes 32-bit indices only")
        return Symbolic(pattern, method, structure)

    def factorize(self, symbolic: Symbolic, values: Tensor, options: SolveOptions) -> Numeric:
        del values, options
        return Numeric(symbolic, None)

    def solve(
        self,
        numeric: Numeric,
        values: Tensor,
        b: Tensor,
        mode: Mode = "n",
        *,
        options: SolveOptions,
        x0: Tensor | None = None,
    ) -> Solution:
        del options, x0
        pattern, method = numeric.symbolic.pattern, numeric.symbolic.method
        b = b.resolve_conj().resolve_neg()
        turned = values.is_complex() and mode == ("t" if method == "cholesky" else "h")
        if method != "cholesky" and mode != "n":
            values, pattern = pattern.transpose_values(values), pattern.transposed
        values = values.resolve_conj().resolve_neg().contiguous()
        columns = (b.conj().resolve_conj() if turned else b).mT.contiguous()
        x = torch.stack([_solve(method, pattern, values, c) for c in columns], 1)
        return Solution(x.conj().resolve_conj() if turned else x)


def _solve(method: str, pattern: Pattern, values: Tensor, b: Tensor) -> Tensor:
    """Factorise and solve for one right-hand side ``[n]``."""
    lib = _library(b.get_device())
    arrays = (values, pattern.crow, pattern.ccol, b)
    if method == "lu":
        arrays = tuple(t.cpu() for t in arrays)  # type: ignore[assignment]
    x, singular = torch.empty_like(arrays[3]), np.zeros(1, dtype=np.int32)
    a, crow, ccol, rhs = (t.data_ptr() for t in arrays)
    call = getattr(lib.solvers, _LETTERS[values.dtype] + _CALLS[method])
    with lib.lock, torch.cuda.device(b.device):
        lib.solvers.set_stream(lib.handle, torch.cuda.current_stream(b.device).cuda_stream)
        call(
            lib.handle,
            b.numel(),
            pattern.nnz_csr,
            lib.description,
            a,
            crow,
            ccol,
            rhs,
            0.0,
            _REORDER,
            x.data_ptr(),
            singular.ctypes.data,
        )
    if singular[0] >= 0:
        bad = Result.NOT_POSITIVE_DEFINITE if method == "cholesky" else Result.SINGULAR
        raise SolveError(bad, f"cuSOLVER's {method} met an unusable pivot in row {singular[0]}")
    return x.to(b.device)
