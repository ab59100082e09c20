"""How a problem is solved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from torch_sla.errors import PlanError, SpecError
from torch_sla.problems.expression import nearest
from torch_sla.problems.specs.base import Spec
from torch_sla.problems.specs.faults import fault
from torch_sla.problems.specs.written import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Newton", "Solver"]


def _known(name: str, what: str, known: Iterable[str]) -> str:
    if name in known:
        return name
    raise fault(f"unknown {what} {name!r}{nearest(name, known)}; one of: auto {' '.join(known)}")


def _method(name: str) -> str:
    if name == "auto":
        return name
    from torch_sla.linalg.backends.registry import backends

    every = (m for b in backends() for m in b.capabilities.methods)
    return _known(name, "method", sorted({n for m in every for n in (m.name, *m.aliases)}))


def _preconditioner(name: str) -> str:
    """Take the names for a matrix on one process and for one in parts: a file may be solved either way."""
    if name == "auto":
        return name
    from torch_sla.linalg.distributed.precond.base import NAMES as IN_PARTS
    from torch_sla.linalg.precond.base import NAMES

    return _known(name, "preconditioner", dict.fromkeys((*NAMES, *IN_PARTS)))


class Newton(Spec):
    """How a nonlinear problem is iterated; the derivative is that of the converged state.

    Examples
    --------
    >>> Newton(rtol=1e-8, maxiter=50)
    Newton(rtol=1e-08, maxiter=50)
    """

    type: Literal["newton"] = "newton"
    rtol: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Residual relative to the first; None means 1e-10 in float64, 1e-5 in float32.",
    )
    atol: Annotated[float, Field(ge=0)] = Field(default=0.0, description="Absolute residual.")
    maxiter: Annotated[int, Field(ge=1)] = Field(
        default=25, description="Largest number of iterations, per load step."
    )
    line_search: bool | None = Field(
        default=None,
        description="Whether steps are shortened until the residual falls; None means yes, but not "
        "where loads are applied in steps, which are cut instead.",
    )
    reuse: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0,
        description="Keep the tangent with its factors or hierarchy while a step with it lowers the residual "
        "to this share (0.1 to 0.5); 0 means a new tangent for every step.",
    )
    inexact: bool = Field(
        default=False,
        description="Where the linear systems of the steps are solved iteratively: solve each only as accurately as "
        "the step is worth, and keep a multigrid hierarchy while it serves. The solution meets the same tolerance.",
    )


class Solver(Spec):
    """Requests to the plan; ``"auto"`` leaves the choice to it.

    Examples
    --------
    >>> Solver(backend="scipy", rtol=1e-8)
    Solver(backend='scipy', rtol=1e-08)
    """

    type: Literal["solver"] = "solver"
    backend: Literal["auto", "scipy", "eigen", "native", "cudss", "cusolver", "pytorch"] = Field(
        default="auto", description="Library that does the work."
    )
    method: Annotated[Text, AfterValidator(_method)] = Field(
        default="auto", description="Method of the backend, such as cg or cholesky."
    )
    preconditioner: Annotated[Text, AfterValidator(_preconditioner)] = Field(
        default="auto", description="Preconditioner of iterative methods."
    )
    rtol: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="Relative residual; None means 1e-10 in float64, 1e-5 in float32."
    )
    atol: Annotated[float, Field(ge=0)] = Field(default=0.0, description="Absolute residual.")
    maxiter: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Largest number of iterations."
    )
    adjoint_rtol: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None, description="Relative residual of adjoint solves; None means rtol."
    )
    nonlinear: Newton = Field(
        default=Newton(), description="Iteration of a problem that turns out to be nonlinear."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="Where work happens; auto weighs transfer and overhead against size.",
    )
    dtype: Literal["float64", "float32"] = Field(
        default="float64", description="Precision of all work; inputs are cast to it."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.method == "auto":
            return self
        from torch_sla.linalg.plan.rules import check_names

        try:
            check_names(self.backend, self.method, self.preconditioner)
        except PlanError as error:
            raise SpecError(str(error), path="method") from None
        return self
