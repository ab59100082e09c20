"""Matrices in one file: every process reads its share, and together they have the whole."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.io import mmwrite
from scipy.sparse import csgraph
from scipy.spatial import Delaunay

from tests.helpers.rank_programs import lattice, matrix, rhs
from torch_sla.errors import ArgumentError, RankError, TorchSlaError
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.distributed import folder as folders, one_file, partition
from torch_sla.linalg.distributed.files import (
    load_dsparse,
    load_sparse_as_partition,
    save_dsparse,
)
from torch_sla.linalg.distributed.processes import Processes
from torch_sla.linalg.distributed.tensor import DSparseTensor
from torch_sla.linalg.sparse.files import load_sparse, save_sparse
from torch_sla.linalg.sparse.slices import matrix_slice

if TYPE_CHECKING:
    from tests.helpers.ranks import Ranks

FILES = (
    *("own.npz", "own.safetensors", "csr.npz", "stored.npz", "csc.npz", "coo.npz"),
    *("general.mtx", "symmetric.mtx", "pattern.mtx", "hermitian.mtx", "skew.mtx", "whole.mtx"),
)


def write(name: str, folder: Path) -> Path:
    path = folder / name
    if name.startswith("own"):
        if path.suffix == ".safetensors":
            pytest.importorskip("safetensors")
        save_sparse(matrix("irregular")[0], path)
        return path
    S = sp.csr_array(lattice((9, 7), (1.0, 0.3)).to_scipy("csr"))
    kind = path.stem
    if path.suffix == ".npz":
        sp.save_npz(path, S.asformat("csr" if kind == "stored" else kind), kind != "stored")
        return path
    if kind in ("general", "whole"):
        S = sp.csr_array(S + sp.coo_array(([0.1, -7e-3], ([3, 9], [60, 2])), S.shape))
    turned = {"hermitian": S + 1j * (sp.triu(S, 1) - sp.tril(S, -1)), "skew": sp.triu(S, 1)}
    S = turned.get(kind, S)
    S = S - S.T if kind == "skew" else S
    if kind == "whole":
        S.data = np.round(S.data)
    names = {"symmetric": "symmetric", "hermitian": "hermitian", "skew": "skew-symmetric"}
    field = {"pattern": "pattern", "whole": "integer"}.get(kind)
    options = {"comment": "one line\nand another"}
    mmwrite(path, S, symmetry=names.get(kind, "general"), field=field, precision=17, **options)
    return path


@pytest.mark.parametrize("name", FILES)
def test_shares_make_the_whole(name: str, tmp_path: Path) -> None:
    path = write(name, tmp_path)
    whole = load_sparse(path).to_dense()
    for parts in (1, 3, 70):
        shares = [matrix_slice(path, p, p + 1, parts) for p in range(parts)]
        made = torch.zeros_like(whole)
        for s in shares:
            made.index_put_((s.row, s.col), s.values.to(whole.dtype), accumulate=True)
        assert torch.equal(made, whole)
        assert sum(s.nnz[0] for s in shares) == shares[0].nnz[1]
        D = load_dsparse(path, parts)
        assert D.num_partitions == parts
        assert torch.equal(D.to_sparse_tensor().to_dense(), whole)


def test_lines_of_any_length(tmp_path: Path) -> None:
    """However the bytes are shared out, a line belongs to the share in which it begins."""
    path = tmp_path / "a.mtx"
    lines = [f"{i} {1 + i * 37 % 50} {'0.' + '1' * (i % 17)}" for i in range(1, 51)]
    head = "%%MatrixMarket matrix coordinate real general\n%\n50 50 50\n"
    path.write_text(head + "\n".join(lines))  # the last one has no end
    for parts in range(1, 60):
        found = [matrix_slice(path, p, p + 1, parts) for p in range(parts)]
        assert torch.cat([s.row for s in found]).tolist() == list(range(50))


def test_empty_lines_are_no_entries(tmp_path: Path) -> None:
    path = tmp_path / "a.mtx"
    head = "%%MatrixMarket matrix coordinate real general\n2 2 2\n\n1 1 3\n\n2 2 4"
    path.write_text(head + "\n" * 40)
    for parts in (1, 2, 9):
        found = [matrix_slice(path, p, p + 1, parts) for p in range(parts)]
        assert torch.cat([s.values for s in found]).tolist() == [3.0, 4.0]


def test_blocks_stay_together_and_vectors_come_along(tmp_path: Path) -> None:
    A, _ = matrix("irregular")
    blocks = A.values[:, None, None] * torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=A.dtype)
    near = rhs(300, A.dtype, 3)
    B = SparseTensor(blocks, A.row_indices, A.col_indices, (150, 150, 2, 2)).declare(
        near_nullspace=near
    )
    save_sparse(B, tmp_path / "b.npz")
    for parts in (1, 4):
        D = load_dsparse(tmp_path / "b.npz", parts)
        assert bool((D.layout.offsets % 2 == 0).all())
        whole = SparseTensor.from_pattern(*B.flat_slots()).to_dense()
        assert torch.equal(D.to_sparse_tensor().to_dense(), whole)
        assert D.near_nullspace is not None
        assert torch.equal(D.near_nullspace, near[D.layout.names])


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ("short", "announces 63 entries and holds 62|too short"),
        ("words", "not 3 numbers each"),
        ("joined", "not 3 numbers each"),
        ("half", "no whole numbers"),
        ("tall", "is square"),
        ("dia", "format 'dia'"),
        ("batch", "holds a batch"),
        ("cut", "cannot be read"),
        ("missing", "there is no file"),
    ],
)
def test_what_cannot_be_read(harm: str, message: str, tmp_path: Path) -> None:
    S = sp.eye_array(63, format="csr")
    path = tmp_path / ("a.npz" if harm in ("dia", "batch", "cut", "missing") else "a.mtx")
    match harm:
        case "short" | "words":
            mmwrite(path, S)
            text = path.read_text().rstrip().rsplit("\n", 1)[0]
            path.write_text(text + ("\n" if harm == "short" else "\n63 63 one\n"))
        case "joined" | "half":
            mmwrite(path, S)
            old, new = ("\n63 63", " 63 63") if harm == "joined" else ("\n7 7 ", "\n7.5 7 ")
            path.write_text(path.read_text().replace(old, new))
        case "tall":
            mmwrite(path, S[:, :9])
        case "dia":
            sp.save_npz(path, S.todia())
        case "batch":
            i = torch.arange(3)
            save_sparse(SparseTensor(torch.ones(2, 3, dtype=torch.float64), i, i, (2, 3, 3)), path)
        case "cut":
            save_sparse(matrix("irregular")[0], path)
            path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(ArgumentError, match=message):
        load_dsparse(path, 2)


def read(group: Any, paths: list[str], method: str) -> list[tuple[torch.Tensor, int]]:
    found = []
    for path in paths:
        D = load_dsparse(path, comm=Processes(group), partition_method=method)
        y = D @ D.vector(torch.arange(D.shape[0], dtype=torch.float64))
        found.append((y.full_tensor(), D.layout.n_held))
    return found


@pytest.mark.distributed
def test_processes_read_their_shares(ranks: Ranks, tmp_path: Path) -> None:
    paths = [write(name, tmp_path) for name in ("own.npz", "csc.npz", "general.mtx")]
    wanted = []
    for path in paths:
        A = load_sparse(path)
        wanted.append(A @ torch.arange(A.shape[-1], dtype=torch.float64))
    # Along a graph rows go in clusters, and a few hundred rows are few clusters.
    for method, most in (("simple", 1.01), ("auto", 1.25)):
        for size in (2, 3):
            for found in ranks.run(size, read, [str(p) for p in paths], method):
                for (y, held), x in zip(found, wanted, strict=True):
                    torch.testing.assert_close(y, x, rtol=1e-13, atol=1e-12)
                    assert held <= most * len(x) / size + 1


@pytest.mark.parametrize("kept", ["file", "memory"])
def test_neighbours_stay_together_whatever_their_numbers(kept: str, tmp_path: Path) -> None:
    """Points numbered at random: runs of rows are no parts, neither of one matrix nor of a file read by shares."""
    rng = np.random.default_rng(3)
    points = rng.random((3000, 2))
    mesh = Delaunay(points)
    i, j = np.concatenate([mesh.simplices[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))]).T
    L = csgraph.laplacian(sp.coo_array((np.ones(len(i)), (i, j)), (3000, 3000)), symmetrized=True)
    S = sp.csr_array(L + 1e-4 * sp.eye_array(3000))
    sp.save_npz(tmp_path / "a.npz", S)
    A = load_sparse(tmp_path / "a.npz")
    b = torch.from_numpy(rng.standard_normal(3000))

    def cut(method: str) -> DSparseTensor:
        if kept == "memory":
            return A.partition(7, partition_method=method)
        return load_dsparse(tmp_path / "a.npz", 7, partition_method=method)

    def iterations(D: DSparseTensor) -> int:
        _, info = D.solve(b, method="cg", preconditioner="multigrid", info=True)
        return int(info.iterations)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partition, "find_spec", lambda name: None)  # as where METIS is not
        D, runs = cut("auto"), cut("simple")
    assert sum(p.num_halo for p in D) < 0.1 * sum(p.num_halo for p in runs)
    assert max(p.num_owned for p in D) < 1.1 * 3000 / 7
    one = iterations(A.partition(1))
    assert iterations(D) <= 1.5 * one < 0.5 * iterations(runs)
    torch.testing.assert_close(D @ b, A @ b)


def test_a_matrix_in_order_keeps_its_runs(tmp_path: Path) -> None:
    path = write("csr.npz", tmp_path)
    assert load_dsparse(path, 3)[1].owned_nodes.tolist() == list(range(21, 42))
    cut_ = load_dsparse(path, 3, partition_method="graph")
    assert torch.equal(cut_.to_sparse_tensor().to_dense(), load_sparse(path).to_dense())
    with pytest.raises(ArgumentError, match="must be auto, graph or simple, got 'metis'"):
        load_dsparse(path, 3, partition_method="metis")


def refused(group: Any, folder: str) -> list[str]:
    """What each process says of shares that one of them cannot read or write, or that have wrong numbers there."""
    comm, path = Processes(group), Path(folder)
    said = []

    def harm(error: Exception) -> Any:
        def fail(*_: Any) -> None:
            raise error

        return fail

    def collect(work: Any) -> None:
        with pytest.raises(TorchSlaError) as caught:
            work()
        said.append(str(caught.value))

    collect(
        lambda: load_dsparse(path / "general.mtx", comm=comm)
    )  # damaged in the share of the last one
    with pytest.MonkeyPatch.context() as patch:
        if comm.rank == 1:
            patch.setattr(one_file, "matrix_slice", harm(RuntimeError("input/output error")))
        with pytest.raises(RankError if comm.rank != 1 else RuntimeError, match="input/output"):
            load_dsparse(path / "csc.npz", comm=comm)
    D = load_dsparse(path / "csc.npz", comm=comm)
    save_dsparse(D, path / "parts")
    if comm.rank == 0:
        next(iter(sorted((path / "parts").glob("part-00001*")))).write_bytes(b"nothing")
    comm.reduce(torch.zeros(1))
    collect(lambda: load_dsparse(path / "parts", comm=comm))
    with pytest.MonkeyPatch.context() as patch:
        if comm.rank == 0:
            patch.setattr(folders, "_replace", harm(ArgumentError("no space left")))
        collect(lambda: save_dsparse(D, path / "parts"))
    i = torch.tensor([9 if comm.rank == 1 else 0])
    owned = torch.arange(2) + 2 * comm.rank
    collect(
        lambda: DSparseTensor.from_local(
            torch.ones(1), i, i, (2 * comm.world, 2 * comm.world), owned, comm=comm
        )
    )
    return said


@pytest.mark.distributed
def test_what_one_process_cannot_read_ends_all(ranks: Ranks, tmp_path: Path) -> None:
    text = write("general.mtx", tmp_path).read_text().rstrip().rsplit("\n", 1)[0]
    (tmp_path / "general.mtx").write_text(text + "\n63 63 one\n")
    write("csc.npz", tmp_path)
    expected = [
        (2, "has lines that are not 3 numbers each"),
        (1, "part 1 of .* is damaged"),
        (0, "no space left"),
        (1, "`row` must lie in .0, 6., got 9 to 9"),
    ]
    for rank, said in enumerate(ranks.run(3, refused, str(tmp_path))):
        for text, (guilty, reason) in zip(said, expected, strict=True):
            begin = "" if rank == guilty else f"process {guilty} cannot do its part: "
            assert re.match(f"{begin}.*{reason}", text)


def test_the_part_of_a_rank(tmp_path: Path) -> None:
    path = write("csr.npz", tmp_path)
    part = load_sparse_as_partition(path, 1, 3, partition_method="simple")
    assert part.owned_nodes.tolist() == list(range(21, 42))
