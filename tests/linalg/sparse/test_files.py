"""Matrices in files: archives and the Matrix Market format, there and back, and what is no such file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.sparse
import torch

from torch_sla.errors import ArgumentError, DTypeError
from torch_sla.linalg import (
    SparseTensor,
    load_metadata,
    load_mtx,
    load_sparse,
    save_mtx,
    save_sparse,
)

if TYPE_CHECKING:
    from pathlib import Path


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scipy_has_no_half_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    A = SparseTensor.eye(3, dtype=dtype)
    with pytest.raises(DTypeError, match="convert to float32"):
        A.to_scipy()
    with pytest.raises(DTypeError, match="convert to float32"):
        save_mtx(A, tmp_path / "a.mtx")
    assert not any(tmp_path.iterdir())
