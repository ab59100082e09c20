"""One hierarchy for all solves of one set of values; what new values leave as it is; older hierarchies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.helpers.grids import diffusion, poisson, rhs, split
from torch_sla.errors import ArgumentError, Result, SolveError
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.factor_cache import cache_counters, clear_factor_cache
from torch_sla.linalg.kernels import unavailable
from torch_sla.linalg.kernels.multigrid import CompiledHierarchy
from torch_sla.linalg.methods.outcome import KrylovOptions, Outcome
from torch_sla.linalg.precond.multigrid import AMG, Hierarchy, LaggedMultigrid
from torch_sla.linalg.precond.multigrid.lagged import LaggedPreconditioner, SetUpPoint
from torch_sla.linalg.sparse.structure import Structure

pytestmark = pytest.mark.skipif(unavailable() is not None, reason="needs the extension")

AGGREGATES = AMG(method="smoothed_aggregation")
CLASSICAL = AMG(method="classical")


def smooth(shape: tuple[int, ...], strength: float, seed: int = 3) -> np.ndarray:
    phase = np.random.default_rng(seed).uniform(0, 6, len(shape))
    x = np.meshgrid(*(np.linspace(0, 6, n) for n in shape), indexing="ij")
    return np.exp(strength * sum(np.sin(a + p) for a, p in zip(x, phase, strict=True)))


def solved(A: SparseTensor, b: torch.Tensor, **kwargs: object) -> torch.Tensor:
    return A.solve(b, method="cg", rtol=1e-10, **kwargs)


@pytest.mark.parametrize("options", [AGGREGATES, CLASSICAL], ids=["aggregates", "classical"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_renewed_equals_a_new_set_up_to_the_last_bit(options: AMG, dtype: str) -> None:
    options = AMG(method=options.method, dtype=dtype)
    pattern, old = split(poisson(60, 50))
    _, near = split(diffusion(smooth((60, 50), 0.02)))
    _, far = split(diffusion(smooth((60, 50), 2.0)))
    like = Hierarchy(pattern, old, options).skeleton()
    assert like is not None
    r = rhs(3000)
    for values in (2.5 * old, near, far):
        fresh = Hierarchy(pattern, values, options)
        renewed = Hierarchy(pattern, values, options, like=like)
        assert torch.equal(fresh.apply(r), renewed.apply(r))
    unchecked = Hierarchy(pattern, far, options).skeleton(check=False)
    kept = Hierarchy(pattern, old, options, like=unchecked)
    assert not torch.equal(kept.apply(r), Hierarchy(pattern, old, options).apply(r))


def test_what_is_known_of_symmetry_belongs_to_what_is_used_again() -> None:
    """A matrix that is known to be unsymmetric has other transfers, though smoother and precision are the same."""
    options = AMG(method="smoothed_aggregation", smoother="spai0")
    pattern, values = split(poisson(40, 40))
    like = Hierarchy(pattern, values, options).skeleton()
    known = Structure(symmetric=False)
    fresh = Hierarchy(pattern, values, options, structure=known)
    renewed = Hierarchy(pattern, values, options, structure=known, like=like)
    r = rhs(1600)
    assert not torch.equal(fresh.apply(r), Hierarchy(pattern, values, options).apply(r))
    assert torch.equal(fresh.apply(r), renewed.apply(r))


@pytest.mark.parametrize("method", ["lattice", "smoothed_aggregation", "classical"])
@pytest.mark.parametrize("smoother", [None, "spai0"])
def test_values_that_are_refused_change_nothing(method: str, smoother: str | None) -> None:
    pattern, values = split(poisson(30, 30))
    hierarchy = Hierarchy(pattern, values, AMG(method=method, smoother=smoother, coarse_size=20))
    r = rhs(900)
    before, turned = hierarchy.apply(r), hierarchy.apply_adjoint(r)
    sizes = hierarchy.levels
    hole = 1e8 * values
    hole[pattern.diagonal_slots[877].long()] = 0.0
    for broken, result in ((float("nan") * values, Result.NONFINITE), (hole, Result.BREAKDOWN)):
        with pytest.raises(SolveError) as caught:
            hierarchy.update(broken)
        assert caught.value.result is result
        assert torch.equal(hierarchy.apply(r), before)
        assert torch.equal(hierarchy.apply_adjoint(r), turned)
    hierarchy.update(4.0 * values)
    assert torch.equal(hierarchy.apply(r), before / 4)
    assert torch.equal(hierarchy.apply_adjoint(r), turned / 4)
    assert hierarchy.levels == sizes


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_renewed_lattice_equals_a_new_one_to_the_last_bit(dtype: str) -> None:
    """Also where the new numbers halve other axes, or contradict the lattice."""
    options = AMG(method="lattice", dtype=dtype)
    pattern, old = split(poisson(60, 50))
    like = Hierarchy(pattern, old, options).skeleton()
    stretched = old.clone()
    stretched[(pattern.csr_row - pattern.ccol).abs() == 1] *= 1e-3
    r = rhs(3000)
    for values in (2.5 * old, split(diffusion(smooth((60, 50), 2.0)))[1], stretched):
        fresh = Hierarchy(pattern, values, options)
        renewed = Hierarchy(pattern, values, options, like=like)
        assert [level.unknowns for level in fresh.levels] == [
            level.unknowns for level in renewed.levels
        ]
        assert torch.equal(fresh.apply(r), renewed.apply(r))
    unchecked = Hierarchy(pattern, stretched, options).skeleton(check=False)
    kept = Hierarchy(pattern, old, options, like=unchecked)
    assert len(kept.levels) != len(fresh.levels) or not torch.equal(
        kept.apply(r), Hierarchy(pattern, old, options).apply(r)
    )


@pytest.mark.parametrize("block", [1, 2])
def test_other_aggregates_are_found_once(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Near-nullspaces included: what refreshing finds about new values is what their levels are built from."""
    pattern, old = split(poisson(40, 40))
    x = torch.linspace(0, 1, 1600, dtype=torch.float64)
    options = AMG(
        method="smoothed_aggregation",
        block=block,
        near_nullspace=torch.stack([x**0, x, x**2][: block + 1], 1),
    )
    fields = [smooth((40, 40), size, seed) for size, seed in ((2.0, 0), (2.0, 1), (0.05, 2))]
    several = [split(diffusion(k))[1] for k in fields]
    held = several[-1].clone()  # a row that is coupled to nothing: the near-nullspace leaves it out
    row, col = pattern.csr_row, pattern.ccol
    held[((row == 700) | (col == 700)) & (row != col)] = 0
    several.append(held)
    fresh = [Hierarchy(pattern, values, options) for values in several]

    def refuse(*_: object) -> None:
        raise AssertionError("a set-up from nothing")

    like, r = Hierarchy(pattern, old, options).skeleton(), rhs(1600)
    monkeypatch.setattr(CompiledHierarchy, "build", refuse)
    for values, wanted in zip(several, fresh, strict=True):
        made = Hierarchy(pattern, values, options, like=like)
        assert torch.equal(made.apply(r), wanted.apply(r))
        like = made.skeleton()


