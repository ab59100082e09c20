"""How a problem is solved."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from torch_sla.problems.specs.base import Spec
from torch_sla.problems.specs.written import Text

__all__ = ["Newton", "Solver"]


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
    method: Text = Field(
        default="auto", description="Method of the backend, such as cg or cholesky."
    )
    preconditioner: Text = Field(default="auto", description="Preconditioner of iterative methods.")
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
