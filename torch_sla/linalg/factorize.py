"""The verb: factorise once, then solve, transpose, update, and read determinants off the factor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, DTypeError, PlanError, Result, SolveError
from torch_sla.linalg.adjoint.determinant import determinant, log_determinant
from torch_sla.linalg.adjoint.inverse_entries import inverse_entries
from torch_sla.linalg.adjoint.solve import linear_solve
from torch_sla.linalg.adjoint.unmapped import refuse_vmap
from torch_sla.linalg.backends.base import ALL_DTYPES
from torch_sla.linalg.backends.registry import backend as get_backend
from torch_sla.linalg.direct_solver import DirectSolver
from torch_sla.linalg.kernels.arguments import expect_dense, instead
from torch_sla.linalg.methods.outcome import default_rtol
from torch_sla.linalg.plan.facts import Facts
from torch_sla.linalg.plan.plan import SolvePlan, make_plan
from torch_sla.linalg.solve import _arrange
from torch_sla.linalg.sparse.members import require_members
from torch_sla.linalg.sparse.mirrors import asymmetry
from torch_sla.linalg.sparse.transforms import (
    outside_compiler,
    outside_transforms,
    physical,
)

if TYPE_CHECKING:
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure
    from torch_sla.linalg.sparse.tensor import SparseTensor

__all__ = [
    "CholeskyFactorization",
    "Factorization",
    "LDLTFactorization",
    "LUFactorization",
    "factorize",
    "is_positive_definite",
]


class Factorization:
    """A factorised matrix, or a batch of them on one pattern. Immutable; differentiable throughout.

    Parameters
    ----------
    A
        Square.
    method
        ``"lu"``, ``"cholesky"``, ``"ldlt"``; the subclasses fix it.
    backend
        ``"auto"`` leaves the choice to the plan.

    Raises
    ------
    SolveError
        When the matrix is singular, or not what the method needs.
    PlanError
        When no backend here has the method.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.linalg import SparseTensor
    >>> d = torch.tensor([2.0, 4.0], dtype=torch.float64, requires_grad=True)
    >>> F = SparseTensor.diag(d).lu()
    >>> F.solve(torch.ones(2, dtype=torch.float64)).tolist()
    [0.5, 0.25]
    >>> F.logdet().backward()
    >>> d.grad.tolist()
    [0.5, 0.25]
    """

    default_method: ClassVar[str] = "lu"

    def __init__(self, A: SparseTensor, method: str | None = None, backend: str = "auto") -> None:
        self.method = method or self.default_method
        if not A.is_square:
            raise ArgumentError(f"a factorisation needs a square matrix, got {tuple(A.shape)}")
        refuse_vmap(A.values, "a factorisation")
        require_members(A)
        if A.dtype not in ALL_DTYPES:
            raise DTypeError(f"nothing factorises {A.dtype}; convert to {instead(A.dtype)}")
        known = A.known_structure()
        self.matrix = A = A.clone()  # changes in place do not reach a factor
        self._pattern, values = A.flat_slots()
        self._batch = tuple(values.shape[:-1])
        self._values = values.reshape(A.batch_size, values.shape[-1])
        self.plan = _plan(A, self._pattern, self.method, backend)
        self._require_mirror_images(bool(known.hermitian))
        self._solvers = self._factor(known)

    @outside_transforms
    def _require_mirror_images(self, hermitian: bool) -> None:
        """Refuse to read one triangle of a matrix that is only declared to have two alike.

        Solutions are checked, and show that; determinants and inertia are not.
        """
        said = self.matrix.declared
        method = get_backend(self.plan.backend).capabilities.method(self.plan.method)
        if method is None or method.needs == "general":
            return
        if not (said.symmetric or said.hermitian or said.positive_definite):
            return
        found = self.matrix.detected_structure()
        if (found.hermitian if hermitian else found.symmetric) or not self._pattern.symmetric:
            return  # without mirror images there is no such factorisation
        apart = asymmetry(self._pattern, physical(self._values), hermitian=hermitian)
        if apart > default_rtol(self.dtype):
            kind = "Hermitian" if hermitian else "symmetric"
            raise SolveError(
                Result.BREAKDOWN,
                f"{self.plan.method} needs a {kind} matrix; this one is declared to be, and entries differ from their "
                f"mirror images by {apart:.1e} of their rows: leave the declaration out, or use `lu`",
            )

    @outside_transforms
    def _factor(self, structure: Structure) -> list[DirectSolver]:
        return DirectSolver.several(self._pattern, structure, self.plan, physical(self._values))

    # --- what it is ----------------------------------------------------------------------------

    @property
    def backend(self) -> str:
        """Library that made the factors."""
        return self.plan.backend

    @property
    def shape(self) -> torch.Size:
        """Shape of the matrix."""
        return self.matrix.shape

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the factors."""
        return self._values.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the numeric factors."""
        return sum(s.numeric.nbytes for s in self._solvers)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(shape={tuple(self.shape)}, backend={self.backend}, "
            f"method={self.plan.method}, dtype={self.dtype})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Libraries keep their factors to themselves: copies and other processes factorise again.
        return type(self), (self.matrix, self.method, self.backend)

    # --- what it does --------------------------------------------------------------------------

    @outside_compiler
    def solve(self, b: Tensor) -> Tensor:
        """Solve ``A x = b``; `b` as for `SparseTensor.solve`. Differentiable in the values and `b`.

        Raises
        ------
        DTypeError
            When `b` needs more precision than the factor has.
        SolveError
            When the matrix is singular to working precision, or the solution does not satisfy the system.
        """
        return self._solve(b, adjoint=False)

    @outside_compiler
    def solve_transposed(self, b: Tensor) -> Tensor:
        """Solve ``Aᵀ x = b`` on the same factor (no conjugation)."""
        expect_dense(b, "b")
        return self._solve(b.conj(), adjoint=True).conj().resolve_conj()

    def _solve(self, b: Tensor, *, adjoint: bool) -> Tensor:
        expect_dense(b, "b")
        if b.is_complex() and not self.dtype.is_complex:
            real, imag = (self._solve(part, adjoint=adjoint) for part in (b.real, b.imag))
            return torch.complex(real, imag)
        wide = torch.promote_types(self.dtype, b.dtype)
        if wide != self.dtype:
            raise DTypeError(
                f"`b` is {b.dtype}, the factor {self.dtype}; convert `b`, or factorise in {wide}"
            )
        A = self.matrix
        values, rhs, layout, _ = _arrange(A, b, self.dtype)
        return layout.restore(linear_solve(values, rhs, self._solvers[0].fresh(), adjoint=adjoint))

    @outside_compiler
    def update(self, values: Tensor | SparseTensor) -> Factorization:
        """Factorise other values on the same pattern: the analysis is reused, `self` unchanged.

        Parameters
        ----------
        values
            ``[*batch, nnz, *block]`` in the order of ``A.values``, or a matrix on the pattern.
        """
        A = self.matrix
        if not isinstance(values, Tensor):
            if not hasattr(values, "pattern"):
                raise ArgumentError(
                    f"`values` must be a tensor or a matrix on the pattern, got {type(values).__name__}"
                )
            if values.pattern.key != A.pattern.key:
                raise ArgumentError("`values` has another pattern; factorise it anew")
            other = values
        else:
            other = A.from_pattern(A.pattern, values, A.declared)
        return type(self)(other, self.method, backend=self.backend)

    @outside_compiler
    def slogdet(self) -> tuple[Tensor, Tensor]:
        """Sign (or phase) and ``log |det A|``, each ``[*batch]``."""
        logs, signs = [], []
        for values, solver in self._members():
            log = log_determinant(values, solver)
            complex_ = log.is_complex()
            logs.append(log.real if complex_ else log)
            signs.append(
                torch.exp(1j * log.imag) if complex_ else solver.slogdet()[0].to(values.dtype)
            )
        return torch.stack(signs).reshape(self._batch), torch.stack(logs).reshape(self._batch)

    @outside_compiler
    def logdet(self) -> Tensor:
        """``log det A`` ``[*batch]``; NaN for a negative real determinant."""
        sign, log = self.slogdet()
        if sign.is_complex():
            return torch.complex(log, sign.angle())
        return torch.where(sign < 0, float("nan"), log)

    @outside_compiler
    def det(self) -> Tensor:
        """``det A`` ``[*batch]``; 0 or inf beyond the range of the dtype (`slogdet` is not)."""
        out = [determinant(values, solver) for values, solver in self._members()]
        return torch.stack(out).reshape(self._batch)

    def inertia(self) -> tuple[int, int, int]:
        """Numbers of positive, negative and zero eigenvalues of a Hermitian matrix.

        Raises
        ------
        ArgumentError
            For a batch, or a factorisation that does not tell; `ldlt` does.
        """
        if self._batch:
            raise ArgumentError("`inertia` takes one matrix, not a batch")
        found = self._solvers[0].inertia() if self.matrix.known_structure().hermitian else None
        if found is None:
            raise ArgumentError(
                f"{self.backend} {self.plan.method} does not tell the inertia; use `A.ldlt()` on a Hermitian matrix"
            )
        return found

    @outside_compiler
    def selected_inverse(self) -> SparseTensor:
        """Entries of ``A⁻¹`` at the positions of ``Aᵀ``, differentiable.

        Those are the entries that derivatives of determinants need. From the factor where the
        backend has it (native), otherwise by one solve per column, up to 10 000 of them.
        """
        pattern = self._pattern
        parts = [inverse_entries(values, solver) for values, solver in self._members()]
        values = torch.stack(parts).reshape(*self._batch, -1)
        return self.matrix.from_pattern(pattern.transposed, pattern.transpose_values(values))

    def _members(self) -> list[tuple[Tensor, DirectSolver]]:
        return [(v, s.fresh()) for v, s in zip(self._values, self._solvers, strict=True)]


class LUFactorization(Factorization):
    """``P A Q = L U`` with pivoting, for any nonsingular matrix."""


class CholeskyFactorization(Factorization):
    """``A = L Lᴴ`` of a Hermitian positive definite matrix."""

    default_method = "cholesky"


class LDLTFactorization(Factorization):
    """``A = L D Lᴴ`` of a Hermitian matrix, ``L D Lᵀ`` of a complex symmetric one."""

    default_method = "ldlt"


_KINDS: dict[str, type[Factorization]] = {
    "cholesky": CholeskyFactorization,
    "ldlt": LDLTFactorization,
    "lu": LUFactorization,
}


def factorize(A: SparseTensor, method: str = "auto", backend: str = "auto") -> Factorization:
    """Factorise with the first method that the structure allows and that succeeds.

    Parameters
    ----------
    A
        Square.
    method
        ``"cholesky"``, ``"ldlt"``, ``"lu"``, or ``"auto"``: Cholesky for what may be Hermitian positive
        definite, then LDLT for Hermitian matrices, then LU.
    backend
        Library to use.

    Raises
    ------
    SolveError
        When the last method fails as well.
    """
    if method != "auto":
        if method not in _KINDS:
            raise ArgumentError(f"`method` must be auto, {', '.join(_KINDS)}, got {method!r}")
        return _KINDS[method](A, backend=backend)
    structure = A.known_structure() if A.is_square else None
    chain = ["lu"]
    if structure is not None and structure.hermitian:
        chain = (
            ["ldlt", "lu"] if structure.positive_definite is False else ["cholesky", "ldlt", "lu"]
        )
    failure: Exception = PlanError("no direct method is available")
    for name in chain:
        try:
            return _KINDS[name](A, backend=backend)
        except (SolveError, PlanError) as error:
            failure = error
            if isinstance(error, SolveError) and error.result is Result.NONFINITE:
                break
    raise failure


def is_positive_definite(A: SparseTensor) -> bool:
    """Whether every member of `A` is Hermitian positive definite; see `SparseTensor.is_positive_definite`."""
    found = A.detected_structure()
    if not found.hermitian or found.positive_definite is not None:
        return bool(found.hermitian and found.positive_definite)
    if not torch.isfinite(physical(A.values)).all():
        return False
    try:
        CholeskyFactorization(A)
    except SolveError as error:
        if error.result is Result.OUT_OF_MEMORY:
            raise
        return False
    return True


def _plan(A: SparseTensor, pattern: Pattern, method: str, backend: str) -> SolvePlan:
    facts = Facts.of(
        pattern,
        A.known_structure(),
        dtype=A.dtype,
        device=A.device.type,
        batch=max(1, A.batch_size),
        backend=backend,
        method=method,
    )
    return make_plan(facts)
