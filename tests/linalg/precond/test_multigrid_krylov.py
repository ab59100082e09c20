from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from tests.helpers.grids import poisson, rhs, split
from torch_sla.errors import ArgumentError, DTypeError, Result
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.kernels import unavailable
from torch_sla.linalg.methods.gmres import gmres
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.precond.multigrid import AMG, Hierarchy
from torch_sla.linalg.sparse.structure import Structure

pytestmark = pytest.mark.skipif(unavailable() is not None, reason="needs the extension")
METHODS = ["gmres", "bicgstab"]


def convection(n: int, peclet: float) -> sp.csr_array:
    """Upwinded flow along the diagonal, cell Peclet number `peclet`."""
    first = sp.diags_array([np.ones(n), -np.ones(n - 1)], offsets=[0, -1])
    flow = sp.kron(sp.eye_array(n), first) + sp.kron(first, sp.eye_array(n))
    A = sp.csr_array(poisson(n, n) + peclet * flow)
    A.sort_indices()
    return A


def hierarchy_of(A: sp.csr_array, options: AMG | None = None) -> tuple:
    pattern, values = split(A)
    return (
        Hierarchy(pattern, values, options, structure=Structure(symmetric=False)),
        pattern,
        values,
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize("peclet", [10.0, 100.0])
def test_convection_and_its_adjoint(method: str, adjoint: bool, peclet: float) -> None:
    A = convection(80, peclet)
    hierarchy, pattern, values = hierarchy_of(A)
    matrix = (
        (pattern.transposed, pattern.transpose_values(values)) if adjoint else (pattern, values)
    )
    b = rhs(6400, 2)
    out = hierarchy.krylov(
        method, matrix, b, adjoint=adjoint, options=KrylovOptions(rtol=1e-8, maxiter=100)
    )
    assert out.result is Result.CONVERGED
    assert out.iterations <= 30
    op = A.T if adjoint else A
    left = np.linalg.norm(op @ out.x.numpy() - b.numpy(), axis=0)
    assert (left <= 1.001e-8 * np.linalg.norm(b.numpy(), axis=0)).all()
    assert len(out.history) == out.iterations


@pytest.mark.parametrize("restart", [5, 50])
def test_gmres_takes_the_steps_of_the_reference(restart: int) -> None:
    A = convection(40, 2.0)
    hierarchy, pattern, values = hierarchy_of(A, AMG(dtype="float64"))
    options = KrylovOptions(rtol=1e-9, restart=restart)
    b = rhs(1600)
    ours = hierarchy.krylov("gmres", (pattern, values), b, options=options)
    reference = gmres(
        lambda v: torch.from_numpy(A @ v.numpy()), b, M=hierarchy.apply, options=options
    )
    assert ours.iterations == reference.iterations
    np.testing.assert_allclose(ours.history[:8], reference.history[:8], rtol=1e-6)
    torch.testing.assert_close(ours.x, reference.x, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_starts_scales_and_precisions(method: str) -> None:
    A = convection(30, 1.0)
    hierarchy, pattern, values = hierarchy_of(A)
    b = rhs(900)
    exact = hierarchy.krylov(method, (pattern, values), b, options=KrylovOptions(rtol=1e-11))
    again = hierarchy.krylov(method, (pattern, values), b, x0=exact.x, options=KrylovOptions(1e-9))
    assert again.iterations == 0
    tiny = hierarchy.krylov(method, (pattern, values), 2.0**-200 * b, options=KrylovOptions(1e-8))
    assert tiny.result is Result.CONVERGED
    single = hierarchy.krylov(
        method, (pattern, values.float()), b.float(), options=KrylovOptions(rtol=1e-4)
    )
    assert single.x.dtype is torch.float32
    assert single.result is Result.CONVERGED
    zero = hierarchy.krylov(method, (pattern, values), 0 * b)
    assert zero.result is Result.CONVERGED
    assert not zero.x.any()


@pytest.mark.parametrize("method", METHODS)
def test_failures_have_reasons(method: str) -> None:
    A = convection(20, 1.0)
    hierarchy, pattern, values = hierarchy_of(A)
    b = rhs(400)

    def run(v: torch.Tensor, r: torch.Tensor, **options: object) -> Result:
        return hierarchy.krylov(method, (pattern, v), r, options=KrylovOptions(**options)).result

    assert run(values, b, maxiter=2) is Result.MAXITER
    assert run(values, b * torch.inf) is Result.NONFINITE
    assert run(values, b, rtol=1e-17, maxiter=3000) is not Result.CONVERGED
    assert run(0 * values, b, maxiter=50) in (Result.BREAKDOWN, Result.STAGNATION)
    with pytest.raises(DTypeError):
        run(values, b.to(torch.complex128))
    with pytest.raises(ArgumentError, match="`b` must be"):
        run(values, b[:5])


@pytest.mark.parametrize("method", ["cg", *METHODS])
def test_columns_that_go_on_alone_keep_to_the_limit(method: str) -> None:
    """The steps taken side by side count, too."""
    pattern, values = split(poisson(60, 50))
    hierarchy = Hierarchy(pattern, values, AMG(dtype="float64"))
    b = rhs(3000, 3)
    for limit in (20, 25):  # beyond what rounding allows: the last digits are fought for alone
        options = KrylovOptions(rtol=1e-16, maxiter=limit)
        if method == "cg":
            out = hierarchy.cg(values, b, options=options)
        else:
            out = hierarchy.krylov(method, (pattern, values), b, options=options)
        assert out.result is not Result.CONVERGED
        assert 15 < out.iterations <= limit


@pytest.mark.parametrize("method", ["cg", *METHODS])
@pytest.mark.parametrize("threads", [1, 2])
def test_columns_do_not_see_one_another(method: str, threads: int) -> None:
    """Each stops on its own, and side by side on threads it is what it is alone."""
    A = poisson(60, 60)
    pattern, values = split(A)
    hierarchy = Hierarchy(pattern, values, AMG(threads=threads))
    b = rhs(3600, 3)
    b[:, 1] = torch.from_numpy(A @ np.ones(3600))
    options = KrylovOptions(rtol=1e-8)

    def run(columns: torch.Tensor) -> torch.Tensor:
        if method == "cg":
            return hierarchy.cg(values, columns, options=options).x
        return hierarchy.krylov(method, (pattern, values), columns, options=options).x

    together = run(b)
    for k in range(3):
        assert torch.equal(together[:, k], run(b[:, k : k + 1])[:, 0])
    assert torch.equal(run(b), together)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("lanes", [1, 5])
@pytest.mark.parametrize("diagonal", [False, True])
def test_lattices_are_read_by_offsets(method: str, lanes: int, diagonal: bool) -> None:
    """Also the transposed matrix, whose pattern is another where neighbours are coupled one way only."""
    ahead = sp.diags_array([-0.3, 0.3], offsets=[-1, 0], shape=(30, 30))
    A = poisson(30, 30) + sp.kron(ahead, sp.eye_array(30))
    if diagonal:
        A = A + 0.1 * sp.kron(sp.eye_array(30, k=1), sp.eye_array(30, k=1))
    A = sp.csr_array(A)
    A.sort_indices()
    pattern, values = split(A)
    hierarchy = Hierarchy(pattern, values, AMG(method="lattice", threads=2))
    b, options = rhs(900, lanes), KrylovOptions(rtol=1e-9)
    turned = (pattern.transposed, pattern.transpose_values(values))
    for adjoint, M, matrix in ((False, A, (pattern, values)), (True, A.T, turned)):
        out = hierarchy.krylov(method, matrix, b, adjoint=adjoint, options=options)
        assert out.result is Result.CONVERGED
        assert out.iterations <= 20
        left = np.linalg.norm(M @ out.x.numpy() - b.numpy(), axis=0)
        assert (left <= 1.001e-9 * np.linalg.norm(b.numpy(), axis=0)).all()


def test_a_plan_uses_them() -> None:
    A = SparseTensor.from_scipy(convection(60, 20.0))
    b = rhs(3600)[:, 0].requires_grad_()
    x, info = A.solve(b, method="gmres", preconditioner="multigrid", rtol=1e-9, info=True)
    assert info.converged
    assert info.iterations <= 30
    x.sum().backward()
    torch.testing.assert_close(A.T() @ b.grad, torch.ones_like(b), rtol=1e-6, atol=1e-7)


def test_lobpcg_takes_a_hierarchy() -> None:
    A = poisson(40, 30)
    pattern, values = split(A)
    hierarchy = Hierarchy(pattern, values)
    w, V = SparseTensor.from_pattern(pattern, values).eigsh(
        k=3, which="SA", method="lobpcg", preconditioner=hierarchy.apply, tol=1e-8
    )
    one, two = (2 - 2 * np.cos(np.arange(1, 4) * np.pi / (n + 1)) for n in (40, 30))
    exact = np.sort((one[:, None] + two).ravel())[:3]
    np.testing.assert_allclose(w.numpy(), exact, rtol=1e-8)
    np.testing.assert_allclose(A @ V.numpy(), V.numpy() * w.numpy(), atol=1e-6)
