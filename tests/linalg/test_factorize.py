"""Factorisations: solving, transposing, updating, and what the factor knows; derivatives of all."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from torch_sla.errors import ArgumentError, DTypeError, PlanError, Result, SolveError
from torch_sla.linalg import SparseTensor, cache_counters
from torch_sla.linalg.backends.registry import backends

N = 7
I = torch.arange(N)
ROW = torch.cat([I, I[1:], I[:-1], torch.tensor([0, 5])])
COL = torch.cat([I, I[:-1], I[1:], torch.tensor([5, 0])])


def values_of(kind: str, dtype: torch.dtype, *batch: int) -> torch.Tensor:
    """Values on the pattern above: general, Hermitian, or Hermitian positive definite."""
    g = torch.Generator().manual_seed(17)
    off = torch.randn(*batch, N, dtype=dtype, generator=g)
    other = torch.randn(*batch, N, dtype=dtype, generator=g) if kind == "lu" else off.conj()
    shift = {"lu": 4.0, "cholesky": 5.0, "ldlt": 0.0}[kind]
    d = torch.randn(*batch, N, dtype=dtype, generator=g).real + shift
    if kind == "ldlt":
        d = d + 3 * d.sign()
    both = torch.cat([off[..., :-1], other[..., :-1], off[..., -1:], other[..., -1:]], -1)
    return torch.cat([d.to(dtype), both.resolve_conj()], -1)


def make(values: torch.Tensor) -> SparseTensor:
    return SparseTensor(values, ROW, COL, (*values.shape[:-1], N, N))


OFFERED = [
    (b.name, kind)
    for b in backends()
    if b.unavailable() is None
    for kind in ("lu", "cholesky", "ldlt")
    if b.capabilities.method(kind) is not None and "cpu" in b.capabilities.devices
]


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize(("backend", "kind"), OFFERED)
def test_every_factorisation(
    backend: str, kind: str, dtype: torch.dtype, batch: tuple[int, ...]
) -> None:
    values = values_of(kind, dtype, *batch)
    A = make(values)
    D = A.to_dense()
    F = getattr(A, kind)(backend=backend)
    assert F.backend == backend
    b = torch.randn(*batch, N, 3, dtype=dtype)
    torch.testing.assert_close(D @ F.solve(b), b)
    torch.testing.assert_close(D.mT @ F.solve_transposed(b), b)
    sign, log = F.slogdet()
    expected = torch.linalg.slogdet(D)
    torch.testing.assert_close(log, expected.logabsdet)
    torch.testing.assert_close(sign, expected.sign)
    torch.testing.assert_close(F.det(), torch.linalg.det(D))
    S = F.selected_inverse()
    where = S.to_dense() != 0
    torch.testing.assert_close(S.to_dense(), torch.linalg.inv(D) * where)
    if kind != "lu" and not batch:
        w = torch.linalg.eigvalsh(D)
        assert F.inertia() == (int((w > 0).sum()), int((w < 0).sum()), 0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("kind", ["lu", "cholesky"])
def test_derivatives_go_through_the_factor(kind: str, dtype: torch.dtype) -> None:
    base = values_of(kind, dtype)
    change = values_of(kind, dtype).mul(0.1)
    t = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    b = torch.randn(N, dtype=dtype, requires_grad=True)

    def run(s: torch.Tensor, rhs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        F = getattr(make(base + s * change), kind)()
        inverse = F.selected_inverse().values[:3]
        return F.solve(rhs)[:2], F.solve_transposed(rhs)[:2], F.logdet(), inverse

    assert gradcheck(run, (t, b))
    assert gradgradcheck(lambda s, rhs: run(s, rhs)[:3], (t, b))


def test_update_keeps_the_analysis_and_the_old_factor() -> None:
    values = values_of("cholesky", torch.float64)
    A = make(values)
    F = A.cholesky(backend="eigen")
    b = torch.randn(N, dtype=torch.float64)
    before = cache_counters()
    x = F.solve(b)
    G = F.update(2.5 * values)
    after = cache_counters()
    assert after["analyze"] == before["analyze"]
    assert after["factorize"] == before["factorize"] + 1
    torch.testing.assert_close(G.solve(b), x / 2.5)
    torch.testing.assert_close(F.solve(b), x)
    torch.testing.assert_close(F.update(2.5 * A).solve(b), x / 2.5)
    with pytest.raises(ArgumentError, match="pattern"):
        F.update(SparseTensor.eye(N, dtype=torch.float64))


def test_a_hundred_solves_one_factor() -> None:
    F = make(values_of("lu", torch.float64)).lu()
    before = cache_counters()["factorize"]
    b = torch.randn(N, dtype=torch.float64, requires_grad=True)
    for _ in range(5):
        F.solve(b).sum().backward()
    assert cache_counters()["factorize"] == before


def test_solutions_of_complex_and_low_precision_right_hand_sides() -> None:
    A = make(values_of("lu", torch.float64))
    b = torch.randn(N, dtype=torch.complex128)
    torch.testing.assert_close(A.to_dense().to(b.dtype) @ A.lu().solve(b), b)
    assert A.lu().solve(b.real.float()).dtype == torch.float64
    with pytest.raises(DTypeError, match="factorise"):
        A.float().lu().solve(b.real)


def test_the_automatic_choice_falls_through() -> None:
    assert make(values_of("cholesky", torch.float64)).factorize().method == "cholesky"
    assert make(values_of("ldlt", torch.float64)).factorize().method in ("ldlt", "lu")
    assert make(values_of("lu", torch.float64)).factorize().method == "lu"


def test_refusals() -> None:
    with pytest.raises(PlanError, match="Hermitian"):
        make(values_of("lu", torch.float64)).cholesky()
    with pytest.raises(SolveError):
        make(values_of("ldlt", torch.float64)).cholesky()
    with pytest.raises(ArgumentError, match="square"):
        SparseTensor.eye(2, 3).lu()
    with pytest.raises(ArgumentError, match="ldlt"):
        make(values_of("lu", torch.float64)).lu().inertia()
    bad = values_of("lu", torch.float64)
    bad[0] = float("nan")
    with pytest.raises(SolveError, match="NaN"):
        make(bad).lu()


def test_positive_definiteness_is_decided_by_factorising() -> None:
    # Not diagonally dominant, hence not decided by detection.
    g = torch.Generator().manual_seed(2)
    G = torch.randn(5, 5, dtype=torch.float64, generator=g)
    A = SparseTensor.from_dense(G @ G.T + 0.1 * torch.eye(5).double())
    assert A.structure.positive_definite is None
    assert A.is_positive_definite()
    least = float(torch.linalg.eigvalsh(A.to_dense())[0])
    shifted = A - (least + 1e-6) * SparseTensor.eye(5, dtype=torch.float64)
    assert not shifted.is_positive_definite()
    assert not make(values_of("lu", torch.float64)).is_positive_definite()


@pytest.mark.parametrize("kind", ["lu", "cholesky", "ldlt"])
def test_changes_in_place_do_not_reach_a_factor(kind: str) -> None:
    values = values_of(kind, torch.float64)
    A = make(values.requires_grad_())
    D, b = A.to_dense().detach().clone(), torch.ones(N, dtype=torch.float64)
    F = getattr(A, kind)()
    x = F.solve(b)
    wanted = torch.autograd.grad(F.solve(b).sum(), values)[0].clone()
    values.data.mul_(2.0)
    torch.testing.assert_close(F.solve(b), torch.linalg.solve(D, b))
    torch.testing.assert_close(F.slogdet()[1], torch.linalg.slogdet(D)[1])
    torch.testing.assert_close(torch.autograd.grad(x.sum(), values)[0], wanted)
    torch.testing.assert_close(A.solve(b), torch.linalg.solve(2.0 * D, b))


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("way", OFFERED, ids="-".join)
def test_a_factor_that_rounding_made_of_a_singular_matrix_solves_nothing(
    way: tuple[str, str], batch: tuple[int, ...]
) -> None:
    free = torch.full((7,), 0.3, dtype=torch.float64)
    sides = torch.zeros(7, dtype=torch.float64).index_fill(0, torch.tensor([0, 6]), -0.3 / 2)
    A = SparseTensor.tridiagonal(-free[1:] / 2, free + sides, -free[1:] / 2)
    square = torch.kron(A.to_dense(), torch.eye(7)) + torch.kron(torch.eye(7), A.to_dense())
    lifts = torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64)[:, None, None] * torch.eye(49)
    A = SparseTensor.from_dense(square + lifts if batch else square)
    b = torch.randn(49, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    for verb in ("solve", "solve_transposed"):
        with pytest.raises(
            SolveError
        ) as caught:  # by the factorisation already, where it is noticed there
            getattr(getattr(A, way[1])(backend=way[0]), verb)(b)
        assert caught.value.result in (Result.SINGULAR, Result.NOT_POSITIVE_DEFINITE)


def test_a_factor_of_wild_scales_solves_like_the_matrix() -> None:
    g = torch.Generator().manual_seed(5)
    for _ in range(20):
        size = 10.0 ** (40 * torch.rand(3, dtype=torch.float64, generator=g) - 20)
        core = torch.randn(3, 3, dtype=torch.float64, generator=g)
        core = core + core.T
        if torch.linalg.cond(core) > 100:
            continue
        A = SparseTensor.from_dense(size[:, None] * core * size)
        x = 1 / size
        found = A.factorize().solve(size * core.sum(1))
        torch.testing.assert_close(found * size, x * size, rtol=1e-9, atol=1e-9)
    # Not uneven enough to be equilibrated at once, and singular to working precision without.
    size = torch.tensor([0.000246, 0.6606, 0.01145])
    core = torch.tensor([[2.19, -2.02, -0.37], [-2.02, 3.36, -1.35], [-0.37, -1.35, 5.6]])
    A = SparseTensor.from_dense(size[:, None] * core * size)
    found = A.cholesky().solve(size * core.sum(1))
    torch.testing.assert_close(found * size, torch.ones(3), rtol=1e-4, atol=0)
    tiny = SparseTensor.diag(torch.tensor([1e-30, 1.0], dtype=torch.float64))
    assert tiny.lu().solve(torch.tensor([1e-30, 2.0], dtype=torch.float64)).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_one_triangle_is_not_read_of_a_matrix_that_is_wrongly_declared(
    dtype: torch.dtype, batch: tuple[int, ...]
) -> None:
    g = torch.Generator().manual_seed(6)
    dense = 0.3 * torch.randn(*batch, 9, 9, dtype=dtype, generator=g) + 5 * torch.eye(9)
    sign, log = torch.linalg.slogdet(dense)
    for said in ("positive_definite", "hermitian", "symmetric"):
        A = SparseTensor.from_dense(dense).declare(**{said: True})
        for found in (A.slogdet(), A.factorize().slogdet()):
            torch.testing.assert_close(found, (sign, log))
        torch.testing.assert_close(A.det(), torch.linalg.det(dense))
        with pytest.raises(SolveError, match="mirror images by") as caught:
            A.ldlt()
        assert caught.value.result is Result.BREAKDOWN
    # Declared of what is so but for rounding, it helps.
    near = dense @ dense.mH
    near = near * (1 + 1e-13 * torch.randn(near.shape, dtype=torch.float64, generator=g))
    A = SparseTensor.from_dense(near)
    assert not A.is_hermitian()
    found = A.declare(positive_definite=True).cholesky().logdet().real
    torch.testing.assert_close(found, 2 * log)
    other = SparseTensor.from_dense(near).declare(positive_definite=True).cholesky()
    with pytest.raises(SolveError, match="mirror images by"):
        other.update(dense.flatten(-2))


def test_what_is_no_tensor_is_named() -> None:
    A = SparseTensor.diag(torch.tensor([2.0, 4.0]))
    F = A.factorize()
    for b in ([1.0, 2.0], torch.ones(2).numpy()):
        for solve in (F.solve, F.solve_transposed, A.solve):
            with pytest.raises(
                ArgumentError, match=f"`b` must be a tensor, got {type(b).__name__}"
            ):
                solve(b)
    with pytest.raises(ArgumentError, match="`values` must be a tensor or a matrix"):
        F.update([1.0, 2.0])


def test_half_precision_is_refused_with_what_to_convert_to() -> None:
    A = SparseTensor.diag(torch.tensor([2.0, 4.0], dtype=torch.bfloat16))
    for ask in (A.factorize, A.det, lambda: A.solve(torch.ones(2).bfloat16()), lambda: A.svd(k=1)):
        with pytest.raises(DTypeError, match="float32 or float64"):
            ask()
    i = torch.arange(2)
    with pytest.warns(UserWarning, match="ComplexHalf"):
        values = torch.ones(2, dtype=torch.complex64).to(torch.complex32)
    with pytest.raises(DTypeError, match=r"values\.to\(torch\.complex64\)"):
        SparseTensor(values, i, i, (2, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
@pytest.mark.parametrize("count", [0, 1, 259])
def test_fewer_entries_than_rows_are_no_factors(count: int, dtype: torch.dtype) -> None:
    """Once, single precision went on without end."""
    n, i = 260, torch.arange(count)
    A = SparseTensor(torch.ones(count, dtype=dtype), i, i, (n, n))
    with pytest.raises(SolveError) as caught:
        A.lu()
    assert caught.value.result is Result.SINGULAR
    assert float(A.det().real) == 0
    assert float(A.real().eigsh(k=1, which="SM")[0].abs()) < 1e-6