def test_a_skeleton_of_another_kind_is_not_taken() -> None:
    """Values that ask for kept points, another smoother or no lattice get what a new set-up would give."""
    pattern, old = split(poisson(40, 40))
    jumping = split(diffusion(np.where(np.random.default_rng(2).random((40, 40)) < 0.5, 1.0, 1e6)))[
        1
    ]
    options = AMG(method="auto", dtype="float64")
    like = Hierarchy(pattern, old, options).skeleton()
    fresh, renewed = (Hierarchy(pattern, jumping, options, like=s) for s in (None, like))
    assert fresh.method == renewed.method == "classical"
    assert torch.equal(fresh.apply(rhs(1600)), renewed.apply(rhs(1600)))
    back = Hierarchy(pattern, old, options, like=fresh.skeleton())
    assert back.method == "lattice"


def test_the_first_hierarchy_is_left_alone() -> None:
    pattern, old = split(poisson(40, 40))
    first = Hierarchy(pattern, old, AGGREGATES)
    r = rhs(1600)
    before = first.apply(r)
    second = Hierarchy(pattern, 4.0 * old, AGGREGATES, like=first.skeleton())
    assert torch.equal(first.apply(r), before)
    assert torch.equal(second.apply(r), before / 4)


def test_a_solve_does_not_depend_on_what_was_solved_before() -> None:
    A = SparseTensor.from_scipy(diffusion(smooth((50, 50), 1.0)))
    other = SparseTensor.from_pattern(A.pattern, split(poisson(50, 50))[1])
    b = rhs(2500)[:, 0]
    clear_factor_cache()
    alone = solved(A, b, preconditioner=AGGREGATES)
    clear_factor_cache()
    solved(other, b, preconditioner=AGGREGATES)
    assert torch.equal(solved(A, b, preconditioner=AGGREGATES), alone)


