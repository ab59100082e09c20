from __future__ import annotations

import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.assembly import weak
from torch_sla.assembly.constraints.condense import Prescribed, condense
from torch_sla.linalg import Pattern, SparseTensor
from torch_sla.linalg.adjoint.products import Products
from torch_sla.linalg.sparse.segments import SegmentMap

AT = Prescribed(
    dofs=torch.tensor([2]),
    removed=torch.tensor([1, 3, 4]),
    lifted=torch.tensor([3]),
    rows=SegmentMap(torch.tensor([1]), 3),
    columns=SegmentMap(torch.tensor([0]), 1),
    pattern=Pattern.from_csr(torch.tensor([0, 2, 4, 6]), torch.tensor([0, 1, 1, 2, 0, 2]), (3, 3)),
)
G = torch.tensor([0.7])


def function(values):
    return condense(values, AT, G)


def test_values():
    kept, coupling = function(torch.arange(1.0, 7.0))
    assert kept.tolist() == [1.0, 0.0, 3.0, 0.0, 0.0, 6.0]
    assert coupling.tolist() == [4.0]


def test_infinite_entries_leave_without_a_trace():
    values = torch.tensor([1.0, torch.inf, 2.0, 3.0, torch.nan, 4.0], requires_grad=True)
    function(values)[0].sum().backward()
    assert values.grad.tolist() == [1.0, 0.0, 1.0, 0.0, 0.0, 1.0]


def test_derivatives(generator):
    values = torch.randn(2, 6, generator=generator, dtype=torch.complex128).requires_grad_()
    assert torch.autograd.gradcheck(function, values, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda v: [t * t for t in function(v)], values)
    real = torch.randn(3, 2, 6, generator=generator, dtype=torch.float64)
    both = torch.func.vmap(function)(real)
    torch.testing.assert_close(both, function(real))

    def gradient(v):
        return torch.func.grad(lambda v: sum(t.pow(3).sum() for t in function(v)))(v)

    torch.testing.assert_close(
        torch.func.vmap(gradient)(real), torch.stack([gradient(v) for v in real])
    )
    torch.testing.assert_close(
        torch.func.vmap(gradient, in_dims=1, out_dims=1)(real), torch.func.vmap(gradient)(real)
    )


@pytest.mark.parametrize("g", [0.0, 0.7, "apart"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_products_stay_products(generator, g, dtype, monkeypatch):
    dofs = fem.Dofs(fem.rectangle_mesh((4, 3)), fem.lagrange("triangle", 1))
    held = torch.tensor([0, 3, 4, 11])
    fixed = fem.DirichletConstraint(dofs.pattern, held)
    kappa = 1.0 + torch.rand(24, 1, generator=generator, dtype=torch.float64)
    kappa = (kappa if dtype is torch.float64 else kappa * (1 + 0.2j)).requires_grad_()
    given = torch.full((4,), g if isinstance(g, float) else 0.3, dtype=dtype).requires_grad_()

    def loss(kappa, given):
        values = fem.assemble(weak.diffusion, dofs, kappa=kappa)
        load = torch.linspace(0.5, 1.0, dofs.n, dtype=torch.float64).to(dtype)
        if g == "apart":  # what the load takes from the values is not the solve's alone
            held_values, load = fixed.apply(values, load, given)
            return (
                (SparseTensor.from_pattern(dofs.pattern, held_values).solve(load * load))
                .abs()
                .pow(3)
                .sum()
            )
        held_values, load = fixed.apply(values, load, given)
        u = SparseTensor.from_pattern(dofs.pattern, held_values).solve(load)
        return fixed.recover(u, given).abs().pow(3).sum()

    made = []
    before = Products.__new__

    def counted(cls, *arguments):
        made.append(cls)
        return before(cls, *arguments)

    monkeypatch.setattr(Products, "__new__", counted)
    mine = torch.autograd.grad(loss(kappa, given), (kappa, given))
    # Sent by the solve; handed on in another shape, and as itself.
    assert len(made) == (1 if g == "apart" else 3)
    count = len(made)
    theirs = torch.autograd.grad(loss(kappa, given), (kappa, given), create_graph=True)
    assert len(made) == count
    torch.testing.assert_close(mine, tuple(t.detach() for t in theirs), rtol=1e-12, atol=1e-14)


def test_products_on_another_pattern_are_entries(generator):
    """As many values in other places: what was made for one pattern is no answer for another."""
    dofs = fem.Dofs(fem.rectangle_mesh((3, 3)), fem.lagrange("triangle", 1))
    row, col, n = dofs.pattern.row, (dofs.pattern.col + 1) % dofs.n, dofs.n
    order = (row * n + col).argsort()
    moved = Pattern.from_coo(row[order], col[order], (n, n))
    c = 1.0 + torch.rand(18, 1, generator=generator, dtype=torch.float64)
    c.requires_grad_()
    b = torch.randn(n, generator=generator, dtype=torch.float64)
    fixed = fem.DirichletConstraint(dofs.pattern, torch.tensor([0]))
    none = torch.zeros(1, dtype=torch.float64)

    def loss(held):
        values = fem.assemble(weak.mass, dofs, c=c)
        if held:
            values = fixed.apply(values, b, none)[0] + 0.1
        return SparseTensor.from_pattern(moved, values).solve(b).pow(3).sum()

    for held in (False, True):
        found = torch.autograd.grad(loss(held), c)[0]
        known = torch.autograd.grad(loss(held), c, create_graph=True)[0]
        torch.testing.assert_close(found, known.detach(), rtol=1e-10, atol=0)
