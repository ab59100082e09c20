"""Many numbers of one solution: one adjoint solve, many right-hand sides."""

from __future__ import annotations

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from tests.helpers.grids import poisson
from torch_sla.linalg import SparseTensor, cache_counters, nonlinear_solve
from torch_sla.linalg.adjoint import jacobian as module
from torch_sla.linalg.adjoint.jacobian import jacobian
from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.state import SolverState

WAYS = {
    "direct": {"backend": "native", "method": "cholesky"},
    "nonsymmetric": {"backend": "scipy", "method": "superlu"},
    "iterative": {
        "backend": "pytorch",
        "method": "cg",
        "preconditioner": "jacobi",
        "rtol": 1e-12,
    },
}


@pytest.fixture
def columns(monkeypatch) -> list[tuple[bool, int]]:
    """Whether it was an adjoint, and its right-hand sides, of every solve."""
    seen: list[tuple[bool, int]] = []
    run = SolverState.run

    def watch(self, values, b, *, adjoint, start=None):
        seen.append((adjoint, b.shape[-1]))
        return run(self, values, b, adjoint=adjoint, start=start)

    monkeypatch.setattr(SolverState, "run", watch)
    return seen


def system(way: str) -> tuple[SparseTensor, torch.Tensor, torch.Tensor]:
    A = SparseTensor.from_scipy(poisson(7, 6).tocoo())
    values = A.values.clone()
    if way == "nonsymmetric":
        values = values * (1 + 0.1 * torch.sign(A.row_indices - A.col_indices))
    generator = torch.Generator().manual_seed(1)
    b = torch.randn(A.shape[0], generator=generator, dtype=torch.float64)
    return A, values.requires_grad_(), b.requires_grad_()


def alone(numbers, inputs):
    return [
        [
            torch.stack(
                [torch.autograd.grad(n, x, retain_graph=True)[0] for n in number.reshape(-1)]
            )
            for x in inputs
        ]
        for number in numbers
    ]


def same(found, exact, rtol=1e-9) -> None:
    for rows, each in zip(found, exact, strict=True):
        for row, one in zip(rows, each, strict=True):
            error = torch.linalg.vector_norm(row.reshape(one.shape) - one)
            assert error <= rtol * torch.linalg.vector_norm(one)


@pytest.mark.parametrize("way", WAYS)
def test_one_solve_with_many_columns(way, columns) -> None:
    A, values, b = system(way)
    M = SparseTensor.from_pattern(A.pattern, values)
    before = cache_counters()
    x = M.solve(b, **WAYS[way])
    numbers = [(x**3).sum(), x[:4].reshape(2, 2).square(), x @ b]
    found = jacobian(numbers, [values, b])
    assert columns == [(False, 1), (True, 6)]
    assert cache_counters()["factorize"] - before["factorize"] == 1
    assert found[1][0].shape == (2, 2, len(values))
    same(found, alone(numbers, [values, b]))


def test_what_needs_no_solve_or_another_one_goes_apart(columns) -> None:
    A, values, b = system("direct")
    M = SparseTensor.from_pattern(A.pattern, values)
    x = M.solve(b, **WAYS["direct"])
    y = M.solve(x.square(), **WAYS["direct"])
    columns.clear()
    numbers = [x[0], values.square().sum(), y[1], x[2], y[3], torch.ones(2, dtype=torch.float64)]
    found = jacobian(numbers, [values, b])
    # Two of x alone; two of y, through both solves; none for the others.
    assert columns == [(True, 2), (True, 2), (True, 2)]
    assert found[1][1] is None
    assert found[5] == (None, None)
    same([found[i] for i in (0, 2, 3, 4)], alone([numbers[i] for i in (0, 2, 3, 4)], [values, b]))


def test_a_bound_on_bytes(columns, monkeypatch) -> None:
    """One solve for all, and then a few at a time."""
    passes = []
    product = kernels.sampled_product

    def watch(crow, ccol, u, v, **options):
        passes.append(u.shape[:-2])
        return product(crow, ccol, u, v, **options)

    monkeypatch.setattr(kernels, "sampled_product", watch)
    A, values, b = system("direct")
    x = SparseTensor.from_pattern(A.pattern, values).solve(b, **WAYS["direct"])
    monkeypatch.setattr(module, "_ROOM", 3 * (values.nbytes + b.nbytes))
    columns.clear()
    found = jacobian([x[:7]], [values])
    assert columns == [(True, 7)]
    assert passes == [(3,), (3,), ()]
    same(found, alone([x[:7]], [values]))


