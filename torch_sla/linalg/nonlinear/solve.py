"""`nonlinear_solve` and `adjoint_solve`: systems ``F(u, θ) = 0``, differentiable in θ."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, DTypeError, GradientError, Result
from torch_sla.linalg.adjoint.implicit import implicit_solve
from torch_sla.linalg.methods.outcome import asked_rtol, default_rtol
from torch_sla.linalg.nonlinear.options import NonlinearOptions, linear_options, refuse_unused
from torch_sla.linalg.nonlinear.problem import NonlinearProblem, split
from torch_sla.linalg.sparse.transforms import outside_compiler

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.tensor import SparseTensor

__all__ = ["adjoint_solve", "nonlinear_solve", "nonlinear_solve_with"]


@partial(outside_compiler, calls_back=True)
def nonlinear_solve(
    residual: Callable[..., Tensor],
    u0: Tensor,
    *params: Any,
    method: str = "newton",
    jacobian_fn: Callable[..., Any] | None = None,
    pattern: Pattern | SparseTensor | None = None,
    precondition: Callable[[Tensor], Tensor] | None = None,
    rtol: float | None = None,
    atol: float = 0.0,
    tol: float | None = None,
    maxiter: int | None = None,
    line_search: bool = True,
    damping: float = 1.0,
    memory: int = 5,
    linear: dict[str, Any] | None = None,
    info: bool = False,
    throw: bool = True,
) -> Any:
    """Solve ``residual(u, *params) = 0``, differentiable in the parameters to any order.

    Parameters
    ----------
    residual
        ``(u, *params) -> F`` of the shape of ``u``, in torch operations. Everything it varies with that
        needs a gradient must be passed as a parameter.
    u0
        Starting value, real, any shape. Carries no gradient.
    params
        Tensors, sparse tensors (their values get the gradient), or anything else.
    method
        ``"newton"``, ``"picard"`` or ``"anderson"``.
    jacobian_fn
        ``(u, *params) -> SparseTensor``, the Jacobian. An approximate one slows Newton down; for gradients it
        is checked against the residual.
    pattern
        Positions that cover the Jacobian, to build it by colouring. Without this and `jacobian_fn`
        Jacobian-vector products and GMRES are used.
    precondition
        ``F -> B F`` for the fixed-point methods and for GMRES; approximates the inverse Jacobian.
    rtol, atol, tol
        Stop when ``‖F(u)‖ <= max(rtol ‖F(u0)‖, atol)``; 1e-10 in double, 1e-5 in single precision. `tol` is
        another name for `rtol`.
    maxiter
        50 for Newton, 500 otherwise.
    line_search, damping, memory
        See `NonlinearOptions`.
    linear
        Options of the linear solves with a sparse Jacobian, as for `SparseTensor.solve`; `atol` and a coarse `rtol` are
        for steps, not for derivatives. Refused without `pattern` and `jacobian_fn`.
    info, throw
        As for `SparseTensor.solve`; the report is a `NonlinearInfo`.

    Returns
    -------
    Tensor or (Tensor, NonlinearInfo)
        The root, one node of the graph.

    Raises
    ------
    SolveError
        When the iteration does not converge: limit, stagnation, NaN, singular Jacobian.
    ArgumentError
        When the residual has the wrong shape, captures a tensor that requires a gradient, or the
        pattern does not cover its Jacobian.

    Examples
    --------
    >>> import torch
    >>> c = torch.tensor([4.0, 9.0], dtype=torch.float64, requires_grad=True)
    >>> u = nonlinear_solve(lambda u, c: u**2 - c, torch.ones(2, dtype=torch.float64), c)
    >>> u.sum().backward()
    >>> [round(x, 6) for x in (*u.tolist(), *c.grad.tolist())]
    [2.0, 3.0, 0.25, 0.166667]
    """
    rtol = asked_rtol(rtol, tol)
    if not isinstance(u0, Tensor) or u0.dtype not in (torch.float32, torch.float64):
        what = u0.dtype if isinstance(u0, Tensor) else type(u0).__name__
        raise DTypeError(
            f"`u0` must be a tensor of float32 or float64, got {what}; convert it first"
        )
    options = NonlinearOptions(
        method,  # type: ignore[arg-type]
        default_rtol(u0.dtype) if rtol is None else rtol,
        atol,
        (50 if method == "newton" else 500) if maxiter is None else maxiter,
        line_search,
        damping,
        memory,
        linear_options(linear),
    )
    refuse_unused(options, jacobian_fn, pattern)
    leaves, rebuild = split(params)
    if any(torch._C._functorch.is_functorch_wrapped_tensor(x) for x in (u0, *leaves)):
        raise GradientError(
            "nonlinear solves differentiate the residual themselves, which `torch.func` transforms do not allow; "
            "use torch.autograd.grad or backward"
        )
    problem = NonlinearProblem(
        residual,
        rebuild,
        options,
        jacobian_fn=jacobian_fn,
        pattern=pattern,
        precondition=precondition,
    )
    with _recording():
        u0, leaves = _ordinary(u0.detach()), tuple(map(_ordinary, leaves))
        problem.check(u0, leaves)
        u = implicit_solve(problem, u0, leaves)
    report = problem.info
    if throw and not report.converged:
        raise report.failure()
    return (u, report) if info or not throw else u


def _recording() -> AbstractContextManager[Any]:
    """Return what leaves inference mode, where the residual could not be differentiated, without recording."""
    modes = ExitStack()
    if torch.is_inference_mode_enabled():
        modes.enter_context(torch.inference_mode(mode=False))
        modes.enter_context(torch.no_grad())
    return modes


def _ordinary(x: Tensor) -> Tensor:
    """Return a tensor that derivatives can be made of: a copy where `x` is of inference mode."""
    return x.clone() if x.is_inference() else x


def nonlinear_solve_with(
    A: SparseTensor, residual: Callable[..., Tensor], u0: Tensor, *params: Any, **options: Any
) -> Any:
    """Solve ``residual(u, A, *params) = 0``; see `SparseTensor.nonlinear_solve`."""
    if A.is_batched or not A.is_square:
        raise ArgumentError(f"`A` must be one square matrix, got shape {tuple(A.shape)}")
    method = options.get("method", "newton")
    if method != "newton" and options.get("precondition") is None:
        held: list[Any] = []

        def precondition(F: Tensor) -> Tensor:
            if not held:
                held.append(A.detach().factorize())
            return held[0].solve(F.reshape(-1)).reshape(F.shape)

        options["precondition"] = precondition
    if options.get("pattern") is None and options.get("jacobian_fn") is None:
        options["pattern"] = A  # a sparse tensor: a guess that is checked, and given up if wrong
    return nonlinear_solve(residual, u0, A, *params, **options)


@partial(outside_compiler, calls_back=True)
def adjoint_solve(
    residual: Callable[..., Tensor],
    u: Tensor,
    cotangent: Tensor,
    *params: Any,
    jacobian_fn: Callable[..., Any] | None = None,
    pattern: Pattern | SparseTensor | None = None,
    rtol: float | None = None,
    linear: dict[str, Any] | None = None,
) -> Tensor:
    """Solve the adjoint equation ``(∂F/∂u)ᵀ λ = cotangent`` at a solution ``u``.

    What the gradient of `nonlinear_solve` is made of: ``-λᵀ ∂F/∂θ``. Not recorded.

    Parameters
    ----------
    residual, u, params
        ``F(u, *params)``.
    cotangent
        Gradient of a loss with respect to ``u``.
    jacobian_fn, pattern, rtol, linear
        As for `nonlinear_solve`.

    Raises
    ------
    GradientError
        When λ is not finite.

    Examples
    --------
    >>> import torch
    >>> u = torch.tensor([2.0, 3.0], dtype=torch.float64)
    >>> adjoint_solve(lambda u: u**2, u, torch.ones_like(u))
    tensor([0.2500, 0.1667], dtype=torch.float64)
    """
    if not isinstance(u, Tensor) or u.dtype not in (torch.float32, torch.float64):
        what = u.dtype if isinstance(u, Tensor) else type(u).__name__
        raise DTypeError(
            f"`u` must be a tensor of float32 or float64, got {what}; convert it first"
        )
    if cotangent.dtype != u.dtype:
        raise DTypeError(
            f"`cotangent` must have the dtype of `u`, {u.dtype}, got {cotangent.dtype}"
        )
    if cotangent.shape != u.shape:
        raise ArgumentError(
            f"`cotangent` must have the shape of `u`, {list(u.shape)}, got {list(cotangent.shape)}"
        )
    rtol = default_rtol(u.dtype) if rtol is None else rtol
    options = NonlinearOptions(rtol=rtol, linear=linear_options(linear))
    refuse_unused(options, jacobian_fn, pattern)
    leaves, rebuild = split(params)
    problem = NonlinearProblem(
        residual, rebuild, options, jacobian_fn=jacobian_fn, pattern=pattern, precondition=None
    )
    with _recording(), torch.no_grad():
        plain = tuple(_ordinary(x.detach()) for x in leaves)
        lam = problem.adjoint(_ordinary(u.detach()), plain, _ordinary(cotangent))
    if not torch.isfinite(lam).all():
        raise GradientError(f"the adjoint solve failed: {Result.NONFINITE.value}")
    return lam
