"""Matrices by file: every format gives the numbers of the matrix given inline, from Python and the shell."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.sparse
import torch
from typer.testing import CliRunner

from torch_sla import (
    EigenProblem,
    LinearProblem,
    MatrixFile,
    Parameter,
    SparseTensor,
    clear_cache,
    load_problem,
)
from torch_sla.cli.app import app
from torch_sla.errors import DTypeError, SpecError

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [[4.0, -1.0, 0.0], [-1.0, 3.0, -0.5], [0.0, -0.5, 2.0]]
MASS = [[2.0, 0.0, 0.0], [0.0, 1.0, 0.25], [0.0, 0.25, 1.0]]
ENDINGS = ("mtx", "npz", "safetensors")


@pytest.fixture(params=ENDINGS)
def ending(request) -> str:
    if request.param == "safetensors":
        pytest.importorskip("safetensors")
    return request.param


def written(folder: Path, rows: list[list[float]], name: str) -> Path:
    path = folder / name
    SparseTensor.from_dense(torch.tensor(rows, dtype=torch.float64)).save(path)
    return path


def test_linear(tmp_path, ending: str) -> None:
    path = written(tmp_path, ROWS, f"a.{ending}")
    problem = LinearProblem(matrix=MatrixFile(str(path)), rhs=Parameter("b"))
    b = torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    x = problem.solve(b=b).x
    exact = torch.linalg.solve(torch.tensor(ROWS, dtype=torch.float64), b.detach().T).T
    torch.testing.assert_close(x.detach(), exact)
    (slope,) = torch.autograd.grad(x.sum(), b)
    ones = torch.linalg.solve(torch.tensor(ROWS, dtype=torch.float64), torch.ones(3).double())
    torch.testing.assert_close(slope, ones.expand(2, 3))


def test_yaml_and_shell(tmp_path, ending: str) -> None:
    written(tmp_path, ROWS, f"a.{ending}")
    kind = "type: matrix_file, " if ending == "npz" else ""
    file = tmp_path / "p.yaml"
    file.write_text(
        f"type: linear\nmatrix: {{{kind}file: a.{ending}}}\nrhs: [1.0, 2.0, 3.0]\n"
        "outputs: [{type: component, name: all, index: [0, 1, 2]}]\n"
    )
    problem = load_problem(file)
    exact = LinearProblem(matrix=ROWS, rhs=[1.0, 2.0, 3.0]).solve().x
    torch.testing.assert_close(problem.solve()["all"], exact)
    problem.to_yaml(tmp_path / "again.yaml")
    assert load_problem(tmp_path / "again.yaml").spec_hash == problem.spec_hash
    done = CliRunner().invoke(app, ["solve", str(file), "--json", "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["outputs"]["all"] == pytest.approx(exact.tolist(), rel=1e-12)


def test_eigen(tmp_path, ending: str) -> None:
    matrix = MatrixFile(str(written(tmp_path, ROWS, f"a.{ending}")))
    mass = MatrixFile(str(written(tmp_path, MASS, f"m.{ending}")))
    found = EigenProblem(matrix=matrix, mass=mass, k=3).solve()
    inline = EigenProblem(matrix=ROWS, mass=MASS, k=3).solve()
    torch.testing.assert_close(found.eigenvalues, inline.eigenvalues)
    torch.testing.assert_close(found.modes, inline.modes)
    L = torch.linalg.cholesky(torch.tensor(MASS, dtype=torch.float64))
    A = torch.linalg.solve(L, torch.tensor(ROWS, dtype=torch.float64)) @ torch.linalg.inv(L).T
    torch.testing.assert_close(found.eigenvalues, torch.linalg.eigvalsh(A))


def test_the_content_is_what_counts(tmp_path, ending: str) -> None:
    path = written(tmp_path, ROWS, f"a.{ending}")

    def problem() -> LinearProblem:
        return LinearProblem(matrix=MatrixFile(str(path)), rhs=[1.0, 2.0, 3.0])

    before = problem()
    first, identity = before.solve().x, before.spec_hash
    written(tmp_path, MASS, path.name)
    clear_cache()
    after = problem()
    assert after.spec_hash != identity
    torch.testing.assert_close(
        after.solve().x, LinearProblem(matrix=MASS, rhs=[1.0, 2.0, 3.0]).solve().x
    )
    assert not torch.allclose(after.solve().x, first)


def test_a_broken_file_is_named(tmp_path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    path.write_bytes(b"no matrix at all")
    with pytest.raises(SpecError, match="cannot be read as a matrix"):
        LinearProblem(matrix=MatrixFile(str(path)), rhs=[1.0]).solve()
    with pytest.raises(SpecError, match="cannot be read as a matrix"):
        LinearProblem(matrix=MatrixFile(str(path)), rhs=[1.0]).check()


@pytest.mark.parametrize("layout", ["csr", "csc", "coo"])
@pytest.mark.parametrize("dtype", [np.float64, np.int64])
def test_files_of_scipy(tmp_path, layout: str, dtype: type) -> None:
    rows = np.array([[4, -1, 0], [-1, 3, 0], [0, 0, 2]], dtype=dtype)
    scipy.sparse.save_npz(tmp_path / "a.npz", scipy.sparse.coo_array(rows).asformat(layout))
    problem = LinearProblem(matrix=MatrixFile(str(tmp_path / "a.npz")), rhs=[3.0, 2.0, 2.0])
    torch.testing.assert_close(problem.solve().x, torch.ones(3, dtype=torch.float64))


def test_imaginary_parts_are_not_dropped(tmp_path) -> None:
    A = torch.tensor([[2.0, 1j], [-1j, 3.0]], dtype=torch.complex128)
    SparseTensor.from_dense(A).save(tmp_path / "a.mtx")
    with pytest.raises(DTypeError, match="matrix: the matrix is complex"):
        LinearProblem(matrix=MatrixFile(str(tmp_path / "a.mtx")), rhs=[1.0, 1.0]).solve()
    problem = LinearProblem(matrix=Parameter("A"), rhs=Parameter("b"))
    b = torch.ones(2, dtype=torch.float64)
    for given in (A, SparseTensor.from_dense(A)):
        with pytest.raises(DTypeError, match="'A' is complex"):
            problem.solve(A=given, b=b)
    with pytest.raises(DTypeError, match="'b' is complex"):
        problem.solve(A=A.real, b=b + 1j)
    with pytest.raises(DTypeError, match="start is complex"):
        problem.solve(A=A.real, b=b, start=b + 1j)


@pytest.mark.parametrize("given", ["b", None, scipy.sparse.eye_array(2)])
def test_what_is_no_vector_is_refused_by_name(given: object) -> None:
    problem = LinearProblem(matrix=Parameter("A"), rhs=Parameter("b"))
    with pytest.raises(DTypeError, match=f"'b' is a {type(given).__name__}; a tensor, an array"):
        problem.solve(A=torch.eye(2), b=given)


def test_files_that_announce_more_than_they_hold(tmp_path) -> None:
    text = "%%MatrixMarket matrix coordinate real general\n9 9 1000000000000\n1 1 2.0\n"
    (tmp_path / "a.mtx").write_text(text)
    with pytest.raises(SpecError, match="announces 1000000000000 entries"):
        LinearProblem(matrix=MatrixFile(str(tmp_path / "a.mtx")), rhs=[1.0] * 9).solve()
    (tmp_path / "b.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(SpecError, match="cannot be read"):
        LinearProblem(matrix=MatrixFile(str(tmp_path / "b.npz")), rhs=[1.0]).solve()
