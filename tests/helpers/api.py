"""The matrices that tests of the public names share, dense and sparse."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.helpers.zoo import case
from torch_sla.linalg import SparseTensor

__all__ = ["BLOCKS", "F64", "PAIR", "A", "B", "D", "G", "N", "S", "X", "same"]

F64 = torch.float64
D = case("definite").dense(F64)
G = case("general").dense(F64)
N = 10
B = torch.linspace(1, 2, N, dtype=F64)
X = torch.stack([B, B.flip(0), B**2], 1)

A, S = SparseTensor.from_dense(G), SparseTensor.from_dense(D)
BLOCKS = case("blocks").sparse(F64)
PAIR = SparseTensor.from_dense(torch.stack([G, 2 * G]))


def same(found: Any, expected: Any) -> bool:
    """Whether what was found is what was expected; tensors to nine digits."""
    if isinstance(found, SparseTensor):
        found = found.to_dense()
    if isinstance(found, Tensor):
        expected = torch.as_tensor(expected, dtype=found.dtype)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        return True
    return bool(found == expected)
