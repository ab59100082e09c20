"""Small matrices by structure: every suite about matrices walks these.

All are at most 12 x 12, exact in structure, and the same on every run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.linalg import SparseTensor
from torch_sla.linalg.backends.base import ALL_DTYPES

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CASES", "Case", "case", "residual_limit", "rhs", "sparse"]


@dataclass(frozen=True)
class Case:
    """One matrix of the zoo.

    Parameters
    ----------
    name
        What it is.
    dense
        Makes ``[*batch, M, N]`` from a real or complex dtype.
    hermitian, definite
        What is true of it.
    shape
        ``(M, N)``.
    zero_diagonal
        Whether diagonal entries vanish, so that pointwise preconditioners cannot be.
    hard
        Whether an iterative method may fail, in so many words.
    block
        Size of square blocks it is stored in, 0 for scalars.
    nullspace
        ``[N, k]`` where it is singular.
    symmetric
        Whether it equals its transpose, which Hermitian real matrices do without saying.
    dtypes
        In which it exists.
    """

    name: str
    dense: Callable[[torch.dtype], Tensor]
    shape: tuple[int, int]
    hermitian: bool = False
    definite: bool = False
    zero_diagonal: bool = False
    hard: bool = False
    block: int = 0
    nullspace: Tensor | None = None
    symmetric: bool = False
    dtypes: frozenset[torch.dtype] = ALL_DTYPES

    @property
    def square(self) -> bool:
        """Whether it has as many rows as columns."""
        return self.shape[0] == self.shape[1]

    def sparse(self, dtype: torch.dtype) -> SparseTensor:
        """Return it as a `SparseTensor` without explicit zeros."""
        return sparse(self.dense(dtype), self.block)


def sparse(dense: Tensor, block: int = 0) -> SparseTensor:
    """Store what is not zero in any member of the batch; differentiable in `dense`."""
    M, N = dense.shape[-2:]
    if block:
        tiles = dense.unflatten(-1, (N // block, block)).unflatten(-3, (M // block, block))
        tiles = tiles.movedim(-2, -3)
        kept = (tiles != 0).flatten(0, -5).any(0) if tiles.ndim > 4 else tiles != 0
        row, col = kept.flatten(-2).any(-1).nonzero(as_tuple=True)
        return SparseTensor(
            tiles[..., row, col, :, :],
            row,
            col,
            (*dense.shape[:-2], M // block, N // block, block, block),
        )
    kept = (dense != 0).flatten(0, -3).any(0) if dense.ndim > 2 else dense != 0
    row, col = kept.nonzero(as_tuple=True)
    return SparseTensor(dense[..., row, col], row, col, tuple(dense.shape))


def _random(dtype: torch.dtype, *shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    wide = torch.complex128 if dtype.is_complex else torch.float64
    return torch.randn(*shape, dtype=wide, generator=generator)


def _keep(values: Tensor, share: float, seed: int) -> Tensor:
    """Leave this share of the entries, and the diagonal."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(values.shape[-2:], generator=generator) < share
    mask.fill_diagonal_(True)
    return values * mask


def _path(n: int) -> Tensor:
    ones = torch.ones(n - 1, dtype=torch.float64)
    return torch.diag(torch.full((n,), 2.0).double()) - torch.diag(ones, 1) - torch.diag(ones, -1)


def _poisson(dtype: torch.dtype) -> Tensor:
    eye3, eye4 = torch.eye(3).double(), torch.eye(4).double()
    return (torch.kron(_path(3), eye4) + torch.kron(eye3, _path(4))).to(dtype)


def _definite(dtype: torch.dtype) -> Tensor:
    L = _keep(_random(dtype, 10, 10, seed=31), 0.3, 32).tril()
    return (L @ L.mH + 0.5 * torch.eye(10)).to(dtype)


def _saddle(dtype: torch.dtype) -> Tensor:
    K = torch.zeros(11, 11, dtype=torch.complex128 if dtype.is_complex else torch.float64)
    K[:8, :8] = _path(8) + torch.eye(8)
    K[8:, :8] = _keep(_random(dtype, 3, 8, seed=33), 0.6, 34)
    K[:8, 8:] = K[8:, :8].mH
    return K.to(dtype)


