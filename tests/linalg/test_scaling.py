"""Whether rows and columns of a matrix are on scales of their own."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.passes import Passes
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.scaling import is_uneven

FULL = torch.tensor([[2.0, -1.0, 0.5], [1.0, 3.0, -1.0], [0.25, 1.0, 4.0]], dtype=torch.float64)


def _dense(row: list[float], column: list[float]) -> torch.Tensor:
    R, C = (torch.tensor(s, dtype=torch.float64) for s in (row, column))
    return R.unsqueeze(1) * FULL * C


@pytest.mark.parametrize(
    ("dense", "wanted"),
    [
        (FULL, False),
        (_dense([1, 1e5, 1], [1, 1, 1]), True),
        (_dense([1, 1, 1], [1, 1, 1e-5]), True),
        (_dense([1, 1e3, 1], [1, 1, 1]), False),
        (_dense([1, 0, 1e6], [1, 1, 1]), False),  # a row of zeros is not a matter of scale
        (_dense([1, 1, 1e6], [0, 1, 1]), False),
        (_dense([1, float("nan"), 1e6], [1, 1, 1]), False),
    ],
)
def test_rows_and_columns_whose_largest_entries_lie_far_apart(
    dense: torch.Tensor, wanted: bool
) -> None:
    pattern, values = SparseTensor.from_dense(FULL).flat_slots()
    values = dense[pattern.csr_row.long(), pattern.ccol.long()]
    assert bool(is_uneven(pattern, values)) is wanted
    both = torch.stack([values, FULL.flatten()])
    assert is_uneven(pattern, both).tolist() == [wanted, False]
    assert is_uneven(pattern, both.unsqueeze(1).to(torch.complex64)).tolist() == [[wanted], [False]]


def test_it_takes_few_operations() -> None:
    """A device is launched as often, for every factorisation."""
    pattern, values = SparseTensor.from_dense(FULL).flat_slots()
    is_uneven(pattern, values)  # what the pattern keeps is made once
    with Passes() as seen:
        is_uneven(pattern, values)
    assert seen.launches <= 15


def test_no_rows_are_even() -> None:
    pattern, values = SparseTensor.from_dense(torch.zeros(0, 0)).flat_slots()
    assert is_uneven(pattern, values.expand(2, -1)).tolist() == [False, False]
