"""Which backends there are."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from torch_sla.errors import PlanError
from torch_sla.linalg.backends.base import Backend

__all__ = ["backend", "backend_names", "backends"]

# Name -> module and class; the order breaks ties between equal plans.
_KNOWN = {
    "native": ("torch_sla.linalg.backends.native", "Native"),
    "eigen": ("torch_sla.linalg.backends.eigen", "Eigen"),
    "scipy": ("torch_sla.linalg.backends.scipy", "SciPy"),
    "cudss": ("torch_sla.linalg.backends.cudss", "CuDSS"),
    "cusolver": ("torch_sla.linalg.backends.cusolver", "CuSolver"),
    "pytorch": ("torch_sla.linalg.backends.pytorch", "PyTorch"),
}


def backend_names() -> tuple[str, ...]:
    """Names of all backends, installed or not."""
    return tuple(_KNOWN)


@cache
def backend(name: str) -> Backend:
    """Return the backend called `name`.

    Raises
    ------
    PlanError
        When there is none of that name.
    """
    if name not in _KNOWN:
        raise PlanError(f"`backend` must be 'auto' or one of {', '.join(_KNOWN)}, got {name!r}")
    module, cls = _KNOWN[name]
    made = getattr(import_module(module), cls)()
    if not isinstance(made, Backend):
        raise PlanError(f"{module}.{cls} is no Backend")
    return made


def backends() -> tuple[Backend, ...]:
    """Return all backends, installed or not."""
    return tuple(backend(name) for name in _KNOWN)
