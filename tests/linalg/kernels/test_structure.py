from __future__ import annotations

import pytest
import scipy.sparse as sp
import torch

from tests.helpers.grids import split
from tests.helpers.lattices import laplacian
from torch_sla._core import extension
from torch_sla.linalg.kernels import structure as kernel
from torch_sla.linalg.kernels.lattice_detect import find_lattice
from torch_sla.linalg.sparse import structure
from torch_sla.linalg.sparse.growth import growth_dimension
from torch_sla.linalg.sparse.pattern import Pattern

pytestmark = pytest.mark.skipif(extension is None, reason="needs the extension")


def random_matrix(seed: int) -> tuple[Pattern, torch.Tensor]:
    """A small matrix of some kind: general, symmetric, Hermitian, dominant, real or complex."""
    g = torch.Generator().manual_seed(seed)
    n, m = (int(torch.randint(1, 12, (1,), generator=g)) for _ in range(2))
    row, col = (torch.randint(0, n, (2 * m,), generator=g) for _ in range(2))
    dtype = torch.complex128 if seed % 2 else torch.float64
    values = torch.randn(2 * m, generator=g, dtype=torch.float64).to(dtype)
    if dtype.is_complex:
        values = values + 1j * torch.randn(2 * m, generator=g, dtype=torch.float64)
    if seed % 3:
        other = values.conj() if seed % 3 == 1 else values
        row, col, values = torch.cat([row, col]), torch.cat([col, row]), torch.cat([values, other])
    if seed % 5:
        every = torch.arange(n)
        sums = torch.zeros(n, dtype=torch.float64).index_add_(0, row, values.abs())
        row, col = torch.cat([row, every]), torch.cat([col, every])
        values = torch.cat([values, (sums + (seed % 5 - 1)).to(dtype)])
    pattern = Pattern.from_coo(row, col, (n, n))
    return pattern.slots, pattern.coalesce(values).resolve_conj()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_descent_proves_what_products_prove(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    cases, proofs = [], []
    for seed in range(60):
        g = torch.Generator().manual_seed(seed)
        n = int(torch.randint(2, 40, (1,), generator=g))
        pattern, values = split(laplacian(n, n))
        values = values.to(dtype)
        values[pattern.diagonal_slots.long()] -= 0.2 * seed / 60  # waves, of more and more length
        cases.append((pattern, values))
        proofs.append(structure._descends(pattern, values))
    monkeypatch.setattr(structure, "descends", lambda *_: None)
    assert proofs == [structure._descends(*case) for case in cases]
    assert 5 < sum(proofs) < 55


def test_one_pass_finds_what_the_transpose_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [random_matrix(seed) for seed in range(240)]
    found = [structure.detect(*case) for case in cases]
    monkeypatch.setattr(structure, "_in_one_pass", lambda *_: None)
    kinds = set()
    for case, one in zip(cases, found, strict=True):
        two = structure.detect(*case)
        flags = (one.symmetric, one.hermitian, one.positive_definite)
        assert flags == (two.symmetric, two.hermitian, two.positive_definite)
        kinds.add(flags)
    assert len(kinds) >= 5


def test_equal_values_do_not_hide_that_a_mirror_image_is_missing() -> None:
    """As many entries on both sides, one of them elsewhere: what the search for its place ends at is as large."""
    g = torch.Generator().manual_seed(5)
    below = torch.tril_indices(7, 7, -1)
    for _ in range(400):
        upper = torch.rand(7, 7, generator=g) < 0.3
        dense = upper | upper.T
        there = dense[*below]
        if there.all() or not there.any():
            continue
        moved = [torch.multinomial(w.double(), 1, generator=g) for w in (there, ~there)]
        dense[*below[:, torch.cat(moved)]] ^= True
        row, col = dense.nonzero().T
        pattern = Pattern.from_coo(row, col, (7, 7)).slots
        assert not structure.detect(pattern, torch.ones(len(row), dtype=torch.float64)).symmetric


def test_rows_placed_like_the_last_one_are_summed_by_their_own_numbers() -> None:
    i, off = torch.arange(300), torch.linspace(-0.5, -1.5, 299, dtype=torch.float64)
    row, col = torch.cat([i, i[1:], i[:-1]]), torch.cat([i, i[:-1], i[1:]])
    pattern = Pattern.from_coo(row, col, (300, 300))
    for diagonal in (2.0, 2.5, 3.5):
        values = pattern.coalesce(torch.cat([off.new_full((300,), diagonal), off, off]))
        one, two = (f(pattern.slots, values) for f in (structure._in_one_pass, structure._at_once))
        assert (one.positive_definite, one.dominance) == (two.positive_definite, two.dominance)


def test_batches_hold_when_every_member_does() -> None:
    i = torch.arange(3)
    pattern = Pattern.from_coo(torch.cat([i, i[1:]]), torch.cat([i, i[:-1]]), (3, 3)).slots
    assert structure.detect(pattern, torch.ones(2, 5)).symmetric is False
    diagonal = Pattern.from_coo(i, i, (3, 3)).slots
    values = torch.tensor([[1.0, 2.0, 3.0], [1.0, -2.0, 3.0]], dtype=torch.float64)
    assert structure.detect(diagonal, values).positive_definite is False
    assert structure.detect(diagonal, values.abs()).positive_definite is True


def test_mirror_slots() -> None:
    for seed in range(60):
        pattern, values = random_matrix(seed)
        slots = kernel.mirror_slots(pattern.crow, pattern.ccol)
        dense = torch.zeros(pattern.shape, dtype=torch.bool)
        row, col = pattern.csr_row.long(), pattern.ccol.long()
        dense[row, col] = True
        assert (slots is not None) == torch.equal(dense, dense.T)
        if slots is not None:
            assert torch.equal(row[slots.long()], col)
            assert torch.equal(col[slots.long()], row)
            assert pattern.symmetric
            assert torch.equal(pattern.transpose_values(values), values[slots.long()])


def test_breadth_first_is_the_search_in_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    i = torch.arange(40 * 50).reshape(40, 50)
    pairs = torch.cat(
        [
            torch.stack([a.flatten(), b.flatten()])
            for a, b in ((i[1:], i[:-1]), (i[:, 1:], i[:, :-1]))
        ],
        1,
    )
    pattern = Pattern.from_coo(
        torch.cat([pairs[0], pairs[1]]), torch.cat([pairs[1], pairs[0]]), (2000, 2000)
    )
    assert kernel.breadth_first(pattern.crow, pattern.ccol, 0, 1000)[:2] == (88, 2000)
    dimension = growth_dimension(pattern)
    monkeypatch.setattr("torch_sla.linalg.sparse.growth.breadth_first", lambda *_: None)
    assert growth_dimension(pattern) == dimension == 2.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128])
