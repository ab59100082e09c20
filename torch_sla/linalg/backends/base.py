"""The contract of a backend: analyse a pattern, factorise values, solve."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from torch_sla.errors import Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = [
    "ALL_DTYPES",
    "JOINED",
    "REAL_DTYPES",
    "Backend",
    "Capabilities",
    "Counts",
    "Method",
    "Mode",
    "Numeric",
    "Solution",
    "SolveOptions",
    "Symbolic",
    "groups_of",
]

Mode = Literal["n", "t", "h"]
REAL_DTYPES = frozenset({torch.float32, torch.float64})
JOINED = 1 << 22  # unknowns of matrices that are iterated on at once on a device
ALL_DTYPES = REAL_DTYPES | {torch.complex64, torch.complex128}


def groups_of(count: int, n: int) -> list[slice]:
    """Return which members of a batch, of `n` unknowns each, a device iterates on at once: like groups, and few.

    Examples
    --------
    >>> groups_of(5, JOINED // 2)
    [slice(0, 1, None), slice(1, 3, None), slice(3, 5, None)]
    """
    groups = -(-count // max(1, JOINED // max(1, n)))
    return [slice(count * g // groups, count * (g + 1) // groups) for g in range(groups)]


@dataclass(frozen=True)
class Method:
    """One method of a backend and what it asks of the matrix.

    Parameters
    ----------
    name
        Name users write as ``method=``.
    kind
        ``"direct"`` factorises; ``"iterative"`` iterates to a tolerance.
    needs
        Structure without which the method is wrong, not merely slow; ``"symmetric"`` means ``A = Aᵀ``
        or ``A = Aᴴ``.
    preconditioners
        Those an iterative method accepts, the default first.
    aliases
        Other names for it.
    rectangular
        Whether it solves least-squares problems.
    dtypes
        Value dtypes it takes, where these are fewer than the backend's.
    pivots
        Whether a factorisation looks for pivots where it needs them; one that does not needs a full diagonal.
    """

    name: str
    kind: Literal["direct", "iterative"]
    needs: Literal["general", "symmetric", "hermitian", "positive_definite"] = "general"
    preconditioners: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    rectangular: bool = False
    dtypes: frozenset[torch.dtype] = ALL_DTYPES
    pivots: bool = True


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do; the contract tests walk exactly this.

    Parameters
    ----------
    methods
        Its methods.
    devices, dtypes
        Device types and value dtypes it takes.
    batched
        Whether `factorize_batch` and `solve_batch` do better than one member after the other.
    recycles
        Whether factors that go leave their analysis to the next: then few old ones are kept.
    repeatable
        Whether the same inputs give the same bits.
    recommended
        Whether a plan may choose it unasked.
    """

    methods: tuple[Method, ...]
    devices: frozenset[str] = frozenset({"cpu"})
    dtypes: frozenset[torch.dtype] = ALL_DTYPES
    batched: bool = False
    recycles: bool = False
    repeatable: bool = True
    recommended: bool = True

    def method(self, name: str) -> Method | None:
        """Find a method by name or alias."""
        return next((m for m in self.methods if name == m.name or name in m.aliases), None)


@dataclass(frozen=True)
class Counts:
    """What an analysis counted: the size of a symmetric factorisation.

    Parameters
    ----------
    factor_nnz
        Entries of one triangular factor, diagonal included.
    flops
        Multiplications and additions: the sum of squared column lengths.
    stored
        Entries kept, the zeros that supernodes store included.
    working
        Entries needed besides while factorising.
    fronts
        Dense fronts.
    front_flops
        `flops` with those zeros.
    dissected
        Whether the ordering came from nested dissection.
    nbytes
        Bytes the analysis itself holds.
    """

    factor_nnz: int
    flops: float
    stored: int
    working: int
    fronts: int
    front_flops: float
    dissected: bool = False
    nbytes: int = 0


@dataclass(frozen=True)
class SolveOptions:
    """Settings of one solve.

    Parameters
    ----------
    rtol
        Tolerance on the true residual relative to ``‖b‖``.
    atol
        Tolerance on the true residual itself.
    maxiter
        Limit on iterations; None lets the method choose.
    preconditioner
        A name, an options object or a callable; None for the method's default.
    project
        Removes the declared nullspace from vectors ``[n, K]``; an iterative method may keep its
        preconditioned directions clean with it.
    """

    rtol: float = 1e-10
    atol: float = 0.0
    maxiter: int | None = None
    preconditioner: Any = None
    project: Callable[[Tensor], Tensor] | None = None


@dataclass(eq=False)
class Symbolic:
    """What the pattern alone determines. Immutable; shared by all values on the pattern.

    `own` counts the bytes of the payload.
    """

    pattern: Pattern
    method: str
    structure: Structure
    payload: Any = None
    own: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes kept alive, those of the pattern included."""
        return self.pattern.nbytes + self.own


@dataclass(eq=False)
class Numeric:
    """What the values determine. Never changed once made, and never an alias of the caller's memory.

    `perturbed` says that negligible pivots were replaced: the factors are those of a nearby matrix,
    and only refinement to the floor of the dtype makes a solution of them. `probed` is the largest
    entry of the solution for `rcond.mixed_probe`, where the backend has solved for it already.
    """

    symbolic: Symbolic
    payload: Any
    nbytes: int = 0
    notes: tuple[str, ...] = ()
    perturbed: bool = False
    probed: float | None = None


@dataclass(eq=False)
class Solution:
    """What a backend's `solve` returns; the caller checks the true residual, unless its `sizes` are there.

    See `methods.outcome.Outcome`.
    """

    x: Tensor
    iterations: int = 0
    history: list[float] = field(default_factory=list)
    result: Result = Result.CONVERGED
    sizes: Tensor | None = None

    def slower(self, iterations: int, history: list[float]) -> None:
        """Report what another group of a batch took, where that is no less."""
        if iterations >= self.iterations:
            self.iterations, self.history = iterations, history


class Backend(ABC):
    """A solver library behind one face.

    The equations a test suite checks for every implementer: ``solve(factorize(analyze(P), a), a, b,
    mode)`` solves ``op(A) x = b`` with ``op`` the identity, transpose or conjugate transpose for
    ``n t h``; ``refactorize(N, a)`` equals ``factorize(N.symbolic, a)`` and leaves ``N`` as it was.
    """

    name: str
    capabilities: Capabilities

    def unavailable(self) -> str | None:
        """Why this backend cannot be used here, or None when it can."""
        return None

    def unavailable_method(self, method: str) -> str | None:
        """Why one method of an available backend cannot be used here, or None when it can."""
        return None

    @abstractmethod
    def analyze(self, pattern: Pattern, method: str, structure: Structure) -> Symbolic:
        """Do the work that values do not change."""

    def counts(self, pattern: Pattern, structure: Structure) -> Counts | None:
        """Count a symmetric factorisation exactly, by the analysis that `analyze` then finds made.

        None where the backend does not count, or the pattern is not for it.
        """
        return None

    @abstractmethod
    def factorize(self, symbolic: Symbolic, values: Tensor, options: SolveOptions) -> Numeric:
        """Do the work that depends on slot values ``[nnz_csr]``.

        Raises
        ------
        SolveError
            ``SINGULAR``, ``NOT_POSITIVE_DEFINITE`` or ``OUT_OF_MEMORY``.
        """

    def refactorize(self, numeric: Numeric, values: Tensor, options: SolveOptions) -> Numeric:
        """Make a numeric object for new values on the same analysis."""
        return self.factorize(numeric.symbolic, values, options)

    def safer(self, numeric: Numeric, values: Tensor, options: SolveOptions) -> Numeric | None:
        """Make better factors of the same values, at a price; None where there are none to be had.

        Asked for where solutions are not accurate enough, or exact pivots are needed.
        """
        return None

    @abstractmethod
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
        """Solve ``op(A) x = b`` for ``b`` ``[M, K]``; `values` are those `numeric` was made from."""

    # Many matrices on one pattern; a library that takes them together says so by `batched`.

    def factorize_batch(
        self, symbolic: Symbolic, values: Tensor, options: SolveOptions
    ) -> list[Numeric | None]:
        """Factorise slot values ``[B, nnz_csr]``: one numeric object per member, None for those better off alone.

        Raises
        ------
        SolveError
            When any member fails.
        """
        return [self.factorize(symbolic, member, options) for member in values]

    def solve_batch(
        self,
        numerics: list[Numeric],
        values: Tensor,
        b: Tensor,
        mode: Mode = "n",
        *,
        options: SolveOptions,
    ) -> Tensor:
        """Solve ``op(A_i) x_i = b_i`` by direct factors: values ``[B, nnz_csr]``, ``b`` ``[B, M, K]``."""
        members = zip(numerics, values, b, strict=True)
        return torch.stack([self.solve(*member, mode, options=options).x for member in members])

    def solve_batch_measured(
        self,
        numerics: list[Numeric],
        values: Tensor,
        b: Tensor,
        mode: Mode,
        truth: Mode,
        *,
        options: SolveOptions,
    ) -> tuple[Tensor, Tensor] | None:
        """As `solve_batch`, with the sizes of ``b_i - op(A_i) x_i``, `truth` naming this ``op``.

        Sizes are those of `kernels.lanes.residual`. None where measuring beside the solve saves nothing.
        """
        return None

    def iterate_batch(
        self,
        symbolic: Symbolic,
        values: Tensor,
        b: Tensor,
        mode: Mode,
        options: SolveOptions,
        x0: Tensor | None = None,
    ) -> Solution | None:
        """Iterate on ``op(A_i) x_i = b_i`` for all members at once; None where it goes one by one.

        Returns ``x`` ``[B, M, K]``, and what the slowest took; members that failed are for the caller to find by
        their residuals.
        """
        return None

    def joins(self, method: str, preconditioner: object, values: Tensor) -> bool:
        """Whether iterations with many matrices are better done as one, with the matrix of which they are blocks."""
        return False

    def concurrent(self, method: str, preconditioner: object, values: Tensor) -> bool:
        """Whether solves with different matrices may run at once, each in a thread of its own.

        They hold no state in common but what a symbolic phase keeps, and spend their time in compiled
        code without the interpreter's lock.
        """
        return False

    # What a factor may know besides solutions; None when it does not.

    def slogdet(self, numeric: Numeric) -> tuple[Tensor, Tensor] | None:
        """Sign (or phase) and logarithm of the absolute value of the determinant, scalars."""
        return None

    def inertia(self, numeric: Numeric) -> tuple[int, int, int] | None:
        """Numbers of positive, negative and zero eigenvalues of a Hermitian matrix."""
        return None

    def selected_inverse(self, numeric: Numeric) -> Tensor | None:
        """Entries of ``A⁻ᵀ`` on the slots of the pattern ``[nnz_csr]``."""
        return None
