"""Random chains of operations against dense torch: what each does right alone must stay right together."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from torch_sla.linalg import SparseTensor, SparseTensorList

if TYPE_CHECKING:
    from collections.abc import Callable

N = 4
# Blocks of 2 x 2 fit the shape; (0, 0) is given twice, and row 3 has no diagonal entry.
ROW, COL = torch.tensor([0, 1, 2, 3, 0, 0, 2, 3, 1]), torch.tensor([0, 1, 2, 0, 0, 3, 1, 2, 3])


def sparse(v: Tensor) -> SparseTensor:
    return SparseTensor(v, ROW, COL, (*v.shape[:-1], N, N))


def dense(v: Tensor) -> Tensor:
    flat = v.new_zeros(*v.shape[:-1], N * N).index_add(-1, ROW * N + COL, v)
    return flat.reshape(*v.shape[:-1], N, N)


# Each step takes what there is and the matrix at the beginning; functions of entries keep zeros.
STEPS: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    "T": (lambda A, _: A.T(), lambda D, _: D.mT),
    "H": (lambda A, _: A.H(), lambda D, _: D.mH),
    "conj": (lambda A, _: -A.conj(), lambda D, _: -D.conj()),
    "sin": (lambda A, _: A.sin(), lambda D, _: D.sin()),
    "square": (lambda A, _: A.square(), lambda D, _: D * D),
    "+": (lambda A, B: A + 2.0 * B, lambda D, E: D + 2.0 * E),
    "-": (lambda A, B: B.H() - A, lambda D, E: E.mH - D),
    "*": (lambda A, B: A * B, lambda D, E: D * E),
    "@": (lambda A, B: A @ B, lambda D, E: D @ E),
    "gram": (lambda A, _: A.H() @ A, lambda D, _: D.mH @ D),
    "rows": (lambda A, B: A * B.sum(-1).unsqueeze(-1), lambda D, E: D * E.sum(-1, keepdim=True)),
    "blocks": (lambda A, _: A.flatten_blocks().unflatten_blocks(2), lambda D, _: D),
    "cut": (
        lambda A, B: SparseTensorList.from_block_diagonal(
            SparseTensorList([B, A]).to_block_diagonal(), [N, N]
        )[1],
        lambda D, _: D,
    ),
    "natural": (lambda A, _: A.declare(ordering="natural"), lambda D, _: D),
}


def solved(D: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.solve(D, b.expand(D.shape[:-1]).unsqueeze(-1)).squeeze(-1)


# What is read off a matrix near two times the identity; those of the second table go through `vmap`.
ENDS: dict[str, tuple[Callable[[Any, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "lu": (lambda A, b: A.lu().solve(b), solved),
    "transposed": (lambda A, b: A.lu().solve_transposed(b), lambda D, b: solved(D.mT, b)),
    "update": (lambda A, b: A.detach().lu().update(A.values).solve(b), solved),
    "logdet": (lambda A, _: A.slogdet()[1], lambda D, _: torch.linalg.slogdet(D)[1]),
    "ldlt": (lambda A, b: (A + A.H()).ldlt().solve(b), lambda D, b: solved(D + D.mH, b)),
    "trace": (
        lambda A, _: (A + A.H()).eigsh(N, return_eigenvectors=False).pow(3).sum(-1),
        lambda D, _: torch.linalg.eigvalsh(D + D.mH).pow(3).sum(-1),
    ),
}
MAPPED = {
    "solve": (lambda A, b: A.solve(b), solved),
    "cholesky": (
        lambda A, b: (A + A.H()).solve(b, method="cholesky"),
        lambda D, b: solved(D + D.mH, b),
    ),
    "gmres": (
        lambda A, b: A.solve(b, backend="pytorch", method="gmres", rtol=1e-14),
        solved,
    ),
    "product": (lambda A, b: A @ b, lambda D, b: (D @ b.unsqueeze(-1)).squeeze(-1)),
    "sums": (lambda A, _: A.sum(-2), lambda D, _: D.sum(-2)),
    "norm": (lambda A, _: A.norm(), lambda D, _: torch.linalg.matrix_norm(D)),
}


def program(seed: int, kind: int, mapped: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a loss of values and right-hand side, of `kind` 0 with sparse tensors, 1 with dense ones."""
    r = random.Random(seed)
    steps = r.choices(list(STEPS.values()), k=r.randint(1, 4))
    ends = r.choices(list((MAPPED if mapped else ENDS | MAPPED).values()), k=2)

    def loss(v: Tensor, b: Tensor) -> Tensor:
        first: Any = (sparse, dense)[kind](v)
        matrix = first
        for step in steps:
            matrix = step[kind](matrix, first)
        size = (matrix if kind else matrix.to_dense()).abs().square().sum((-2, -1), keepdim=True)
        eye = torch.eye(N, dtype=v.dtype)
        matrix = matrix / (1 + size).sqrt() + (eye if kind else SparseTensor.from_dense(eye)) * 2.0
        parts = [(end[kind](matrix, b) * (1 + 0.5 * k)).flatten() for k, end in enumerate(ends)]
        y = torch.cat([part.to(v.dtype) for part in parts]) + 0.3
        return (y * y * y.conj()).real.sum() if y.is_complex() else (y**3).sum()

    return loss


def inputs(seed: int, batch: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    dtype = (torch.float64, torch.complex128)[seed % 2]
    v = torch.randn(*batch, len(ROW), dtype=dtype, generator=g)
    return v, torch.randn(N, dtype=dtype, generator=g)


@pytest.mark.parametrize("seed", range(45))
def test_value_gradient_and_second_derivative(seed: int) -> None:
    given = [x.requires_grad_() for x in inputs(seed, ((), (), (3,))[seed % 3])]
    along = [torch.ones_like(x) for x in given]
    found = []
    for kind in (0, 1):
        loss = program(seed, kind, mapped=False)(*given)
        first = torch.autograd.grad(
            loss, given, create_graph=True, allow_unused=True, materialize_grads=True
        )
        slope = sum((g * t).real.sum() for g, t in zip(first, along, strict=True))
        second = torch.autograd.grad(slope, given, allow_unused=True, materialize_grads=True)
        found.append([loss, *first, *second])
    torch.testing.assert_close(*found, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("seed", range(15))
def test_forward_mode_and_transforms(seed: int) -> None:
    v, b = inputs(seed, (2,))
    found = []
    for kind in (0, 1):
        loss = program(seed, kind, mapped=True)
        tangent = torch.func.jvp(loss, (v[0], b), (v[1], torch.ones_like(b)))[1]
        each = torch.func.vmap(torch.func.grad(loss), in_dims=(0, None))(v, b)
        found.append([tangent, each])
    torch.testing.assert_close(*found, rtol=1e-7, atol=1e-7)
