"""Declared problems of matrices in files: every process reads its share, and the answer is that of one process."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp
import torch
from scipy.io import mmwrite

import torch_sla as sla
from torch_sla import distribute
from torch_sla.errors import SpecError
from torch_sla.linalg.distributed import one_file
from torch_sla.linalg.sparse import files
from torch_sla.linalg.sparse.slices import Slice, matrix_slice

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.ranks import Ranks

N = 24


def written(folder: Path) -> None:
    """Write a lattice and a mass in three formats."""
    line = sp.diags_array([-1.0, 2.1, -1.0], offsets=[-1, 0, 1], shape=(N, N))
    K = sp.csr_array(sp.kronsum(line, line))
    mass = sp.diags_array(np.linspace(1.0, 2.0, N * N)).tocsr()
    mmwrite(folder / "K.mtx", K, precision=17)
    sp.save_npz(folder / "K.npz", K)
    sp.save_npz(folder / "M.npz", mass)


def problem(folder: str, kind: str) -> sla.Problem:
    if kind == "eigen":
        return sla.EigenProblem(
            matrix=sla.MatrixFile(f"{folder}/K.mtx"), mass=sla.MatrixFile(f"{folder}/M.npz"), k=2
        )
    if kind == "nonlinear":
        return sla.NonlinearProblem(
            unknowns=[sla.Root("u", size=N * N), sla.Root("c")],
            matrices={
                "K": sla.MatrixFile(f"{folder}/K.mtx"),
                "M": sla.MatrixFile(f"{folder}/M.npz"),
            },
            residual=["dot(K, u) + dot(M, u**3) - 1 - c*u", "c + 0.1*dot(u, u) - 0.5"],
            outputs=[sla.Component("some", index=[0, 5, N * N - 1, N * N])],
        )
    return sla.LinearProblem(
        matrix=sla.MatrixFile(f"{folder}/K.{kind}"),
        rhs=np.cos(np.arange(N * N)),
        outputs=[sla.Component("some", index=[0, 5, N * N - 1])],
    )


KINDS = ("npz", "mtx", "eigen", "nonlinear")


def shares(group: Any, folder: str) -> list[tuple[torch.Tensor, int, int]]:
    """Solve; and tell how many entries each process read and kept."""
    found = []
    for kind in KINDS:
        read = []

        def counted(*arguments: Any, read: list[int] = read) -> Slice:
            taken = matrix_slice(*arguments)
            read.append(taken.nnz[0])
            return taken

        def whole(*_: Any) -> None:
            raise AssertionError("a file was read as a whole")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(one_file, "matrix_slice", counted)
            patch.setattr(files, "load_sparse", whole)
            patch.setattr(files, "load_mtx", whole)
            d = distribute(problem(folder, kind), group=group)
            solution = d.solve()
        again = d.solve()  # from what was read
        value = solution.eigenvalues if kind == "eigen" else solution["some"]
        assert torch.equal(value, again.eigenvalues if kind == "eigen" else again["some"])
        assert len(read) == (2 if kind in ("eigen", "nonlinear") else 1)
        K = d.spec.matrices["K"] if kind == "nonlinear" else d.spec.matrix
        D = d.lowered.in_parts(K, None, {}, "matrix")
        found.append((value, read[0], D.sharding.pattern.nnz))
    return found


@pytest.mark.distributed
def test_shares_of_files(ranks: Ranks, tmp_path: Path) -> None:
    written(tmp_path)
    nnz = sp.load_npz(tmp_path / "K.npz").nnz
    alone = []
    for kind in KINDS:
        s = problem(str(tmp_path), kind).solve()
        alone.append(s.eigenvalues if kind == "eigen" else s["some"])
    for found in ranks.run(3, shares, str(tmp_path)):
        for (value, read, kept), wanted in zip(found, alone, strict=True):
            torch.testing.assert_close(value, wanted, rtol=1e-9, atol=1e-10)
            assert 0.3 * nnz < read < 0.37 * nnz
            assert 0.3 * nnz < kept < 0.37 * nnz


def test_a_share_of_a_file_takes_its_share_of_the_memory(tmp_path: Path) -> None:
    written(tmp_path)

    def most(*share: int) -> int:
        # Not on the ranks: tracing dies beside threads that enter Python, as those of gloo do (cpython #128679).
        tracemalloc.start()
        matrix_slice(tmp_path / "K.mtx", *share)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    whole = most(0, 1, 1)
    assert all(most(part, part + 1, 3) < 0.5 * whole for part in range(3))


def test_what_is_wrong_with_a_file_is_said_with_its_place(tmp_path: Path) -> None:
    mmwrite(tmp_path / "wide.mtx", sp.eye_array(3, 5))
    wide = sla.LinearProblem(matrix=sla.MatrixFile(str(tmp_path / "wide.mtx")), rhs=np.ones(3))
    with pytest.raises(SpecError, match=r"matrix: .*is square.* is 3 x 5"):
        distribute(wide, 2).solve()
    written(tmp_path)
    short = problem(str(tmp_path), "npz").updated(rhs=np.ones(3))
    with pytest.raises(sla.TorchSlaError, match=r"shapes .576, 576. and .3."):
        distribute(short, 2).solve()


def test_a_file_is_cut_as_each_matrix_that_it_goes_with(tmp_path: Path) -> None:
    mass = np.linspace(1.0, 3.0, 12)
    sp.save_npz(tmp_path / "M.npz", sp.diags_array(mass).tocsr())
    modes = sla.EigenProblem(
        matrix=sla.Parameter("A"), mass=sla.MatrixFile(f"{tmp_path}/M.npz"), k=2, which="SM"
    )
    shared = distribute(modes, 3)
    for seed in range(40):  # layouts that are gone, and others at their places in memory
        order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
        i, j, own = order[:-1], order[1:], torch.arange(12)
        values = torch.cat([torch.full((22,), -1.0), 4.0 + own / 10]).double()
        A = sla.SparseTensor(values, torch.cat([i, j, own]), torch.cat([j, i, own]), (12, 12))
        wanted = scipy.linalg.eigh(A.to_dense().numpy(), np.diag(mass), eigvals_only=True)[:2]
        found = shared.solve(A=A)["eigenvalues"].numpy()
        np.testing.assert_allclose(found, wanted, rtol=1e-9)
    assert len(shared.lowered._shares) == 2