@pytest.mark.parametrize("symmetric", [True, False])
def test_forward_adjoint_and_second_order_share_one_hierarchy(symmetric: bool) -> None:
    S = poisson(30, 30)
    pattern, values = split(S)
    if not symmetric:
        values = values + 0.1 * (pattern.csr_row < pattern.ccol)
    values.requires_grad_()
    A = SparseTensor.from_pattern(pattern, values)
    b = rhs(900)[:, 0].requires_grad_()
    clear_factor_cache()
    before = cache_counters()
    method = "cg" if symmetric else "gmres"
    x = A.solve(b, method=method, preconditioner="multigrid", rtol=1e-11)
    (g,) = torch.autograd.grad(x.square().sum(), values, create_graph=True)
    g.square().sum().backward()
    after = cache_counters()
    assert after["factorize"] - before["factorize"] == 1
    assert after["solve"] - before["solve"] >= 4
    assert values.grad is not None


def test_the_adjoint_has_a_tolerance_of_its_own() -> None:
    from torch_sla.linalg.solve import solve

    pattern, values = split(poisson(40, 40))
    b = rhs(1600)[:, 0]
    exact = torch.linalg.solve(
        torch.from_numpy(poisson(40, 40).toarray()), torch.ones(1600).double()
    )
    errors = []
    for adjoint_rtol in (1e-3, 1e-11):
        rhs_b = b.clone().requires_grad_()
        A = SparseTensor.from_pattern(pattern, values)
        x, _ = solve(
            A, rhs_b, method="cg", preconditioner="multigrid", rtol=1e-11, adjoint_rtol=adjoint_rtol
        )
        x.sum().backward()
        errors.append(float((rhs_b.grad - exact).norm() / exact.norm()))
    assert 1e-9 < errors[0] < 1e-1
    assert errors[1] < 1e-8


def steps(change: float) -> list[SparseTensor]:
    base = SparseTensor.from_scipy(poisson(40, 40))
    fields = [smooth((40, 40), change * i) for i in range(4)]
    return [SparseTensor.from_pattern(base.pattern, split(diffusion(k))[1]) for k in fields]


@pytest.mark.parametrize("keep", ["hierarchy", "aggregates"])
def test_a_loop_may_keep_its_hierarchy(keep: str) -> None:
    memory = LaggedMultigrid(AGGREGATES, keep=keep)
    b = rhs(1600)[:, 0]
    for i, A in enumerate(steps(0.05)):
        _, info = A.solve(b, method="cg", preconditioner=memory, rtol=1e-9, info=True)
        assert info.residual <= 1e-9
        assert any("old" in note for note in info.notes) == (i > 0)
    assert memory.set_ups == 1
    assert memory.point is not None
    assert memory.point.age == 3


def test_a_hierarchy_that_has_become_too_weak_is_set_up_again() -> None:
    memory = LaggedMultigrid(AGGREGATES, growth=1.2, slack=1)
    b = rhs(1600)[:, 0]
    for A in steps(1.5):
        x, info = A.solve(b, method="cg", preconditioner=memory, rtol=1e-9, info=True)
        assert info.result is Result.CONVERGED
        torch.testing.assert_close(A @ x, b, rtol=1e-6, atol=1e-7)
    assert memory.set_ups >= 2


