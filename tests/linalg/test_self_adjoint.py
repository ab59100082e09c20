"""Functionals that are their own adjoint cost no second iteration; others are what they were."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.grids import poisson
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.state import SolverState

OPTIONS = {"backend": "pytorch", "method": "cg", "preconditioner": "jacobi", "rtol": 1e-10}


@pytest.fixture
def iterations(monkeypatch) -> list[tuple[bool, int]]:
    """Whether it was a forward solve, and its iterations, of every solve."""
    seen: list[tuple[bool, int]] = []
    absorb = SolverState._absorb

    def watch(self, info, first) -> None:
        seen.append((first, info.iterations))
        absorb(self, info, first)

    monkeypatch.setattr(SolverState, "_absorb", watch)
    return seen


def system(dtype=torch.float64) -> tuple[SparseTensor, torch.Tensor, torch.Tensor]:
    A = SparseTensor.from_scipy(poisson(12, 11).tocoo())
    values = A.values.to(dtype)
    if dtype.is_complex:  # still Hermitian: phases on the two triangles
        phase = torch.sign(A.row_indices - A.col_indices) * 0.3
        values = values * torch.exp(1j * phase)
    generator = torch.Generator().manual_seed(1)
    b = torch.randn(A.shape[0], 2, generator=generator, dtype=dtype)
    return A, values.requires_grad_(), b


def work(A: SparseTensor, values: torch.Tensor, b: torch.Tensor, g: torch.Tensor, **options):
    M = SparseTensor.from_pattern(A.pattern, values)
    x = M.solve(b, **options)
    return (g.conj() * x).real.sum()


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_the_work_of_the_loads_needs_no_second_iteration(dtype, iterations) -> None:
    A, values, b = system(dtype)
    factor = torch.tensor([2.0, -0.5], dtype=dtype)
    (found,) = torch.autograd.grad(work(A, values, b, factor * b, **OPTIONS), values)
    (forward, first), (backward, second) = iterations
    assert (forward, backward, second) == (True, False, 0)
    assert first > 10
    (exact,) = torch.autograd.grad(work(A, values, b, factor * b, backend="scipy"), values)
    assert torch.linalg.vector_norm(found - exact) < 1e-8 * torch.linalg.vector_norm(exact)


def test_what_is_nearly_so_starts_near(iterations) -> None:
    A, values, b = system()
    generator = torch.Generator().manual_seed(2)
    change = torch.randn(b.shape, generator=generator, dtype=b.dtype)
    for size in (1.0, 1e-4):
        (found,) = torch.autograd.grad(work(A, values, b, b + size * change, **OPTIONS), values)
        exact = torch.autograd.grad(work(A, values, b, b + size * change, backend="scipy"), values)[
            0
        ]
        assert torch.linalg.vector_norm(found - exact) < 1e-8 * torch.linalg.vector_norm(exact)
    far, near = iterations[1][1], iterations[5][1]
    assert 0 < near < far


def test_a_false_declaration_is_still_noticed(iterations) -> None:
    """The start is no more than a start: the residual of the true adjoint decides."""
    A, values, b = system()
    skew = values.detach() + 0.3 * torch.sign((A.row_indices - A.col_indices).double())
    skew.requires_grad_()
    (exact,) = torch.autograd.grad(work(A, skew, b, b, backend="scipy"), skew)
    options = {**OPTIONS, "method": "gmres"}
    (found,) = torch.autograd.grad(work(A, skew, b, b, **options), skew)
    assert torch.linalg.vector_norm(found - exact) < 1e-7 * torch.linalg.vector_norm(exact)


def test_second_derivatives_pass_through_the_start() -> None:
    A, values, b = system()

    def loss(b: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        M = SparseTensor.from_pattern(A.pattern, values.detach() * scale)
        return (b * M.solve(b, **{**OPTIONS, "rtol": 1e-13})).sum()

    b = b[:, 0].clone().requires_grad_()
    scale = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(b, scale), scale, create_graph=True)
    second = torch.autograd.grad(slope, scale)[0]
    value = loss(b, scale).item()
    assert slope.item() == pytest.approx(-value / 1.3, rel=1e-9)
    assert second.item() == pytest.approx(2 * value / 1.3**2, rel=1e-9)
