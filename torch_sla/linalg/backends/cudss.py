"""NVIDIA cuDSS: sparse Cholesky, LDL and LU on the GPU."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from torch_sla.errors import Result, SolveError
from torch_sla.linalg.backends import cudss_driver as driver, cudss_library as library
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
from torch_sla.linalg.factor_cache import count
from torch_sla.linalg.kernels import symbolic as ordering
from torch_sla.linalg.kernels.threads import resolve_threads

if TYPE_CHECKING:
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["CuDSS"]

# Rows from which an order is worth keeping.
_WORTH_KEEPING = 2000
# Elementary operations of an ordering per entry: 53 ms of one thread for 49 600 entries.
_ORDERING = 1000
_SMALLEST = {dtype: 2 * torch.finfo(dtype).tiny for dtype in (torch.float32, torch.float64)}
_KINDS = {"cholesky": ("SPD", "HPD"), "ldlt": ("SYMMETRIC", "HERMITIAN"), "lu": ("GENERAL",) * 2}


class CuDSS(Backend):
    """Supernodal factorisations on one device, in memory of torch's allocator.

    An analysis belongs to a solver object of the library, and that holds one matrix at a time. So a
    `Symbolic` keeps the ordering, which is what an analysis costs, and lends solver objects: factors
    that nobody needs any more give theirs back, and the next values are refactorised in it without
    any analysis. Factors in use are never touched. Sums are atomic, so the last bits of a solution
    change from run to run.

    The library has no transposed solves in this series. Hermitian matrices need none; for ``lu`` the
    transposed matrix is factorised once, when an adjoint asks for it first.
    """

    name = "cudss"
    capabilities = Capabilities(
        methods=(
            Method("cholesky", "direct", "positive_definite", aliases=("llt",)),
            Method("ldlt", "direct", "hermitian"),
            Method("lu", "direct"),
        ),
        devices=frozenset({"cuda"}),
        batched=True,
        recycles=True,
        repeatable=False,
    )

    def unavailable(self) -> str | None:
        return library.unavailable()

    def analyze(self, pattern: Pattern, method: str, structure: Structure) -> Symbolic:
        if method != "lu" and not pattern.symmetric:
            raise SolveError(
                Result.BREAKDOWN,
                f"{method} needs entries at symmetric positions; some have no mirror",
            )
        return Symbolic(
            pattern, method, structure, _Analysis(pattern, structure), 8 * pattern.shape[0]
        )

    def factorize(self, symbolic: Symbolic, values: Tensor, options: SolveOptions) -> Numeric:
        del options
        made = _Factors(symbolic, values)
        notes = list(made.direct.notes)
        if made.direct.perturbed:
            notes.append(f"{made.direct.perturbed} negligible pivot(s) replaced")
        return Numeric(
            symbolic, made, made.nbytes, tuple(notes), perturbed=made.direct.perturbed > 0
        )

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
        payload = numeric.payload
        if isinstance(payload, _Member):
            payload = payload.alone(values)
        return Solution(payload.solve(values, b, mode))

    def factorize_batch(
        self, symbolic: Symbolic, values: Tensor, options: SolveOptions
    ) -> list[Numeric | None]:
        del options
        made = _Factors(symbolic, values)
        share = made.nbytes // len(values)
        return [Numeric(symbolic, _Member(made, i), share) for i in range(len(values))]

    def solve_batch(
        self,
        numerics: list[Numeric],
        values: Tensor,
        b: Tensor,
        mode: Mode = "n",
        *,
        options: SolveOptions,
    ) -> Tensor:
        first = numerics[0].payload
        whole = isinstance(first, _Member) and first.is_whole([n.payload for n in numerics])
        if not whole:
            return super().solve_batch(numerics, values, b, mode, options=options)
        columns = (first.batch.solve(values, c, mode) for c in b.unbind(2))
        return torch.stack(list(columns), 2)

    def slogdet(self, numeric: Numeric) -> tuple[Tensor, Tensor] | None:
        factors = numeric.payload
        if isinstance(factors, _Member) or numeric.symbolic.method == "lu":
            return None  # nobody tells the diagonals of a batch, or the sign of permutations
        factor = factors.direct
        if factor.perturbed:
            raise SolveError(
                Result.SINGULAR,
                "negligible pivots were replaced, so the determinant is not known",
            )
        diagonal = factor.solver.diagonal
        log = diagonal.abs().double().log().sum()
        sign = 1.0
        if numeric.symbolic.method == "cholesky":
            log = 2 * log
        elif factor.solver.inertia[1] % 2:
            sign = -1.0
        scale = factor.scale.double()[0]
        log = log.to(scale.device) - numeric.symbolic.pattern.shape[0] * scale.log()
        return torch.tensor(sign, dtype=factor.scale.dtype, device=scale.device), log

    def inertia(self, numeric: Numeric) -> tuple[int, int, int] | None:
        factors = numeric.payload
        if isinstance(factors, _Member):
            return None
        n, method = numeric.symbolic.pattern.shape[0], numeric.symbolic.method
        if method == "lu" or factors.direct.perturbed:
            return None
        return (n, 0, 0) if method == "cholesky" else factors.direct.solver.inertia


# --- what the pattern determines -----------------------------------------------------------------


class _Key(NamedTuple):
    """What solver objects of one pattern differ in."""

    dtype: torch.dtype
    kind: str
    transposed: bool
    batch: int


class _Analysis:
    """Ordering of one pattern, and solver objects that already carry its analysis.

    The library orders once, on the host. Its order comes with a tree of parts that keeps later phases
    parallel: both are handed to every further object (with an order alone these take ten times as
    long). An ordering that came with the structure goes before.
    """

    def __init__(self, pattern: Pattern, structure: Structure) -> None:
        self._pattern, self._wanted = pattern, structure.ordering
        self._lock = threading.Lock()
        self._first: weakref.ref[driver.Solver] | None = None
        self._order: Tensor | None = None
        self._tree: Tensor | None = None
        self._idle: dict[_Key, deque[driver.Solver]] = {}

    def lease(self, values: Tensor, key: _Key) -> driver.Solver:
        """Return a solver that is analysed and free, made when there is none."""
        with self._lock:
            idle = self._idle.setdefault(key, deque())
        try:
            return idle.pop()
        except IndexError:
            return self._make(values, key)

    def give_back(self, solver: driver.Solver, key: _Key) -> None:
        """Keep one idle solver of each kind; drop others. Called by the garbage collector."""
        idle = self._idle[key]
        if not idle:
            idle.append(solver)

    def _make(self, values: Tensor, key: _Key) -> driver.Solver:
        count("analyze")
        pattern = self._pattern.transposed if key.transposed else self._pattern
        with self._lock:
            self._learn()
        for hybrid in (False, True):
            solver = driver.Solver(
                pattern.crow,
                pattern.ccol,
                key.dtype,
                key.kind,
                order=self._order,
                tree=self._tree,
                hybrid=hybrid,
                threads=resolve_threads(None, _ORDERING * pattern.nnz_csr),
                batch=key.batch,
            )
            solver.analyze(values)
            if solver.fits() or key.batch > 1:
                break
        if self._first is None and key.batch == 1:
            self._first = weakref.ref(solver)
        return solver

    def _learn(self) -> None:
        """Take over the order that was asked for, or that an earlier object found."""
        if self._order is not None:
            return
        if self._wanted not in (None, "auto") and self._pattern.symmetric:
            wanted = self._wanted.cpu() if isinstance(self._wanted, Tensor) else self._wanted
            crow, ccol = self._pattern.crow.cpu(), self._pattern.ccol.cpu()
            self._order = ordering.analyze(crow, ccol, ordering=wanted).order  # type: ignore[arg-type]
            return
        first = None if self._first is None else self._first()
        if first is not None and self._pattern.shape[0] >= _WORTH_KEEPING:
            self._order, self._tree = first.ordering() or (None, None)


# --- what the values determine -------------------------------------------------------------------


@dataclass(eq=False)
class _Factor:
    """Factors of ``s A``, of one matrix or a batch, in a leased solver; ``s`` ``[1]`` or ``[B]`` are powers of two.

    Pivots are compared with an absolute bound by the library, so that entries have to be near one.
    """

    solver: driver.Solver
    scale: Tensor
    perturbed: int
    notes: tuple[str, ...]

    @classmethod
    def make(cls, analysis: _Analysis, values: Tensor, kind: str, transposed: bool) -> _Factor:
        largest = torch.linalg.vector_norm(values, torch.inf, dim=-1, keepdim=True)
        # The inverse of a subnormal number may be beyond the largest.
        scale = torch.exp2(-torch.log2(largest.clamp(min=_SMALLEST[largest.dtype])).round())
        scaled = (values * scale).resolve_conj().resolve_neg().contiguous()
        key = _Key(values.dtype, kind, transposed, len(values) if values.ndim == 2 else 1)
        solver = analysis.lease(scaled, key)
        solver.factorize(scaled)
        minor = solver.info
        if minor:
            definite = kind in ("SPD", "HPD")
            raise SolveError(
                Result.NOT_POSITIVE_DEFINITE if definite else Result.SINGULAR,
                f"the pivot of row {minor} (counted from 1, rows reordered) is "
                + ("not positive" if definite else "zero"),
            )
        notes = ("factors kept partly in host memory",) if solver.hybrid else ()
        made = cls(solver, scale.flatten(), solver.pivots, notes)
        weakref.finalize(made, analysis.give_back, solver, key).atexit = False
        return made

    def solve(self, values: Tensor, b: Tensor) -> Tensor:
        return self.solver.solve(values, b * self.scale)


class _Factors:
    """Factors of one matrix (or batch), and of its transpose once an adjoint has asked for them."""

    def __init__(self, symbolic: Symbolic, values: Tensor) -> None:
        self.symbolic = symbolic
        self._kind = _KINDS[symbolic.method][values.is_complex()]
        self._lock = threading.Lock()
        self._transposed: _Factor | None = None
        self.direct = _Factor.make(symbolic.payload, values, self._kind, False)
        # What the transpose will take is counted from the start.
        copies = 2 if symbolic.method == "lu" else 1
        self.nbytes = copies * self.direct.solver.estimates()[0]

    def solve(self, values: Tensor, b: Tensor, mode: Mode) -> Tensor:
        """Solve for ``b`` ``[n, K]``; for a batch, ``[B, n]``."""
        b = b.resolve_conj().resolve_neg()
        if self.symbolic.method == "lu":
            turned = mode == "h" and values.is_complex()
            factor = self.direct if mode == "n" else self._turn(values)
        else:
            # A Hermitian matrix is its own adjoint, and its transpose is its conjugate.
            turned = mode == "t" and values.is_complex()
            factor = self.direct
        b = b.conj().resolve_conj() if turned else b
        x = factor.solve(values, b) if values.ndim == 1 else factor.solve(values, b.mT).mT
        return x.conj().resolve_conj() if turned else x

    def _turn(self, values: Tensor) -> _Factor:
        with self._lock:
            if self._transposed is None:
                count("factorize", len(values) if values.ndim == 2 else 1)
                turned = self.symbolic.pattern.transpose_values(values)
                self._transposed = _Factor.make(self.symbolic.payload, turned, self._kind, True)
            return self._transposed


@dataclass(eq=False)
class _Member:
    """One matrix of a batch that was factorised together."""

    batch: _Factors
    index: int

    def is_whole(self, members: list[object]) -> bool:
        """Whether these are all members of one batch, in order."""
        if len(members) != self.batch.direct.solver.batch:
            return False
        return all(
            isinstance(m, _Member) and m.batch is self.batch and m.index == i
            for i, m in enumerate(members)
        )

    def alone(self, values: Tensor) -> _Factors:
        """Return factors of this matrix by itself."""
        return _Factors(self.batch.symbolic, values)
