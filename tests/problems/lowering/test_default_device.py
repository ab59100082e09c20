"""A default device is for what the caller makes: what lies on another one is worked with there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

import torch_sla
import torch_sla.assembly as fem
from torch_sla import (
    Compliance,
    Dirichlet,
    EigenProblem,
    ElasticityProblem,
    Flux,
    Integral,
    Parameter,
    PoissonProblem,
    RectangleMesh,
    TransientProblem,
)
from torch_sla.assembly import weak
from torch_sla.errors import ArgumentError
from torch_sla.linalg import SparseTensor, nonlinear_solve

if TYPE_CHECKING:
    from collections.abc import Callable

I = torch.arange(6)
ROW, COL = torch.cat([I, I[1:], I[:-1]]), torch.cat([I, I[:-1], I[1:]])
VALUES = torch.cat([4.0 * torch.ones(6), -torch.ones(5), -0.5 * torch.ones(5)]).double()
K = torch.linspace(1.0, 2.0, 18, dtype=torch.float64)
ONE = torch.ones((), dtype=torch.float64)


def algebra(v: torch.Tensor) -> Any:
    A = SparseTensor(v, ROW, COL, (6, 6))
    x = A.solve(v[:6]) + A.lu().solve(v[:6]) + A.solve(v[:6], method="gmres", preconditioner="ilu")
    return x + A.T() @ x + (A @ A).sum(-1) + A.logdet() + A.eigs(2)[0].abs().sum()


def roots(v: torch.Tensor) -> Any:
    return nonlinear_solve(lambda u, v: u**3 + u - v, torch.zeros_like(v), v)


def diffusion(k: torch.Tensor) -> Any:
    plate = PoissonProblem(
        mesh=RectangleMesh(cells=(3, 3)),
        diffusivity=Parameter("k", on="cells"),
        source="sin(x)",
        capacity=1.0,
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Integral("heat", "u**2"), Flux("out", on="left")],
    )
    here = plate.solve(k=k)
    at = torch.full((1, 2), 0.3, dtype=torch.float64, device="cpu")
    later = TransientProblem(of=plate, end=1.0, steps=2).solve(k=k)
    parts = (here["heat"], here["out"], here.evaluate("-grad(u)", at=at).sum(), later.u.sum())
    return torch.stack([*parts, EigenProblem(of=plate, k=1).solve(k=k).eigenvalues[0]])


def elasticity(E: torch.Tensor) -> Any:
    return ElasticityProblem(
        mesh=RectangleMesh(cells=(3, 3)),
        model="plane_stress",
        young_modulus=Parameter("E"),
        poisson_ratio=0.3,
        boundary=[Dirichlet("left", [0.0, 0.0])],
        body_force=[0.0, 1.0],
        outputs=[Compliance("work")],
    ).solve(E=E)["work"]


def assembled(k: torch.Tensor) -> Any:
    mesh = fem.rectangle_mesh((3, 3))
    dofs = fem.Dofs(mesh, fem.lagrange("triangle", 2))
    form = fem.BilinearForm(lambda u, v, w: w.k * fem.dot(fem.grad(u), fem.grad(v)))
    basis = fem.CellBasis(mesh, dofs.element)
    load = dofs.assemble_vector(weak.source(basis, f=1.0))
    fixed = fem.DirichletConstraint(dofs.pattern, dofs.facet_dofs(mesh.boundary))
    values = dofs.assemble_matrix(form(basis, k=k[:, None]))
    matrix, b = fixed.apply(values, load, torch.zeros(len(fixed.dofs), device="cpu").double())
    return SparseTensor.from_pattern(dofs.pattern, matrix).solve(b)


@pytest.mark.parametrize(
    ("function", "given"),
    [(algebra, VALUES), (roots, VALUES), (diffusion, K), (elasticity, ONE), (assembled, K)],
)
def test_numbers_do_not_depend_on_it(
    function: Callable[[torch.Tensor], Any], given: torch.Tensor
) -> None:
    found = []
    for place in ("meta", "cpu"):
        torch_sla.clear_cache()
        x = given.clone().requires_grad_()
        with torch.device(place):
            y = function(x)
            found.append((y.detach(), *torch.autograd.grad(y.sum(), x)))
    for one, two in zip(*found, strict=True):
        assert torch.equal(one, two)


def test_matrices_without_numbers_are_refused() -> None:
    with torch.device("meta"), pytest.raises(ArgumentError, match="meta device"):
        SparseTensor.eye(3)
