"""Into and out of dense, torch and SciPy matrices, files and pickles; the graph; lists."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.sparse
import torch
from torch.autograd import gradcheck, gradgradcheck

from torch_sla.errors import ArgumentError, DTypeError, GradientError, SolveError
from torch_sla.linalg import (
    SparseTensor,
    SparseTensorList,
    load_metadata,
    load_mtx,
    load_sparse,
    save_mtx,
    save_sparse,
    spsolve_coo,
)
from torch_sla.linalg.sparse.pattern import Pattern

if TYPE_CHECKING:
    from pathlib import Path

DENSE = torch.tensor([[0.0, 2.0, 0.0], [1.5, 0.0, -1.0]], dtype=torch.float64)


def test_dense_and_back_keeps_the_gradient() -> None:
    A = SparseTensor.from_dense(DENSE)
    assert A.nnz == 3
    assert torch.equal(A.to_dense(), DENSE)
    batch = torch.stack([DENSE, torch.zeros_like(DENSE), -2 * DENSE])
    assert torch.equal(SparseTensor.from_dense(batch).to_dense(), batch)
    x = DENSE.clone().requires_grad_()
    (SparseTensor.from_dense(x).to_dense() ** 3).sum().backward()
    torch.testing.assert_close(x.grad, 3 * DENSE**2)


@pytest.mark.parametrize("layout", ["coo", "csr"])
def test_torch_sparse_and_back(layout: str) -> None:
    A = SparseTensor.from_dense(DENSE)
    T = A.to_torch(layout)
    assert torch.equal(T.to_dense(), DENSE)
    assert torch.equal(SparseTensor.from_torch_sparse(T).to_dense(), DENSE)


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")  # torch's own
def test_torch_blocks_are_written_out() -> None:
    values = torch.arange(1.0, 13, dtype=torch.float64).reshape(3, 2, 2).requires_grad_()
    crow, ccol = torch.tensor([0, 1, 3]), torch.tensor([0, 0, 1])
    T = torch.sparse_bsr_tensor(crow, ccol, values, (4, 4), check_invariants=True)
    A = SparseTensor.from_torch_sparse(T)
    assert torch.equal(A.to_dense(), T.to_dense())
    assert torch.equal(
        SparseTensor.from_torch_sparse(A.to_dense().to_sparse_bsc((2, 2))).to_dense(), A.to_dense()
    )
    (A.to_dense() ** 2).sum().backward()
    assert torch.equal(values.grad, 2 * values)


def test_torch_coo_is_differentiable_both_ways() -> None:
    A = SparseTensor.from_dense(DENSE)
    row, col = A.row_indices.long(), A.col_indices.long()

    def through(v: torch.Tensor) -> torch.Tensor:
        T = torch.sparse_coo_tensor(torch.stack([row, col]), v, (2, 3), check_invariants=False)
        back = SparseTensor.from_torch_sparse(T).to_torch()
        return torch.sparse.mm(back, torch.eye(3, dtype=v.dtype))

    assert gradcheck(through, (A.values.clone().requires_grad_(),))


def test_torch_coo_has_second_derivatives_or_says_that_torch_has_none() -> None:
    v = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    row, col = torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1])
    ours = {
        "entries": lambda T: SparseTensor.from_torch_sparse(T).values ** 3,
        "csr": lambda T: SparseTensor.from_torch_sparse(T.to_sparse_csr()).values ** 3,
        "dense": lambda T: T.to_dense() ** 3,
        "sum of others": lambda T: (
            (2 * T + torch.eye(2, dtype=v.dtype).to_sparse()).to_dense() ** 3
        ),
        "solve": lambda T: spsolve_coo(T, torch.ones(2, dtype=v.dtype)),
    }
    for name, function in ours.items():
        f = lambda v, g=function: g(SparseTensor(v, row, col, (2, 2)).to_torch())  # noqa: E731
        assert gradgradcheck(f, (v,)), name
    theirs = torch.sparse_coo_tensor(torch.stack([row, col]), v, (2, 2), check_invariants=True)
    for T in (theirs, 2 * theirs.coalesce()):
        y = (SparseTensor.from_torch_sparse(T).values ** 3).sum()
        assert torch.autograd.grad(y, v, retain_graph=True)[0].all()
        with pytest.raises(GradientError, match="no derivative"):
            torch.autograd.grad(y, v, create_graph=True)
    with pytest.raises(GradientError, match="no forward mode"):
        torch.func.jvp(
            lambda v: SparseTensor(v, row, col, (2, 2)).to_torch().to_dense(), (v,), (v,)
        )
    leaf = theirs.detach().coalesce().requires_grad_()  # a matrix that is a leaf has both
    y = (SparseTensor.from_torch_sparse(leaf).values ** 3).sum()
    (g,) = torch.autograd.grad(y, leaf, create_graph=True)
    (h,) = torch.autograd.grad((SparseTensor.from_torch_sparse(g).values ** 2).sum(), leaf)
    torch.testing.assert_close(h.coalesce().values(), (36 * v**3).detach())


@pytest.mark.parametrize("format", ["csr", "csc", "coo", "lil"])
def test_scipy_and_back(format: str) -> None:
    A = SparseTensor.from_dense(DENSE)
    S = A.to_scipy(format)
    assert S.format == format
    assert np.array_equal(S.toarray(), DENSE.numpy())
    assert torch.equal(SparseTensor.from_scipy(S).to_dense(), DENSE)
    with pytest.raises(DTypeError, match="dtype"):
        SparseTensor.from_scipy(scipy.sparse.csr_array(np.eye(2, dtype=int)))


def test_csr_arrays() -> None:
    crow, col, values = SparseTensor.from_dense(DENSE).to_csr()
    assert crow.tolist() == [0, 1, 3]
    assert col.tolist() == [1, 0, 2]
    assert values.tolist() == [2.0, 1.5, -1.0]


def test_a_diagonal_that_is_no_tensor_is_refused() -> None:
    for given in ([1.0, 2.0], 3, np.ones(2)):
        with pytest.raises(ArgumentError, match=f"`diagonal` .* got {type(given).__name__}"):
            SparseTensor.diag(given)


def test_families() -> None:
    d = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    assert torch.equal(SparseTensor.diag(d).to_dense(), torch.diag(d))
    assert torch.equal(SparseTensor.diag(d, -2).to_dense(), torch.diag(d, -2))
    assert torch.equal(SparseTensor.eye(3, 2).to_dense(), torch.eye(3, 2))
    low, up = torch.tensor([4.0, 5.0]).double(), torch.tensor([6.0, 7.0]).double()
    T = SparseTensor.tridiagonal(low, d, up).to_dense()
    assert torch.equal(T, torch.diag(d) + torch.diag(low, -1) + torch.diag(up, 1))
    assert gradcheck(
        lambda a, b, c: SparseTensor.tridiagonal(a, b, c).to_dense(),
        tuple(t.clone().requires_grad_() for t in (low, d, up)),
    )
    with pytest.raises(ArgumentError, match="upper"):
        SparseTensor.tridiagonal(low, d, d)


def test_numbers_in_bands_have_all_digits() -> None:
    d = torch.full((3,), 2.0, dtype=torch.float64)
    assert (
        SparseTensor.tridiagonal(0.1, d, -0.3).values.tolist() == [0.1] * 2 + [2.0] * 3 + [-0.3] * 2
    )
    assert SparseTensor.tridiagonal(0.1, d.float(), 0.1).dtype == torch.float32
    assert SparseTensor.tridiagonal(0.1j, d, 0.1).values[:2].tolist() == [0.1j] * 2
    assert SparseTensor.tridiagonal(-1, d[:0].expand(2, 0), -1).shape == (2, 0, 0)


def test_blocks_there_and_back() -> None:
    pattern = Pattern.from_coo(torch.tensor([0, 1]), torch.tensor([1, 0]), (2, 3), (2, 2))
    A = SparseTensor.from_pattern(pattern, torch.randn(2, 2, 2, dtype=torch.float64))
    flat = A.flatten_blocks()
    assert flat.shape == (4, 6)
    back = flat.unflatten_blocks((2, 2))
    assert torch.equal(back.values, A.values)
    partial = SparseTensor.from_dense(DENSE).unflatten_blocks((2, 3))
    assert torch.equal(partial.to_dense(), DENSE)
    with pytest.raises(ArgumentError, match="divide"):
        flat.unflatten_blocks(5)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_archives(tmp_path: Path, suffix: str) -> None:
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    row, col = torch.tensor([0, 1, 0]), torch.tensor([0, 1, 0])
    A = SparseTensor(torch.randn(2, 3, dtype=torch.float64), row, col, (2, 2, 3))
    path = tmp_path / f"a{suffix}"
    save_sparse(A, path, {"name": "wing"})
    B = load_sparse(path)
    assert torch.equal(A.to_dense(), B.to_dense())
    assert B.pattern.ccol.dtype == A.pattern.ccol.dtype
    about = load_metadata(path)
    assert about["metadata"] == {"name": "wing"}
    assert about["shape"] == [2, 3]
    A.save(path)
    assert torch.equal(SparseTensor.load(path).to_dense(), A.to_dense())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.complex128])
def test_matrix_market_is_exact(tmp_path: Path, dtype: torch.dtype) -> None:
    row, col = torch.tensor([0, 1, 2, 1, 0]), torch.tensor([0, 1, 2, 0, 1])
    A = SparseTensor(torch.randn(5, dtype=dtype), row, col, (3, 3))
    for B in (A, A + A.H(), A + A.T()):
        save_mtx(B, tmp_path / "a.mtx", "a comment")
        assert torch.equal(load_mtx(tmp_path / "a.mtx", dtype=dtype).to_dense(), B.to_dense())
    assert load_metadata(tmp_path / "a.mtx")["shape"] == [3, 3]


@pytest.mark.parametrize("shape", [(0, 0), (0, 2), (2, 0), (2, 2)])
def test_matrices_without_entries_in_any_format(shape: tuple[int, int], tmp_path: Path) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    A = SparseTensor(torch.zeros(0, dtype=torch.float64), none, none, shape)
    for suffix in (".npz", ".mtx"):
        A.save(tmp_path / f"a{suffix}")
        back = SparseTensor.load(tmp_path / f"a{suffix}")
        assert (back.shape, back.nnz) == (A.shape, 0)


def test_files_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"\.npz"):
        save_sparse(SparseTensor.eye(2), tmp_path / "a.bin")
    with pytest.raises(ArgumentError, match="no file"):
        load_sparse(tmp_path / "a.npz")
    np.savez(tmp_path / "other.npz", a=np.ones(2))
    with pytest.raises(ArgumentError, match="no sparse tensor"):
        load_sparse(tmp_path / "other.npz")


def test_pickle_copy_and_print() -> None:
    A = SparseTensor.from_dense(DENSE).requires_grad_()
    for B in (pickle.loads(pickle.dumps(A)), copy.deepcopy(A)):
        assert torch.equal(A.to_dense(), B.to_dense())
        assert B.requires_grad
    assert repr(A) == (
        "SparseTensor(shape=(2, 3), nnz=3, dtype=torch.float64, device=cpu, requires_grad=True)"
    )


def chain(n: int) -> SparseTensor:
    off = torch.tensor(-1.0, dtype=torch.float64)
    return SparseTensor.tridiagonal(off, torch.full((n,), 2.0, dtype=torch.float64), off)


def test_symmetry_is_asked_of_the_values() -> None:
    A = chain(6)
    assert A.is_symmetric()
    assert A.is_hermitian()
    v = A.values.clone()
    v[0] += 1e-3
    B = SparseTensor.from_pattern(A.pattern, v)
    assert not B.is_symmetric()
    assert B.is_symmetric(rtol=1e-2)
    both = SparseTensor.from_pattern(A.pattern, torch.stack([A.values, v]))
    assert not both.is_symmetric()
    assert not both.is_symmetric(rtol=1e-6)
    assert both.is_symmetric(rtol=1e-2)
    assert not SparseTensor.from_dense(DENSE).is_symmetric()
    C = SparseTensor.from_dense(torch.tensor([[1.0, 2.0j], [-2.0j, 1.0]], dtype=torch.complex128))
    assert C.is_hermitian()
    assert not C.is_symmetric()


def test_components() -> None:
    A = SparseTensorList([chain(3), chain(2)]).to_block_diagonal()
    labels, count = A.connected_components()
    assert labels.tolist() == [0, 0, 0, 1, 1]
    assert count == 2
    assert A.has_isolated_components()
    parts = A.to_connected_components()
    assert parts.shapes == [(3, 3), (2, 2)]
    for part, whole in zip(parts, (chain(3), chain(2)), strict=True):
        assert torch.equal(part.to_dense(), whole.to_dense())
    # A stored zero connects nothing.
    v = A.values.clone()
    v[(A.row_indices == 0) & (A.col_indices == 1)] = 0
    v[(A.row_indices == 1) & (A.col_indices == 0)] = 0
    assert SparseTensor.from_pattern(A.pattern, v).connected_components()[1] == 3


@pytest.mark.parametrize("block", [(), (2, 2)])
def test_components_within_transforms_are_those_of_all_members(block: tuple[int, ...]) -> None:
    A = SparseTensorList([chain(4), chain(2)]).to_block_diagonal()
    A = A.unflatten_blocks(block) if block else A

    def loss(v: torch.Tensor) -> torch.Tensor:
        parts = SparseTensor.from_pattern(A.pattern, v).to_connected_components()
        assert len(parts) == 2
        return (parts[1].values ** 3).sum()

    v = torch.stack([A.values, 0 * A.values])
    found = torch.func.vmap(torch.func.grad(loss))(v)
    torch.testing.assert_close(found[0], torch.func.grad(loss)(v[0]))
    assert not found[1].any()


def test_spy_draws_the_pattern() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    ax = chain(4).spy()
    assert len(ax.lines[0].get_xdata()) == chain(4).nnz


def test_lists() -> None:
    A = SparseTensorList([chain(3), 2 * chain(2)])
    b = [torch.ones(3).double(), torch.ones(2).double()]
    for x, B, rhs in zip(A.solve(b), A, b, strict=True):
        torch.testing.assert_close(B @ x, rhs)
    whole = A.to_block_diagonal()
    assert whole.shape == A.total_shape == (5, 5)
    back = SparseTensorList.from_block_diagonal(whole, [3, 2])
    assert all(torch.equal(x.to_dense(), y.to_dense()) for x, y in zip(A, back, strict=True))
    assert [float(s) for s in (A + A).sum()] == [2 * float(s) for s in A.sum()]
    assert isinstance(A.abs(), SparseTensorList)
    assert [y.shape[0] for y in A @ b] == [3, 2]
    assert A[0].shape == (3, 3)
    assert len(A[:1]) == 1
    with pytest.raises(ArgumentError, match="outside"):
        SparseTensorList.from_block_diagonal(chain(5), [3, 2])
    with pytest.raises(ArgumentError, match="operands"):
        A.solve(b[:1])
    with pytest.raises(AttributeError):
        _ = A.nothing


@pytest.mark.parametrize(
    "sizes", [np.array([3, 2]), torch.tensor([3, 2]), [(np.int32(3), 3), (2, np.int64(2))]]
)
def test_sizes_of_blocks_are_whole_numbers_of_any_type(sizes: object) -> None:
    whole = SparseTensorList([chain(3), chain(2)]).to_block_diagonal()
    assert SparseTensorList.from_block_diagonal(whole, sizes).block_sizes == [(3, 3), (2, 2)]


@pytest.mark.parametrize("sizes", [5, None, [2.5, 2.5], ["3", 2], [(3, 3, 3), 2], [-1, 6]])
def test_what_is_no_size_of_a_block_is_refused(sizes: object) -> None:
    with pytest.raises(ArgumentError, match="`block_sizes` must be"):
        SparseTensorList.from_block_diagonal(chain(5), sizes)


@pytest.mark.parametrize("name", ["device", "dtype"])
def test_an_empty_list_has_no(name: str) -> None:
    with pytest.raises(ArgumentError, match=f"an empty list has no {name}"):
        getattr(SparseTensorList([]), name)


def test_questions_leave_the_pattern_alone() -> None:
    # Stored zeros are left out of graphs, which must not rewrite the arrays that patterns share.
    row, col = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 1, 1, 0, 1, 2])
    A = SparseTensor(torch.tensor([1.0, 0.0, 2.0, 0.0, 0.0, 3.0]), row, col, (3, 3))
    before = A.pattern.crow.clone(), A.pattern.ccol.clone()
    assert A.connected_components()[1] == 3
    for method in ("superlu", "lu"):
        A.solve(torch.ones(3), method=method)
        singular = SparseTensor.from_pattern(A.pattern, A.values * (A.row_indices != 1))
        with pytest.raises(SolveError):
            singular.solve(torch.ones(3), method=method)
    assert torch.equal(A.pattern.crow, before[0])
    assert torch.equal(A.pattern.ccol, before[1])


def test_numbers_that_torch_does_not_have_are_named() -> None:
    with pytest.raises(DTypeError, match="which torch does not have"):
        SparseTensor.from_scipy(scipy.sparse.eye(2, dtype=np.longdouble))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2 2 1\n1 1 3.0\n",
        "%%MatrixMarket matrix coordinate real general\n2 2 1\n0 1 3.0\n",
        "%%MatrixMarket matrix coordinate real general\n2 2 1\n3 1 3.0\n",
        "%%MatrixMarket matrix coordinate real general\n2 2 2\n1 1 3.0\n",
        "%%MatrixMarket matrix coordinate real general\n2 2 1\n1 1 abc\n",
        "%%MatrixMarket matrix coordinate real symmetric\n3 2 1\n3 1 2.0\n",
    ],
)
def test_a_broken_matrix_market_file_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "broken.mtx").write_text(text)
    with pytest.raises(ArgumentError, match=r"broken\.mtx"):
        load_mtx(tmp_path / "broken.mtx")


def test_imaginary_parts_are_not_lost_on_the_way_in(tmp_path: Path) -> None:
    save_mtx(SparseTensor.eye(2, dtype=torch.complex128) * 1j, tmp_path / "a.mtx")
    with pytest.raises(DTypeError, match="imaginary"):
        load_mtx(tmp_path / "a.mtx", dtype=torch.float64)


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")  # torch's own
@pytest.mark.parametrize(
    ("pointers", "indices", "message"),
    [
        ([0, 1, 200_000], [0, 1], "rise from 0"),
        ([0, -100_000, 2], [0, 1], "rise from 0"),
        ([1, 1, 2], [0, 1], "rise from 0"),
        ([0, 1, 1], [0, 1], "rise from 0"),
        ([0, 2], [0, 1], "length 3"),
        ([0, 1, 2], [0, -1], "must lie in"),
        ([0, 1, 2], [0, 2**20], "must lie in"),
    ],
)
def test_compressed_lines_are_not_trusted(
    pointers: list[int], indices: list[int], message: str
) -> None:
    # torch and SciPy make such matrices, and write beyond their arrays where they turn them around.
    at, to = torch.tensor(pointers), torch.tensor(indices)
    values, blocks = torch.ones(2, dtype=torch.float64), torch.ones(2, 2, 2, dtype=torch.float64)
    matrices = [
        torch.sparse_csr_tensor(at, to, values, (2, 2)),
        torch.sparse_csr_tensor(at, to, values.requires_grad_(), (2, 2)),
        torch.sparse_csc_tensor(at, to, values, (2, 2)),
        torch.sparse_bsr_tensor(at, to, blocks, (4, 4)),
        torch.sparse_bsc_tensor(at, to, blocks, (4, 4)),
    ]
    for T in matrices:
        with pytest.raises(ArgumentError, match=message):
            SparseTensor.from_torch_sparse(T)
    for kind in (scipy.sparse.csr_array, scipy.sparse.csc_array):
        S = kind((2, 2))
        S.data, S.indices, S.indptr = np.ones(2), np.array(indices), np.array(pointers)
        with pytest.raises(ArgumentError, match=message):
            SparseTensor.from_scipy(S)


def test_a_damaged_archive_of_scipy_is_refused(tmp_path: Path) -> None:
    arrays = {"indptr": [0, -100_000, 2], "indices": [0, 1], "data": [1.0, 2.0], "shape": [2, 2]}
    np.savez(tmp_path / "A.npz", format=b"csr", **{k: np.array(v) for k, v in arrays.items()})
    with pytest.raises(ArgumentError, match="rise from 0"):
        load_sparse(tmp_path / "A.npz")


def test_an_identity_of_fewer_than_no_rows_is_refused() -> None:
    with pytest.raises(ArgumentError, match="two non-negative integers"):
        SparseTensor.eye(-3)


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")  # torch's own
def test_torch_matrices_of_more_dimensions_are_refused() -> None:
    for T in (torch.ones(2, 3, 3).to_sparse_csc(), torch.ones(2, 3, 3).to_sparse(2)):
        with pytest.raises(ArgumentError, match="two sparse and no dense"):
            SparseTensor.from_torch_sparse(T)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scipy_has_no_half_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    A = SparseTensor.from_dense(DENSE).to(dtype)
    with pytest.raises(DTypeError, match="convert to float32"):
        A.to_scipy()
    with pytest.raises(DTypeError, match="convert to float32"):
        save_mtx(A, tmp_path / "a.mtx")
    assert not any(tmp_path.iterdir())
