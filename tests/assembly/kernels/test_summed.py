"""Matrices summed a few cells at a time against element matrices and their map."""

from __future__ import annotations

import itertools

import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.assembly import weak
from torch_sla.assembly.kernels import summed as module
from torch_sla.linalg.adjoint.products import Products

needs_extension = pytest.mark.skipif(module._compiled is None, reason="no compiled extension")

FORMS = {
    "diffusion": (weak.diffusion, ("kappa",), False),
    "mass": (weak.mass, ("c",), False),
    "vector_mass": (weak.vector_mass, ("c",), True),
    "elasticity": (weak.elasticity, ("lam", "mu"), True),
}


def bases(tools, cell, n, order, vector, warp=0.0):
    mesh = tools.structured(cell, n)
    generator = torch.Generator().manual_seed(3)
    noise = torch.rand(mesh.points.shape, generator=generator, dtype=torch.float64)
    points = mesh.points + warp * (noise - 0.5) / n
    c = mesh.dim if vector else 1
    dofs = fem.Dofs(mesh, fem.lagrange(cell, order), c)
    return dofs, fem.CellBasis(mesh, dofs.element, points=points, components=c)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@needs_extension
@pytest.mark.parametrize("warp", [0.0, 0.3])
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("cell", ["triangle", "quad", "tetra", "hexahedron"])
def test_equal_to_element_matrices(tools, generator, cell, name, warp):
    form, names, vector = FORMS[name]
    dofs, basis = bases(tools, cell, 3, 1, vector, warp)
    n, q = basis.n_sites, len(basis.rule)
    for shape in ((n, 1), (2, n, 1), (1, 1), (n, q)):
        for dtype in (torch.float64, torch.complex128):
            given = {
                k: torch.rand(shape, generator=generator, dtype=dtype).requires_grad_()
                for k in names
            }
            whole = dofs.assemble_matrix(form(basis, **given))
            values = fem.assemble(form, dofs, basis=basis, **given)
            torch.testing.assert_close(values, whole, rtol=1e-13, atol=1e-14)
            g = torch.randn(whole.shape, generator=generator, dtype=dtype)
            mine = torch.autograd.grad(values, list(given.values()), g)
            theirs = torch.autograd.grad(whole, list(given.values()), g)
            torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-13)


@needs_extension
@pytest.mark.parametrize("warp", [0.0, 0.3])
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(
    ("cell", "order"),
    [("triangle", 1), ("triangle", 2), ("quad", 1), ("tetra", 1), ("tetra", 2), ("hexahedron", 1)],
)
def test_products_are_pulled_back_as_two_fields(
    tools, generator, threads, monkeypatch, cell, order, name, warp
):
    form, names, vector = FORMS[name]
    dofs, basis = bases(tools, cell, 3, order, vector, warp)
    n, q = basis.n_sites, len(basis.rule)
    kernel, calls = module.SummedForm.pair, []
    monkeypatch.setattr(module.SummedForm, "pair", lambda *given: calls.append(1) or kernel(*given))
    cases = [((n, 1), 1), ((2, n, 1), 2), ((1, 1), 2)]
    if order == 1:  # tables of many points do not fit into cache
        cases.append(((n, q), 1))
    for shape, rank in cases:
        dtype = torch.complex128 if shape[-1] == q else torch.float64
        given = [
            torch.rand(shape, generator=generator, dtype=dtype).requires_grad_() for _ in names
        ]
        values = fem.assemble(form, dofs, basis=basis, **dict(zip(names, given, strict=True)))
        left, right = (
            torch.randn(*shape[:-2], dofs.n, rank, generator=generator, dtype=dtype)
            for _ in range(2)
        )

        def pulled(g, values=values, given=given):
            return torch.autograd.grad(values, given, g, retain_graph=True)

        product = Products(left, right, dofs.pattern)
        theirs = pulled(product.entries())
        assert not calls
        for count in (1, 2):
            threads(count)
            torch.testing.assert_close(pulled(product), theirs, rtol=1e-11, atol=1e-12)
        assert len(calls) == 2
        calls.clear()


@needs_extension
def test_the_kernel_is_what_runs(tools, monkeypatch):
    dofs, basis = bases(tools, "hexahedron", 2, 1, True)

    def refuse(*_):
        raise AssertionError("element matrices were made")

    monkeypatch.setattr(dofs, "assemble_matrix", refuse)
    k = torch.ones(basis.n_sites, 1, dtype=torch.float64)
    fem.assemble(weak.elasticity, dofs, basis=basis, lam=k, mu=k)
    # A general form, and a mesh that moves.
    fem.assemble(
        weak.orthotropic, dofs, basis=basis, N=torch.eye(3)[None, None], G=torch.ones(1, 1, 3)
    )
    moving = dofs.mesh.points.clone().requires_grad_()
    fem.assemble(weak.elasticity, dofs, points=moving, lam=k, mu=k).sum().backward()
    assert moving.grad is not None