def test_solves_after_solves_within_little_room(columns, monkeypatch) -> None:
    """Those that numbers meet first are solved together; those before them a few at a time."""
    A, values, b = system("direct")
    M = SparseTensor.from_pattern(A.pattern, values)
    x = M.solve(b, **WAYS["direct"])
    y = M.solve(x.square(), **WAYS["direct"])
    monkeypatch.setattr(module, "_ROOM", 2 * (values.nbytes + b.nbytes))
    columns.clear()
    numbers = [x[:3] + y[:3], y[4]]
    found = jacobian(numbers, [values, b])
    assert columns == [(True, 4), (True, 2), (True, 2)]
    same(found, alone(numbers, [values, b]))
    # Nothing is left at the nodes: other numbers are solved for.
    same(jacobian([y[7:9]], [b]), alone([y[7:9]], [b]))


def test_the_work_of_the_loads_still_starts_at_its_end(monkeypatch) -> None:
    """One of three right-hand sides is a multiple of the load: its column begins solved."""
    A, values, b = system("iterative")
    starts = []
    run = SolverState.run

    def watch(self, values, b, *, adjoint, start=None):
        starts.append(start)
        return run(self, values, b, adjoint=adjoint, start=start)

    monkeypatch.setattr(SolverState, "run", watch)
    x = SparseTensor.from_pattern(A.pattern, values).solve(b, **WAYS["iterative"])
    numbers = [x[:1], x @ (3 * b.detach()), x[5:6]]
    found = jacobian(numbers, [values])
    forward, start = starts
    assert forward is None
    torch.testing.assert_close(start[:, 1], 3 * x.detach())
    assert not start[:, [0, 2]].any()
    same(found, alone(numbers, [values]))


class Foreign(torch.autograd.Function):
    """A square whose backward takes one cotangent at a time."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return torch.from_numpy(g.numpy() * 2 * x.numpy())


def test_functions_of_others_get_one_cotangent_at_a_time(columns) -> None:
    A, values, b = system("direct")
    x = Foreign.apply(SparseTensor.from_pattern(A.pattern, values).solve(b, **WAYS["direct"]))
    columns.clear()
    found = jacobian([x[:3]], [values])
    assert columns == [(True, 3)]
    same(found, alone([x[:3]], [values]))


@pytest.mark.parametrize("room", [1 << 26, 1])
@pytest.mark.parametrize("pattern", [True, False])
def test_roots_of_residuals(pattern, room, monkeypatch) -> None:
    """With a sparse Jacobian one solve serves all; by GMRES there is one for each."""
    monkeypatch.setattr(module, "_ROOM", room)
    A, values, b = system("direct")
    M = SparseTensor.from_pattern(A.pattern, values)
    u = nonlinear_solve(
        lambda u, M, b: M @ u + 0.1 * u**3 - b,
        torch.zeros_like(b),
        M,
        b,
        pattern=A.pattern if pattern else None,
        rtol=1e-12,
    )
    before = cache_counters()["solve"]
    found = jacobian([u[:5]], [values, b])
    if pattern:
        assert cache_counters()["solve"] - before == 1
    same(found, alone([u[:5]], [values, b]), 1e-6)


def test_the_graph_is_kept_or_freed() -> None:
    A, values, b = system("direct")
    x = SparseTensor.from_pattern(A.pattern, values).solve(b, **WAYS["direct"])
    numbers = [x[0].square(), x[1:3].exp()]
    jacobian(numbers, [values])
    jacobian(numbers, [values], retain=False)
    with pytest.raises(RuntimeError, match="second time"):
        jacobian(numbers, [values])


@pytest.mark.parametrize("room", [1, 1 << 26])
def test_inside_checkpointing(room, monkeypatch) -> None:
    """What is saved is unpacked once in a pass, as `torch.utils.checkpoint` demands."""
    monkeypatch.setattr(module, "_ROOM", room)
    A, values, b = system("direct")

    def solve(v, rhs):
        return SparseTensor.from_pattern(A.pattern, v).solve(rhs, **WAYS["direct"])

    exact = alone([solve(values, solve(values, b))[:3]], [values, b])
    x = checkpoint(
        solve, values, checkpoint(solve, values, b, use_reentrant=False), use_reentrant=False
    )
    same(jacobian([x[:3]], [values, b]), exact)
    x = checkpoint(solve, values, b, use_reentrant=False)
    x.sum().backward()
    assert torch.isfinite(values.grad).all()


@pytest.mark.parametrize("room", [1, 1 << 26])
def test_inputs_that_are_not_reached(room, monkeypatch) -> None:
    monkeypatch.setattr(module, "_ROOM", room)
    A, values, b = system("direct")
    other = torch.ones(3, dtype=torch.float64, requires_grad=True)
    x = SparseTensor.from_pattern(A.pattern, values).solve(b, **WAYS["direct"])
    ((found, none),) = jacobian([x[:2]], [b, other])
    assert none is None
    same([[found]], alone([x[:2]], [b]))
