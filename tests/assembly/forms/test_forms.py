from __future__ import annotations

import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.assembly import weak
from torch_sla.errors import ArgumentError


@pytest.fixture
def basis():
    return fem.CellBasis(fem.rectangle_mesh((2, 2)), fem.lagrange("triangle", 1))


def test_a_batch_of_coefficients_gives_a_batch_of_matrices(basis, generator):
    k = torch.rand(3, 1, basis.n_sites, 1, generator=generator, dtype=torch.float64)
    c = torch.rand(1, 2, 1, 1, generator=generator, dtype=torch.float64)
    form = fem.BilinearForm(lambda u, v, w: w.k * fem.dot(fem.grad(u), fem.grad(v)) + w.c * u * v)
    together = form(basis, k=k, c=c)
    assert together.shape == (3, 2, 8, 3, 3)
    for i in range(3):
        for j in range(2):
            one = form(basis, k=k[i, 0], c=float(c[0, j]))
            torch.testing.assert_close(together[i, j], one, rtol=1e-14, atol=1e-16)


def test_a_form_learns_its_parts_again_for_another_use(basis):
    flag = {"mass": False}
    form = fem.BilinearForm(
        lambda u, v, w: u * v if flag["mass"] else fem.dot(fem.grad(u), fem.grad(v))
    )
    stiffness = form(basis)
    flag["mass"] = True
    torch.testing.assert_close(form(basis), weak.mass(basis, c=1.0))
    flag["mass"] = False
    torch.testing.assert_close(form(basis), stiffness)


def test_what_was_given_before_leaves_no_trace(basis):
    """Points and rounding are those of the use at hand: a body of revolution changes nothing for others."""

    def stiffness(u, v, w):
        c, K = w.get("c", None), fem.dot(fem.grad(u), fem.grad(v))
        return K if c is None else K + c * u * v

    def energy(u, w):
        return 0.5 * stiffness(u, u, w)

    fresh, used = fem.BilinearForm(stiffness), fem.BilinearForm(stiffness)
    used(basis, c=1.0)
    assert used.needed_degree(basis) == fresh.needed_degree(basis)
    assert torch.equal(used(basis), fresh(basis))
    dofs = fem.Dofs(basis.mesh, basis.element)
    u = basis.interpolate(dofs, dofs.points()[:, 0].sin())
    fresh, used = fem.Energy(energy), fem.Energy(energy)
    used.tangent(basis, u, c=1.0)
    assert torch.equal(used.residual(basis, u), fresh.residual(basis, u))
    assert torch.equal(used.tangent(basis, u), fresh.tangent(basis, u))


def test_trial_and_test_spaces_may_differ():
    mesh = fem.rectangle_mesh((2, 2))
    p1 = fem.CellBasis(mesh, fem.lagrange("triangle", 1), 3)
    p2 = fem.CellBasis(mesh, fem.lagrange("triangle", 2), 3, components=2)
    form = fem.BilinearForm(lambda u, v, w: fem.div(u) * v)
    local = form(p2, p1)
    assert local.shape == (8, 3, 12)
    # Against the definition, with u = (x, 0): the integral of each linear function.
    field = fem.Dofs(mesh, p2.element, 2)
    u = torch.stack([field.points()[:, 0], 0.0 * field.points()[:, 0]], 1).flatten()
    product = (local @ field.restrict(u)[..., None])[..., 0]
    torch.testing.assert_close(product, weak.source(p1, f=1.0))
    with pytest.raises(ArgumentError, match="same quadrature degree"):
        form(p2, fem.CellBasis(mesh, p1.element, 2))


def test_complex_coefficients(basis):
    local = weak.mass(basis, c=1.0 + 2.0j)
    torch.testing.assert_close(local, (1 + 2j) * weak.mass(basis, c=1.0))
    k = torch.full((basis.n_sites, 1), 1.0 - 1.0j, dtype=torch.complex128)
    expected = (1 - 1j) * weak.diffusion(basis, kappa=1.0)
    torch.testing.assert_close(weak.diffusion(basis, kappa=k), expected)


