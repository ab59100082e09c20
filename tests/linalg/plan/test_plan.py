"""Plans are pure functions of facts, say why, and obey or refuse requests."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from torch_sla.errors import PlanError
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.plan.facts import Facts
from torch_sla.linalg.plan.plan import make_plan

SPD = Facts(10_000, 10_000, 50_000, hermitian=True, positive_definite=True)


def test_every_candidate_has_a_verdict_and_a_reason() -> None:
    plan = make_plan(SPD)
    assert plan.verdicts[0].candidate == plan.choice
    assert all(v.reason for v in plan.verdicts)
    assert len({str(v.candidate) for v in plan.verdicts}) == len(plan.verdicts)
    assert all(str(v.candidate) in plan.explain(full=True) for v in plan.verdicts)
    short = plan.explain()
    assert all(v.candidate.backend in short and v.candidate.method in short for v in plan.verdicts)
    assert len(short.splitlines()) < 20 < len(plan.explain(full=True).splitlines())


def test_same_facts_same_plan() -> None:
    assert make_plan(SPD) == make_plan(dataclasses.replace(SPD))


def test_cg_is_never_chosen_for_an_unsymmetric_matrix() -> None:
    facts = dataclasses.replace(SPD, hermitian=False, positive_definite=False, dimension=3.0)
    plan = make_plan(dataclasses.replace(facts, rows=10**6, columns=10**6, nnz=7 * 10**6))
    refused = {str(v.candidate): v.reason for v in plan.verdicts if not v.possible}
    assert any("cg" in name and "Hermitian" in reason for name, reason in refused.items())


def test_large_solids_go_to_an_iterative_method() -> None:
    facts = dataclasses.replace(SPD, rows=10**6, columns=10**6, nnz=7 * 10**6, dimension=3.0)
    assert make_plan(facts).preconditioner is not None


def test_a_gpu_plan_can_be_made_without_a_gpu() -> None:
    plan = make_plan(dataclasses.replace(SPD, device="cuda"))
    assert plan.backend == "pytorch"
    assert any("the matrix is on cuda" in v.reason for v in plan.verdicts)


def test_unknown_definiteness_falls_back() -> None:
    plan = make_plan(dataclasses.replace(SPD, positive_definite=None))
    if plan.method == "cholesky":
        assert plan.fallbacks


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backend": "scipi"}, "must be 'auto' or one of .*got 'scipi'"),
        ({"method": "choleski"}, "`method` must be 'auto' or one of .*got 'choleski'"),
        ({"backend": "scipy", "method": "cholesky"}, "has no method 'cholesky'; it has superlu"),
        (
            {"backend": "pytorch", "method": "cg", "hermitian": False},
            "needs a Hermitian matrix",
        ),
        ({"backend": "scipy", "dtype": torch.float16}, "does not take torch.float16"),
    ],
)
def test_requests_are_refused_with_a_reason(changes: dict[str, object], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        make_plan(dataclasses.replace(SPD, **changes))  # type: ignore[arg-type]


def test_a_plan_can_be_carried_out_and_is_checked() -> None:
    n = 50
    i = torch.arange(n)
    A = SparseTensor(torch.full((n,), 2.0, dtype=torch.float64), i, i, (n, n))
    b = torch.ones(n, dtype=torch.float64)
    plan = A.plan(backend="pytorch", method="cg")
    x, info = A.solve(b, plan=plan, info=True)
    assert (info.backend, info.method, info.preconditioner) == ("pytorch", "cg", "jacobi")
    torch.testing.assert_close(x, b / 2)
    B = SparseTensor(torch.ones(3, dtype=torch.float64), i[:3], i[:3], (3, 3))
    with pytest.raises(PlanError, match="made for a 50 x 50 matrix"):
        B.solve(b[:3], plan=plan)
