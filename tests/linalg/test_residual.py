"""Sizes that verdicts rest on: the largest entries of columns, and limits of each member of a batch."""

from __future__ import annotations

import pytest
import torch

from torch_sla.linalg.backends.base import SolveOptions
from torch_sla.linalg.residual import ACCEPT, BatchResidual, Residual, largest_entries
from torch_sla.linalg.sparse.tensor import SparseTensor


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(("n", "columns"), [(512, 1), (700, 1), (1000, 3), (300, 100), (9, 2)])
def test_largest_entries_whatever_their_sign(n: int, columns: int, sign: float) -> None:
    generator = torch.Generator().manual_seed(n)
    x = 0.1 + torch.rand(n, columns, generator=generator, dtype=torch.float64)
    wanted = x.amax(0)
    assert torch.equal(largest_entries(sign * x), wanted)
    for row in (0, n // 2, n - 1):  # the last is among those that fill no long row
        y = x.clone()
        y[row] = -sign * 7.0
        assert torch.equal(largest_entries(y), torch.full_like(wanted, 7.0))
        y[row, -1] = float("nan")
        assert largest_entries(y).isnan().tolist() == [False] * (columns - 1) + [True]


def test_each_member_and_column_of_a_batch_has_its_own_limit() -> None:
    """Off by 1e-3 in one column whose right-hand side is 1, and in another where it is 100."""
    A = SparseTensor.from_dense(torch.eye(4, dtype=torch.float64))
    pattern, values = A.flat_slots()
    b = torch.zeros(3, 4, 2, dtype=torch.float64)
    b[:, 0] = torch.tensor([[1.0, 100.0], [1.0, 1.0], [1.0, 100.0]])
    x = b.clone()
    x[0, 1, 1] = x[1, 1, 1] = x[2, 2, 0] = 1e-3
    check = BatchResidual(pattern, values.expand(3, -1), b, "n")
    check(x)
    torch.testing.assert_close(
        check.relative, torch.tensor([1e-5, 1e-3, 1e-3], dtype=torch.float64)
    )
    assert float(check.backward.min()) > ACCEPT * torch.finfo(torch.float64).eps

    def accepted(rtol: float, atol: float) -> list[bool]:
        return check.accepted(SolveOptions(rtol=rtol, atol=atol)).tolist()

    assert accepted(1e-4, 0.0) == [True, False, False]
    assert accepted(0.0, 2e-3) == [True, True, True]
    assert accepted(1e-4, 0.5e-3) == [True, False, False]
    assert accepted(1e-6, 0.5e-3) == [False, False, False]
    assert accepted(2e-3, 0.0) == [True, True, True]


def test_scales_of_unknowns_excuse_no_row_beyond_the_size_of_matrix_and_solution() -> None:
    """Half of b is left; measured by the sizes that scales allow the unknowns, that would be 1e-20."""
    A = SparseTensor.from_dense(torch.eye(2, dtype=torch.float64))
    b = torch.ones(2, 1, dtype=torch.float64)
    scale = torch.tensor([1e16, 1e-4], dtype=torch.float64)
    check = Residual(*A.flat_slots(), b, "n", scale=scale)
    relative, backward = check(torch.tensor([[0.5], [1.0]], dtype=torch.float64))
    assert relative == pytest.approx(0.5 / 2**0.5)
    assert backward == pytest.approx(0.25)
