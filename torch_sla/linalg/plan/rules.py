"""Ordered, named rules: each refuses a candidate with a reason, or lets it pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch_sla.errors import BackendUnavailableError, PlanError
from torch_sla.linalg.backends.registry import backend as get_backend, backends
from torch_sla.linalg.precond.base import kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.backends.base import Backend, Method
    from torch_sla.linalg.plan.facts import Facts
    from torch_sla.linalg.plan.machine import MachineModel

__all__ = ["RULES", "Candidate", "Rule", "check_names", "check_request"]


@dataclass(frozen=True)
class Candidate:
    """A backend, one of its methods, and a preconditioner for an iterative one."""

    backend: str
    method: str
    preconditioner: str | None = None

    def __str__(self) -> str:
        extra = f" + {self.preconditioner}" if self.preconditioner else ""
        return f"{self.backend} {self.method}{extra}"


@dataclass(frozen=True)
class Rule:
    """A name and a predicate that returns the reason for refusing, or None."""

    name: str
    refuse: Callable[[Facts, Backend, Method, str | None, MachineModel], str | None]


def check_names(backend: str, method: str, preconditioner: str) -> None:
    """Refuse a request that no matrix could be solved by, here or on any other machine.

    Raises
    ------
    PlanError
        When there is no such method, or its parts contradict each other.
    """
    named = backends() if backend == "auto" else (get_backend(backend),)
    if method == "auto":
        return
    found = [b.capabilities.method(method) for b in named]
    if not any(found):
        if backend != "auto":
            names = [m.name for m in named[0].capabilities.methods]
            raise PlanError(
                f"backend {backend!r} has no method {method!r}; it has {', '.join(names)}"
            )
        names = sorted({m.name for b in named for m in b.capabilities.methods})
        raise PlanError(f"`method` must be 'auto' or one of {', '.join(names)}, got {method!r}")
    if preconditioner not in ("auto", "none") and all(
        m is None or m.kind == "direct" for m in found
    ):
        raise PlanError(
            f"method {method!r} is direct and uses no preconditioner, and preconditioner {preconditioner!r} was asked "
            "for; leave one of them out, or take an iterative method such as 'cg' or 'gmres'"
        )


def check_request(facts: Facts) -> None:
    """Refuse a request that no matrix could be solved by here, whatever the rules say.

    Raises
    ------
    PlanError
        When there is no such method, or its parts contradict each other.
    BackendUnavailableError
        When the backend that was asked for cannot be used here.
    """
    check_names(facts.backend, facts.method, facts.preconditioner)
    if facts.backend != "auto":
        why = get_backend(facts.backend).unavailable()
        if why is not None:
            raise BackendUnavailableError(f"backend {facts.backend!r} cannot be used here: {why}")


def _requested(facts: Facts, b: Backend, m: Method, p: str | None, _: MachineModel) -> str | None:
    if facts.backend not in ("auto", b.name):
        return f"backend {facts.backend!r} was asked for"
    if facts.method != "auto" and facts.method != m.name and facts.method not in m.aliases:
        return f"method {facts.method!r} was asked for"
    if facts.preconditioner != "auto" and m.kind == "iterative" and p != facts.preconditioner:
        return f"preconditioner {facts.preconditioner!r} was asked for"
    if facts.preconditioner not in ("auto", "none") and m.kind == "direct":
        return f"a direct method uses no preconditioner, and {facts.preconditioner!r} was asked for"
    return None


def _recommended(facts: Facts, b: Backend, *rest: object) -> str | None:
    if b.capabilities.recommended or facts.backend == b.name:
        return None
    return f"is here for comparison; ask for it with backend={b.name!r}"


def _installed(_: Facts, b: Backend, m: Method, *rest: object) -> str | None:
    return b.unavailable() or b.unavailable_method(m.name)


def _device(facts: Facts, b: Backend, *rest: object) -> str | None:
    if facts.device in b.capabilities.devices:
        return None
    return f"works on {', '.join(sorted(b.capabilities.devices))}, the matrix is on {facts.device}"


def _dtype(facts: Facts, b: Backend, m: Method, *rest: object) -> str | None:
    known = b.capabilities.dtypes & m.dtypes
    return None if facts.dtype in known else f"does not take {facts.dtype}"


def _square(facts: Facts, _: Backend, m: Method, *rest: object) -> str | None:
    if facts.rows == facts.columns:
        # Least squares squares the condition number of a matrix that can simply be solved with.
        asked = facts.method == m.name or facts.method in m.aliases
        if m.rectangular and m.kind == "iterative" and not asked:
            return "is for least-squares problems, and this matrix is square"
        return None
    if m.rectangular:
        return None
    return f"needs a square matrix, this one is {facts.rows} x {facts.columns}"


def _structure(facts: Facts, _: Backend, m: Method, *rest: object) -> str | None:
    explicit = facts.method == m.name or facts.method in m.aliases
    if not m.pivots and not facts.diagonal and facts.batch == 1 and not explicit:
        return "needs pivots on the diagonal, and some rows have none there"
    if m.needs == "symmetric":
        if facts.hermitian is False and not facts.symmetric:
            return "needs a symmetric or Hermitian matrix"
    elif m.needs != "general" and facts.hermitian is False:
        return "needs a Hermitian matrix"
    if m.needs == "positive_definite" and facts.positive_definite is False and not explicit:
        return "needs a positive definite matrix"
    return None


def _preconditioner(
    facts: Facts, _: Backend, m: Method, p: str | None, *rest: object
) -> str | None:
    entry = kind(p) if p is not None else None
    if entry is None:
        return None
    if facts.dtype not in entry.dtypes:
        return f"{p} does not take {facts.dtype}"
    if facts.device not in entry.devices:
        return f"{p} works on {', '.join(sorted(entry.devices))}, the matrix is on {facts.device}"
    if entry.needs == "hermitian" and facts.hermitian is False:
        return f"{p} needs a Hermitian matrix"
    return None


def _definite(facts: Facts, _: Backend, m: Method, p: str | None, *rest: object) -> str | None:
    """Coarse grids represent no waves: a Helmholtz matrix goes to a factorisation."""
    if p != "multigrid" or facts.preconditioner == p:
        return None
    if facts.dtype.is_complex and not facts.hermitian:
        return (
            "multigrid is for definite matrices, and a complex one that is not Hermitian may be a wave "
            "problem; ask for it by name, or precondition with a shifted Laplacian"
        )
    if facts.hermitian and facts.positive_definite is False:
        return (
            "multigrid is for definite matrices; precondition an indefinite one with a shifted "
            "Laplacian, a saddle point by fields"
        )
    return None


RULES: tuple[Rule, ...] = (
    Rule("request", _requested),
    Rule("recommended", _recommended),
    Rule("installed", _installed),
    Rule("device", _device),
    Rule("dtype", _dtype),
    Rule("shape", _square),
    Rule("structure", _structure),
    Rule("preconditioner", _preconditioner),
    Rule("definite", _definite),
)
