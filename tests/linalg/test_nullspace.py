"""Singular systems with a declared nullspace: the pseudoinverse, by every method, with derivatives."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from tests.helpers.zoo import sparse
from torch_sla.errors import ArgumentError, SolveError
from torch_sla.linalg import SparseTensor, Structure
from torch_sla.linalg.nullspace import Nullspace

EDGES = torch.tensor([[0, 1], [1, 2], [2, 3], [3, 0], [0, 2], [3, 4], [4, 5], [2, 5]])
N = 6
ONES = torch.ones(N, dtype=torch.float64)
WAYS = [
    {"method": "lu"},
    {"method": "cholesky"},
    {"method": "superlu"},
    {"method": "cg", "backend": "pytorch", "preconditioner": "ichol"},
    {"method": "minres", "backend": "pytorch"},
    {"method": "gmres", "backend": "pytorch"},
    {},
]


def laplacian(weights: torch.Tensor, flow: torch.Tensor | None = None) -> SparseTensor:
    """Graph Laplacian; with `flow`, of a directed graph with zero row sums."""
    i, j = EDGES.T
    back = weights if flow is None else flow
    row, col = torch.cat([i, j, i, j]), torch.cat([j, i, i, j])
    return SparseTensor(torch.cat([-weights, -back, weights, back]), row, col, (N, N))


def sample(seed: int = 91) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    weights = torch.rand(len(EDGES), dtype=torch.float64, generator=g) + 0.5
    return weights, torch.randn(N, dtype=torch.float64, generator=g)


@pytest.mark.parametrize("way", WAYS, ids=lambda w: w.get("method", "auto"))
def test_pseudoinverse_and_gradient(way: dict[str, str]) -> None:
    weights, b = (t.requires_grad_() for t in sample())
    x, info = laplacian(weights).solve(b, nullspace=3 * ONES, rtol=1e-12, info=True, **way)
    torch.testing.assert_close(x, torch.linalg.pinv(laplacian(weights).to_dense()) @ b)
    assert info.inconsistency == pytest.approx(
        float(abs(b.detach().sum()) / N**0.5 / b.detach().norm())
    )
    assert any("projected out" in note for note in info.notes)
    found = torch.autograd.grad((x**3).sum(), (weights, b))
    D = laplacian(weights).to_dense() + torch.ones(N, N) / N
    y = torch.linalg.solve(D, b - b.mean())
    for one, two in zip(found, torch.autograd.grad((y**3).sum(), (weights, b)), strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("way", [WAYS[0], WAYS[4]], ids=["direct", "iterative"])
def test_derivatives_of_every_order(way: dict[str, str]) -> None:
    weights, b = (t.requires_grad_() for t in sample())

    def function(w: torch.Tensor, rhs: torch.Tensor) -> torch.Tensor:
        return laplacian(w).solve(rhs, nullspace=ONES, rtol=1e-13, **way)

    direct = way["method"] == "lu"
    assert gradcheck(function, (weights, b), check_forward_ad=direct, fast_mode=not direct)
    assert gradgradcheck(function, (weights, b), check_fwd_over_rev=direct, fast_mode=True)


def test_left_and_right_differ() -> None:
    weights, b = sample()
    flow, _ = sample(92)
    A = laplacian(weights, flow)
    left = torch.linalg.svd(A.to_dense()).U[:, -1]
    for way in ({}, {"method": "superlu"}, {"method": "gmres"}):
        x = A.solve(b, nullspace=(ONES, left), **way)
        torch.testing.assert_close(x, torch.linalg.pinv(A.to_dense()) @ b)
    with pytest.raises(ArgumentError, match="pair"):
        A.solve(b, nullspace=ONES)


def test_several_vectors_and_complex_values() -> None:
    g = torch.Generator().manual_seed(93)
    Z = torch.linalg.qr(torch.randn(9, 3, dtype=torch.complex128, generator=g)).Q
    B = torch.randn(9, 9, dtype=torch.complex128, generator=g)
    P = torch.eye(9) - Z @ Z.mH
    H = P @ (B @ B.mH) @ P
    b = torch.randn(9, 2, dtype=torch.complex128, generator=g)
    for way in ({}, {"method": "lu"}, {"method": "minres"}):
        x = sparse((H + H.mH) / 2).solve(b, nullspace=Z @ Z[:3], **way)
        torch.testing.assert_close(x, torch.linalg.pinv(H, rtol=1e-10) @ b, rtol=1e-7, atol=1e-8)


def test_declared_in_the_structure() -> None:
    weights, b = sample()
    A = laplacian(weights)
    B = SparseTensor.from_pattern(A.pattern, A.values, Structure(nullspace=ONES))
    assert torch.equal(B.solve(b), A.solve(b, nullspace=ONES))


def test_without_it_a_singular_system_is_refused() -> None:
    weights, b = sample()
    for load in (b, b - b.mean()):
        for way in ({}, {"method": "lu"}, {"method": "superlu"}):
            with pytest.raises(SolveError, match="nullspace"):
                laplacian(weights).solve(load, **way)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (torch.arange(6.0).double(), "not one of this matrix"),
        (torch.ones(5).double(), r"\[6\]"),
        (torch.ones(6, 2).double(), "independent"),
        (torch.zeros(6).double(), "nonzero"),
    ],
)
def test_wrong_declarations(wrong: torch.Tensor, words: str) -> None:
    weights, b = sample()
    with pytest.raises(ArgumentError, match=words):
        laplacian(weights).solve(b, nullspace=wrong)


def test_nothing_but_nullspace_on_the_right() -> None:
    weights, _ = sample()
    x, info = laplacian(weights).solve(2 * ONES, nullspace=ONES, info=True)
    assert not x.any()
    assert info.inconsistency == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("dtype", "unit"),
    [
        (torch.float32, 1e-30),
        (torch.float32, 1e30),
        (torch.float64, 1e-200),
        (torch.float64, 1e200),
    ],
)
def test_right_hand_sides_of_extreme_size(dtype: torch.dtype, unit: float) -> None:
    """What squares of their entries over- or underflow to is no reason to take them for null vectors."""
    w, b = sample()
    A, b = laplacian(w.to(dtype)), (b - b.mean()).to(dtype).requires_grad_()
    null = torch.ones(N, dtype=dtype)
    exact = A.solve(b, nullspace=null)
    x = A.solve(unit * b.detach(), nullspace=null)
    (gradient,) = torch.autograd.grad(exact, b, unit * b.detach())
    for found in (x, gradient):
        torch.testing.assert_close(found / unit, exact.detach(), rtol=1e-4, atol=1e-5)


def test_the_share_that_is_lost_is_told_whatever_the_units() -> None:
    """The largest of the columns; what is a null vector to rounding leaves nothing."""
    null = Nullspace(torch.ones(N), N, torch.float64, torch.device("cpu"), hermitian=True)
    flat, tilted = ONES / N**0.5, torch.linspace(-1, 1, N, dtype=torch.float64)
    tilted = tilted / tilted.norm()
    for unit in (1e-250, 1e-20, 1.0, 1e20, 1e250):
        b = unit * torch.stack([tilted, 3 * flat + 4 * tilted, flat], 1)
        kept, lost = null.consistent(b, left=True)
        wanted = unit * torch.stack([tilted, 4 * tilted, 0 * flat], 1)
        torch.testing.assert_close(kept, wanted, rtol=1e-12, atol=1e-14 * unit)
        assert not kept[:, 2].any()
        assert lost == pytest.approx(1.0)
        assert null.consistent(b[:, :2], left=True)[1] == pytest.approx(0.6)
        assert null.consistent(b[:, :1], left=True)[1] < 1e-15
        small = unit * (flat + 1e-12 * tilted)[:, None]
        rest = null.consistent(small, left=True)[0] / unit
        assert float(rest.norm()) == pytest.approx(1e-12, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", ["cholesky", "superlu", "minres"])
def test_autocast_does_not_reach_into_solves(method: str, dtype: torch.dtype) -> None:
    n = 40
    off, ends = torch.tensor(-1.0), torch.tensor([1.0] + [2.0] * (n - 2) + [1.0])
    A = SparseTensor.tridiagonal(off, ends, off)
    b = torch.linspace(-1, 2, n)

    def loss(b: torch.Tensor) -> torch.Tensor:
        return A.solve(b, nullspace=torch.ones(n), method=method).square().sum()

    plain = torch.func.grad_and_value(loss)(b)
    with torch.autocast("cpu", dtype=dtype):
        under = torch.func.grad_and_value(loss)(b)
    for found, right in zip(under, plain, strict=True):
        assert torch.equal(found, right)


@pytest.mark.parametrize("directed", [False, True])
def test_what_is_planned_is_what_is_done(directed: bool) -> None:
    weights, b = sample()
    A = laplacian(weights, weights.flip(0)) if directed else laplacian(weights)
    left = torch.linalg.svd(A.to_dense())[0][:, -1]
    B = A.declare(nullspace=(ONES, left) if directed else ONES)
    _, info = B.solve(b, info=True)
    plan = B.plan()
    assert (plan.choice, plan.facts) == (info.plan.choice, info.plan.facts)