@needs_extension
@pytest.mark.parametrize("cell", ["triangle", "hexahedron"])
def test_same_bits_on_any_number_of_threads(tools, generator, threads, monkeypatch, cell):
    # Small work stays on one thread otherwise.
    monkeypatch.setattr(module, "resolve_threads", lambda *_: torch.get_num_threads())
    dofs, basis = bases(tools, cell, 6, 1, True)
    order = torch.randperm(basis.n_sites, generator=generator)
    shuffled = fem.make_mesh(dofs.mesh.points, dofs.mesh.cells[order], cell)
    for mesh in (dofs.mesh, shuffled):
        numbering = fem.Dofs(mesh, dofs.element, mesh.dim)
        own = fem.CellBasis(mesh, dofs.element, components=mesh.dim)
        k = torch.rand(mesh.n_cells, 1, generator=generator, dtype=torch.float64).requires_grad_()
        runs = []
        for count in (1, 1, 2, 5):
            threads(count)
            values = fem.assemble(weak.elasticity, numbering, basis=own, lam=k, mu=k)
            (gradient,) = torch.autograd.grad(values.square().sum(), k)
            runs.append((values.detach(), gradient))
        for values, gradient in runs[1:]:
            assert torch.equal(values, runs[0][0])
            assert torch.equal(gradient, runs[0][1])


@needs_extension
def test_a_thread_visits_cells_with_gaps_between_them(generator, threads, monkeypatch):
    """Cells of a strip in any order: those that touch one thread's rows are neighbours in memory, or not."""
    monkeypatch.setattr(module, "resolve_threads", lambda *_: torch.get_num_threads())
    x = torch.arange(5.0, dtype=torch.float64).square()
    points = torch.cartesian_prod(x, torch.tensor([0.0, 1.0], dtype=torch.float64))
    strip = torch.tensor([[0, 2, 3, 1]]) + 2 * torch.arange(4)[:, None]
    k = torch.rand(4, 1, generator=generator, dtype=torch.float64)
    for order in itertools.permutations(range(4)):
        mesh = fem.make_mesh(points, strip[list(order)], "quad")
        dofs = fem.Dofs(mesh, fem.lagrange("quad", 1))
        threads(1)
        whole = fem.assemble(weak.diffusion, dofs, kappa=k)
        for count in (2, 3, 5):
            threads(count)
            assert torch.equal(fem.assemble(weak.diffusion, dofs, kappa=k), whole)


@needs_extension
@pytest.mark.parametrize("shared", [False, True])
def test_derivatives(tools, generator, shared):
    dofs, basis = bases(tools, "quad", 2, 1, True)
    k = torch.rand(1 if shared else 4, 1, generator=generator, dtype=torch.float64).requires_grad_()

    def function(k):
        return fem.assemble(weak.elasticity, dofs, basis=basis, lam=k, mu=2.0)

    assert torch.autograd.gradcheck(function, k, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda k: function(k).square(), k)
    stacked = torch.stack([k, 2.0 * k]).detach()
    each = torch.stack([function(one) for one in stacked])
    torch.testing.assert_close(torch.func.vmap(function)(stacked), each)
    gradient = torch.func.grad(lambda k: function(k).square().sum())
    torch.testing.assert_close(
        torch.func.vmap(gradient)(stacked), torch.stack([gradient(one) for one in stacked])
    )


@needs_extension
def test_derivatives_in_the_points(tools, generator):
    dofs, basis = bases(tools, "quad", 2, 1, True)
    k = torch.rand(4, 1, generator=generator, dtype=torch.float64)
    points = basis.mesh.points.clone().requires_grad_()
    values = fem.assemble(weak.elasticity, dofs, points=points, degree=2, lam=k, mu=k)
    moved = fem.CellBasis(basis.mesh, dofs.element, 2, points, components=2)
    whole = dofs.assemble_matrix(weak.elasticity(moved, lam=k, mu=k))
    g = torch.randn(whole.shape, generator=generator, dtype=torch.float64)
    mine, theirs = (torch.autograd.grad(v, points, g)[0] for v in (values, whole))
    torch.testing.assert_close(mine, theirs)


def test_large_tables_and_single_precision_go_through_torch(tools, generator):
    for order, dtype in ((2, torch.float64), (1, torch.float32)):
        mesh = tools.structured("hexahedron", 2)
        dofs = fem.Dofs(mesh, fem.lagrange("hexahedron", order))
        k = torch.rand(8, 1, generator=generator, dtype=dtype)
        points = mesh.points.to(dtype) + 0
        basis = fem.CellBasis(mesh, dofs.element, points=points)
        whole = dofs.assemble_matrix(weak.diffusion(basis, kappa=k))
        values = fem.assemble(weak.diffusion, dofs, basis=basis, kappa=k)
        assert values.dtype == dtype
        torch.testing.assert_close(values, whole)
