"""Patterns: canonical slots, maps back to given entries, transposes, blocks, refusals."""

from __future__ import annotations

import copy
import pickle
from math import prod
from types import SimpleNamespace

import pytest
import torch

from tests.helpers.lattices import laplacian
from torch_sla.errors import ArgumentError
from torch_sla.linalg import Pattern, SegmentMap, SparseTensor
from torch_sla.linalg.sparse.growth import growth_dimension


def random_coo(seed: int, M: int, N: int, nnz: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randint(M, (nnz,), generator=generator),
        torch.randint(N, (nnz,), generator=generator),
    )


def dense(p: Pattern, slot_values: torch.Tensor) -> torch.Tensor:
    out = torch.zeros(p.shape, dtype=slot_values.dtype)
    out[p.csr_row.long(), p.ccol.long()] = slot_values
    return out


@pytest.mark.parametrize("shape", [(5, 7), (7, 5), (6, 6), (1, 1), (3, 0), (0, 3), (0, 0)])
def test_slots_and_transpose_against_dense(shape: tuple[int, int]) -> None:
    M, N = shape
    nnz = 20 if M * N else 0
    row, col = random_coo(11, M, N, nnz) if nnz else (torch.zeros(0, dtype=torch.long),) * 2
    values = torch.arange(1.0, nnz + 1)
    p = Pattern.from_coo(row, col, shape)
    expected = torch.zeros(M, N).index_put((row, col), values, accumulate=True)
    slots = p.coalesce(values)
    assert torch.equal(dense(p, slots), expected)
    assert torch.equal(dense(p.transposed, p.transpose_values(slots)), expected.T)
    assert torch.equal(p.row.long(), row)
    assert torch.equal(p.col.long(), col)
    torch.testing.assert_close(p.sum_rows(slots), expected.sum(1))
    assert p.ccol.dtype == torch.int32


def test_sorted_unique_input_keeps_no_entry_map() -> None:
    p = Pattern.from_coo(torch.tensor([0, 0, 2]), torch.tensor([0, 3, 1]), (3, 4))
    assert p.entries is None
    assert p.slots is p


def test_equal_patterns_have_equal_keys() -> None:
    row, col = torch.tensor([1, 0]), torch.tensor([0, 1])
    a, b = Pattern.from_coo(row, col, (2, 2)), Pattern.from_coo(row.flip(0), col.flip(0), (2, 2))
    assert a.key == b.key
    assert a.key != Pattern.from_coo(row, col, (2, 3)).key
    assert a.symmetric


def test_structural_symmetry_is_about_positions() -> None:
    row, col = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1])
    assert not Pattern.from_coo(row, col, (2, 2)).symmetric


def test_diagonal_slots() -> None:
    p = Pattern.from_coo(torch.tensor([0, 2, 2]), torch.tensor([0, 1, 2]), (3, 3))
    assert p.diagonal_slots.tolist() == [0, -1, 2]


def lattice(*sides: int, edges: int = 0) -> float:
    """The dimension of a lattice with some edges more, between nodes at random."""
    n = int(torch.tensor(sides).prod())
    i = torch.arange(n).reshape(sides)
    pairs = [(i.narrow(d, 1, n - 1), i.narrow(d, 0, n - 1)) for d, n in enumerate(sides)]
    pairs.append(tuple(torch.randint(n, (2, edges), generator=torch.Generator().manual_seed(3))))
    row = torch.cat([torch.cat([a.flatten(), b.flatten()]) for a, b in pairs])
    col = torch.cat([torch.cat([b.flatten(), a.flatten()]) for a, b in pairs])
    return Pattern.from_coo(row, col, (n, n)).slots.dimension


def test_growth_dimension_tells_lines_planes_and_solids() -> None:
    assert lattice(3000) == 1.0
    assert lattice(50, 50) == 2.0
    assert lattice(20, 20, 20) == pytest.approx(3.0, abs=0.35)


