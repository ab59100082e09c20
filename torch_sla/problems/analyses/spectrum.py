"""The pencil of a physics on its free unknowns, and how a part of its spectrum is found."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, GradientError, SolveError, SpecError
from torch_sla.linalg import Pattern, SparseTensor
from torch_sla.linalg.kernels.pointers import pointers
from torch_sla.linalg.precond.base import make_preconditioner
from torch_sla.problems.lowering.parameters import must_enter
from torch_sla.problems.progress import Reporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg import SolvePlan
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.progress import ProgressCallback
    from torch_sla.problems.specs.algebra import EigenProblem

__all__ = ["Found", "FreeSpace", "Pencil", "require_mass", "require_reach"]

# Products with an inverse that Lanczos takes for each pair, about.
_PRODUCTS = 4


class FreeSpace:
    """The unknowns without a given value: where spectra live.

    Parameters
    ----------
    model
        The lowered physics, with its constraint ``u = T û + g``.
    """

    def __init__(self, model: Model) -> None:
        self.constraint = constraint = model.compiled.constraint
        whole, free = constraint.pattern, model.free
        row, column = whole.csr_row.long(), whole.ccol.long()
        self._slots = torch.nonzero(free[row] & free[column])[:, 0]
        self.index = torch.nonzero(free)[:, 0]
        self.n, self.n_all = len(self.index), len(free)
        none = torch.zeros(len(model.compiled.constrained), device=free.device)
        self._given = len(model.compiled.sides(none))
        number = torch.cumsum(free, 0) - 1
        counts = torch.bincount(number[row[self._slots]], minlength=self.n)
        self.pattern = Pattern.from_csr(
            pointers(counts), number[column[self._slots]], (self.n, self.n)
        )

    def constrained(self, values: Tensor) -> Tensor:
        """Return ``Tᴴ A T`` on all rows, with a one where a value is given: ``[*batch, nnz]``."""
        zero, none = values.new_zeros(self.n_all), values.new_zeros(self._given)
        return self.constraint.apply(values, zero, none)[0]

    def restrict(self, values: Tensor) -> Tensor:
        """Return ``Tᴴ A T`` on `pattern`: ``[*batch, nnz]`` of the whole to ``[*batch, nnz]``."""
        return self.constrained(values).index_select(-1, self._slots)

    def recover(self, v: Tensor) -> Tensor:
        """Return vectors of all unknowns ``[*batch, n]``, zero where a value is given."""
        zero = v.new_zeros(*v.shape[:-1], self.n_all)
        return self.constraint.recover(zero.index_copy(-1, self.index, v), v.new_zeros(self._given))


class Found(NamedTuple):
    """Eigenvalues ``[*batch, k]``, vectors ``[*batch, n, k]``, and how they were found."""

    values: Tensor
    vectors: Tensor
    method: str
    notes: list[str]


class Pencil:
    """Finds the end of a spectrum that the inverse of a positive definite matrix opens.

    Shift and invert where the plan of a solve with that matrix is a factorisation; where it is an iteration with
    multigrid, LOBPCG with one cycle of it. The solver of the physics says so, or the plan.

    Parameters
    ----------
    model, space
        The physics and its free unknowns.
    opened
        The matrix that is inverted, before constraints ``[nnz]``.
    k
        How many pairs are wanted.
    progress
        Told after each iteration of LOBPCG.
    """

    def __init__(
        self,
        model: Model,
        space: FreeSpace,
        opened: Tensor,
        k: int,
        progress: ProgressCallback | None = None,
    ) -> None:
        self._model, self._space, self._progress = model, space, progress
        self._opened = opened.detach()
        self._matrix = SparseTensor.from_pattern(
            space.constraint.pattern,
            space.constrained(self._opened),
            structure=model.structure(True, True),
        )
        solver = model.spec.solver
        self.plan: SolvePlan | None = None
        if not self._matrix.is_batched:
            self.plan = self._matrix.plan(
                repeats=_PRODUCTS * k,
                backend=solver.backend,
                method=solver.method,
                preconditioner=solver.preconditioner,
            )

    @property
    def iterative(self) -> bool:
        """Whether the plan is an iteration with multigrid."""
        return self.plan is not None and self.plan.choice.preconditioner == "multigrid"

    def _cycle(self) -> Callable[[Tensor], Tensor]:
        """Return one cycle of multigrid on free unknowns ``[n, K] -> [n, K]``."""
        pattern, values = self._matrix.flat_slots()
        structure = self._matrix.known_structure()
        asked = self._model.spec.solver.preconditioner
        made = make_preconditioner(
            "multigrid" if asked == "auto" else asked, pattern, values, structure
        )
        index, n = self._space.index, self._space.n_all
        if made is None:
            raise ValueError("multigrid was planned")

        tell, iterations = Reporter("LOBPCG", None, self._progress), count()

        def apply(r: Tensor) -> Tensor:
            tell(next(iterations))
            full = r.new_zeros(n, r.shape[1]).index_copy(0, index, r)
            return made.apply(full).index_select(0, index)

        return apply

    def find(
        self,
        A: SparseTensor,
        M: SparseTensor,
        k: int,
        *,
        which: str,
        sigma: float | None,
        end: str | None,
    ) -> Found:
        """Find k pairs of ``A v = λ M v``.

        Parameters
        ----------
        which, sigma
            As `SparseTensor.eigsh` takes them, for Lanczos.
        end
            ``"SA"`` or ``"LA"``, what the same pairs are for LOBPCG; None where they are no end.
        """
        notes: list[str] = []
        if self.iterative and end is not None and 4 * k < self._space.n:
            try:
                w, V = A.eigsh(
                    k=k, which=end, M=M, method="lobpcg", preconditioner=self._cycle(), tol=1e-9
                )
            except SolveError as error:
                notes.append(f"lobpcg with multigrid: {error.result.name.lower()}")
            else:
                return Found(w, V, "lobpcg with multigrid", notes)
        w, V = A.eigsh(k=k, which=which, sigma=sigma, M=M)
        return Found(
            w, V, "shift and invert" if sigma is not None or which == "SM" else "lanczos", notes
        )


def require_mass(model: Model, without: int, free: int, wanted: EigenProblem | None = None) -> None:
    """Refuse modes that are not finite: unknowns without mass have none of their own.

    Parameters
    ----------
    model
        The physics.
    without, free
        How many of the free unknowns have no mass, and how many there are, in the whole.
    wanted
        Which modes are wanted; None where these need mass everywhere.
    """
    if not without:
        return
    what, left = next(iter(model.inertial), "mass"), free - without
    told = f"{what}: {without} of the {free} free unknowns have no mass"
    if wanted is None:
        raise ArgumentError(
            f"{told}; in parts it is needed everywhere, but for the least modes (SM, no sigma) of a body that is held "
            "and not stressed: give it, however small, or solve in one process"
        )
    if left < wanted.k:
        raise ArgumentError(
            f"{told}, which leaves {left} modes, and {wanted.k} were asked for; ask for fewer, or give it to more"
        )
    if wanted.sigma is None and wanted.which != "SM":
        raise SpecError(
            f"{told}, and the largest eigenvalues are infinite; take SM, or give sigma",
            path="which",
        )


def require_reach(scene: Scene, K: Tensor, *more: Tensor | None) -> None:
    """Refuse a value that requires grad and enters no matrix, such as a load of a linear physics."""
    wanted = {name: value for name, value in scene.given.items() if must_enter(value)}
    if not wanted or not torch.is_grad_enabled():
        return
    total = K.sum() + sum(matrix.sum() for matrix in more if matrix is not None)
    if total.is_complex():
        total = total.real + total.imag
    found: tuple[Tensor | None, ...] = (None,) * len(wanted)
    if total.requires_grad:
        found = torch.autograd.grad(
            total, list(wanted.values()), retain_graph=True, allow_unused=True
        )
    for name, gradient in zip(wanted, found, strict=True):
        if gradient is None:
            raise GradientError(
                f"{name!r} requires grad, but no matrix (stiffness, mass, damping) depends on it, so its gradient "
                "would be zero in silence; pass it detached"
            )
