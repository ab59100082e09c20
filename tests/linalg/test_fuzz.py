"""Random input, mean input: a right answer or a clear error, never a quiet wrong one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from torch_sla.errors import ArgumentError, DTypeError, SolveError, TorchSlaError
from torch_sla.linalg import SparseTensor

DTYPES = [
    torch.float64,
    torch.float32,
    torch.complex128,
    torch.complex64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.bool,
]
SOLVED = DTYPES[:4]
WAYS = (
    [("auto", "auto"), ("scipy", "superlu"), ("auto", "lu"), ("auto", "ldlt"), ("auto", "cholesky")]
    + [("pytorch", name) for name in ("cg", "bicgstab", "gmres", "minres", "lsmr", "lsqr")]
    + [("scipy", name) for name in ("cg", "gmres", "minres")]
)
ENTRY = st.sampled_from(
    [0.0, 1.0, -1.0, 2.0, 4.0, 1e-9, 1e9, 1e-300, 1e300, 0.1, float("nan"), float("inf")]
)
USUAL = st.sampled_from([1.0, -1.0, 2.0, 4.0, 0.1, 3.0])


@st.composite
def systems(
    draw: st.DrawFn,
) -> tuple[list[float], list[int], list[int], int, int, list[float], bool]:
    M = draw(st.integers(0, 6))
    N = M if draw(st.booleans()) else draw(st.integers(0, 6))
    count = draw(st.integers(0, 14)) if M and N else 0
    entry = ENTRY if draw(st.integers(0, 4)) == 0 else USUAL
    row = draw(st.lists(st.integers(0, max(M - 1, 0)), min_size=count, max_size=count))
    col = draw(st.lists(st.integers(0, max(N - 1, 0)), min_size=count, max_size=count))
    values = draw(st.lists(entry, min_size=count, max_size=count))
    if draw(st.booleans()):  # a diagonal makes most of them solvable
        extra = min(M, N)
        row, col = row + list(range(extra)), col + list(range(extra))
        values = values + draw(st.lists(USUAL, min_size=extra, max_size=extra))
    if draw(st.booleans()) and M == N:  # symmetric
        row, col, values = row + col, col + row, values + values
    load = draw(st.lists(entry, min_size=M, max_size=M))
    return values, row, col, M, N, load, draw(st.booleans())


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(systems(), st.sampled_from(DTYPES), st.sampled_from(WAYS), st.booleans())
def test_right_or_refused(
    system: tuple[list[float], list[int], list[int], int, int, list[float], bool],
    dtype: torch.dtype,
    way: tuple[str, str],
    columns: bool,
) -> None:
    values, row, col, M, N, load, batched = system
    if not (dtype.is_floating_point or dtype.is_complex):
        values = [v if abs(v) < 1e10 else 1.0 for v in values]
    v = torch.tensor(values, dtype=torch.float64).to(dtype)
    b = torch.tensor(load, dtype=torch.float64)
    b = b.to(dtype if dtype.is_floating_point or dtype.is_complex else torch.float64)
    if batched:
        v, b = torch.stack([v, 2 * v]), torch.stack([b, 3 * b])
    if columns:
        b = torch.stack([b, b.flip(-1)], dim=-1)
    shape = (2, M, N) if batched else (M, N)
    try:
        A = SparseTensor(
            v, torch.tensor(row, dtype=torch.long), torch.tensor(col, dtype=torch.long), shape
        )
        x, info = A.solve(b, backend=way[0], method=way[1], info=True)
    except TorchSlaError as error:
        if not str(error) or (isinstance(error, DTypeError) and dtype in SOLVED):
            raise
        return
    assert dtype in SOLVED
    assert x.shape == (*((2,) if batched else ()), N, *((2,) if columns else ()))
    assert x.isfinite().all()
    if not M or not N:
        return
    wide = torch.complex128 if dtype.is_complex else torch.float64
    D, X, B = A.to_dense().to(wide), x.to(wide), b.to(wide)
    if not columns:
        X, B = X.unsqueeze(-1), B.unsqueeze(-1)
    r = B - D @ X
    if M != N:
        # The normal equations, up to the rounding of the residual itself.
        slope = (D.mH @ r).norm(dim=-2)
        size = torch.linalg.matrix_norm(D).unsqueeze(-1)
        rounding = torch.finfo(dtype).eps * (size * X.norm(dim=-2) + B.norm(dim=-2))
        rtol = 1e-9 if torch.finfo(dtype).bits == 64 else 1e-4
        assert bool(
            (
                slope
                <= size * (rtol * r.norm(dim=-2) + 100 * rounding) + rtol * size * B.norm(dim=-2)
            ).all()
        )
        return
    rtol = 1e-10 if torch.finfo(dtype).bits == 64 else 1e-5
    small = B.abs().amax().clamp(min=1e-300)
    left = (r / small).norm(dim=-2)
    norm = D.abs().sum(-1).amax(-1, keepdim=True)
    tiny = 4 * M * torch.finfo(dtype).tiny  # what is smaller may vanish
    floor = 100 * torch.finfo(dtype).eps * (norm * (X / small).abs().amax(-2) + 1)
    floor += norm / small * tiny
    assert bool((left <= torch.maximum(1.01 * rtol * (B / small).norm(dim=-2), floor)).all()), info


@pytest.mark.parametrize("M", [0, 1])
def test_the_smallest_matrices(M: int) -> None:
    i = torch.arange(M)
    A = SparseTensor(torch.full((M,), 4.0).double(), i, i, (M, M))
    for method in ("auto", "lu", "superlu", "cholesky", "gmres", "lsmr"):
        assert A.solve(torch.ones(M, dtype=torch.float64), method=method).tolist() == [0.25] * M
        assert A.solve(torch.ones(M, 0, dtype=torch.float64), method=method).shape == (M, 0)


def test_an_empty_row_is_singular() -> None:
    A = SparseTensor(torch.ones(2).double(), torch.tensor([0, 0]), torch.tensor([0, 1]), (2, 2))
    with pytest.raises(SolveError):
        A.solve(torch.ones(2, dtype=torch.float64))
    with pytest.raises(ArgumentError, match="`b` must be"):
        A.solve(torch.ones(3, dtype=torch.float64))


def _nearly_singular(draw: st.DrawFn, n: int) -> torch.Tensor:
    """Rank deficient up to a perturbation of any size, rounding included."""
    g = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    D = torch.randn(n, n, generator=g, dtype=torch.float64)
    D[-1] = D[: max(n - 1, 1)].sum(0) if n > 1 else 0.0
    D[-1, 0] += 10.0 ** -draw(st.integers(2, 18))
    return D


@st.composite
def matrices(draw: st.DrawFn) -> SparseTensor:
    values, row, col, M, N, _, batched = draw(systems())
    if draw(st.booleans()) and M == N and M:
        D = _nearly_singular(draw, M)
        D = D + D.T if draw(st.booleans()) else D
        return SparseTensor.from_dense(torch.stack([D, -D]) if batched else D)
    v = torch.tensor(values, dtype=torch.float64)
    v = torch.stack([v, 0.5 * v]) if batched else v
    shape = (2, M, N) if batched else (M, N)
    index = (torch.tensor(i, dtype=torch.long) for i in (row, col))
    return SparseTensor(v, *index, shape)


def _against(found: torch.Tensor, exact: torch.Tensor, scale: torch.Tensor, rtol: float) -> bool:
    """Equal to `rtol` of `scale`, where the oracle is finite and in range."""
    usable = exact.isfinite() & scale.isfinite() & (scale < 1e150)
    error = (found - exact).abs() / scale.clamp(min=1e-150)
    return bool((error[usable.expand_as(error)] <= rtol).all())


@settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(
    matrices(),
    st.sampled_from(["product", "transposed", "sum", "gram", "fro", "one", "det", "slogdet", "lu"]),
)
def test_algebra_is_right_or_refused(A: SparseTensor, name: str) -> None:
    D = A.to_dense()
    size = D.abs()
    try:
        if name == "product":
            x = torch.ones(D.shape[-1], dtype=D.dtype)
            assert _against(A @ x, D @ x, size.sum(-1), 1e-14)
        elif name == "transposed":
            assert torch.equal(A.T().to_dense().nan_to_num(), D.mT.nan_to_num())
        elif name == "sum":
            assert _against((A + A).to_dense(), D + D, size, 1e-15)
        elif name == "gram":
            assert _against((A @ A.T()).to_dense(), D @ D.mT, size @ size.mT, 1e-14)
        elif name == "fro":
            exact = torch.linalg.vector_norm(D, dim=(-2, -1))
            assert _against(A.norm(), exact, exact, 1e-13)
        elif name == "one":
            exact = torch.linalg.matrix_norm(D, 1) if D.numel() else D.sum((-2, -1))
            assert _against(A.norm(1), exact, exact, 1e-14)
        elif name in ("det", "slogdet"):
            # Hadamard's bound is the scale of rounding in a determinant.
            bound = torch.linalg.vector_norm(D, dim=-1).prod(-1)
            sign, log = A.slogdet()
            found = A.det() if name == "det" else sign * log.exp()
            assert _against(found, torch.linalg.det(D), bound, 1e-11)
        else:
            b = torch.ones(D.shape[-1], dtype=D.dtype)
            x = A.lu().solve(b)
            r = (D @ x.unsqueeze(-1)).squeeze(-1) - b
            limit = 1e-12 * (size @ x.abs().unsqueeze(-1)).squeeze(-1) + 1e-9
            assert bool((r.abs() <= limit.amax(-1, keepdim=True)).all())
    except TorchSlaError as error:
        if not str(error):
            raise


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(matrices(), st.integers(1, 3))
def test_spectra_are_right_or_refused(A: SparseTensor, k: int) -> None:
    D = A.to_dense()
    try:
        w = (A + A.T()).eigsh(k, "SA", return_eigenvectors=False)
        exact = torch.linalg.eigvalsh(D + D.mT)
        scale = exact.abs().amax(-1, keepdim=True).clamp(min=1e-150)
        assert _against(w, exact[..., :k], scale.expand_as(w), 1e-12)
        s = A.svd(k)[1]
        exact = torch.linalg.svdvals(D)
        assert _against(s, exact[..., :k], exact[..., :1].expand_as(s), 1e-12)
    except TorchSlaError as error:
        if not str(error):
            raise
