from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from tests.helpers.grids import split
from tests.helpers.lattices import box_stencil, laplacian
from torch_sla.linalg.kernels import unavailable
from torch_sla.linalg.kernels.lattice_detect import find_lattice
from torch_sla.linalg.kernels.multigrid import detect_lattice

SHAPES = [(7, 5), (30, 30), (3, 40), (40, 3), (5, 6, 7), (3, 3, 3), (9, 4, 3), (12, 11, 10)]


@pytest.mark.parametrize("kind", [laplacian, box_stencil])
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_found(shape: tuple[int, ...], kind) -> None:
    pattern, _ = split(kind(*shape))
    found = find_lattice(pattern.crow, pattern.ccol)
    edges = shape[::-1]
    assert found.shape == (*edges, *(1,) * (3 - len(edges)))
    if unavailable() is None:
        compiled = detect_lattice(pattern.crow, pattern.ccol)
        assert [n for n in compiled if n > 1] == [n for n in found.shape if n > 1]


def test_lines_are_lattices_too() -> None:
    pattern, _ = split(laplacian(50))
    assert find_lattice(pattern.crow, pattern.ccol).shape == (50, 1, 1)


@pytest.mark.parametrize("wrap", [True, False])
def test_one_foreign_entry_is_enough(wrap: bool) -> None:
    A = laplacian(90, 80).tolil()
    if wrap:  # the offset of a neighbour, from the end of one line to the start of the next
        A[79, 80] = A[80, 79] = -1.0
    else:
        A[1234, 4321] = A[4321, 1234] = -1.0
    pattern, _ = split(sp.csr_array(A))
    assert find_lattice(pattern.crow, pattern.ccol) is None


def test_offsets_that_the_sample_misses() -> None:
    n = 120
    A = laplacian(n, n).tolil()
    A[5000, 5000 + n + 1] = A[5000 + n + 1, 5000] = -0.5  # one diagonal neighbour in 14 400 rows
    pattern, _ = split(sp.csr_array(A))
    found = find_lattice(pattern.crow, pattern.ccol)
    assert found.shape == (n, n, 1)
    assert {9 + 0, 17} <= set(found.codes)


def test_no_lattice() -> None:
    A = sp.random_array((200, 200), density=0.05, rng=91) + sp.eye_array(200)
    A = sp.csr_array(A)
    A.sort_indices()
    pattern, _ = split(A)
    assert find_lattice(pattern.crow, pattern.ccol) is None
    assert find_lattice(torch.tensor([0, 1, 2]), torch.tensor([0, 1])) is None
    full, _ = split(sp.csr_array(np.ones((40, 40))))
    assert find_lattice(full.crow, full.ccol) is None


def test_more_points_than_32_bits_number_are_no_lattice() -> None:
    crow = torch.zeros((), dtype=torch.int64).expand(2**31 + 1)
    assert find_lattice(crow, torch.zeros(1, dtype=torch.int64)) is None
