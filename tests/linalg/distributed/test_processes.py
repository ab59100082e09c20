"""The same numbers on one process with one matrix, on one process with parts, and on many processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.helpers import rank_programs as programs
from tests.helpers.ranks import SIZES
from torch_sla.errors import RankError
from torch_sla.linalg.distributed.processes import Processes

if TYPE_CHECKING:
    from tests.helpers.ranks import Ranks

pytestmark = pytest.mark.distributed
TIGHT = {"rtol": 1e-10, "atol": 1e-12}


def close(found: Any, expected: Any, **tolerance: float) -> None:
    torch.testing.assert_close(found, expected, **(tolerance or TIGHT))


def serial_arithmetic(name: str) -> dict[str, Any]:
    A, _ = programs.matrix(name)
    values = A.values.clone().requires_grad_()
    x = programs.rhs(A.shape[-1], A.dtype).requires_grad_()
    B = type(A).from_pattern(A.pattern, values)
    y = B @ x
    z = B.T() @ torch.tanh(y)
    loss = (z**3).sum() + y.norm() + y.dot(x) + B.norm() + B.norm(1) + B.norm(float("inf"))
    loss = loss + B.to_dense().abs().pow(3).sum()
    loss = loss + B.to_dense().trace() + (B.to_dense().diagonal() ** 3).sum()
    loss.backward()
    return {"loss": loss.detach(), "y": y.detach(), "values": values.grad, "x": x.grad}


@pytest.mark.parametrize("how", ["", "gap", "scattered"])
@pytest.mark.parametrize("name", programs.MATRICES)
def test_products_and_norms_in_one_process(name: str, how: str) -> None:
    expected = serial_arithmetic(name)
    for parts in (1, 4, 7):
        found = programs.arithmetic(None, name, how, parts)
        for key, value in expected.items():
            close(found[key], value)


@pytest.mark.parametrize("size", SIZES)
def test_products_and_norms(ranks: Ranks, size: int) -> None:
    for name, how in (("irregular", "scattered"), ("blobs", ""), ("tiny", "gap")):
        expected = serial_arithmetic(name)
        for found in ranks.run(size, programs.arithmetic, name, how):
            for key, value in expected.items():
                close(found[key], value)


def serial_solve(name: str, dtype: torch.dtype) -> dict[str, Any]:
    A, _ = programs.matrix(name, dtype)
    values = A.values.clone().requires_grad_()
    b = programs.rhs(A.shape[-1], dtype, 2).requires_grad_()
    x = (
        type(A)
        .from_pattern(A.pattern, values)
        .solve(b, backend="native" if name != "convection" else "auto")
    )
    loss = (x * x.conj()).sum().real + (x.real**3).sum()
    loss.backward()
    return {"x": x.detach(), "values": values.grad, "b": b.grad}


SOLVES: list[tuple[str, dict[str, Any], torch.dtype]] = [
    ("irregular", {"how": "scattered", "each": 3}, torch.float64),
    ("blobs", {}, torch.float64),
    ("tiny", {"how": "gap"}, torch.float64),
    ("convection", {}, torch.float64),
    ("convection", {"method": "bicgstab"}, torch.float64),
    ("indefinite", {}, torch.float64),
    ("irregular", {}, torch.complex128),
]


@pytest.mark.parametrize("size", SIZES)
def test_solves(ranks: Ranks, size: int) -> None:
    # All on three; on other numbers of processes, two that differ each time.
    chosen = SOLVES if size == 3 else [SOLVES[size % len(SOLVES)], SOLVES[(size + 3) % len(SOLVES)]]
    for name, options, dtype in chosen:
        expected = serial_solve(name, dtype)
        options = {"rtol": 1e-13, **options}
        for found in ranks.run(size, programs.solved, name, options, dtype):
            for key, value in expected.items():
                scale = float(value.abs().max())
                close(found[key] / scale, value / scale, rtol=1e-10, atol=1e-10)
            assert found["sent"][3] == 0  # nothing was gathered


@pytest.mark.parametrize("size", [1, 3, 4])
def test_pieces_become_a_matrix_that_no_process_sees_whole(ranks: Ranks, size: int) -> None:
    A, _ = programs.matrix("irregular")
    values = A.values.clone().requires_grad_()
    B = type(A).from_pattern(A.pattern, values)
    y = B @ programs.rhs(A.shape[-1], A.dtype)
    (y**3).sum().backward()
    for found in ranks.run(size, programs.assembled):
        close(found["y"], y.detach(), rtol=1e-8, atol=1e-8)
        close(found["values"], values.grad, rtol=1e-7, atol=1e-7)
        assert found["gathered"] < 8 * A.shape[-1]


@pytest.mark.parametrize("size", [1, 4])
def test_tensors_of_torch(ranks: Ranks, size: int) -> None:
    A, _ = programs.matrix("irregular")
    x = programs.rhs(A.shape[-1], A.dtype)
    answers = ranks.run(size, programs.checks)
    close(torch.cat([found["chunk"] for found in answers]), x)
    assert sum(found["owned"] for found in answers) == len(x)
    for found in answers:
        assert found["same"]
        close(found["y"], A @ x)
        whole, cut_otherwise = found["refused"]
        assert ("DVector" in whole) == ("moves its entries" in cut_otherwise) == (size > 1)
        close(found["halo"], found["expected"])
        assert found["total"] == pytest.approx(float(x.max() - x.min()))


@pytest.mark.parametrize("where", [0, 1, 2])
def test_nan_on_one_process_is_nan_on_all(ranks: Ranks, where: int) -> None:
    for found in ranks.run(3, programs.nowhere_a_number, where):
        assert found["sizes"].isnan().all()
        assert found["numbers"].tolist() == [0.0, 1.0]


def test_bytes_are_what_the_halo_needs(ranks: Ranks) -> None:
    options = {"method": "cg", "preconditioner": "jacobi", "rtol": 1e-10}
    answers = ranks.run(4, programs.solved, "irregular", dict(options), torch.float64)
    alone = programs.solved(None, "irregular", dict(options), torch.float64, 4)
    iterations, columns = answers[0]["iterations"], 2
    assert alone["iterations"] == iterations
    halo = sum(found["halo"] for found in answers)
    bytes_ = sum(found["sent"][1] for found in answers)
    # A product for each iteration, one to start, one for the true residual; before, four with one column each.
    assert bytes_ == halo * 8 * (columns * (iterations + 2) + 4)
    # One reduction for each iteration, and a handful around them.
    assert all(found["sent"][2] <= iterations + 7 for found in answers)
    assert alone["sent"][:2] == tuple(sum(found["sent"][i] for found in answers) for i in (0, 1))


def test_a_part_of_ones_own(ranks: Ranks) -> None:
    A, _ = programs.matrix("irregular")
    lowest = A.eigsh(2, "SM")[0]
    for found in ranks.run(max(SIZES), programs.one_part):
        assert found["connected"]
        assert found["error"] < 1e-10
        assert found["alone"] < 1e-8
        close(found["w"], lowest, rtol=1e-8, atol=0)


def differing(group: Any, what: str) -> str:
    """Solve for what the second process has otherwise than the first; return what each says."""
    second = torch.distributed.get_rank(group) == 1
    A, _ = programs.matrix("irregular")
    D = programs.cut(Processes(group), A, A.values)
    dtype = torch.complex128 if second and what == "dtype" else A.dtype
    b = programs.rhs(A.shape[-1], dtype, 2 if second and what == "columns" else None)
    options: dict[str, Any] = {}
    if second and what == "method":
        options["method"] = "gmres"
    elif second and what == "x0":
        options["x0"] = D.vector(b)
    try:
        D.solve(D.vector(b), **options)
    except RankError as error:
        return str(error)
    return "nothing"


def test_solves_that_differ_all_stop(ranks: Ranks) -> None:
    for what, message in (
        ("dtype", "`b`: rank 0 has 1 columns of torch.float64; rank 1 has 1 columns of torch.comp"),
        ("columns", "`b`: rank 0 has 1 columns of torch.float64; rank 1 has 2 columns"),
        ("method", "method: rank 0 has auto; rank 1 has gmres"),
        ("x0", "x0: rank 0 has nothing; rank 1 has something"),
    ):
        for found in ranks.run(2, differing, what):
            assert f"the ranks disagree on {message}" in found
