"""Supernodal factorisations against dense algebra; one file, for the sake of one zoo."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from torch_sla import _core
from torch_sla.errors import ArgumentError, Result, SolveError
from torch_sla.linalg.kernels import cholesky, memory, symbolic, unavailable
from torch_sla.linalg.kernels.borrowed_blas import lend_blas
from torch_sla.linalg.kernels.cholesky import Factor, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(
    unavailable() is not None, reason=f"no compiled extension: {_core.reason}"
)

DOUBLE = (torch.float64, torch.complex128)
VALUES = (torch.float32, torch.float64, torch.complex64, torch.complex128)
ORDERINGS = ("auto", "amd", "dissection", "natural")


def csr(A: Tensor, pattern: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    row, col = (A != 0 if pattern is None else pattern).nonzero().T
    crow = torch.zeros(A.shape[0] + 1, dtype=torch.int64)
    crow[1:] = torch.bincount(row, minlength=A.shape[0]).cumsum(0)
    return crow, col, A[row, col]


def hermitian(n: int, density: float, dtype: torch.dtype = torch.float64) -> Tensor:
    A = torch.randn(n, n, dtype=dtype) * (torch.rand(n, n) < density)
    return A + A.mH


def definite(n: int, density: float, dtype: torch.dtype = torch.float64) -> Tensor:
    A = hermitian(n, density, dtype)
    return A + torch.diag(A.abs().sum(1) + 1).to(dtype)


def grid(*cells: int, dtype: torch.dtype = torch.float64) -> Tensor:
    A = torch.zeros(1, 1, dtype=dtype)
    for n in cells:
        T = 2 * torch.eye(n, dtype=dtype) - torch.diag(torch.ones(n - 1, dtype=dtype), 1)
        T = T - torch.diag(torch.ones(n - 1, dtype=dtype), -1)
        A = torch.kron(A, torch.eye(n, dtype=dtype)) + torch.kron(torch.eye(len(A), dtype=dtype), T)
    return A


def arrow(n: int) -> Tensor:
    A = torch.diag(torch.full((n,), float(n), dtype=torch.float64))
    A[0, :], A[:, 0], A[0, 0] = 1.0, 1.0, n
    return A


def zoo() -> dict[str, Tensor]:
    blocks = torch.block_diag(grid(5, 4), definite(7, 0.5), torch.ones(1, 1).double())
    scattered = torch.randperm(len(blocks))
    dense_row = definite(60, 0.03)
    dense_row[17], dense_row[:, 17] = 0.1, 0.1
    dense_row[17, 17] = 60
    return {
        "one": torch.full((1, 1), 4.0, dtype=torch.float64),
        "diagonal": torch.diag(torch.rand(9, dtype=torch.float64) + 0.5),
        "full": definite(40, 1.0),
        "chain": grid(50) + 0.01 * torch.eye(50),
        "plane": grid(17, 13),
        "solid": grid(7, 8, 6),
        "arrow": arrow(35),
        "dense-row": dense_row,
        "disconnected": blocks[scattered][:, scattered],
        "random": definite(300, 0.01),
        "denser": definite(250, 0.1),
    }


ZOO = sorted(
    "one diagonal full chain plane solid arrow disconnected random denser dense-row".split()  # noqa: SIM905
)


def make(A: Tensor, kind: Kind = "cholesky", *, threads: int = 1, **options: object) -> Factor:
    crow, col, values = csr(A)
    mates = scale = None
    if kind != "cholesky":
        scale, values = cholesky.symmetric_scale(crow, col, values)
        mates = cholesky.weak_pairs(crow, col, values)
    analysis = symbolic.analyze(crow, col, mates=mates, threads=threads, **options)  # type: ignore[arg-type]
    made = cholesky.factorize(analysis, values, kind, scale=scale, threads=threads)
    assert isinstance(made, Factor)
    return made


def backward_error(A: Tensor, x: Tensor, b: Tensor) -> float:
    r = (A @ x - b).abs().amax(0)
    return float((r / (A.abs().sum(1).max() * x.abs().amax(0) + b.abs().amax(0))).max())


def inverse_on_pattern(f: Factor, A: Tensor) -> Tensor:
    """Selected inverse as a dense matrix, zero off the pattern."""
    crow, col, _ = csr(A)
    row = torch.repeat_interleave(torch.arange(len(A)), crow.diff())
    values, filled = f.selected_inverse()
    out = torch.zeros_like(A)
    star = values.conj() if f.kind != "symmetric" else values
    out[col[filled], row[filled]] = star[filled]
    out[row[filled], col[filled]] = values[filled]
    return out


# --- definite matrices ---------------------------------------------------------------------------


@pytest.mark.parametrize("ordering", ORDERINGS)
@pytest.mark.parametrize("name", ZOO)
def test_definite_zoo(name: str, ordering: str) -> None:
    A = zoo()[name]
    f = make(A, ordering=ordering)
    b = torch.randn(len(A), 2, dtype=A.dtype)
    assert backward_error(A, f.solve(b), b) < 1e-15
    phase, log = f.slogdet
    assert phase == 1
    assert log == pytest.approx(float(torch.linalg.slogdet(A).logabsdet), rel=1e-12, abs=1e-10)
    inverse = torch.linalg.inv(A)
    found = inverse_on_pattern(f, A)
    assert ((found - inverse)[A != 0].abs() / inverse.abs().max()).max() < 1e-10


@pytest.mark.parametrize("dtype", VALUES)
@pytest.mark.parametrize("columns", [0, 1, 2, 5, 70])
def test_modes_and_right_hand_sides(dtype: torch.dtype, columns: int) -> None:
    A = definite(120, 0.05, dtype)
    f = make(A)
    b = torch.randn(120, columns, dtype=dtype)
    for mode, op in (("n", A), ("t", A.mT), ("h", A.mH)):
        x = f.solve(b, mode)
        assert x.dtype == dtype
        if columns:
            assert backward_error(op, x, b) < 20 * torch.finfo(dtype).eps


def test_empty_matrix() -> None:
    crow, col = torch.zeros(1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    for ordering in ORDERINGS:
        analysis = symbolic.analyze(crow, col, ordering=ordering)  # type: ignore[arg-type]
        f = cholesky.factorize(analysis, torch.zeros(0, dtype=torch.float64))
        assert isinstance(f, Factor)
        assert f.solve(torch.zeros(0, 3, dtype=torch.float64)).shape == (0, 3)
        assert f.slogdet == (1, 0)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.floats(0, 0.4), st.integers(0, 10**6), st.sampled_from(ORDERINGS))
def test_random_patterns(n: int, density: float, seed: int, ordering: str) -> None:
    torch.manual_seed(seed)
    A = definite(n, density)
    f = make(A, ordering=ordering)
    b = torch.randn(n, 1, dtype=A.dtype)
    assert backward_error(A, f.solve(b), b) < 1e-15


# --- symbolic counts -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ZOO)
def test_counts_are_exact(name: str) -> None:
    A = zoo()[name]
    analysis = symbolic.analyze(*csr(A)[:2])
    order = analysis.order.long()
    below = (A[order][:, order] != 0).tril()
    for k in range(len(A)):  # elimination on the pattern
        rows = below[k + 1 :, k].nonzero().flatten() + k + 1
        below[rows[:, None], rows] |= rows[:, None] >= rows
    column = below.sum(0)
    assert analysis.factor_nnz == int(column.sum())
    assert analysis.flops == float((column.double() ** 2).sum())
    f = cholesky.factorize(analysis, csr(A)[2])
    assert isinstance(f, Factor)
    assert f.nbytes == analysis.factor_bytes(A.dtype)


def test_a_given_permutation_is_kept() -> None:
    A = arrow(20)
    worst = symbolic.analyze(*csr(A)[:2], ordering=torch.arange(20))
    best = symbolic.analyze(*csr(A)[:2], ordering=torch.arange(19, -1, -1))
    assert (worst.factor_nnz, best.factor_nnz) == (210, 39)
    assert worst.ordering == "given"


@pytest.mark.parametrize("far", [2**32 + 1, 2**32, -(2**32) + 1, 2**31])
def test_a_permutation_of_large_numbers_is_none(far: int) -> None:
    order = torch.arange(3)
    order[1] = far
    with pytest.raises(ArgumentError, match=f"not a permutation: {far} is out of range"):
        symbolic.analyze(*csr(arrow(3))[:2], ordering=order)


@pytest.mark.parametrize("cells", [(60, 60), (15, 15, 15)])
def test_dissection_against_metis(cells: tuple[int, ...]) -> None:
    pymetis = pytest.importorskip("pymetis")
    A = grid(*cells)
    crow, col, _ = csr(A)
    ours = symbolic.analyze(crow, col, ordering="dissection")
    off = torch.repeat_interleave(torch.arange(len(A)), crow.diff()) != col
    neighbours = [r[r != i].tolist() for i, r in enumerate(col.split(crow.diff().tolist()))]
    assert sum(map(len, neighbours)) == int(off.sum())
    found = pymetis.nested_dissection(adjacency=neighbours)
    theirs = min(
        (symbolic.analyze(crow, col, ordering=torch.tensor(p)) for p in found),
        key=lambda a: a.flops,
    )
    assert ours.factor_nnz <= 1.15 * theirs.factor_nnz
    assert ours.flops <= 1.3 * theirs.flops


def test_an_ordering_by_pymetis_before_it_had_a_class_of_graphs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nested_dissection(adjacency: None = None, xadj: Any = None, adjncy: Any = None) -> Any:
        assert adjacency is None
        assert np.diff(xadj).tolist() == [1, 2, 1]
        assert adjncy.tolist() == [1, 0, 2, 1]
        return [2, 0, 1], [1, 2, 0]

    known = SimpleNamespace(nested_dissection=nested_dissection)
    monkeypatch.setitem(sys.modules, "pymetis", known)
    found = symbolic.analyze(*csr(grid(3))[:2], ordering="metis")
    assert found.ordering == "metis"
    assert sorted(found.order.tolist()) == [0, 1, 2]


def test_dissection_does_not_depend_on_threads() -> None:
    crow, col, _ = csr(grid(40, 41))
    one = symbolic.analyze(crow, col, ordering="dissection", threads=1)
    assert torch.equal(
        one.order, symbolic.analyze(crow, col, ordering="dissection", threads=2).order
    )


# --- indefinite matrices ---------------------------------------------------------------------------


def saddle(dtype: torch.dtype = torch.float64) -> Tensor:
    K = grid(9, 8, dtype=dtype)
    n, m = len(K), 20
    B = torch.zeros(m, n, dtype=dtype)
    for i in range(m):
        B[i, 3 * i : 3 * i + 3] = torch.tensor([1, -2, 1.5], dtype=dtype)
    A = torch.zeros(n + m, n + m, dtype=dtype)
    A[:n, :n], A[n:, :n], A[:n, n:] = K, B, B.mT
    return A


def indefinite_zoo(dtype: torch.dtype) -> dict[str, Tensor]:
    swap = torch.kron(torch.eye(10), torch.tensor([[0.0, 1.0], [1.0, 0.0]])).to(dtype)
    scaled = hermitian(80, 0.1, dtype) + torch.eye(80, dtype=dtype)
    s = torch.logspace(-6, 6, 80, dtype=torch.float64).to(dtype)
    return {
        "random": hermitian(200, 0.03, dtype) + torch.diag(torch.randn(200)).to(dtype),
        "full": hermitian(150, 1.0, dtype),
        "swap": swap,
        "saddle": saddle(dtype),
        "helmholtz": grid(19, 20, dtype=dtype) - 1.37 * torch.eye(380, dtype=dtype),
        "scaled": s[:, None] * scaled * s,
    }


@pytest.mark.parametrize("dtype", DOUBLE)
@pytest.mark.parametrize("name", ["random", "full", "swap", "saddle", "helmholtz", "scaled"])
def test_indefinite_zoo(name: str, dtype: torch.dtype) -> None:
    A = indefinite_zoo(dtype)[name]
    f = make(A, "hermitian", ordering="amd")
    assert f.perturbed == 0
    b = torch.randn(len(A), 3, dtype=dtype)
    x = f.solve(b)
    x = x + f.solve(b - A @ x)
    assert backward_error(A, x, b) < 1e-14
    sign, log = torch.linalg.slogdet(A)
    phase, found = f.slogdet
    assert found == pytest.approx(float(log), rel=1e-9)
    assert phase == pytest.approx(complex(sign), abs=1e-9)
    spectrum = torch.linalg.eigvalsh(A)
    if name != "scaled":
        assert f.inertia == (int((spectrum > 0).sum()), int((spectrum < 0).sum()), 0)
        inverse = torch.linalg.inv(A)
        found_inverse = inverse_on_pattern(f, A)
        assert ((found_inverse - inverse)[A != 0].abs() / inverse.abs().max()).max() < 1e-9


def test_complex_symmetric() -> None:
    A = torch.randn(130, 130, dtype=torch.complex128) * (torch.rand(130, 130) < 0.05)
    A = A + A.mT + torch.diag(torch.randn(130) + 1j)
    f = make(A, "symmetric")
    b = torch.randn(130, 2, dtype=A.dtype)
    for mode, op in (("n", A), ("t", A.mT), ("h", A.mH)):
        assert backward_error(op, f.solve(b, mode), b) < 1e-13
    phase, log = f.slogdet
    sign, expected = torch.linalg.slogdet(A)
    assert log == pytest.approx(float(expected), rel=1e-10)
    assert phase == pytest.approx(complex(sign), abs=1e-10)
    with pytest.raises(ArgumentError, match="no inertia"):
        _ = f.inertia


def test_singular_matrices_are_perturbed_and_said_to_be() -> None:
    A = grid(6, 5)
    A = A - torch.diag(A.sum(1))  # constants in the null space
    f = make(A, "hermitian")
    assert f.perturbed == 1
    b = A @ torch.randn(30, 1, dtype=A.dtype)
    x = f.solve(b)
    x = x + f.solve(b - A @ x)
    assert backward_error(A, x, b) < 1e-12


# --- failures ----------------------------------------------------------------------------------------


def test_the_row_of_a_bad_pivot_is_named() -> None:
    for A in (grid(9, 9), definite(300, 0.2)):
        row = 37
        A[row, row] = -1.0
        with pytest.raises(SolveError, match="row") as caught:
            make(A)
        assert caught.value.result is Result.NOT_POSITIVE_DEFINITE
        # Whatever was eliminated before: the leading block ending at the named row is not definite.
    A = torch.diag(torch.ones(9, dtype=torch.float64))
    A[4, 4] = -2.0
    with pytest.raises(SolveError, match="row 4"):
        make(A)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("kind", ["cholesky", "hermitian"])
@pytest.mark.parametrize("where", [(5, 5), (80, 81)])
def test_not_finite(bad: float, kind: Kind, where: tuple[int, int]) -> None:
    A = definite(200, 0.3)
    A[where], A[where[::-1]] = bad, bad
    with pytest.raises(SolveError) as caught:
        make(A, kind)
    assert caught.value.result is Result.NONFINITE


def test_bad_arguments() -> None:
    crow, col = torch.tensor([0, 2, 3]), torch.tensor([0, 1, 1])
    with pytest.raises(ArgumentError, match=r"not symmetric: entry \(0, 1\)"):
        symbolic.analyze(crow, col)
    crow, col, values = csr(grid(3, 3))
    with pytest.raises(ArgumentError, match="appears twice"):
        symbolic.analyze(crow, col, ordering=torch.zeros(9, dtype=torch.int64))
    with pytest.raises(ArgumentError, match="`ordering`"):
        symbolic.analyze(crow, col, ordering="magic")  # type: ignore[arg-type]
    analysis = symbolic.analyze(crow, col)
    with pytest.raises(ArgumentError, match="`values`"):
        cholesky.factorize(analysis, values[:-1])


def test_memory_is_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    crow, col, values = csr(grid(12, 12))
    analysis = symbolic.analyze(crow, col)
    needed = analysis.factor_bytes(values.dtype) + analysis.working_bytes(values.dtype)
    monkeypatch.setattr(memory, "_ALWAYS_FREE", 0)
    monkeypatch.setattr(memory, "available_bytes", lambda: needed - 1)
    with pytest.raises(SolveError) as caught:
        cholesky.factorize(analysis, values)
    assert caught.value.result is Result.OUT_OF_MEMORY
    monkeypatch.setattr(memory, "available_bytes", lambda: needed)
    cholesky.factorize(analysis, values)


@pytest.fixture
def nothing_lent() -> Iterator[None]:
    kernel = _core.extension.cholesky  # type: ignore[union-attr]
    lend_blas()
    for letter in "sdcz":
        getattr(kernel, f"lend_{letter}")(0, 0, 0, 0)
    yield
    lend_blas.cache_clear()
    lend_blas()


@pytest.mark.parametrize("dtype", VALUES)
@pytest.mark.parametrize("kind", ["cholesky", "hermitian"])
@pytest.mark.usefixtures("nothing_lent")
def test_own_kernels_do_without_a_blas(kind: Kind, dtype: torch.dtype) -> None:
    A = torch.block_diag(definite(230, 1.0, dtype), grid(9, 8, 7, dtype=dtype))
    f = make(A, kind)
    b = torch.randn(len(A), 9, dtype=dtype)
    eps = torch.finfo(dtype).eps
    assert backward_error(A, f.solve(b), b) < 30 * eps
    inverse = torch.linalg.inv(A)
    error = (inverse_on_pattern(f, A) - inverse)[A != 0].abs().max() / inverse.abs().max()
    assert error < 1e4 * eps


# --- reuse, threads, batches -----------------------------------------------------------------------


def test_older_factors_stay_valid() -> None:
    A = grid(11, 10)
    crow, col, values = csr(A)
    analysis = symbolic.analyze(crow, col)
    first = cholesky.factorize(analysis, values)
    second = cholesky.factorize(analysis, 3 * values)
    assert isinstance(first, Factor)
    assert isinstance(second, Factor)
    b = torch.randn(len(A), 1, dtype=A.dtype)
    assert torch.allclose(A @ first.solve(b), b)
    assert torch.allclose(3 * A @ second.solve(b), b)


@pytest.mark.parametrize("kind", ["cholesky", "hermitian"])
@pytest.mark.parametrize("cells", [(70, 71), (17, 16, 15)])
def test_threads_change_no_bit(cells: tuple[int, ...], kind: Kind) -> None:
    A = grid(*cells)
    b = torch.randn(len(A), 5, dtype=A.dtype)
    one, two = (make(A, kind, threads=t) for t in (1, 2))
    x = one.solve(b, threads=1)
    assert torch.equal(x, two.solve(b, threads=2))
    assert backward_error(A, x, b) < 1e-14
    assert one.slogdet == two.slogdet


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64])
@pytest.mark.parametrize("kind", ["cholesky", "hermitian"])
def test_batches(kind: Kind, dtype: torch.dtype) -> None:
    pattern = definite(60, 0.08) != 0
    stack = [torch.where(pattern, definite(60, 1.0, dtype), 0) for _ in range(5)]
    crow, col, _ = csr(stack[0], pattern)
    analysis = symbolic.analyze(crow, col)
    values = torch.stack([csr(A, pattern)[2] for A in stack])
    factors = cholesky.factorize(analysis, values, kind, threads=2)
    assert isinstance(factors, list)
    b = torch.randn(5, 60, 2, dtype=dtype)
    x = cholesky.solve_batch(factors, b, threads=2)
    for A, one, rhs in zip(stack, x, b, strict=True):
        assert backward_error(A, one, rhs) < 30 * torch.finfo(dtype).eps
    values[3] = math.nan
    with pytest.raises(SolveError, match="of member 3"):
        cholesky.factorize(analysis, values, kind)
