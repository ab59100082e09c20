"""How Functions are applied: with no more than is needed, and to the same effect as by torch."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.helpers.grids import split
from tests.helpers.lattices import laplacian
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.adjoint.saving import applied

if TYPE_CHECKING:
    from torch import Tensor


class Cube(torch.autograd.Function):
    """``x³``, for tensors and numbers."""

    @staticmethod
    def forward(x: Tensor, negative: bool) -> Tensor:
        return -(x**3) if negative else x**3

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        x, ctx.negative = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return (-3 if ctx.negative else 3) * x**2 * grad, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        (x,) = ctx.saved_tensors
        return (-3 if ctx.negative else 3) * x**2 * tangent


def cube(x: Tensor) -> Tensor:
    return applied(Cube, x, False)


@pytest.mark.skipif(
    not inspect.ismethod(torch.autograd.Function.apply),
    reason="this torch (2.15) inspects signatures from compiled code, however a Function is applied",
)
def test_no_signature_is_inspected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which takes longer than a solve of so few unknowns."""
    pattern, values = split(laplacian(4, 4))
    values.requires_grad_()
    b = torch.ones(16, dtype=torch.float64)
    seen = []
    found = inspect.signature
    A = SparseTensor.from_pattern(pattern, values)
    A.solve(b)  # what is imported on first use inspects its own
    monkeypatch.setattr(inspect, "signature", lambda *a, **k: seen.append(a) or found(*a, **k))
    (A.solve(b).square().sum() + (A @ b).square().sum()).backward()
    assert not seen
    dense = A.to_dense().detach().requires_grad_()
    (torch.linalg.solve(dense, b).square().sum() + (dense @ b).square().sum()).backward()
    assert values.grad is not None
    assert dense.grad is not None
    wanted = dense.grad[pattern.csr_row.long(), pattern.ccol.long()]
    torch.testing.assert_close(values.grad, wanted)


def test_nothing_is_recorded_where_nobody_follows() -> None:
    """Not what a preconditioner that is to be trained does either."""
    pattern, values = split(laplacian(4, 4))
    A, b = SparseTensor.from_pattern(pattern, values), torch.ones(16, dtype=torch.float64)
    weight = torch.full((), 0.25, dtype=torch.float64, requires_grad=True)
    x = A.solve(b, backend="pytorch", method="cg", preconditioner=lambda r: weight * r)
    assert not x.requires_grad
    torch.testing.assert_close(x, torch.linalg.solve(A.to_dense(), b))


def test_forward_mode_and_transforms_see_it() -> None:
    x = torch.tensor([1.0, -2.0], dtype=torch.float64)
    y, tangent = torch.func.jvp(cube, (x,), (torch.ones_like(x),))
    torch.testing.assert_close(y, x**3)
    torch.testing.assert_close(tangent, 3 * x**2)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        found = torch.autograd.forward_ad.unpack_dual(cube(dual)).tangent
    torch.testing.assert_close(found, 3 * x**2)
    torch.testing.assert_close(torch.func.grad(lambda v: cube(v).sum())(x), 3 * x**2)


def test_what_has_left_a_transform_is_an_ordinary_tensor() -> None:
    left = []
    x = torch.tensor([1.0, -2.0], dtype=torch.float64)
    torch.func.grad(lambda v: (left.append(2 * v), v.sum())[1])(x)
    y = cube(left[0])
    assert not torch._C._functorch.is_functorch_wrapped_tensor(y)
    torch.testing.assert_close(y, 8 * x**3)
