from __future__ import annotations

import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.errors import ArgumentError


@pytest.fixture
def dofs(tools):
    return fem.Dofs(tools.structured("quad", 2), fem.lagrange("quad"))


def both(integrand, names, dofs, **given):
    """Values with and without the separation."""
    return [
        fem.assemble(fem.BilinearForm(integrand, linear), dofs, **given) for linear in (names, ())
    ]


def test_a_wrong_promise_is_found(dofs):
    squared = fem.BilinearForm(lambda u, v, w: w.k**2 * u * v, linear=("k",))
    with pytest.raises(ArgumentError, match="linear: the integrand"):
        fem.assemble(squared, dofs, k=2.0)
    product = fem.BilinearForm(lambda u, v, w: w.a * w.b * u * v, linear=("a", "b"))
    with pytest.raises(ArgumentError, match="not linear in a and b together"):
        fem.assemble(product, dofs, a=1.0, b=1.0)


def test_what_does_not_separate_is_integrated_all_the_same(dofs):
    k = torch.rand(4, 1, dtype=torch.float64)
    seen = both(lambda u, v, w: w.k * w.x[..., 0] * u * v, ("k",), dofs, k=k)
    torch.testing.assert_close(*seen)
    more = both(lambda u, v, w: w.k * w.s * u * v, ("k",), dofs, k=k, s=2.0)
    torch.testing.assert_close(*more)


def test_numbers_tensors_and_complex_coefficients(dofs):
    k = torch.rand(3, 4, 1, dtype=torch.float64)

    def integrand(u, v, w):
        return w.a * u * v + w.b * fem.dot(fem.grad(u), fem.grad(v))

    for a, b in ((2.0, k), (k, 1j), (k[0], k.to(torch.float32)), (1, 2)):
        separated, whole = both(integrand, ("a", "b"), dofs, a=a, b=b)
        assert separated.dtype == whole.dtype
        torch.testing.assert_close(separated, whole)


def test_errors_are_those_of_the_form(dofs):
    form = fem.BilinearForm(lambda u, v, w: w.k * u * v, linear=("k",))
    with pytest.raises(ArgumentError, match="the form needs this coefficient"):
        fem.assemble(form, dofs, degree=2)
    with pytest.raises(ArgumentError, match="the integrand has shape"):
        fem.assemble(form, dofs, k=torch.ones(3, 1), degree=2)


def test_no_coefficients_in_the_graph_but_the_scalars(dofs):
    form = fem.BilinearForm(lambda u, v, w: w.k * fem.dot(fem.grad(u), fem.grad(v)), linear=("k",))
    k = torch.rand(4, 1, dtype=torch.float64, requires_grad=True)
    values = fem.assemble(form, dofs, k=k, degree=2)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: sizes.append(t.numel()) or t, lambda t: t
    ):
        sizes: list[int] = []
        fem.assemble(form, dofs, k=k, degree=2)
    assert max(sizes, default=0) <= k.numel()
    assert values.requires_grad