@pytest.mark.parametrize(
    ("sides", "dimension"),
    [
        ((100_000,), 1),
        ((60_000, 3), 1),
        ((300, 300), 2),
        ((34, 34, 34), 3),
        ((40, 40, 40), 3),
        ((300, 300, 2), 2),
    ],
)
@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_growth_dimension_where_indices_stay_on_a_device(
    sides: tuple[int, ...], dimension: int, seed: int | None
) -> None:
    """Of a matrix whose entries would take long to bring to the host; numbered in any order."""
    n = prod(sides)
    i = torch.arange(n).view(sides)
    number = torch.arange(n)
    if seed is not None:
        number = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    pairs = [(i.narrow(d, 1, s - 1), i.narrow(d, 0, s - 1)) for d, s in enumerate(sides)]
    row, col = (number[torch.cat([p[k].flatten() for p in pairs])] for k in (0, 1))
    own = torch.arange(n)
    p = Pattern.from_coo(torch.cat([row, col, own]), torch.cat([col, row, own]), (n, n))
    there = SimpleNamespace(
        shape=p.shape, nnz_csr=p.nnz_csr, crow=p.crow, ccol=p.ccol, lattice=None,
        device=torch.device("cuda"),
    )  # fmt: skip
    assert growth_dimension(there) == pytest.approx(dimension, abs=0.3)
    assert growth_dimension(p) == pytest.approx(growth_dimension(there), abs=0.35)


@pytest.mark.parametrize("edges", [50, 200])
def test_a_few_long_edges_make_no_solid_of_a_surface(edges: int) -> None:
    """BiCGSTAB on such a Laplacian takes six times the iterations that a solid would."""
    assert lattice(200, 200, edges=edges) == pytest.approx(2.0, abs=0.3)
    assert lattice(30, 30, 30, edges=edges) == pytest.approx(3.0, abs=0.35)


def test_long_edges_along_the_rim_make_no_solid_of_scattered_points() -> None:
    spatial = pytest.importorskip("scipy.spatial")
    points = torch.rand(20_000, 2, generator=torch.Generator().manual_seed(3)).double()
    corners = torch.from_numpy(spatial.Delaunay(points.numpy()).simplices).long()
    i, j = corners[:, [0, 1, 2]].flatten(), corners[:, [1, 2, 0]].flatten()
    p = Pattern.from_coo(torch.cat([i, j]), torch.cat([j, i]), (20_000, 20_000))
    assert p.slots.dimension == pytest.approx(2.0, abs=0.3)


def test_block_pattern_written_out() -> None:
    row, col = torch.tensor([1, 0, 1]), torch.tensor([0, 1, 1])
    values = torch.arange(1.0, 13.0).reshape(3, 2, 2)
    A = SparseTensor(values, row, col, (2, 2, 2, 2))
    expected = torch.zeros(4, 4)
    for e in range(3):
        i, j = int(row[e]) * 2, int(col[e]) * 2
        expected[i : i + 2, j : j + 2] += values[e]
    assert torch.equal(A.to_dense(), expected)
    assert torch.equal(A.T().to_dense(), expected.T)


@pytest.mark.parametrize("block", [(), (2, 3)])
@pytest.mark.parametrize("shape", [(4, 3), (3, 3), (1, 1)])
def test_copies_along_the_diagonal(shape: tuple[int, int], block: tuple[int, ...]) -> None:
    row, col = random_coo(5, *shape, 7)
    one = Pattern.from_coo(row, col, shape, block)
    many = one.repeated(3)
    assert (many.block, many.entries, many.ccol.dtype) == (block, None, one.ccol.dtype)
    shifted = [
        (i + k * shape[0], j + k * shape[1])
        for k in range(3)
        for i, j in zip(row, col, strict=True)
    ]
    rows, cols = (torch.tensor([s[a] for s in shifted]).long() for a in (0, 1))
    wanted = Pattern.from_coo(rows, cols, (3 * shape[0], 3 * shape[1]), block)
    assert torch.equal(many.crow, wanted.crow)
    assert torch.equal(many.ccol, wanted.ccol)
    assert many.key == wanted.key


@pytest.mark.parametrize("shape", [(7, 1, 1), (4, 5, 1), (3, 4, 5)])
def test_copies_of_a_lattice_are_beside_each_other(shape: tuple[int, int, int]) -> None:
    one = SparseTensor.from_scipy(laplacian(*(n for n in shape[::-1] if n > 1))).pattern
    assert one.lattice is not None
    assert one.lattice.shape == shape
    many = one.repeated(4)
    assert many.lattice is not None
    assert (many.lattice.n, many.lattice.codes) == (4 * one.shape[0], one.lattice.codes)
    row, steps = many.csr_row.long(), many.ccol.long() - many.csr_row.long()
    place = torch.tensor(many.lattice.offsets).unsqueeze(1) == steps
    assert bool(place.any(0).all())
    codes = torch.tensor(many.lattice.codes)[place.int().argmax(0)]
    for axis, n in enumerate(many.lattice.shape):
        x = row // many.lattice.stride(axis) % n + codes // 3**axis % 3 - 1
        assert bool(((x >= 0) & (x < n)).all())