def test_largest_row_sum(dtype: torch.dtype) -> None:
    for seed in range(4, 20, 2):  # real ones
        pattern, values = random_matrix(seed)
        values = values.to(dtype) * (1j if dtype.is_complex else 1)
        found = kernel.largest_row_sum(pattern.crow, values)
        assert found.dtype is dtype.to_real()
        torch.testing.assert_close(found, pattern.sum_rows(values.abs()).amax())
    assert kernel.largest_row_sum(pattern.crow, values * torch.nan).isnan()


def test_lattice_fit_proves_what_torch_proves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stencils, one with an entry that wraps around an edge, and one with a far entry."""
    A = laplacian(7, 6)
    wrapped, far = A.tolil(), A.tolil()
    wrapped[5, 6], far[3, 30] = 0.1, 0.1
    wrapped[6, 5], far[30, 3] = 0.1, 0.1
    found = []
    for matrix in (A, laplacian(5, 4, 3), wrapped, far):
        pattern, _ = split(sp.csr_array(matrix))
        found.append(find_lattice(pattern.crow, pattern.ccol))
    assert found[0] is not None
    assert found[3] is None
    monkeypatch.setattr(kernel, "lattice_fit", lambda *_: None)
    for matrix, lattice in zip((A, laplacian(5, 4, 3), wrapped, far), found, strict=True):
        pattern, _ = split(sp.csr_array(matrix))
        assert find_lattice(pattern.crow, pattern.ccol) == lattice


def test_size_range() -> None:
    values = torch.tensor([3.0, -7.0, 0.0, 1e-3, 9.0], dtype=torch.float64)
    slots = torch.tensor([0, 1, -1, 2, 3], dtype=torch.int32)
    assert kernel.size_range(values, slots) == (1e-3, 7.0)
    assert kernel.size_range(values.to(torch.complex128) * 1j, slots.long()) == (1e-3, 7.0)
    assert kernel.size_range(values, slots[2:4]) == (0.0, 0.0)
    assert kernel.size_range(values, slots[:0]) == (0.0, 0.0)
    for what in (torch.nan, torch.inf):
        values[3] = what
        low, high = kernel.size_range(values, slots)
        assert low != low
        assert high != high
    with pytest.raises(ValueError, match="beyond"):
        kernel.size_range(values, slots + 2)


def test_size_range_without_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_compiled", None)
    test_values = torch.tensor([3.0, -7.0, 0.0, 1e-3], dtype=torch.float64)
    assert kernel.size_range(test_values, torch.tensor([0, 1, -1, 2, 3])) == (1e-3, 7.0)
    assert kernel.size_range(test_values, torch.tensor([2])) == (0.0, 0.0)
