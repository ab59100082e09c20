"""Plans are pure functions of facts, say why, and obey or refuse requests."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING

import pytest
import torch

from tests.helpers.grids import grid
from torch_sla.errors import ArgumentError, PlanError
from torch_sla.linalg import SolvePlan, SparseTensor, Structure, cache_counters, clear_factor_cache
from torch_sla.linalg.kernels import memory, symbolic, unavailable
from torch_sla.linalg.plan.facts import Facts
from torch_sla.linalg.plan.plan import make_plan
from torch_sla.linalg.plan.rules import Candidate
from torch_sla.linalg.plan.stages import plan_matrix

if TYPE_CHECKING:
    from pathlib import Path

needs_extension = pytest.mark.skipif(unavailable() is not None, reason=f"{unavailable()}")
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


def test_waves_go_to_a_factorisation() -> None:
    facts = Facts(10_648, 10_648, 71_632, hermitian=True, dimension=3.0, lattice=True)
    unsure, waves = (
        make_plan(dataclasses.replace(facts, positive_definite=known)) for known in (None, False)
    )
    assert waves.preconditioner is None
    assert "indefinite" in waves.explain(full=True)
    assert unsure.iterations < 100 < min(v.iterations for v in waves.verdicts if v.iterations)


def test_unsymmetric_matrices_go_to_pivots_on_the_diagonal_where_it_is_full() -> None:
    facts = dataclasses.replace(SPD, hermitian=False, positive_definite=False, repeats=10)
    plan = make_plan(facts)
    assert str(plan.choice) == "native static_lu"
    assert [c.method for c in plan.fallbacks] == ["superlu"]
    empty = make_plan(dataclasses.replace(facts, diagonal=False))
    refused = {str(v.candidate): v.reason for v in empty.verdicts if not v.possible}
    assert "on the diagonal" in refused["native static_lu"]


def test_large_solids_go_to_an_iterative_method() -> None:
    facts = dataclasses.replace(SPD, rows=10**6, columns=10**6, nnz=7 * 10**6, dimension=3.0)
    assert make_plan(facts).preconditioner is not None


def test_bodies_go_to_multigrid_with_their_nodes() -> None:
    facts = dataclasses.replace(
        SPD, rows=90_000, columns=90_000, nnz=7 * 10**6, dimension=3.0, rtol=1e-8
    )
    scalar, body = make_plan(facts), make_plan(dataclasses.replace(facts, block=3))
    assert str(body.choice) == "pytorch cg + multigrid"
    assert "3 unknowns a node" in body.explain()
    jacobi = [
        next(v.iterations for v in p.verdicts if str(v.candidate) == "pytorch cg + jacobi")
        for p in (scalar, body)
    ]
    assert jacobi[1] > 1.5 * jacobi[0]


def test_nodes_are_counted_from_their_coordinates() -> None:
    nodes = torch.rand(4, 3, dtype=torch.float64)
    A = SparseTensor.eye(12, dtype=torch.float64)
    A = SparseTensor.from_pattern(A.pattern, A.csr_values, Structure(coordinates=nodes))
    assert A.plan().facts.block == 3


def test_a_preconditioner_that_is_given_stays_with_our_own_methods() -> None:
    for method in ("cg", "minres", "gmres", "bicgstab"):
        facts = dataclasses.replace(SPD, method=method, preconditioner="given")
        assert make_plan(facts).backend == "pytorch"


def test_large_planes_go_to_multigrid_if_they_are_lattices() -> None:
    # One thread, a million unknowns: 1.0 s by factors, 0.3 s by a lattice's levels, 2.5 s by aggregates of
    # a mesh without order.
    for n in (500_000, 1_000_000):
        plane = dataclasses.replace(SPD, rows=n, columns=n, nnz=5 * n)
        plan = make_plan(dataclasses.replace(plane, lattice=True))
        assert plan.preconditioner == "multigrid"
        direct = next(v for v in plan.verdicts if str(v.candidate) == "native cholesky")
        assert direct.seconds > 2 * plan.seconds
        assert make_plan(plane).method == "cholesky"


def test_unknown_definiteness_falls_back() -> None:
    plan = make_plan(dataclasses.replace(SPD, positive_definite=None))
    if plan.method == "cholesky":
        assert plan.fallbacks


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backend": "scipi"}, "must be 'auto' or one of .*got 'scipi'"),
        ({"rows": 10**400}, r"`rows` must be less than 2\*\*63, got 2\*\*1328 or more"),
        ({"nnz": 2**63}, r"`nnz` must be less than 2\*\*63"),
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


# --- costs -----------------------------------------------------------------------------------------


@needs_extension
def test_a_direct_choice_is_counted_exactly_and_its_analysis_kept() -> None:
    A = grid(37, 31)
    clear_factor_cache()
    before = cache_counters()["analyze"]
    plan = A.plan()
    counts = plan.facts.counts
    assert counts is not None
    assert plan.backend == "native"
    A.solve(torch.ones(37 * 31, dtype=torch.float64), plan=plan)
    assert cache_counters()["analyze"] == before + 1
    exact = symbolic.analyze(A.pattern.crow, A.pattern.ccol)
    assert (counts.factor_nnz, counts.flops) == (exact.factor_nnz, exact.flops)


def test_no_analysis_for_what_is_out_of_reach() -> None:
    A = grid(14, 14, 14)
    clear_factor_cache()
    before = cache_counters()["analyze"]
    assert A.plan(method="cg").facts.counts is None
    assert A.plan(preconditioner="multigrid").preconditioner == "multigrid"
    assert cache_counters()["analyze"] == before


def test_memory_decides_before_it_runs_out() -> None:
    solid = dataclasses.replace(
        SPD, rows=200_000, columns=200_000, nnz=1_380_000, dimension=3.0, rhs=400
    )
    roomy, tight = make_plan(solid), make_plan(dataclasses.replace(solid, memory=10**9))
    assert roomy.preconditioner is None
    assert tight.preconditioner is not None
    assert any("GB needed" in v.reason for v in tight.verdicts)


@needs_extension
def test_when_memory_runs_out_an_iteration_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    A, b = grid(20, 21), torch.ones(420, dtype=torch.float64)
    plan = A.plan()
    assert plan.preconditioner is None
    assert plan.lean is not None
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    monkeypatch.setattr(memory, "_ALWAYS_FREE", 0)
    clear_factor_cache()
    x, info = A.solve(b, plan=plan, info=True)
    assert info.preconditioner is not None
    assert any("out_of_memory" in note for note in info.notes)
    torch.testing.assert_close(A @ x, b, rtol=1e-8, atol=1e-8)


def test_complex_symmetric_matrices_have_a_direct_method() -> None:
    A = grid(9, 9)
    shifted = SparseTensor.from_dense(A.to_dense() - (0.8 + 0.3j) * torch.eye(81))
    plan = shifted.plan()
    b = torch.randn(81, dtype=torch.complex128)
    x, info = shifted.solve(b, backend="native", method="ldlt", info=True)
    assert (plan.facts.symmetric, plan.facts.hermitian) == (True, False)
    assert info.converged
    torch.testing.assert_close(shifted.to_dense() @ x, b)
    # Rows on scales of their own must not cost the symmetry.
    s = 10.0 ** torch.linspace(-9, 9, 81, dtype=torch.float64)
    scaled = SparseTensor.from_dense(shifted.to_dense() * s[:, None] * s)
    x, info = scaled.solve(b, backend="native", method="ldlt", info=True)
    assert info.backward_error < 1e-14


def test_planning_again_costs_next_to_nothing() -> None:
    A = grid(12, 12)
    A.plan()
    structure, pattern = A.structure, A.pattern
    facts = A.plan().facts
    facts = dataclasses.replace(facts, counts=None)
    plan_matrix(facts, pattern, structure)
    rounds = []
    for _ in range(5):
        start = time.process_time()
        for _ in range(200):
            plan_matrix(dataclasses.replace(facts), pattern, structure)
        rounds.append((time.process_time() - start) / 200)
    assert min(rounds) < 50e-6


# --- saving and forcing ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["plan", "dict", "file"])
def test_a_saved_plan_is_forced(form: str, tmp_path: Path) -> None:
    A, b = grid(11, 12), torch.ones(132, dtype=torch.float64)
    plan = A.plan(backend="pytorch", method="cg", preconditioner="ssor")
    path = tmp_path / "plan.json"
    plan.save(path)
    assert SolvePlan.load(path) == plan
    given = {"plan": plan, "dict": json.loads(path.read_text()), "file": path}[form]
    x, info = A.solve(b, plan=given, info=True)
    assert (info.backend, info.method, info.preconditioner) == ("pytorch", "cg", "ssor")
    torch.testing.assert_close(A @ x, b)


def test_what_is_no_plan_is_refused(tmp_path: Path) -> None:
    A, b = grid(4, 4), torch.ones(16, dtype=torch.float64)
    with pytest.raises(PlanError, match="no saved plan"):
        A.solve(b, plan={"choice": 3})
    (tmp_path / "x.json").write_text("[1]")
    with pytest.raises(PlanError, match="holds no saved plan"):
        A.solve(b, plan=tmp_path / "x.json")
    with pytest.raises(PlanError, match="cannot be read"):
        A.solve(b, plan=str(tmp_path / "absent.json"))
    data = A.plan(backend="scipy", method="superlu").to_dict()
    data["choice"]["method"] = "magic"
    with pytest.raises(PlanError, match="scipy magic, and there is no such method"):
        A.solve(b, plan=data)
    with pytest.raises(dataclasses.FrozenInstanceError):
        A.plan().choice = Candidate("a", "b")  # type: ignore[misc]


def test_between_iterations_the_estimate_decides() -> None:
    n = 100_000
    step = Facts(n, n, 5 * n, hermitian=True, positive_definite=True, lattice=True, dominance=0.5)
    plan = make_plan(step)
    iterations = [v.seconds for v in plan.verdicts if v.possible and v.iterations]
    assert plan.seconds == min(iterations)


def test_simplicial_ldlt_keeps_its_pivots_on_the_diagonal() -> None:
    facts = Facts(3600, 3600, 20_000, hermitian=True, positive_definite=False, diagonal=False)
    refused = [v for v in make_plan(facts).verdicts if str(v.candidate) == "eigen ldlt"]
    assert "some rows have none there" in refused[0].reason


@pytest.mark.parametrize("dominance", [0.0, 0.01, 0.1])
@pytest.mark.parametrize("backend", ["auto", "scipy", "pytorch"])
@pytest.mark.parametrize("preconditioner", ["jacobi", "block_jacobi"])
def test_conjugate_gradients_are_for_definite_matrices(
    dominance: float, backend: str, preconditioner: str
) -> None:
    for n in (900, 2500, 10_000):
        facts = dataclasses.replace(SPD, rows=n, columns=n, nnz=5 * n, dominance=dominance)
        asked = dataclasses.replace(facts, backend=backend, preconditioner=preconditioner)
        assert make_plan(asked).method == "cg"


def test_a_direct_method_and_a_preconditioner_contradict_each_other() -> None:
    A = SparseTensor.eye(5, dtype=torch.float64) * 2
    b = torch.ones(5, dtype=torch.float64)
    with pytest.raises(
        PlanError, match=r"'cholesky' is direct .* preconditioner 'jacobi' was asked for; leave"
    ):
        A.solve(b, method="cholesky", preconditioner="jacobi")
    with pytest.raises(PlanError, match="'superlu' is direct"):
        A.plan(backend="scipy", method="superlu", preconditioner="multigrid")
    x = A.solve(b, method="cholesky", preconditioner="none")
    assert torch.equal(x, A.solve(b, method="cholesky", x0=torch.full_like(b, 7.0)))


def test_a_plan_and_another_preconditioner_contradict_each_other() -> None:
    A = SparseTensor.eye(5, dtype=torch.float64) * 2
    b = torch.ones(5, dtype=torch.float64)
    jacobi = A.plan(preconditioner="jacobi")
    assert A.solve(b, plan=jacobi, preconditioner="jacobi", info=True)[1].preconditioner == "jacobi"
    for plan in (jacobi, A.plan()):
        with pytest.raises(ArgumentError, match="`preconditioner` asks for 'ssor'"):
            A.solve(b, plan=plan, preconditioner="ssor")


@pytest.mark.parametrize(("option", "value"), [("repeats", 0), ("maxiter", 2.5), ("maxiter", 0)])
def test_counts_that_are_none_are_refused(option: str, value: float) -> None:
    A = SparseTensor.eye(5, dtype=torch.float64)
    with pytest.raises((ArgumentError, PlanError), match=f"`{option}`"):
        A.solve(torch.ones(5, dtype=torch.float64), **{option: value})
