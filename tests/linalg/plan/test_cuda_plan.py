"""Plans for CUDA from facts, on a machine that need not have one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from torch_sla.errors import PlanError
from torch_sla.linalg import (
    get_backend_methods,
    is_cudss_available,
    select_backend,
    select_method,
    show_backends,
)
from torch_sla.linalg.backends.cudss import CuDSS
from torch_sla.linalg.backends.cusolver import CuSolver
from torch_sla.linalg.plan.facts import Facts
from torch_sla.linalg.plan.plan import make_plan
from torch_sla.linalg.plan.stages import forget_plans

if TYPE_CHECKING:
    from collections.abc import Iterator

SPD = Facts(
    10_000, 10_000, 50_000, device="cuda", symmetric=True, hermitian=True, positive_definite=True
)
GENERAL = replace(SPD, symmetric=False, hermitian=False, positive_definite=False)


def sized(facts: Facts, n: int, width: int = 5, **changes: object) -> Facts:
    return replace(facts, rows=n, columns=n, nnz=width * n, **changes)  # type: ignore[arg-type]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for backend in (CuDSS, CuSolver):
        monkeypatch.setattr(backend, "unavailable", lambda _: None)
    forget_plans()
    yield
    forget_plans()


def reason(facts: Facts, candidate: str) -> str:
    return next(v.reason for v in make_plan(facts).verdicts if str(v.candidate) == candidate)


@pytest.mark.usefixtures("installed")
def test_small_systems_go_to_cudss() -> None:
    assert str(make_plan(sized(SPD, 2500)).choice) == "cudss cholesky"
    assert str(make_plan(sized(GENERAL, 2500)).choice) == "cudss lu"
    indefinite = replace(sized(SPD, 2500), positive_definite=False)
    assert str(make_plan(indefinite).choice) == "cudss ldlt"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("lattice", [True, False])
def test_large_definite_systems_go_to_multigrid(lattice: bool) -> None:
    for n in (10**6, 16 * 10**6):
        plan = make_plan(sized(SPD, n, lattice=lattice))
        assert str(plan.choice) == "pytorch cg + multigrid"
        assert plan.fallbacks
        assert plan.fallbacks[0].backend == "cudss"


@pytest.mark.usefixtures("installed")
def test_factors_that_do_not_fit_lose_for_that_reason() -> None:
    facts = sized(SPD, 10**6, width=7, dimension=3.0, memory=10 * 10**9)
    plan = make_plan(facts)
    assert plan.preconditioner is not None
    for method in ("cholesky", "ldlt", "lu"):
        assert reason(facts, f"cudss {method}").startswith("memory: ")
    # What was asked for is obeyed; factors are then kept partly on the host.
    assert make_plan(replace(facts, method="cholesky")).backend == "cudss"


@pytest.mark.usefixtures("installed")
def test_memory_of_the_device_counts_and_not_that_of_the_model() -> None:
    facts = sized(SPD, 30_000, memory=10**5, method="auto")
    with pytest.raises(PlanError, match=r"memory: .* GB allowed"):
        make_plan(facts)


@pytest.mark.usefixtures("installed")
def test_the_adjoint_of_lu_counts_twice() -> None:
    once = make_plan(replace(GENERAL, backend="cudss"))
    both = make_plan(replace(GENERAL, backend="cudss", needs_grad=True))
    assert both.seconds > 1.6 * once.seconds
    assert both.nbytes > 1.5 * once.nbytes
    assert "transposed matrix" in both.verdicts[0].reason
    ldlt = replace(SPD, backend="cudss", method="ldlt")
    assert make_plan(replace(ldlt, needs_grad=True)).nbytes == make_plan(ldlt).nbytes


@pytest.mark.usefixtures("installed")
def test_many_values_on_one_pattern_share_its_ordering() -> None:
    one, many = (make_plan(replace(SPD, backend="cudss", repeats=k)) for k in (1, 10))
    assert many.seconds < 8 * one.seconds


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("lattice", [True, False])
def test_members_of_a_batch_share_launches_and_not_memory(lattice: bool) -> None:
    asked = sized(SPD, 4096, lattice=lattice, preconditioner="multigrid", backend="pytorch")
    one, many, more = (make_plan(replace(asked, batch=k)) for k in (1, 64, 4096))
    assert many.seconds < 5 * one.seconds
    assert 30 * one.nbytes < many.nbytes < 100 * one.nbytes
    # Four groups of 1024, one after the other.
    assert more.nbytes == pytest.approx(16 * many.nbytes, rel=0.05)
    assert more.seconds > 4 * many.seconds
    host = replace(asked, device="cpu", batch=64)
    beside = [make_plan(replace(asked, preconditioner="jacobi", batch=k)).seconds for k in (1, 64)]
    assert beside[1] < 10 * beside[0]
    assert make_plan(host).nbytes == make_plan(replace(host, batch=1)).nbytes


@pytest.mark.usefixtures("installed")
def test_cusolver_is_there_only_when_asked_for() -> None:
    assert "ask for it with backend='cusolver'" in reason(SPD, "cusolver cholesky")
    assert str(make_plan(replace(SPD, backend="cusolver")).choice) == "cusolver cholesky"
    assert make_plan(replace(SPD, method="qr", backend="cusolver")).method == "qr"


@pytest.mark.usefixtures("installed")
def test_the_functions_that_tell_choices_know_cuda() -> None:
    assert select_backend("cuda", 2500, is_spd=True) == "cudss"
    assert select_method(device="cuda", n=2500, is_spd=True) == "cholesky"
    assert select_method("cudss", "cuda", is_symmetric=False) == "lu"
    assert get_backend_methods("cudss") == ["cholesky", "ldlt", "lu"]
    assert get_backend_methods("cusolver") == ["cholesky", "lu", "qr"]
    assert is_cudss_available()
    assert "cudss" in show_backends()


def test_nothing_that_is_missing_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CuDSS, "unavailable", lambda _: "it is not here")
    forget_plans()
    plan = make_plan(SPD)
    assert plan.backend == "pytorch"
    assert "it is not here" in reason(SPD, "cudss cholesky")
    forget_plans()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128])
def test_every_dtype_has_a_direct_solver(dtype: torch.dtype) -> None:
    assert make_plan(replace(GENERAL, dtype=dtype, backend="cudss")).method == "lu"