def _convection(dtype: torch.dtype) -> Tensor:
    upwind = 20 * (torch.eye(12).double() - torch.diag(torch.ones(11).double(), -1))
    return (_path(12) + upwind).to(dtype)


def _general(dtype: torch.dtype) -> Tensor:
    A = _keep(_random(dtype, 10, 10, seed=35), 0.4, 36)
    return (A + 3 * torch.eye(10)).to(dtype)


def _scaled(dtype: torch.dtype) -> Tensor:
    rows = 10.0 ** torch.linspace(-6, 6, 10, dtype=torch.float64).roll(3)
    return (_general(torch.complex128 if dtype.is_complex else torch.float64) * rows[:, None]).to(
        dtype
    )


def _scaled_definite(dtype: torch.dtype) -> Tensor:
    s = 10.0 ** torch.linspace(-4, 4, 10, dtype=torch.float64)
    wide = torch.complex128 if dtype.is_complex else torch.float64
    return (_definite(wide) * s[:, None] * s).to(dtype)


def _blocks(dtype: torch.dtype) -> Tensor:
    B = _random(dtype, 3, 3, seed=37)
    return torch.kron(_path(4).to(B.dtype), B @ B.mH + 2 * torch.eye(3)).to(dtype)


def _batch(dtype: torch.dtype) -> Tensor:
    A = _keep(_random(dtype, 2, 3, 9, 9, seed=38), 0.4, 39)
    return (A + 4 * torch.eye(9)).to(dtype)


def _tall(dtype: torch.dtype) -> Tensor:
    A = _keep(_random(dtype, 12, 7, seed=40), 0.5, 41)
    A[:7] += 2 * torch.eye(7)
    return A.to(dtype)


def _wide(dtype: torch.dtype) -> Tensor:
    return _tall(dtype).mH.resolve_conj().contiguous()


def _absorbing(dtype: torch.dtype) -> Tensor:
    return (_path(12) - (0.8 + 0.7j) * torch.eye(12)).to(dtype)


def _neumann(dtype: torch.dtype) -> Tensor:
    A = _path(10)
    A[0, 0] = A[-1, -1] = 1
    return A.to(dtype)


CASES: tuple[Case, ...] = (
    Case("poisson", _poisson, (12, 12), hermitian=True, definite=True),
    Case("definite", _definite, (10, 10), hermitian=True, definite=True),
    Case("blocks", _blocks, (12, 12), hermitian=True, definite=True, block=3),
    Case("saddle", _saddle, (11, 11), hermitian=True, zero_diagonal=True, hard=True),
    Case("convection", _convection, (12, 12)),
    Case("general", _general, (10, 10)),
    Case(
        "absorbing",
        _absorbing,
        (12, 12),
        symmetric=True,
        dtypes=frozenset({torch.complex64, torch.complex128}),
    ),
    Case("batch", _batch, (9, 9)),
    Case("scaled", _scaled, (10, 10), hard=True),
    Case("scaled definite", _scaled_definite, (10, 10), hermitian=True, definite=True, hard=True),
    Case("tall", _tall, (12, 7)),
    Case("wide", _wide, (7, 12)),
    Case(
        "neumann",
        _neumann,
        (10, 10),
        hermitian=True,
        nullspace=torch.ones(10, 1, dtype=torch.float64),
    ),
)


def case(name: str) -> Case:
    """Return the case of that name."""
    return next(c for c in CASES if c.name == name)


def rhs(A: SparseTensor, columns: int | None, seed: int = 51) -> Tensor:
    """Right-hand sides ``[*batch, M]`` or ``[*batch, M, K]``."""
    shape = (*A.batch_shape, A.flat_shape[0], *(() if columns is None else (columns,)))
    return _random(A.dtype, *shape, seed=seed).to(A.device, A.dtype)


def residual_limit(dtype: torch.dtype) -> float:
    """Return the tolerance an iterative method is asked for in contract tests."""
    return 1e-11 if torch.finfo(dtype).bits == 64 else 1e-5
