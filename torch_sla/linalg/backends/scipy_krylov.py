"""SciPy's iterative methods behind the backend contract, one right-hand side at a time."""

from __future__ import annotations

from math import frexp
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import Result, SolveError, TorchSlaError
from torch_sla.linalg.backends.base import Mode, Solution, SolveOptions, Symbolic

if TYPE_CHECKING:
    from torch_sla.linalg.precond.base import Preconditioner

__all__ = ["iterate"]

_RESTART = 50
_ATTEMPTS = 4


def iterate(
    symbolic: Symbolic,
    preconditioner: Preconditioner | None,
    values: Tensor,
    b: Tensor,
    mode: Mode,
    options: SolveOptions,
    x0: Tensor | None,
) -> Solution:
    """Solve ``op(A) x = b`` with the SciPy function called ``symbolic.method``.

    The stopping test of some of them is not the residual asked for, so what is left is solved for
    again, a few times. SciPy tells the residuals of `gmres` only; those of the others are computed,
    one product with the matrix each.
    """
    if mode == "t":
        start = None if x0 is None else x0.conj().resolve_conj()
        turned = iterate(
            symbolic, preconditioner, values, b.conj().resolve_conj(), "h", options, start
        )
        turned.x = turned.x.conj().resolve_conj()
        return turned
    run = _Run(symbolic, preconditioner, values, mode == "h", options)
    out = Solution(b.new_zeros(run.n, b.shape[1]))
    for k in range(b.shape[1]):
        guess = None if x0 is None else x0[:, k].numpy()
        x, iterations, history, result = run.column(b[:, k].resolve_conj().numpy(), guess)
        out.x[:, k] = torch.from_numpy(x)
        if result is not Result.CONVERGED:
            out.result = result
        if iterations >= out.iterations:
            out.iterations, out.history = iterations, history
    return out


class _Run:
    def __init__(
        self,
        symbolic: Symbolic,
        preconditioner: Preconditioner | None,
        values: Tensor,
        adjoint: bool,
        options: SolveOptions,
    ) -> None:
        from scipy.sparse import csr_array
        from scipy.sparse.linalg import LinearOperator

        pattern = symbolic.pattern
        if adjoint:
            values = pattern.transpose_values(values).conj().resolve_conj()
            pattern = pattern.transposed
        self.n = pattern.shape[1]
        self.method, self.options = symbolic.method, options
        self.A = csr_array(
            (values.numpy(), pattern.ccol.numpy(), pattern.crow.numpy()), shape=pattern.shape
        )
        self.M: Any = None
        if preconditioner is not None:
            apply = preconditioner.apply_adjoint if adjoint else preconditioner.apply

            def product(r: Any) -> Any:
                # SciPy may hand over vectors in double precision whatever the matrix is.
                column = torch.from_numpy(np.ascontiguousarray(r).reshape(-1, 1)).to(values.dtype)
                z = apply(column)
                z = z if options.project is None else options.project(z)
                return z.resolve_conj().numpy().ravel()

            self.M = LinearOperator(self.A.shape, matvec=product, dtype=self.A.dtype)

    def column(self, b: Any, x0: Any) -> tuple[Any, int, list[float], Result]:
        """Return solution, iterations, history and result for one right-hand side."""
        options = self.options
        size = float(np.linalg.norm(b))
        target = max(options.rtol * size, options.atol)
        limit = options.maxiter or max(10 * self.n, 50)
        floor = float(np.finfo(b.dtype).eps)
        x = np.zeros_like(b) if x0 is None else x0.copy()
        total, history, rtol = 0, list[float](), 0.0
        result = Result.CONVERGED
        for attempt in range(_ATTEMPTS):
            r = b - self.A @ x if attempt or x0 is not None else b
            left = float(np.linalg.norm(r))
            if not left < float("inf"):
                return x, total, history, Result.NONFINITE
            if left <= target:
                return x, total, history, Result.CONVERGED
            if total >= limit:
                return x, total, history, Result.MAXITER
            # A method that stopped too early is asked for more the next time.
            rtol = min(0.5, target / left) if attempt == 0 else min(rtol * 0.1, target / left)
            # Below rounding some of them go on until they divide zero by zero; what becomes NaN is seen here.
            # They call numbers small by themselves, whatever the size of `r`.
            unit = 2.0 ** (frexp(left)[1] - 1)
            with np.errstate(all="ignore"):
                step, steps, seen, code = self._call(r / unit, max(rtol, floor), limit - total)
                x, total = x + unit * step, total + steps
            history += [value * left / size for value in seen]
            result = (
                Result.STAGNATION
                if code == 0
                else (Result.MAXITER if code > 0 else Result.BREAKDOWN)
            )
        left = float(np.linalg.norm(b - self.A @ x))
        return x, total, history, Result.CONVERGED if left <= target else result

    def _call(self, r: Any, rtol: float, limit: int) -> tuple[Any, int, list[float], int]:
        from scipy.sparse import linalg

        seen: list[float] = []
        size = float(np.linalg.norm(r))

        def note(x: Any) -> None:
            seen.append(float(np.linalg.norm(r - self.A @ x)) / size)

        if self.method == "minres":
            try:
                x, code = linalg.minres(
                    self.A, r, M=self.M, rtol=rtol, maxiter=limit, callback=note
                )
            except TorchSlaError:
                raise
            except (ValueError, ZeroDivisionError) as error:  # a quadratic form was not positive
                raise SolveError(Result.BREAKDOWN, f"SciPy's minres: {error}") from error
            return x, len(seen), seen, int(code)
        if self.method == "gmres":
            restart = min(_RESTART, self.n, limit)
            x, code = linalg.gmres(
                self.A,
                r,
                M=self.M,
                rtol=rtol,
                atol=0.0,
                restart=restart,
                maxiter=-(-limit // restart),
                callback=lambda norm: seen.append(float(norm)),
                callback_type="pr_norm",
            )
            return x, len(seen), seen, int(code)
        function = {"cg": linalg.cg, "bicgstab": linalg.bicgstab}[self.method]
        x, code = function(
            self.A,
            r,
            M=self.M,
            rtol=rtol,
            atol=0.0,
            maxiter=limit,
            callback=note,
        )
        if not seen:
            note(x)  # half a step of bicgstab, which is not called back
        return x, len(seen), seen, int(code)
