"""Questions about backends: which there are, what they offer, and which a plan chooses."""

from __future__ import annotations

import operator
from typing import Any

import torch

from torch_sla.errors import ArgumentError
from torch_sla.linalg.backends.registry import backend, backend_names, backends
from torch_sla.linalg.plan.facts import Facts
from torch_sla.linalg.plan.plan import make_plan

__all__ = [
    "get_available_backends",
    "get_backend_methods",
    "is_cudss_available",
    "is_cusolver_available",
    "is_eigen_available",
    "is_scipy_available",
    "select_backend",
    "select_method",
    "show_backends",
]


def get_available_backends() -> list[str]:
    """Names of the backends that can be used here.

    Examples
    --------
    >>> "scipy" in get_available_backends()
    True
    """
    return [b.name for b in backends() if b.unavailable() is None]


def get_backend_methods(name: str) -> list[str]:
    """Return the methods of a backend.

    Raises
    ------
    PlanError
        When there is no such backend.

    Examples
    --------
    >>> get_backend_methods("eigen")
    ['cholesky', 'ldlt', 'lu', 'cg', 'bicgstab']
    """
    return [m.name for m in backend(name).capabilities.methods]


def _available(name: str) -> bool:
    return name in backend_names() and backend(name).unavailable() is None


def is_scipy_available() -> bool:
    """Whether the SciPy backend can be used."""
    return _available("scipy")


def is_eigen_available() -> bool:
    """Whether the compiled extension with Eigen can be used."""
    return _available("eigen")


def is_cudss_available() -> bool:
    """Whether cuDSS can be used."""
    return _available("cudss")


def is_cusolver_available() -> bool:
    """Whether cuSOLVER can be used."""
    return _available("cusolver")


def _facts(
    device: torch.device | str,
    n: int,
    nnz: int | None,
    dtype: torch.dtype,
    is_symmetric: bool | None,
    is_spd: bool | None,
    request: str,
) -> Facts:
    if not isinstance(dtype, torch.dtype):
        raise ArgumentError(f"`dtype` must be a torch.dtype, got {dtype!r}")
    try:
        where = torch.device(device).type
    except (RuntimeError, TypeError):
        raise ArgumentError(
            f"`device` must be a device or the name of one, such as 'cpu' or 'cuda', got {device!r}"
        ) from None
    rows = _count("n", n)
    return Facts(
        rows=rows,
        columns=rows,
        nnz=5 * rows if nnz is None else _count("nnz", nnz),
        dtype=dtype,
        device=where,
        hermitian=True if is_spd else is_symmetric,
        positive_definite=is_spd,
        backend=request,
    )


def _count(name: str, given: Any) -> int:
    try:
        found = operator.index(given)
    except TypeError:
        found = -1
    if found < 0:
        raise ArgumentError(f"`{name}` must be a non-negative integer, got {given!r}")
    return found


def select_backend(
    device: torch.device | str = "cpu",
    n: int = 10_000,
    nnz: int | None = None,
    dtype: torch.dtype = torch.float64,
    *,
    is_symmetric: bool | None = None,
    is_spd: bool | None = None,
) -> str:
    """Name the backend that a plan chooses for a square system of this kind.

    Parameters
    ----------
    device, n, nnz, dtype
        Where it is, rows, entries (five per row by default), dtype.
    is_symmetric, is_spd
        What is known; None for unknown.

    Raises
    ------
    ArgumentError
        When an argument is of another kind; a `PlanError` when no backend can solve such a system.
    """
    facts = _facts(device, n, nnz, dtype, is_symmetric, is_spd, "auto")
    return make_plan(facts).backend


def select_method(
    backend_name: str = "auto",
    device: torch.device | str = "cpu",
    n: int = 10_000,
    nnz: int | None = None,
    dtype: torch.dtype = torch.float64,
    *,
    is_symmetric: bool | None = None,
    is_spd: bool | None = None,
) -> str:
    """Name the method that a plan chooses, within one backend or over all; see `select_backend`."""
    facts = _facts(device, n, nnz, dtype, is_symmetric, is_spd, backend_name)
    return make_plan(facts).method


def show_backends() -> str:
    """Return a table of the backends: methods, devices, and why one cannot be used; print it.

    Examples
    --------
    >>> print(show_backends())  # doctest: +ELLIPSIS
    backend ...
    """
    rows = [("backend", "devices", "methods", "state")]
    for b in backends():
        c = b.capabilities
        state = b.unavailable() or "available"
        methods = " ".join(m.name for m in c.methods)
        rows.append((b.name, " ".join(sorted(c.devices)), methods, state))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]])
        for row in rows
    )