def test_networks_and_fields_as_coefficients(basis):
    torch.manual_seed(3391)
    net = torch.nn.Sequential(
        torch.nn.Linear(2, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1)
    ).double()
    local = weak.diffusion(basis, kappa=net(basis.x)[..., 0].exp())
    local.square().sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in net.parameters())
    dofs = fem.Dofs(basis.mesh, basis.element)
    known = basis.interpolate(dofs, basis.mesh.points[:, 0])
    form = fem.LinearForm(lambda v, w: (1 + w.u) ** 2 * v + fem.dot(fem.grad(w.u), fem.grad(v)))
    direct = fem.LinearForm(lambda v, w: (1 + w.x[..., 0]) ** 2 * v + fem.grad(v)[..., 0])
    torch.testing.assert_close(form(basis, u=known), direct(basis))


@pytest.mark.parametrize(
    ("integrand", "message"),
    [
        (lambda u, v, w: u * u * v, "not linear"),
        (lambda u, v, w: u * v + 1.0, "not linear"),
        (lambda u, v, w: torch.abs(u) * v, "not linear"),
        (lambda u, v, w: fem.grad(u)[..., 0], "does not depend on v"),
        (lambda u, v, w: w.missing * u * v, r"missing: the form needs this coefficient.*given: k"),
        (lambda u, v, w: u * fem.grad(v) * torch.ones(8, 3, 2), "integrand has shape"),
        (lambda u, v, w: u * v * fem.normal(w)[..., 0], "cells have no normal"),
    ],
)
def test_what_is_no_bilinear_form_is_refused(basis, integrand, message):
    with pytest.raises(ArgumentError, match=message):
        fem.BilinearForm(integrand)(basis, k=1.0)


def test_ambiguous_coefficients_are_refused(basis):
    with pytest.raises(ArgumentError, match=r"kappa: got shape \(8,\).*k\[:, None\]"):
        weak.diffusion(basis, kappa=torch.ones(8))
    with pytest.raises(ArgumentError, match=r"integrand has shape \(7, 1\); expected .*8\|1"):
        weak.diffusion(basis, kappa=torch.ones(7, 1))
    with pytest.raises(ArgumentError, match="x: this name is taken"):
        weak.diffusion(basis, kappa=1.0, x=2.0)


def test_elastic_constants():
    lam, mu = weak.lame_parameters(1.0, 0.3, "plane_stress")
    assert lam + 2 * mu == pytest.approx(1.0 / (1 - 0.09))
    with pytest.raises(ArgumentError, match=r"0.5; solid needs -1 < nu < 0.5"):
        weak.lame_parameters(1.0, 0.5)
    with pytest.raises(ArgumentError, match="got 'shell'"):
        weak.lame_parameters(1.0, 0.3, "shell")


def test_pressure_pushes_on_the_body():
    mesh = fem.box_mesh((2, 2, 2), cell="hexahedron")
    dofs = fem.Dofs(mesh, fem.lagrange("hexahedron", 1), 3)
    facets = mesh.facet_tags["top"]
    basis = fem.FacetBasis(mesh, dofs.element, facets, components=3)
    load = dofs.assemble_vector(weak.pressure_load(basis, p=2.0), facets)
    total = load.reshape(-1, 3).sum(0)
    torch.testing.assert_close(total, torch.tensor([0.0, 0.0, -2.0], dtype=torch.float64))


def test_curl_of_a_rotation():
    mesh = fem.box_mesh((1, 1, 1))
    dofs = fem.Dofs(mesh, fem.lagrange("tetra", 1), 3)
    basis = fem.CellBasis(mesh, dofs.element, components=3)
    omega = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    u = torch.linalg.cross(omega.expand_as(mesh.points), mesh.points).flatten()
    curl = fem.curl(basis.interpolate(dofs, u))
    torch.testing.assert_close(curl, (2 * omega).expand_as(curl))