def test_values_far_away_do_not_try_the_old_hierarchy_first() -> None:
    """Nor does a change of scale, or one of a few entries only, call for a new one."""
    b = rhs(1600)[:, 0]
    memory = LaggedMultigrid(growth=3.0)
    A = SparseTensor.from_scipy(poisson(40, 40))
    far = SparseTensor.from_pattern(A.pattern, split(diffusion(smooth((40, 40), 1.5)))[1])
    odd = A.values.clone()
    odd[A.pattern.diagonal_slots[:2].long()] *= 100.0
    alone = [M.solve(b, method="cg", preconditioner=AMG(), info=True)[1] for M in (A, far)]
    taken = []
    for M, set_ups in (
        (A, 1),
        (1e3 * A, 1),
        (SparseTensor.from_pattern(A.pattern, odd), 1),
        (far, 2),
    ):
        taken.append(M.solve(b, method="cg", preconditioner=memory, info=True)[1].iterations)
        assert memory.set_ups == set_ups
    assert taken[0] == alone[0].iterations
    assert taken[-1] == alone[1].iterations


def test_lagged_adjoints_of_unsymmetric_matrices() -> None:
    pattern, values = split(poisson(30, 30))
    upper = (pattern.csr_row < pattern.ccol).double()
    memory = LaggedMultigrid()
    b = rhs(900)[:, 0]
    for c in (0.1, 0.12):
        given = (values + c * upper).requires_grad_()
        x = SparseTensor.from_pattern(pattern, given).solve(
            b, method="bicgstab", preconditioner=memory, rtol=1e-11
        )
        x.square().sum().backward()
        dense = SparseTensor.from_pattern(pattern, given.detach()).to_dense().requires_grad_()
        torch.linalg.solve(dense, b).square().sum().backward()
        wanted = dense.grad[pattern.csr_row.long(), pattern.ccol.long()]
        torch.testing.assert_close(given.grad, wanted, rtol=1e-6, atol=1e-8)
    assert memory.set_ups == 1


@pytest.mark.parametrize("keep", ["hierarchy", "aggregates"])
def test_a_resumed_loop_is_the_same_loop(keep: str) -> None:
    b = rhs(1600)[:, 0]
    whole, first = (LaggedMultigrid(AGGREGATES, keep=keep) for _ in range(2))
    expected = [solved(A, b, preconditioner=whole) for A in steps(0.05)]
    for A in steps(0.05)[:2]:
        solved(A, b, preconditioner=first)
    state = first.state_dict()
    second = LaggedMultigrid(AGGREGATES, keep=keep)
    second.load_state_dict(state)
    for A, x in zip(steps(0.05)[2:], expected[2:], strict=True):
        assert torch.equal(solved(A, b, preconditioner=second), x)
    assert LaggedMultigrid().state_dict() == {}


def test_lagged_settings_are_checked() -> None:
    with pytest.raises(ArgumentError, match="`growth`"):
        LaggedMultigrid(growth=0.5)
    with pytest.raises(ArgumentError, match="`slack`"):
        LaggedMultigrid(slack=-1)
    with pytest.raises(ArgumentError, match="`keep`"):
        LaggedMultigrid(keep="numbers")
    A = SparseTensor.eye(4, dtype=torch.complex128)
    with pytest.raises(ArgumentError, match="real matrices"):
        A.solve(
            torch.ones(4, dtype=torch.complex128), method="cg", preconditioner=LaggedMultigrid()
        )


def test_an_old_hierarchy_has_as_many_iterations_as_its_digits_are_worth() -> None:
    """Half as many more for each, and a few; what it needed is for the digits that were asked of it."""
    memory = LaggedMultigrid(growth=1.5, slack=3)
    memory.point = SetUpPoint(torch.ones(1), iterations=10, rtol=1e-4, age=1)
    lagged = LaggedPreconditioner.__new__(LaggedPreconditioner)
    lagged._memory, lagged._age, lagged._hierarchy = memory, 1, object()  # type: ignore[assignment]
    seen = []

    def run(h: object, x: object, options: KrylovOptions) -> Outcome:
        seen.append(options.maxiter)
        return Outcome(torch.zeros(1, 1))

    for rtol in (1e-8, 1e-4, 1e-2):
        lagged._bounded(run, None, KrylovOptions(rtol=rtol))  # type: ignore[arg-type]
    assert seen == [33, 18, 11]
    lagged._bounded(run, None, KrylovOptions(rtol=1e-8, maxiter=20))  # type: ignore[arg-type]
    assert seen[-1] == 20