def test_pickle_and_deepcopy() -> None:
    p = Pattern.from_coo(*random_coo(5, 4, 4, 9), (4, 4))
    p.transposed  # noqa: B018  makes the lazy parts, which are not carried along
    for q in (pickle.loads(pickle.dumps(p)), copy.deepcopy(p)):
        assert q.key == p.key
        assert torch.equal(q.row, p.row)


@pytest.mark.parametrize(
    ("row", "col", "shape", "message"),
    [
        ([0, 2], [0, 0], (2, 2), "`row` must lie in \\[0, 2\\).*from 0 to 2"),
        ([0, -1], [0, 0], (2, 2), "`row` must lie in"),
        ([0, 1], [0, 5], (2, 2), "`col` must lie in"),
        ([0, 1], [0], (2, 2), "one length, got 2 and 1"),
        ([0.0], [0], (2, 2), "vector of int32 or int64, got torch.float32"),
        ([0], [0], (2, -1), "two non-negative integers"),
    ],
)
def test_refusals(row: list[float], col: list[float], shape: tuple[int, int], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Pattern.from_coo(torch.tensor(row), torch.tensor(col), shape)


def test_csr_must_be_sorted_and_unique() -> None:
    crow = torch.tensor([0, 2, 3])
    assert Pattern.from_csr(crow, torch.tensor([0, 1, 0]), (2, 2)).nnz == 3
    for bad in ([1, 0, 0], [1, 1, 0]):
        with pytest.raises(ArgumentError, match="sorted and unique"):
            Pattern.from_csr(crow, torch.tensor(bad), (2, 2))
    with pytest.raises(ArgumentError, match="rise from 0"):
        Pattern.from_csr(torch.tensor([0, 2, 1]), torch.tensor([0]), (2, 2))
    for crow in (torch.tensor([0.0, 1.5, 2.0]), torch.tensor([0, 1, 2], dtype=torch.int16)):
        with pytest.raises(ArgumentError, match="`crow` must be int32 or int64"):
            Pattern.from_csr(crow, torch.tensor([0, 1]), (2, 2))
    with pytest.raises(ArgumentError, match="rise from 0"):  # not 1 of 32 bits
        Pattern.from_csr(torch.tensor([0, 2**32 + 1, 2]), torch.tensor([0, 1]), (2, 2))
    # an empty first row, an empty last row
    Pattern.from_csr(torch.tensor([0, 0, 2, 2]), torch.tensor([0, 1]), (3, 2))


def test_segment_map_is_differentiable_and_refuses() -> None:
    m = SegmentMap(torch.tensor([3, 0, 3, 1]), 4)
    x = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: m.sum(t, dim=1), x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda t: m.gather(m.sum(t, dim=1) ** 2, dim=1), x)
    batched = torch.func.vmap(lambda t: m.sum(t, dim=0))(x)
    torch.testing.assert_close(batched, m.sum(x, dim=1))
    with pytest.raises(ArgumentError, match="length 4"):
        m.sum(torch.zeros(5))
    with pytest.raises(ArgumentError, match="`target` must lie in"):
        SegmentMap(torch.tensor([4]), 4)


def test_index_arrays_of_the_caller_stay_his_own() -> None:
    crow = torch.tensor([0, 2, 4, 5], dtype=torch.int32)
    col = torch.tensor([0, 1, 0, 1, 2], dtype=torch.int32)
    values = torch.tensor([2.0, -1.0, -1.0, 2.0, 1.0], dtype=torch.float64)
    pattern = Pattern.from_csr(crow, col, (3, 3))
    A = SparseTensor.from_pattern(pattern, values)
    compressed = torch.sparse_csr_tensor(crow, col, values, (3, 3), check_invariants=True)
    by_torch = SparseTensor.from_torch_sparse(compressed)
    by_entries = SparseTensor(values, torch.tensor([0, 0, 1, 1, 2], dtype=torch.int32), col, (3, 3))
    dense = A.to_dense()
    given = A.to_csr()
    given[0].zero_()
    given[1].zero_()
    crow[1:] = 1
    col += 1
    for one in (A, by_torch, by_entries):
        assert torch.equal(one.to_dense(), dense)
    # Who gives arrays away gives them away.
    rest = torch.tensor([0, 1, 2], dtype=torch.int32), torch.tensor([0, 1], dtype=torch.int32)
    taken = Pattern.from_csr(*rest, (2, 2), copy=False)
    assert taken.ccol.data_ptr() == rest[1].data_ptr()
