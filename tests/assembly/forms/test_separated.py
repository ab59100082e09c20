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


@pytest.mark.parametrize(
    "law",
    [
        lambda w: w.k + 1e-6,
        lambda w: w.k.clamp(max=10.0),
        lambda w: 1e6 * w.k + w.k**2,
    ],
)
def test_small_departures_are_found(dofs, law):
    form = fem.BilinearForm(lambda u, v, w: law(w) * u * v, linear=("k",))
    with pytest.raises(ArgumentError, match="linear: the integrand"):
        fem.assemble(form, dofs, k=torch.ones(4, 1, dtype=torch.float64))


def test_what_an_integrand_takes_from_elsewhere_stays_alive(dofs):
    outside = {"a": torch.tensor(2.0, dtype=torch.float64, requires_grad=True)}
    k = torch.rand(4, 1, dtype=torch.float64)

    def integrand(u, v, w):
        return outside["a"] * w.k * u * v

    form = fem.BilinearForm(integrand, linear=("k",))
    first = fem.assemble(form, dofs, k=k)
    (grad,) = torch.autograd.grad(first.sum(), outside["a"])
    torch.testing.assert_close(grad, first.detach().sum() / 2.0)
    outside["a"] = 3.0
    torch.testing.assert_close(fem.assemble(form, dofs, k=k), 1.5 * first.detach())
    outside["a"] = 1j
    separated, whole = both(integrand, ("k",), dofs, k=k)
    assert separated.is_complex()
    torch.testing.assert_close(separated, whole)


def test_a_basis_of_another_mesh_is_refused(dofs, tools):
    other = tools.structured("quad", 3)
    basis = fem.CellBasis(other, fem.lagrange("quad"))
    with pytest.raises(ArgumentError, match="another mesh"):
        fem.assemble(fem.weak.mass, dofs, basis=basis)


def test_tangents_of_moved_points(dofs):
    X = dofs.mesh.points
    T = torch.rand(X.shape, generator=torch.Generator().manual_seed(5)).double()

    def made(X):
        return fem.assemble(fem.weak.diffusion, dofs, points=X, kappa=1.0)

    _, tangent = torch.func.jvp(made, (X,), (T,))
    h = 1e-6
    torch.testing.assert_close(
        tangent, (made(X + h * T) - made(X - h * T)) / (2 * h), rtol=1e-5, atol=1e-7
    )


def test_patterns_of_vectors_are_made_inside_transforms(tools):
    dofs = fem.Dofs(tools.structured("quad", 2), fem.lagrange("quad"), 2)
    basis = fem.CellBasis(dofs.mesh, dofs.element, components=2)

    def total(c):
        return dofs.assemble_matrix(fem.weak.vector_mass(basis, c=c)).square().sum()

    c = torch.ones(4, 1, dtype=torch.float64)
    grad = torch.func.grad(total)(c)
    torch.testing.assert_close((grad * c).sum(), 2 * total(c))
