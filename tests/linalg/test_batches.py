"""Many matrices on one pattern: together where that is safe, alone where a member needs care."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from tests.helpers.grids import poisson, split
from torch_sla.errors import ArgumentError, GradientError, Result, SolveError
from torch_sla.linalg import SparseTensor, cache_counters, clear_factor_cache, state
from torch_sla.linalg.kernels import threads, unavailable
from torch_sla.linalg.sparse.pattern import Pattern

F64 = torch.float64
WAYS = [
    {"backend": "native", "method": "cholesky"},
    {"backend": "native", "method": "ldlt"},
    {"backend": "native", "method": "static_lu"},
    {"backend": "eigen", "method": "lu"},
    {"method": "superlu"},
]


def family(B: int, n: int = 30, dtype: torch.dtype = F64, lift: float = 0.0) -> SparseTensor:
    g = torch.Generator().manual_seed(B)
    d = (2.1 + lift + torch.rand(B, n, generator=g, dtype=F64)).to(dtype)
    off = torch.full((B, n - 1), -1.0, dtype=dtype)
    return SparseTensor.tridiagonal(off, d, off)


@pytest.mark.parametrize("way", WAYS, ids=lambda w: "-".join(w.values()))
@pytest.mark.parametrize("dtype", [F64, torch.complex128, torch.float32])
def test_solutions_and_gradients(way: dict[str, str], dtype: torch.dtype) -> None:
    A = family(5, dtype=dtype)
    v = A.values.clone().requires_grad_()
    b = torch.randn(5, 30, 2, dtype=dtype).requires_grad_()
    x, info = SparseTensor.from_pattern(A.pattern, v).solve(b, info=True, **way)
    assert "5 matrices at once" in info.notes
    assert info.backward_error <= 50 * torch.finfo(dtype).eps
    assert 0 < info.rcond < 1
    dense = torch.linalg.solve(SparseTensor.from_pattern(A.pattern, v).to_dense(), b)
    torch.testing.assert_close(x, dense)
    weight = torch.randn_like(x)
    for one, two in zip(
        torch.autograd.grad(x, (v, b), weight),
        torch.autograd.grad(dense, (v, b), weight),
        strict=True,
    ):
        torch.testing.assert_close(one, two)


def test_one_analysis_one_factor_each_reused_by_the_adjoint() -> None:
    A = family(7, n=41)
    A.values.requires_grad_()
    clear_factor_cache()
    before = cache_counters()
    A.solve(torch.ones(7, 41, dtype=F64), backend="native", method="cholesky").sum().backward()
    after = cache_counters()
    assert after["analyze"] - before["analyze"] == 1
    assert after["factorize"] - before["factorize"] == 7


def test_the_bits_do_not_depend_on_the_company() -> None:
    A, b = family(4), torch.randn(4, 30, dtype=F64)
    together = A.solve(b, backend="native", method="cholesky")
    for k in range(4):
        one = SparseTensor.from_pattern(A.pattern, A.values[k])
        torch.testing.assert_close(one.solve(b[k]), together[k], rtol=1e-14, atol=1e-15)
    assert torch.equal(family(4).solve(b, backend="native", method="cholesky"), together)


def test_a_singular_member_is_an_error_of_its_own() -> None:
    A = family(4)
    v = A.values.clone()
    row = A.row_indices
    v[2, row == 5] = 0
    bad = SparseTensor.from_pattern(A.pattern, v)
    for method in ("lu", "superlu"):
        with pytest.raises(SolveError) as caught:
            bad.solve(torch.ones(4, 30, dtype=F64), method=method)
        assert caught.value.result is Result.SINGULAR
    x, info = bad.solve(torch.ones(4, 30, dtype=F64), method="lu", throw=False)
    assert info.result is Result.SINGULAR
    assert x[[0, 1, 3]].isfinite().all()
    assert x[2].isnan().all()


def test_a_member_that_is_not_finite_names_the_solver() -> None:
    A, b = family(4), torch.ones(4, 30, dtype=F64)
    v = A.values.clone()
    v[1, 3] = float("nan")
    broken = SparseTensor.from_pattern(A.pattern, v)
    with pytest.raises(SolveError, match=r"with \w+ \w+ \(NaN or infinity in the input\)"):
        broken.solve(b, method="lu")
    x, _ = broken.solve(b, method="lu", throw=False, info=True)
    assert x[[0, 2, 3]].isfinite().all()
    assert x[1].isnan().all()
    b[2, 5] = float("inf")
    x, _ = A.solve(b, method="lu", throw=False, info=True)
    assert x[[0, 1, 3]].isfinite().all()
    assert x[2].isnan().all()


@pytest.mark.parametrize("failed", ["singular", "matrix", "right-hand side"])
@pytest.mark.parametrize("method", ["lu", "superlu"])
def test_a_member_that_failed_leaves_the_gradients_of_the_others(failed: str, method: str) -> None:
    A, c = family(3), torch.tensor(1.3, dtype=F64, requires_grad=True)
    b = torch.randn(3, 30, dtype=F64, generator=torch.Generator().manual_seed(1))
    values = c * A.values
    if failed == "singular":
        values = values * torch.ones_like(values).index_fill(0, torch.tensor(1), 0.0)
    elif failed == "matrix":
        values = values + torch.zeros_like(values).index_fill(0, torch.tensor(1), float("nan"))
    else:
        b[1, 3] = float("nan")
    x, info = SparseTensor.from_pattern(A.pattern, values).solve(b, method=method, throw=False)
    assert not info.converged
    assert x[1].isnan().all()
    (slope,) = torch.autograd.grad(x[[0, 2]].pow(3).sum(), c, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, c, retain_graph=True)
    # Every x is a multiple of 1 / c.
    whole = torch.linalg.solve(A.to_dense(), b)[[0, 2]].pow(3).sum()
    torch.testing.assert_close(slope, -3 * whole / c**4, rtol=1e-7, atol=0)
    torch.testing.assert_close(curvature, 12 * whole / c**5, rtol=1e-7, atol=0)
    with pytest.raises(GradientError, match="did not converge"):
        torch.autograd.grad(x.sum(), c)


def test_members_that_changed_places_are_noticed() -> None:
    crow, ccol, values = family(3).to_csr()
    pattern = Pattern.from_csr(crow, ccol, (30, 30))  # on which values are not copied
    for change in (lambda m: m.flip(0), lambda m: m[:1].repeat(3, 1)):
        v = values.clone().requires_grad_()
        x = SparseTensor.from_pattern(pattern, v).solve(torch.ones(3, 30, dtype=F64))
        v.data.copy_(change(v.data))  # which torch does not notice
        with pytest.raises(GradientError, match="modified in place"):
            x.square().sum().backward()


def test_members_that_need_care_go_alone() -> None:
    A = family(4)
    v, scale = A.values.clone(), torch.tensor([1e9, 1e-9], dtype=F64).repeat(15)
    v[1] *= scale[A.row_indices.long()]
    b = torch.ones(4, 30, dtype=F64)
    b[1] = scale
    b[2] *= 1e-200
    b[3] = 0
    x, info = SparseTensor.from_pattern(A.pattern, v).solve(b, method="lu", info=True)
    assert "rows and columns equilibrated" in info.notes
    assert any("at once" in note for note in info.notes)
    D = SparseTensor.from_pattern(A.pattern, v).to_dense()
    torch.testing.assert_close(x[2], torch.linalg.solve(D[2], b[2]), rtol=1e-10, atol=0)
    torch.testing.assert_close((D[1] @ x[1]) / b[1], torch.ones(30, dtype=F64))
    assert not x[3].any()


def test_one_indefinite_member_makes_the_choice_fall_back() -> None:
    A = family(3)
    v, diagonal = A.values.clone(), A.row_indices == A.col_indices
    v[1, diagonal] -= 2.2
    mixed = SparseTensor.from_pattern(A.pattern, v)
    b = torch.ones(3, 30, dtype=F64)
    torch.testing.assert_close(mixed.solve(b), torch.linalg.solve(mixed.to_dense(), b))
    with pytest.raises(SolveError) as caught:
        mixed.solve(b, method="cholesky")
    assert caught.value.result is Result.NOT_POSITIVE_DEFINITE


def test_large_batches_are_detected_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_sla.linalg.sparse import structure

    monkeypatch.setattr(structure, "_AT_ONCE", 200)
    A = family(9)
    assert A.structure.positive_definite
    v = A.values.clone()
    v[8, 1] += 1
    assert SparseTensor.from_pattern(A.pattern, v).structure.hermitian is False


@pytest.mark.parametrize("kind", ["lu", "cholesky", "ldlt"])
def test_factorisations_of_a_batch(kind: str) -> None:
    A = family(3)
    v = A.values.clone().requires_grad_()
    M = SparseTensor.from_pattern(A.pattern, v)
    D = M.to_dense()
    F = getattr(M, kind)()
    b = torch.randn(3, 30, 2, dtype=F64)
    torch.testing.assert_close(F.solve(b), torch.linalg.solve(D, b))
    torch.testing.assert_close(F.solve_transposed(b), torch.linalg.solve(D.mT, b))
    wide = torch.randn(2, 3, 30, dtype=F64)
    torch.testing.assert_close(
        F.solve(wide.movedim(0, -1)), torch.linalg.solve(D, wide.movedim(0, -1))
    )
    torch.testing.assert_close(F.logdet(), torch.logdet(D))
    (g,) = torch.autograd.grad(F.solve(b).sum() + F.logdet().sum(), v)
    (h,) = torch.autograd.grad(torch.linalg.solve(D, b).sum() + torch.logdet(D).sum(), v)
    torch.testing.assert_close(g, h)


def test_determinants_of_a_batch_with_a_singular_member() -> None:
    D = torch.stack(
        [torch.eye(3, dtype=F64), torch.ones(3, 3, dtype=F64), 2 * torch.eye(3, dtype=F64)]
    )
    A = SparseTensor.from_dense(D)
    torch.testing.assert_close(A.det(), torch.tensor([1.0, 0.0, 8.0], dtype=F64))
    assert A.logdet()[1] == -float("inf")


NOT_MAPPED = {
    "lu": lambda A: A.lu().solve(torch.ones(30, dtype=F64)),
    "det": lambda A: A.det(),
    "logdet": lambda A: A.logdet(),
    "eigsh": lambda A: A.eigsh(2)[0],
    "eigs": lambda A: A.eigs(2)[0],
    "svd": lambda A: A.svd(2)[1],
    "condition_number": lambda A: A.condition_number(),
    "norm": lambda A: A.norm(2),
}


@pytest.mark.parametrize("name", NOT_MAPPED)
def test_vmap_is_refused_where_values_decide_and_a_batch_does_it(name: str) -> None:
    A = family(2)

    def one(v: torch.Tensor) -> torch.Tensor:
        return NOT_MAPPED[name](SparseTensor.from_pattern(A.pattern, v))

    with pytest.raises(ArgumentError, match="batch"):
        torch.vmap(one)(A.values)
    torch.testing.assert_close(
        NOT_MAPPED[name](A), torch.stack([one(v) for v in A.values]), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("way", WAYS, ids=lambda w: "-".join(w.values()))
def test_threads_change_no_bit(way: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "SMALL_WORK", 1)
    A, b = family(6), torch.randn(6, 30, dtype=F64)
    found, before = [], torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            clear_factor_cache()
            found.append(A.solve(b, **way))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


@pytest.mark.parametrize("batch", [2, 50, 1000])
def test_batches_of_small_systems_are_planned_as_direct(batch: int) -> None:
    base = family(1, n=200)
    values = base.values.expand(batch, -1)
    plan = SparseTensor.from_pattern(base.pattern, values).plan((batch, 200))
    assert plan.preconditioner is None


def unsymmetric(B: int, n: int = 200) -> SparseTensor:
    g = torch.Generator().manual_seed(B)
    d = 3.5 + torch.rand(B, n, generator=g, dtype=F64)
    return SparseTensor.tridiagonal(
        torch.full((B, n - 1), -2.0, dtype=F64), d, torch.full((B, n - 1), -1.0, dtype=F64)
    )


def dense_solution(A: SparseTensor, b: torch.Tensor) -> torch.Tensor:
    # By NumPy: in torch 2.13 `linalg.solve` of a batch fails once the number of threads was 1 and then more.
    return torch.from_numpy(np.linalg.solve(A.to_dense().numpy(), b.numpy()[..., None])[..., 0])


def test_unsymmetric_batches_go_together_and_without_pivots_alone() -> None:
    A, b = unsymmetric(9), torch.randn(9, 200, dtype=F64)
    x, info = A.solve(b, info=True)
    assert (info.backend, info.method) == ("native", "static_lu")
    assert "9 matrices at once" in info.notes
    torch.testing.assert_close(x, dense_solution(A, b))
    v = A.values.clone()
    v[4] = (A.row_indices != A.col_indices).double()  # its pivots have to be looked for
    bad = SparseTensor.from_pattern(A.pattern, v)
    x, info = bad.solve(b, info=True)
    assert "8 matrices at once" in info.notes
    assert any("superlu" in str(note) for note in (info.backend, info.method, *info.notes))
    torch.testing.assert_close(x, dense_solution(bad, b))
    alone = SparseTensor.from_pattern(A.pattern, v[4])
    with pytest.raises(SolveError, match="method='lu' pivots"):
        alone.solve(b[4], backend="native", method="static_lu")


def test_an_indefinite_member_leaves_the_others_together() -> None:
    A = family(6)
    v, diagonal = A.values.clone(), A.row_indices == A.col_indices
    v[3, diagonal] -= 2.2
    mixed, b = SparseTensor.from_pattern(A.pattern, v), torch.ones(6, 30, dtype=F64)
    x, info = mixed.solve(b, backend="native", method="cholesky", info=True, throw=False)
    assert "5 matrices at once" in info.notes
    assert info.result is Result.NOT_POSITIVE_DEFINITE
    others = [0, 1, 2, 4, 5]
    torch.testing.assert_close(x[others], torch.linalg.solve(mixed.to_dense(), b)[others])
    with pytest.raises(SolveError, match="of member 3"):
        mixed.cholesky()


def _plates(B: int, side: int = 24) -> SparseTensor:
    """Diffusion on squares, each with coefficients of its own."""
    pattern, values = split(poisson(side, side))
    g = torch.Generator().manual_seed(B)
    lift = torch.rand(B, side * side, generator=g, dtype=F64)
    many = values.repeat(B, 1)
    many[:, pattern.csr_row == pattern.ccol] += lift
    return SparseTensor.from_pattern(pattern, many)


@pytest.mark.skipif(unavailable() is not None, reason="needs the extension")
@pytest.mark.parametrize("method", ["cg", "gmres"])
def test_members_of_multigrid_go_in_threads(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in one thread, its kernels too; what comes out does not depend on who solved it."""
    monkeypatch.setattr(threads, "SMALL_WORK", 1)
    way = {"method": method, "preconditioner": "multigrid", "backend": "pytorch", "rtol": 1e-10}
    where: list[tuple[int, int]] = []
    attempted = state.SolverState._attempted

    def noted(self: state.SolverState, *args: object) -> object:
        where.append((threading.get_ident(), threads.resolve_threads(None, 10**9)))
        time.sleep(0.01)
        return attempted(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(state.SolverState, "_attempted", noted)
    A, b = _plates(6), torch.randn(6, 576, 2, dtype=F64)
    before, found = torch.get_num_threads(), []
    try:
        torch.set_num_threads(2)
        for least in (1, 1, 10**9):
            monkeypatch.setattr(state, "MEMBER", least)
            clear_factor_cache()
            where.clear()
            v = A.values.clone().requires_grad_()
            x = SparseTensor.from_pattern(A.pattern, v).solve(b, **way)
            x.square().sum().backward()
            found.append((x.detach(), v.grad))
            outside = [w for w in where if w[0] != threading.get_ident()]
            assert len(where) == 12  # of which the first of each pass goes ahead
            assert len(outside) == (0 if least > 1 else 10)
            assert all(team == 1 for _, team in outside)
            assert least > 1 or len({ident for ident, _ in outside}) >= 2
    finally:
        torch.set_num_threads(before)
    for x, gradient in found[1:]:
        assert torch.equal(x, found[0][0])
        assert torch.equal(gradient, found[0][1])
    assert float((A @ found[0][0] - b).norm()) < 1e-8 * float(b.norm())


@pytest.mark.skipif(unavailable() is not None, reason="needs the extension")
def test_a_member_in_a_thread_fails_for_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "MEMBER", 1)
    monkeypatch.setattr(threads, "SMALL_WORK", 1)
    A = _plates(4)
    A.values[2] *= -1
    way = {"method": "cg", "preconditioner": "multigrid", "backend": "pytorch"}
    b = torch.ones(4, 576, dtype=F64)
    with pytest.raises(SolveError):
        A.solve(b, **way)
    x, info = A.solve(b, throw=False, info=True, **way)
    assert not info.result.ok
    for i in (0, 1, 3):
        member = SparseTensor.from_pattern(A.pattern, A.values[i])
        assert float((member @ x[i] - b[i]).norm()) < 1e-4


def test_columns_for_a_batch_say_how_they_are_given() -> None:
    A = SparseTensor.eye(4, dtype=torch.float64)
    many = SparseTensor.from_pattern(A.pattern, A.values.expand(2, -1))
    b = torch.ones(4, 3, dtype=torch.float64)
    with pytest.raises(ArgumentError, match=r"got \[4, 3\].*`b.expand\(2, -1, -1\)`"):
        many.solve(b)
    assert many.solve(b.expand(2, -1, -1)).shape == (2, 4, 3)


def test_a_start_that_lies_on_its_side_is_refused() -> None:
    A = SparseTensor.eye(4, dtype=torch.float64)
    b = torch.ones(4, 3, dtype=torch.float64)
    with pytest.raises(ArgumentError, match="x0"):
        A.solve(b, method="cg", x0=b.mT)
