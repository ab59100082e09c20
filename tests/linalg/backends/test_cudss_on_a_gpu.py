"""What only a device can show of the cuDSS backend; the contract is walked in `tests/contracts`."""

from __future__ import annotations

import gc
import warnings

import pytest
import torch

from tests.helpers.zoo import case
from torch_sla.errors import Result, SolveError
from torch_sla.linalg import SparseTensor, cache_counters, clear_factor_cache
from torch_sla.linalg.backends import cudss_driver as driver, cudss_library as library
from torch_sla.linalg.backends.base import SolveOptions
from torch_sla.linalg.backends.cudss import CuDSS
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.structure import Structure

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(library.unavailable() is not None, reason=f"{library.unavailable()}"),
]
OPTIONS = SolveOptions()
DEFINITE = Structure(symmetric=True, hermitian=True, positive_definite=True)
REQUEST = {"backend": "cudss", "method": "cholesky"}


def grid(n: int) -> SparseTensor:
    i = torch.arange(n * n, device="cuda")
    x, y = i % n, i // n
    inside = torch.stack([y > 0, x > 0, x >= 0, x < n - 1, y < n - 1], 1)
    col = (i[:, None] + torch.tensor([-n, -1, 0, 1, n], device="cuda"))[inside]
    row = i[:, None].expand(-1, 5)[inside]
    stencil = torch.tensor([-1.0, -1, 4, -1, -1], dtype=torch.float64, device="cuda")
    return SparseTensor(stencil.expand(n * n, 5)[inside], row, col, (n * n, n * n))


def ones(n: int) -> torch.Tensor:
    return torch.ones(n, dtype=torch.float64, device="cuda")


def test_new_values_need_no_analysis() -> None:
    A = grid(60)
    for k in range(6):
        SparseTensor.from_pattern(A.pattern, (1.0 + k) * A.values).solve(ones(3600), **REQUEST)
    before = cache_counters()
    x = SparseTensor.from_pattern(A.pattern, 9.0 * A.values).solve(ones(3600), **REQUEST)
    after = cache_counters()
    assert after["analyze"] == before["analyze"]
    assert after["factorize"] == before["factorize"] + 1
    assert float((9.0 * (A @ x) - 1).abs().max()) < 1e-10


def test_each_solve_of_a_graph_keeps_its_own_factor() -> None:
    A = grid(30)
    a = A.values.detach().clone().requires_grad_()
    loss = ones(1).sum() * 0
    for k in range(5):
        x = SparseTensor.from_pattern(A.pattern, (1.0 + k) * a).solve(ones(900), **REQUEST)
        loss = loss + (x**2).sum()
    before = cache_counters()["factorize"]
    loss.backward()
    assert cache_counters()["factorize"] == before
    x = A.solve(ones(900), **REQUEST)
    # x_k = x / k, so that the loss is Σ 1/k² |x|², and its derivative along the values is -2 of it.
    total = sum(1 / (1.0 + k) ** 2 for k in range(5)) * float((x**2).sum())
    assert float(a.grad @ A.values) == pytest.approx(-2 * total, rel=1e-9)


def test_memory_is_torchs_and_comes_back() -> None:
    clear_factor_cache()
    gc.collect()
    A = grid(200)
    A.solve(ones(40_000), **REQUEST)
    clear_factor_cache()
    gc.collect()
    torch.cuda.synchronize()
    empty = torch.cuda.memory_allocated()
    x = SparseTensor.from_pattern(A.pattern, 2 * A.values).solve(ones(40_000), **REQUEST)
    assert torch.cuda.memory_allocated() > empty + 4_000_000
    del x
    clear_factor_cache()
    gc.collect()
    assert torch.cuda.memory_allocated() <= empty + 1_000_000


@pytest.mark.parametrize("method", ["cholesky", "ldlt", "lu"])
def test_factors_partly_on_the_host(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setattr(driver.Solver, "fits", lambda self: self.hybrid)
    A, backend = grid(100), CuDSS()
    pattern, values = A.flat_slots()
    numeric = backend.factorize(backend.analyze(pattern, method, DEFINITE), values, OPTIONS)
    assert numeric.notes == ("factors kept partly in host memory",)
    b = ones(10_000).unsqueeze(1)
    x = backend.solve(numeric, values, b, options=OPTIONS).x
    assert float((A @ x - b).abs().max()) < 1e-10


@pytest.mark.parametrize("count", [3, 40])
@pytest.mark.parametrize("method", ["cholesky", "lu"])
def test_batches_with_several_right_hand_sides(method: str, count: int) -> None:
    A, backend = grid(12), CuDSS()
    pattern, values = A.flat_slots()
    many = values * torch.linspace(1, 3, count, dtype=torch.float64, device="cuda")[:, None]
    numerics = backend.factorize_batch(backend.analyze(pattern, method, DEFINITE), many, OPTIONS)
    b = torch.randn(count, 144, 6, dtype=torch.float64, device="cuda")
    for mode in ("n", "h"):
        x = backend.solve_batch(numerics, many, b, mode, options=OPTIONS)
        residual = (
            torch.einsum("nm,bmk->bnk", A.to_dense(), x) * (many[:, 0] / values[0])[:, None, None]
        )
        assert float((residual - b).abs().max()) < 1e-10


def test_another_stream() -> None:
    A = grid(80)
    b = torch.randn(6400, dtype=torch.float64, device="cuda")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        x = A.solve(b, **REQUEST)
    y = A.solve(2 * b, **REQUEST)  # the factor of the side stream
    torch.cuda.current_stream().wait_stream(side)
    assert torch.allclose(2 * x, y)


def test_failures_have_results() -> None:
    A = grid(20)
    values = torch.where(A.row_indices == A.col_indices, A.values - 4.5, A.values)
    indefinite = SparseTensor.from_pattern(A.pattern, values)
    with pytest.raises(SolveError) as caught:
        indefinite.solve(ones(400), **REQUEST)
    assert caught.value.result is Result.NOT_POSITIVE_DEFINITE
    singular = case("neumann").sparse(torch.float64).to("cuda")
    for method in ("ldlt", "lu"):
        b = torch.linspace(0, 1, 10, dtype=torch.float64, device="cuda")
        with pytest.raises(SolveError) as caught:
            singular.solve(b, backend="cudss", method=method)
        assert caught.value.result in (Result.SINGULAR, Result.RESIDUAL), method


def test_waits_of_a_solve() -> None:
    A = grid(50)
    A.solve(ones(2500), **REQUEST)
    A.solve(ones(2500), **REQUEST)
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            A.solve(2 * ones(2500), **REQUEST)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    places = [f"{w.filename}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)]
    assert len(places) <= 12, places


def test_the_pattern_may_be_unsymmetric() -> None:
    g = torch.Generator().manual_seed(4)
    dense = torch.randn(50, 50, dtype=torch.float64, generator=g)
    dense *= torch.rand(50, 50, generator=g) < 0.1
    dense += 5 * torch.eye(50)
    csr = dense.to("cuda").to_sparse_csr()
    pattern = Pattern.from_csr(csr.crow_indices(), csr.col_indices(), (50, 50))
    A = SparseTensor.from_pattern(pattern, csr.values())
    b = torch.randn(50, 3, dtype=torch.float64, generator=g).to("cuda")
    x = A.solve(b, backend="cudss", method="lu")
    assert torch.allclose(dense.to("cuda") @ x, b)
