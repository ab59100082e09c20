"""Saddle points in parts: iterations that depend neither on the mesh nor on the cut, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import torch_sla as sla
from torch_sla.errors import ArgumentError, SolveError
from torch_sla.linalg import PartChebyshev, PartMultigrid, PartSchur, SparseTensor

N = 16


def darcy(corner: float = -1e-3) -> tuple[SparseTensor, torch.Tensor]:
    """Flow through a porous body in mixed form, whose Schur complement is that of the diagonal."""
    D = sp.diags_array([np.ones(N), -np.ones(N)], offsets=[0, 1], shape=(N, N + 1))
    eye = sp.eye_array(N)
    B = sp.hstack([sp.kron(eye, D), sp.kron(D, eye)])
    k = np.exp(np.random.default_rng(7).standard_normal(B.shape[1]))
    C = sp.eye_array(N * N) * corner
    A = SparseTensor.from_scipy(sp.csr_array(sp.block_array([[sp.diags_array(k), B.T], [B, C]])))
    return A, torch.from_numpy(np.random.default_rng(2).standard_normal(A.shape[0]))


@pytest.mark.parametrize("corner", [-1e-3, 0.0])
@pytest.mark.parametrize("parts", [1, 3, 8])
def test_the_complement_that_is_made(parts: int, corner: float) -> None:
    A, b = darcy(corner)
    x, info = A.partition(parts).solve(b, preconditioner=PartSchur(primal="jacobi"), info=True)
    assert (info.method, info.preconditioner) == ("minres", "schur")
    assert info.iterations <= 50
    torch.testing.assert_close(A @ x, b, rtol=0, atol=1e-9 * float(b.norm()))


def test_by_name_and_with_everything_given() -> None:
    A, b = darcy()
    D = A.partition(4)
    n = 2 * N * (N + 1)
    mask = D.layout.names >= n
    exact = A.solve(b)
    for wanted in ("schur", PartSchur(mask), PartSchur(mask, dual=PartMultigrid(coarse_size=20))):
        torch.testing.assert_close(D.solve(b, preconditioner=wanted), exact, rtol=1e-7, atol=1e-8)
    with pytest.raises(ArgumentError, match=r"`multipliers` must be bool \[800\]"):
        D.solve(b, preconditioner=PartSchur(mask[:5]))
    with pytest.raises(ArgumentError, match="only some of one kind"):
        D.solve(b, preconditioner=PartSchur(torch.zeros_like(mask)))
    with pytest.raises(ArgumentError, match="`dual` must be a preconditioner, got 'none'"):
        PartSchur(dual="none")
    with pytest.raises(ArgumentError, match="`complement` must be given"):
        PartSchur(inertia=D.values)
    turned = PartSchur(~mask, primal="jacobi", dual="jacobi")
    with pytest.raises(SolveError, match="a primal unknown has the diagonal zero"):
        darcy(0.0)[0].partition(4).solve(b, preconditioner=turned)


@pytest.mark.parametrize(("cell", "dim"), [("triangle", 2), ("quad", 2), ("hexahedron", 3)])
def test_the_inverse_of_a_mass(cell: Any, dim: int) -> None:
    """Eigenvalues of what is left lie where the polynomial puts them, whatever the density."""
    mesh: Any = (
        sla.RectangleMesh(cells=(7, 6), cell=cell)
        if dim == 2
        else sla.BoxMesh(cells=(3, 3, 2), cell=cell)
    )
    body = sla.PoissonProblem(
        mesh=mesh,
        capacity=sla.Parameter("c", on="cells"),
        boundary=[sla.Dirichlet("left", 0.0)],
    )
    sizes = np.exp(3 * np.random.default_rng(3).standard_normal(body.mesh_data().n_cells))
    M = body.assemble(c=torch.from_numpy(sizes)).mass
    D = M.partition(3)
    made = D.preconditioner(PartChebyshev())
    eye = torch.eye(M.shape[0], dtype=torch.float64)
    product = M.to_dense()[D.layout.names][:, D.layout.names] @ made.apply(eye)
    w = torch.linalg.eigvals(product).real
    assert float(w.min()) >= 0.78
    assert float(w.max()) <= 1.22
    torch.testing.assert_close(made.apply_adjoint(eye), made.apply(eye).T)


def test_chebyshev_refuses_what_makes_no_sense() -> None:
    with pytest.raises(ArgumentError, match="`degree` must be at least 1, got 0"):
        PartChebyshev(degree=0)
    with pytest.raises(ArgumentError, match=r"`ratio` must be above 1, got 1\.0"):
        PartChebyshev(ratio=1.0)


def lid(n: int) -> sla.StokesProblem:
    return sla.StokesProblem(
        mesh=sla.RectangleMesh(cells=(n, n)),
        viscosity="exp(2*sin(7*x)*cos(5*y))",
        boundary=[
            sla.Dirichlet(["left", "right", "bottom"], 0.0),
            sla.Dirichlet("top", ["x*(1 - x)", 0.0]),
        ],
        solver=sla.Solver(rtol=1e-8, preconditioner="schur"),
    )


@pytest.mark.parametrize("n", [12, 36])
def test_iterations_of_a_flow_depend_neither_on_the_mesh_nor_on_the_cut(n: int) -> None:
    found = []
    for parts in (1, 9):
        info = sla.distribute(lid(n), parts).solve().info
        assert (info.method, info.preconditioner) == ("minres", "schur")
        found.append(info.iterations)
    assert max(found) <= 90
    assert max(found) <= 1.25 * min(found)


@pytest.mark.parametrize("step", [1e-4, 1e-2, 1e2])
def test_iterations_of_a_flow_in_time_do_not_depend_on_the_step(step: float) -> None:
    of = lid(12)
    march = sla.TransientProblem(of=of, end=2 * step, steps=2, scheme="backward_euler")
    found = [sla.distribute(march, parts).solve().info for parts in (1, 5)]
    assert all((i.method, i.preconditioner) == ("minres", "schur") for i in found)
    assert max(i.iterations for i in found) <= 80


def test_fields_and_multigrid_are_kept_for_other_values() -> None:
    A, b = darcy()
    D = A.partition(4)
    options = PartSchur(dual=PartMultigrid(coarse_size=20))
    M = D.preconditioner(options)
    r = torch.randn(len(b), 2, dtype=A.dtype, generator=torch.Generator().manual_seed(4))
    before = M.apply(r)
    other = D.with_values(1.5 * D.values)
    again = other.preconditioner(like=M)
    assert again.blocks is M.blocks
    torch.testing.assert_close(1.5 * again.apply(r), before, rtol=1e-6, atol=1e-6)
    x = other.solve(b, preconditioner=again)
    torch.testing.assert_close(x, A.solve(b) / 1.5, rtol=1e-7, atol=1e-8)
    assert torch.equal(M.apply(r), before)
