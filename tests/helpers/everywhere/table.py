"""The table, and what its entries are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.linalg import SparseTensor

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ENTRIES", "F64", "NEEDS_FACTORS", "backward", "entry", "general", "grid", "random"]

ENTRIES: dict[str, Callable[[torch.device], dict[str, Tensor]]] = {}
NEEDS_FACTORS: set[str] = set()
"""Entries that need a direct solver on the device."""

F64 = torch.float64


def entry(name: str, *, factors: bool = False) -> Callable[[Any], Any]:
    """Put a function of a device into the table."""

    def register(make: Any) -> Any:
        ENTRIES[name] = make
        if factors:
            NEEDS_FACTORS.add(name)
        return make

    return register


def random(*shape: int, seed: int, dtype: torch.dtype = F64) -> Tensor:
    """Return numbers that are the same each time, on the CPU."""
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def grid(k: int, device: torch.device, dtype: torch.dtype = F64) -> SparseTensor:
    """Five-point Laplacian on a ``k`` by ``k`` grid with varying coefficients."""
    n = k * k
    index = torch.arange(n).reshape(k, k)
    pairs = torch.cat([index[:, :-1].flatten(), index[:-1].flatten()])
    others = torch.cat([index[:, 1:].flatten(), index[1:].flatten()])
    weight = 1 + torch.rand(len(pairs), generator=torch.Generator().manual_seed(3)).double()
    diagonal = torch.full((n,), 0.1, dtype=F64)
    diagonal = diagonal.index_add(0, pairs, weight).index_add(0, others, weight)
    row = torch.cat([pairs, others, torch.arange(n)])
    col = torch.cat([others, pairs, torch.arange(n)])
    values = torch.cat([-weight, -weight, diagonal]).to(device, dtype)
    return SparseTensor(values.requires_grad_(), row.to(device), col.to(device), (n, n))


def general(n: int, device: torch.device, *batch: int, dtype: torch.dtype = F64) -> SparseTensor:
    """Diagonally dominant, unsymmetric, with duplicate coordinates."""
    g = torch.Generator().manual_seed(7)
    row = torch.cat([torch.arange(n), torch.randint(n, (5 * n,), generator=g)])
    col = torch.cat([torch.arange(n), torch.randint(n, (5 * n,), generator=g)])
    values = random(*batch, 6 * n, seed=8, dtype=dtype)
    values[..., :n] += 14
    values = values.to(device).requires_grad_()
    return SparseTensor(values, row.to(device), col.to(device), (*batch, n, n))


def backward(loss: Tensor, **leaves: Tensor) -> dict[str, Tensor]:
    """Return the gradients by name, with a ``d`` before it."""
    found = torch.autograd.grad(loss, list(leaves.values()))
    return {f"d{name}": g for name, g in zip(leaves, found, strict=True)}
