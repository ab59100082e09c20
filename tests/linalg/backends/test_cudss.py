"""The cuDSS backend against a recording stand-in for its bindings, on host memory."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from tests.helpers import fake_cudss
from tests.helpers.fake_cudss import FakeCuDSS
from tests.helpers.zoo import CASES, Case, case
from torch_sla.errors import Result, SolveError
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.backends import (
    cudss,
    cudss_driver as driver,
    cudss_handle,
    cudss_library,
    registry,
)
from torch_sla.linalg.backends.base import ALL_DTYPES, SolveOptions
from torch_sla.linalg.backends.cudss import CuDSS
from torch_sla.linalg.factor_cache import clear_factor_cache

if TYPE_CHECKING:
    from collections.abc import Iterator

SQUARE = [c for c in CASES if c.square and not c.hard and c.nullspace is None]
OPTIONS = SolveOptions()


class OnHost(CuDSS):
    """The backend with the one change that it takes tensors of the host."""

    capabilities = replace(CuDSS.capabilities, devices=frozenset({"cpu"}))

    def unavailable(self) -> str | None:
        return None


@pytest.fixture
def lib(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuDSS]:
    fake = FakeCuDSS()
    monkeypatch.setattr(cudss_library, "bindings", lambda: fake)
    monkeypatch.setattr(cudss_library, "threading_layer", lambda: None)
    monkeypatch.setattr(cudss_handle, "_handles", {})
    clear_factor_cache()
    yield fake
    clear_factor_cache()
    gc.collect()


@pytest.fixture
def chosen(lib: FakeCuDSS, monkeypatch: pytest.MonkeyPatch) -> FakeCuDSS:
    """Make ``backend="cudss"`` of the public face the one on the host."""
    from torch_sla.linalg import attempts, state
    from torch_sla.linalg.plan import plan, rules
    from torch_sla.linalg.plan.stages import forget_plans

    host, real = OnHost(), registry.backend
    every = tuple(host if b.name == "cudss" else b for b in registry.backends())
    for module in (attempts, state, plan, rules):
        monkeypatch.setattr(
            module, "get_backend", lambda name: host if name == "cudss" else real(name)
        )
    for module in (plan, rules):
        monkeypatch.setattr(module, "backends", lambda: every)
    forget_plans()
    yield lib
    forget_plans()


def phases(lib: FakeCuDSS) -> list[str]:
    names = {p.name for p in fake_cudss.Phase}
    return [call for call in lib.calls if call in names]


def arranged(c: Case, dtype: torch.dtype, method: str):
    pattern, values = c.sparse(dtype).flat_slots()
    values = values.reshape(-1, values.shape[-1])[0].clone()
    structure = replace(
        c.sparse(dtype).structure, hermitian=c.hermitian, positive_definite=c.definite
    )
    backend = OnHost()
    return backend, backend.analyze(pattern, method, structure), values


def poisson(method: str = "cholesky", dtype: torch.dtype = torch.float64):
    return arranged(case("poisson"), dtype, method)


@pytest.mark.parametrize("dtype", sorted(ALL_DTYPES, key=str), ids=str)
@pytest.mark.parametrize("method", ["cholesky", "ldlt", "lu"])
@pytest.mark.parametrize("c", SQUARE, ids=lambda c: c.name)
def test_modes(lib: FakeCuDSS, c: Case, method: str, dtype: torch.dtype) -> None:
    if (method == "cholesky" and not c.definite) or (method == "ldlt" and not c.hermitian):
        return  # refused by the plan
    if dtype not in c.dtypes:
        return  # no such matrix
    backend, symbolic, values = arranged(c, dtype, method)
    numeric = backend.factorize(symbolic, values, OPTIONS)
    assert not numeric.perturbed
    D = c.dense(dtype).reshape(-1, *c.shape)[0]
    for mode, op in (("n", D), ("t", D.mT), ("h", D.mH)):
        b = torch.randn(op.shape[0], 3, dtype=dtype)
        x = backend.solve(numeric, values, b, mode, options=OPTIONS).x
        expected = torch.linalg.solve(op, b)
        assert float((x - expected).norm()) <= 1e4 * torch.finfo(dtype).eps * float(expected.norm())


@pytest.mark.parametrize("method", ["cholesky", "ldlt", "lu"])
def test_subnormal_matrices(lib: FakeCuDSS, method: str) -> None:
    backend, symbolic, values = poisson(method, torch.float32)
    tiny = values * 2.0**-140  # whose inverse is beyond the range
    numeric = backend.factorize(symbolic, tiny, OPTIONS)
    b = torch.full((12, 1), 2.0**-40)
    x = backend.solve(numeric, tiny, b, options=OPTIONS).x
    D = case("poisson").dense(torch.float64)
    left = D @ (x.double() * 2.0**-100) - 1
    assert float(left.abs().max()) < 1e-4


def test_one_analysis_and_then_refactorisations(lib: FakeCuDSS) -> None:
    backend, symbolic, values = poisson()
    for k in range(3):
        numeric = backend.factorize(symbolic, (k + 1.0) * values, OPTIONS)
        b = torch.ones(12, 1, dtype=torch.float64)
        backend.solve(numeric, values, b, options=OPTIONS)
        del numeric
    expected = ["ANALYSIS", "FACTORIZATION", "SOLVE"]
    assert phases(lib) == expected + 2 * ["REFACTORIZATION", "SOLVE"]
    assert lib.calls.count("create") == 1


def test_factors_in_use_are_never_touched(lib: FakeCuDSS) -> None:
    backend, symbolic, values = poisson()
    one = backend.factorize(symbolic, values, OPTIONS)
    two = backend.refactorize(one, 2 * values, OPTIONS)
    b = torch.ones(12, 1, dtype=torch.float64)
    D = case("poisson").dense(torch.float64)
    for numeric, factor in ((one, 1), (two, 2), (one, 1)):
        x = backend.solve(numeric, values, b, options=OPTIONS).x
        assert torch.allclose(factor * (D @ x), b)
    assert "REFACTORIZATION" not in lib.calls
    assert phases(lib)[:4] == 2 * ["ANALYSIS", "FACTORIZATION"]


def test_an_order_and_its_tree_are_found_once(
    lib: FakeCuDSS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cudss, "_WORTH_KEEPING", 1)
    backend, symbolic, values = poisson("lu")
    kept = [backend.factorize(symbolic, (1.0 + k) * values, OPTIONS) for k in range(3)]
    given = [call for call in lib.calls if call.startswith("data_set")]
    assert given == 2 * ["data_set USER_PERM", "data_set USER_ND_PARTITION_TREE"]
    backend.solve(kept[0], values, torch.ones(12, 1, dtype=torch.float64), "h", options=OPTIONS)
    given = [call for call in lib.calls if call.startswith("data_set")]
    assert len(given) == 6  # the transposed matrix too


def test_an_ordering_has_threads_for_the_work_it_is(
    lib: FakeCuDSS, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A product with these entries is too short for two threads; their ordering is not.
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    given: list[int | None] = []
    real = driver.Solver

    def watched(*args: object, **options: object) -> object:
        given.append(options["threads"])
        return real(*args, **options)

    monkeypatch.setattr(driver, "Solver", watched)
    n = 2000
    side, middle = (x * torch.ones(m).double() for x, m in ((-1, n - 1), (3, n)))
    tridiagonal = SparseTensor.tridiagonal(side, middle, side)
    pattern, values = tridiagonal.flat_slots()
    backend = OnHost()
    symbolic = backend.analyze(pattern, "cholesky", tridiagonal.structure)
    backend.factorize(symbolic, values, OPTIONS)
    assert given == [16]


def test_an_ordering_that_was_given_is_used(lib: FakeCuDSS) -> None:
    backend, symbolic, values = poisson()
    for given in (torch.arange(12, dtype=torch.int32), torch.arange(11, -1, -1, dtype=torch.int32)):
        structure = replace(symbolic.structure, ordering=given)
        other = backend.analyze(symbolic.pattern, "cholesky", structure)
        solver = backend.factorize(other, values, OPTIONS).payload.direct.solver
        # The last row stays last whatever is made of the branches before it.
        assert int(solver.ordering()[0][-1]) == int(given[-1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_determinants_of_hermitian_matrices(lib: FakeCuDSS, dtype: torch.dtype) -> None:
    for method, factor in (("cholesky", 3.0), ("ldlt", -3.0)):
        backend, symbolic, values = arranged(case("blocks"), dtype, method)
        sign, log = backend.slogdet(backend.factorize(symbolic, factor * values, OPTIONS))
        exact = torch.linalg.slogdet(factor * case("blocks").dense(dtype))
        assert float(sign) == float(exact.sign.real)
        assert float(log) == pytest.approx(float(exact.logabsdet), rel=1e-12)
    odd = values.new_tensor([-2.0])
    i = torch.zeros(1, dtype=torch.int64)
    one = SparseTensor(odd, i, i, (1, 1))
    symbolic = backend.analyze(one.pattern, "ldlt", replace(one.structure, hermitian=True))
    assert float(backend.slogdet(backend.factorize(symbolic, odd, OPTIONS))[0]) == -1.0
    backend, symbolic, values = poisson("lu")
    assert backend.slogdet(backend.factorize(symbolic, values, OPTIONS)) is None


def test_an_adjoint_of_lu_is_factorised_once_and_others_never(lib: FakeCuDSS) -> None:
    for method, extra in (("lu", 1), ("ldlt", 0), ("cholesky", 0)):
        backend, symbolic, values = poisson(method, torch.complex128)
        numeric = backend.factorize(symbolic, values, OPTIONS)
        b = torch.ones(12, 1, dtype=torch.complex128)
        lib.calls.clear()
        for mode in ("h", "t", "h"):
            backend.solve(numeric, values, b, mode, options=OPTIONS)
        assert phases(lib).count("FACTORIZATION") == extra
        assert phases(lib).count("SOLVE") == 3


def test_objects_are_destroyed_after_use_and_not_before(lib: FakeCuDSS) -> None:
    backend, symbolic, values = poisson()
    numeric = backend.factorize(symbolic, values, OPTIONS)
    assert not any(call in lib.calls for call in ("data_destroy", "matrix_destroy"))
    del numeric
    gc.collect()
    assert "data_destroy" not in lib.calls  # waits for new values
    del symbolic
    gc.collect()
    assert lib.calls[-3:] == ["matrix_destroy", "data_destroy", "config_destroy"]
    assert list(lib.objects.values()) == ["handle"]


def test_nothing_is_destroyed_inside_a_call(lib: FakeCuDSS) -> None:
    backend, symbolic, values = poisson()
    numeric = backend.factorize(symbolic, values, OPTIONS)
    handle = numeric.payload.direct.solver._handle
    with handle.lock:
        del numeric, symbolic
        gc.collect()
        assert "data_destroy" not in lib.calls
    poisson_again = poisson()
    backend.factorize(*poisson_again[1:], OPTIONS)
    assert "data_destroy" in lib.calls


def test_a_matrix_that_is_not_definite_is_named(lib: FakeCuDSS) -> None:
    backend, symbolic, values = poisson()
    with pytest.raises(SolveError, match=r"the pivot of row 1 .* is not positive") as caught:
        backend.factorize(symbolic, -values, OPTIONS)
    assert caught.value.result is Result.NOT_POSITIVE_DEFINITE


def test_replaced_pivots_are_noted(lib: FakeCuDSS) -> None:
    backend, symbolic, values = arranged(case("neumann"), torch.float64, "ldlt")
    numeric = backend.factorize(symbolic, values, OPTIONS)
    assert numeric.perturbed
    assert numeric.notes == ("1 negligible pivot(s) replaced",)
    assert backend.inertia(numeric) is None


@pytest.mark.parametrize("phase", ["ANALYSIS", "FACTORIZATION", "SOLVE"])
def test_full_memory_is_an_error_with_a_result(lib: FakeCuDSS, phase: str) -> None:
    lib.fail = phase
    backend, symbolic, values = poisson()

    def run() -> None:
        numeric = backend.factorize(symbolic, values, OPTIONS)
        backend.solve(numeric, values, torch.ones(12, 1, dtype=torch.float64), options=OPTIONS)

    with pytest.raises(SolveError, match=f"{phase.lower()} phase") as caught:
        run()
    assert caught.value.result is Result.OUT_OF_MEMORY


def test_what_does_not_fit_is_kept_partly_on_the_host(
    lib: FakeCuDSS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver.Solver, "fits", lambda self: self.hybrid)
    backend, symbolic, values = poisson()
    numeric = backend.factorize(symbolic, values, OPTIONS)
    assert ("HYBRID_MEMORY_MODE", 1) in lib.settings
    assert numeric.notes == ("factors kept partly in host memory",)
    assert phases(lib) == ["ANALYSIS", "ANALYSIS", "FACTORIZATION"]


def test_tiny_and_huge_entries_are_no_tiny_pivots(lib: FakeCuDSS) -> None:
    backend, symbolic, values = poisson()
    for size in (1e-150, 1e150):
        numeric = backend.factorize(symbolic, size * values, OPTIONS)
        b = torch.ones(12, 1, dtype=torch.float64)
        x = backend.solve(numeric, size * values, b, options=OPTIONS).x
        D = size * case("poisson").dense(torch.float64)
        assert torch.allclose(D @ x, b)


@pytest.mark.parametrize("method", ["cholesky", "ldlt", "lu"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_batches_go_together_one_right_hand_side_at_a_time(
    lib: FakeCuDSS, method: str, dtype: torch.dtype
) -> None:
    backend, symbolic, values = arranged(case("definite"), dtype, method)
    many = values * torch.arange(1, 4, dtype=torch.float64)[:, None]
    numerics = backend.factorize_batch(symbolic, many, OPTIONS)
    b = torch.randn(3, 10, 2, dtype=dtype)
    D = case("definite").dense(dtype) * torch.arange(1, 4)[:, None, None]
    for mode, op in (("n", D), ("t", D.mT), ("h", D.mH)):
        x = backend.solve_batch(numerics, many, b, mode, options=OPTIONS)
        assert torch.allclose(op @ x, b)
    assert phases(lib).count("FACTORIZATION") == (2 if method == "lu" else 1)
    assert phases(lib).count("SOLVE") == 6
    some = backend.solve_batch(numerics[1:], many[1:], b[1:], options=OPTIONS)
    assert torch.allclose(D[1:] @ some, b[1:])


def test_inertia(lib: FakeCuDSS) -> None:
    backend, symbolic, values = poisson("ldlt")
    assert backend.inertia(backend.factorize(symbolic, -values, OPTIONS)) == (0, 12, 0)
    backend, symbolic, values = poisson("cholesky")
    assert backend.inertia(backend.factorize(symbolic, values, OPTIONS)) == (12, 0, 0)


def test_through_the_public_face(chosen: FakeCuDSS) -> None:
    c = case("general")
    A = c.sparse(torch.float64)
    values = A.values.detach().clone().requires_grad_()
    b = torch.ones(10, dtype=torch.float64, requires_grad=True)
    x, info = SparseTensor.from_pattern(A.pattern, values).solve(
        b, backend="cudss", method="lu", info=True
    )
    assert (info.backend, info.method) == ("cudss", "lu")
    assert info.converged
    (x**3).sum().backward()
    a = values.detach().clone().requires_grad_()
    dense = SparseTensor.from_pattern(A.pattern, a).to_dense()
    e = b.detach().clone().requires_grad_()
    (torch.linalg.solve(dense, e) ** 3).sum().backward()
    assert torch.allclose(values.grad, a.grad)
    assert torch.allclose(b.grad, e.grad)


def test_a_design_loop_refactorises_in_place(chosen: FakeCuDSS) -> None:
    c = case("poisson")
    A = c.sparse(torch.float64)
    b = torch.ones(12, dtype=torch.float64)
    for k in range(10):
        a = ((1.0 + k) * A.values.detach()).requires_grad_()
        x = SparseTensor.from_pattern(A.pattern, a).solve(b, backend="cudss", method="cholesky")
        x.sum().backward()
        del x
    analyses, new = phases(chosen).count("ANALYSIS"), phases(chosen).count("REFACTORIZATION")
    assert analyses == phases(chosen).count("FACTORIZATION") <= 4
    assert new == 10 - analyses


def test_factors_of_a_living_graph_are_not_recycled(chosen: FakeCuDSS) -> None:
    A = case("poisson").sparse(torch.float64)
    b = torch.ones(12, dtype=torch.float64)
    a = A.values.detach().clone().requires_grad_()
    loss = torch.zeros((), dtype=torch.float64)
    for k in range(6):
        other = SparseTensor.from_pattern(A.pattern, (1.0 + k) * a)
        loss = loss + (other.solve(b, backend="cudss", method="cholesky") ** 2).sum()
    made = len(phases(chosen))
    loss.backward()
    assert set(phases(chosen)[made:]) == {"SOLVE"}


def test_several_streams_wait_for_the_device(
    lib: FakeCuDSS, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[object] = []
    monkeypatch.setattr(torch.cuda, "synchronize", rests.append)
    current = [0]
    monkeypatch.setattr(cudss_handle.Handle, "stream", lambda self: current[0])
    monkeypatch.setattr(lib, "set_stream", lambda handle, stream: None)
    A = case("poisson").sparse(torch.float64)
    backend, structure = OnHost(), A.structure
    symbolic = backend.analyze(A.pattern.slots, "cholesky", structure)
    numeric = backend.factorize(symbolic, A.csr_values, OPTIONS)
    b = torch.ones(12, 1, dtype=torch.float64)
    first = backend.solve(numeric, A.csr_values, b, options=OPTIONS).x
    assert not rests
    current[0] = 7
    second = backend.solve(numeric, A.csr_values, b, options=OPTIONS).x
    assert len(rests) == 2  # before and after
    current[0] = 0
    backend.solve(numeric, A.csr_values, b, options=OPTIONS)
    assert len(rests) == 4
    assert torch.equal(first, second)
