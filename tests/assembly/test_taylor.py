"""Taylor remainders of a functional of a solution, in everything that assembly depends on.

The functional is of degree three in the solution, so that no order comes for free: remainders of the value with the
gradient fall as h^2, with the second derivative too as h^3.
"""

from __future__ import annotations

from itertools import pairwise
from math import log2

import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.assembly import weak
from torch_sla.linalg import SparseTensor

KINDS = ["cells", "nodes", "quadrature", "network", "load", "flux", "boundary", "points", "jump"]


class Body:
    """Diffusion with reaction: Dirichlet on the left, flux on the right, a tie between two nodes."""

    def __init__(self, mesh, order):
        self.mesh = mesh
        self.dofs = fem.Dofs(mesh, fem.lagrange(mesh.cell, order))
        self.nodal = fem.Dofs(mesh, fem.lagrange(mesh.cell, 1))
        fixed = self.dofs.facet_dofs(mesh.facet_tags["left"])
        free = torch.ones(self.dofs.n, dtype=torch.bool)
        free[fixed] = False
        a, b = torch.nonzero(free)[[0, -1], 0]
        tie = fem.combine([(a[None], 1.0), (b[None], -0.5)])
        self.constraint = fem.LinearConstraint(self.dofs.pattern, fem.prescribe(fixed) & tie)
        self.fixed = fixed
        self.net = torch.nn.Sequential(
            torch.nn.Linear(mesh.dim, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)
        ).double()

    def sizes(self, kind):
        mesh, basis = self.mesh, fem.CellBasis(self.mesh, self.dofs.element)
        return {
            "cells": (mesh.n_cells, 1),
            "nodes": (mesh.n_points,),
            "quadrature": tuple(basis.x.shape[:2]),
            "network": (sum(p.numel() for p in self.net.parameters()),),
            "load": (mesh.n_cells, 1),
            "flux": (len(mesh.facet_tags["right"]), 1),
            "boundary": (len(self.fixed),),
            "points": tuple(mesh.points.shape),
            "jump": (1,),
        }[kind]

    def start(self, kind, generator):
        if kind == "points":
            return self.mesh.points
        if kind == "network":
            return torch.nn.utils.parameters_to_vector(self.net.parameters()).detach()
        size = self.sizes(kind)
        return 0.5 + torch.rand(size, generator=generator, dtype=torch.float64)

    def value(self, kind, p):
        mesh, dofs = self.mesh, self.dofs
        points = p if kind == "points" else None
        cells = fem.CellBasis(mesh, dofs.element, points=points)
        right = fem.FacetBasis(mesh, dofs.element, mesh.facet_tags["right"], points=points)
        k = 1 + cells.x[..., 0] ** 2
        if kind in ("cells", "quadrature"):
            k = p**2 + 0.5
        elif kind == "nodes":
            k = cells.interpolate(self.nodal, p).value ** 2 + 0.5
        elif kind == "network":
            parts, weights = {}, p
            for name, old in self.net.named_parameters():
                parts[name] = weights[: old.numel()].reshape(old.shape)
                weights = weights[old.numel() :]
            k = 0.5 + torch.func.functional_call(self.net, parts, cells.x)[..., 0] ** 2
        f = p**2 if kind == "load" else cells.x[..., -1] + 1
        q = p**2 if kind == "flux" else right.normal[..., 0] + right.x[..., 0]
        local = weak.diffusion(cells, kappa=k) + weak.mass(cells, c=k**2)
        load = dofs.assemble_vector(weak.source(cells, f=f)) + dofs.assemble_vector(
            weak.source(right, f=q), right.facets
        )
        g = p if kind == "boundary" else torch.full((len(self.fixed),), 0.3).double()
        jump = p if kind == "jump" else torch.full((1,), 0.2).double()
        c = torch.cat([g, jump])
        values, b = self.constraint.apply(dofs.assemble_matrix(local), load, c)
        u = self.constraint.recover(
            SparseTensor.from_pattern(self.constraint.pattern, values).solve(b), c
        )
        cube = fem.Functional(lambda w: w.u**3 + fem.dot(fem.grad(w.u), fem.grad(w.u)) * w.u)
        return 10 * cube(cells, u=cells.interpolate(dofs, u)).sum()


def remainders(function, x, direction, steps):
    x = x.detach().clone().requires_grad_()
    value = function(x)
    (gradient,) = torch.autograd.grad(value, x, create_graph=True)
    slope = (gradient * direction).sum()
    (product,) = torch.autograd.grad(slope, x)
    bend = float((product * direction).sum())
    value, slope = float(value.detach()), float(slope.detach())
    assert slope != 0.0
    first, second = [], []
    for h in steps:
        moved = float(function(x.detach() + h * direction))
        first.append(abs(moved - value - h * slope))
        second.append(abs(moved - value - h * slope - 0.5 * h * h * bend))
    return [[log2(a / b) for a, b in pairwise(r)] for r in (first, second)]


@pytest.mark.parametrize(
    ("cell", "order"), [("triangle", 2), ("quad", 1), ("tetra", 1), ("hexahedron", 1)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_orders(tools, cell, order, kind, generator):
    torch.manual_seed(5)
    mesh = tools.distorted(cell, 2)
    body = Body(mesh, order)
    x = body.start(kind, generator)
    direction = torch.rand(x.shape, generator=generator, dtype=torch.float64) - 0.3
    h = {"cells": 0.01, "points": 0.01, "network": 0.02}.get(kind, 0.04)
    first, second = remainders(lambda p: body.value(kind, p), x, direction, (h, h / 2, h / 4))
    assert first[-1] >= 1.95
    assert second[-1] >= 2.95
