"""Forward mode of eigenpairs and singular triplets, against differences of the pairs themselves."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad

from tests.linalg.eigen.test_hermitian import N, hermitian_values, make
from torch_sla.errors import GradientError
from torch_sla.linalg import SparseTensor


def curve(dtype: torch.dtype, generalised: bool):
    a, da = hermitian_values(dtype, 5), hermitian_values(dtype, 7)
    m, dm = hermitian_values(dtype, 6, shift=9.0, size=0.3), hermitian_values(dtype, 8, size=0.1)

    def pairs(t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        M = make(m + t.sin() * dm) if generalised else None
        return make(a + t * da).eigsh(3, "SA", M=M)

    return pairs


def differences(function, t: torch.Tensor, h: float = 1e-4):
    """Central differences of fourth order."""
    at = [function(t + k * h) for k in (-2, -1, 1, 2)]
    return [
        (8 * (right - left) - (far - near)) / (12 * h)
        for near, left, right, far in zip(*at, strict=True)
    ]


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("generalised", [False, True])
def test_against_differences(path: str, generalised: bool, dtype: torch.dtype) -> None:
    """Vectors as they are returned: signs and phases included."""
    pairs, t = curve(dtype, generalised), torch.tensor(0.3, dtype=torch.float64)
    values, tangents = torch.func.jvp(pairs, (t,), (torch.ones_like(t),))
    for value, same in zip(values, pairs(t), strict=True):
        torch.testing.assert_close(value, same)
    for tangent, exact in zip(tangents, differences(pairs, t), strict=True):
        torch.testing.assert_close(tangent, exact, rtol=1e-7, atol=1e-8)
    with forward_ad.dual_level():
        dual = pairs(forward_ad.make_dual(t, torch.ones_like(t)))
        for x, tangent in zip(dual, tangents, strict=True):
            torch.testing.assert_close(forward_ad.unpack_dual(x).tangent, tangent)


def test_the_adjoint_is_its_transpose(path: str) -> None:
    pairs = curve(torch.float64, True)
    t = torch.tensor(-0.2, dtype=torch.float64)
    g = torch.Generator().manual_seed(1)
    weights = [torch.randn(s, generator=g, dtype=torch.float64) for s in ((3,), (N, 3))]
    _, tangents = torch.func.jvp(pairs, (t,), (torch.ones_like(t),))
    (gradient,) = torch.func.vjp(pairs, t)[1](tuple(weights))
    forward = sum((w * x).sum() for w, x in zip(weights, tangents, strict=True))
    torch.testing.assert_close(forward, gradient)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_singular_triplets(dtype: torch.dtype) -> None:
    a, da = (
        torch.randn(7, 5, dtype=dtype, generator=torch.Generator().manual_seed(s)) for s in (1, 2)
    )

    def triplets(t: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return SparseTensor.from_dense(a + t * da).svd(k=2)

    t = torch.tensor(0.1, dtype=torch.float64)
    _, tangents = torch.func.jvp(triplets, (t,), (torch.ones_like(t),))
    for tangent, exact in zip(tangents, differences(triplets, t), strict=True):
        torch.testing.assert_close(tangent, exact, rtol=1e-7, atol=1e-8)


def test_equal_eigenvalues_are_refused() -> None:
    d = torch.tensor([1.0, 1.0, 2.0, 3.0], dtype=torch.float64)
    with pytest.raises(GradientError, match="eigenvalues 0 and 1 coincide"):
        torch.func.jvp(lambda x: SparseTensor.diag(x).eigsh(2, "SA"), (d,), (torch.ones_like(d),))


def test_a_tangent_has_no_derivative_in_reverse_mode() -> None:
    pairs = curve(torch.float64, False)
    t = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    with forward_ad.dual_level():
        w, _ = pairs(forward_ad.make_dual(t, torch.ones_like(t)))
        tangent = forward_ad.unpack_dual(w).tangent
        with pytest.raises(GradientError, match="no derivative in reverse mode"):
            torch.autograd.grad(tangent.sum(), t)


@pytest.mark.parametrize("which", [0, 1])
def test_a_tangent_has_no_derivative_of_its_own(path: str, which: int) -> None:
    """Refused within transforms too, where nothing tells what is recorded: no silent zero."""
    pairs, t = curve(torch.float64, False), torch.tensor(0.3, dtype=torch.float64)

    def tangent(s: torch.Tensor) -> torch.Tensor:
        return torch.func.jvp(pairs, (s,), (torch.ones_like(s),))[1][which].sum()

    with pytest.raises(GradientError, match="no derivative in reverse mode"):
        torch.func.grad(tangent)(t)
    with pytest.raises((GradientError, NotImplementedError, RuntimeError)):
        torch.func.jvp(tangent, (t,), (torch.ones_like(t),))
