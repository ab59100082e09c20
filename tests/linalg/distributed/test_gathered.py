"""Factors of the whole on one process: for what no preconditioner in parts suits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from tests.helpers import rank_programs as programs
from torch_sla.errors import ArgumentError, PlanError, Result, SolveError
from torch_sla.linalg import DSparseTensor, SparseTensor
from torch_sla.linalg.distributed.precond import base, gathered
from torch_sla.linalg.distributed.precond.gathered import Gathered
from torch_sla.linalg.distributed.precond.schwarz import Schwarz
from torch_sla.linalg.distributed.processes import Processes

if TYPE_CHECKING:
    from tests.helpers.ranks import Ranks


def waves(cells: int = 30, complex_: bool = False) -> SparseTensor:
    """A Laplacian minus a multiple of the identity in the middle of its spectrum."""
    A = programs.poisson(cells)
    shift = 0.37 - 0.02j if complex_ else 0.37
    on = A.row_indices == A.col_indices
    return SparseTensor(A.values - shift * on, A.row_indices, A.col_indices, tuple(A.shape))


@pytest.mark.parametrize("complex_", [False, True])
def test_waves_need_the_same_iterations_in_any_number_of_parts(complex_: bool) -> None:
    A = waves(complex_=complex_)
    b = programs.rhs(A.shape[-1], A.dtype)
    exact = A.solve(b)
    for parts in (1, 2, 5, 16):
        x, info = A.partition(parts).solve(b, info=True)
        assert (info.method, info.preconditioner) == ("gmres", "gathered")
        assert info.iterations <= 2
        torch.testing.assert_close(x, exact, rtol=1e-8, atol=1e-8)


def test_beyond_the_limit_and_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    A = waves(complex_=True)
    b = programs.rhs(A.shape[-1], A.dtype)
    monkeypatch.setattr(base, "WHOLE", 800)
    _, info = A.partition(3).solve(b, info=True)
    assert info.preconditioner == "outgoing"
    _, info = A.partition(3).solve(b, preconditioner=Gathered("lu"), info=True)
    assert (info.preconditioner, info.iterations) == ("gathered", 1)


def test_one_unknown_of_a_nullspace_is_held() -> None:
    """Of what a matrix does not see a factor sees one unknown: exact for right-hand sides without a share of it."""
    A = programs.lattice((9, 8), (1.0, 0.3))
    sums = torch.zeros(72, dtype=A.dtype).index_add_(0, A.row_indices, A.values)
    on = A.row_indices == A.col_indices
    values = A.values.index_put((on.nonzero()[:, 0],), -sums[A.row_indices[on]], accumulate=True)
    D = SparseTensor(values, A.row_indices, A.col_indices, (72, 72)).partition(3)
    b = programs.rhs(72, A.dtype)
    b = b - b.mean()
    held = Gathered(nullspace=torch.ones(72, dtype=A.dtype))
    made = D.preconditioner(held)
    x = made.apply(b[D.layout.names].unsqueeze(1))
    torch.testing.assert_close((D @ x[D.layout.names.argsort()])[:, 0], b, rtol=1e-9, atol=1e-9)
    again = made.renewed(2 * D.sharding.pattern.coalesce(D.values))
    torch.testing.assert_close(again.apply(b[D.layout.names].unsqueeze(1)), x / 2)


def room(cells: int, k: float) -> SparseTensor:
    """Waves of bilinear squares in a room whose walls absorb them."""
    h, n = 1.0 / cells, cells + 1
    one = np.ones(n)
    one[[0, -1]] = 0.5
    stiff = sp.diags([-np.ones(cells), 2 * one, -np.ones(cells)], [-1, 0, 1]) / h
    mass = sp.diags([np.ones(cells) / 6, 4 * one / 6, np.ones(cells) / 6], [-1, 0, 1]) * h
    wall = sp.diags(np.r_[1.0, np.zeros(n - 2), 1.0])
    inside = sp.kron(stiff, mass) + sp.kron(mass, stiff) - k**2 * sp.kron(mass, mass)
    A = sp.coo_array(inside - 1j * k * (sp.kron(wall, mass) + sp.kron(mass, wall)))
    row, col = (torch.from_numpy(index.astype(np.int64)) for index in A.coords)
    return SparseTensor(torch.from_numpy(A.data), row, col, A.shape)


def test_waves_leave_subdomains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Iterations grow with the number of parts half as fast as with values left alone on the rim."""
    A = room(40, 20.0)
    b = programs.rhs(A.shape[-1], A.dtype)
    exact, counts = A.solve(b), {}
    monkeypatch.setattr(base, "WHOLE", 0)
    for parts in (1, 2, 8):
        D = A.partition(parts)
        x, info = D.solve(b, info=True)
        torch.testing.assert_close(x, exact, rtol=1e-7, atol=1e-7)
        assert info.preconditioner == "outgoing"
        counts[parts] = info.iterations
        fixed = D.solve(b, preconditioner="schwarz", info=True)[1].iterations
    assert counts[1] == 1
    assert counts[2] <= 25
    assert counts[8] < 0.6 * fixed
    # With the other time factor, and the adjoint, too.
    turned = A.partition(8)
    turned = turned.with_values(turned.values.conj().resolve_conj())
    assert abs(turned.solve(b.conj(), info=True)[1].iterations - counts[8]) <= 1
    r = programs.rhs(A.shape[-1], A.dtype, 2)
    M = A.partition(8).preconditioner("outgoing")
    names = A.partition(8).layout.names
    p, q = r[names].split(1, 1)
    torch.testing.assert_close((q.conj() * M.apply(p)).sum(), (M.apply_adjoint(q).conj() * p).sum())
    with pytest.raises(ArgumentError, match="'outgoing'"):
        waves().partition(2).solve(b.real[:900], preconditioner="outgoing")


def test_derivatives_use_the_factors_again() -> None:
    A = waves(complex_=True)
    b = programs.rhs(A.shape[-1], A.dtype)
    grads = []
    for cut in (False, True):
        values = A.values.clone().requires_grad_()
        B = SparseTensor.from_pattern(A.pattern, values)
        x = B.partition(3).solve(b) if cut else B.solve(b)
        (x.abs() ** 3).sum().backward()
        assert values.grad is not None
        grads.append(values.grad)
    torch.testing.assert_close(
        grads[1], grads[0], rtol=1e-7, atol=1e-7 * float(grads[0].abs().max())
    )


def test_new_values_on_the_same_plan() -> None:
    A, other = waves(), 2.0 * waves()
    D = A.partition(3)
    b = programs.rhs(A.shape[-1], A.dtype)
    M = D.preconditioner("gathered")
    E = D.with_values(2.0 * D.values)
    N = E.preconditioner(like=M)
    for matrix, whole, B in ((D, A, M), (E, other, N)):
        x, info = matrix.solve(b, method="gmres", preconditioner=B, info=True)
        assert info.iterations == 1
        torch.testing.assert_close(whole @ x, b, rtol=0, atol=1e-9)


def test_where_there_is_no_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is taken instead says so; by name it is an error."""
    A = waves(complex_=True)
    D, b = A.partition(3), programs.rhs(A.shape[-1], A.dtype)

    def none(*_: Any) -> None:
        raise SolveError(Result.SINGULAR, "row 3")

    monkeypatch.setattr(gathered, "factorize", none)
    x, info = D.solve(b, info=True)
    assert info.preconditioner == "outgoing"
    assert "gathered: row 3" in info.notes
    torch.testing.assert_close(A @ x, b, rtol=0, atol=1e-7)
    with pytest.raises(SolveError, match="row 3"):
        D.solve(b, method="gmres", preconditioner="gathered")
    with pytest.raises(ArgumentError, match="`method`"):
        Gathered("qr")  # type: ignore[arg-type]


def solved(group: Any) -> tuple[torch.Tensor, int, str]:
    A = waves(complex_=True)
    D = DSparseTensor.from_device_mesh(
        A.values, A.row_indices, A.col_indices, tuple(A.shape), comm=Processes(group)
    )
    x, info = D.solve(D.vector(programs.rhs(A.shape[-1], A.dtype)), info=True)
    return x.full_tensor(), info.iterations, info.preconditioner


def fails(group: Any) -> str:
    n = 700
    i = torch.arange(n)
    D = DSparseTensor.from_device_mesh(
        torch.zeros(n, dtype=torch.complex128), i, i, (n, n), comm=Processes(group)
    )
    b = D.vector(torch.ones(n, dtype=torch.complex128))
    try:
        D.solve(b, method="gmres", preconditioner="gathered")
    except SolveError as error:
        return error.result.name
    return ""


def refuses(group: Any) -> bool:
    off = torch.full((19,), -1.0, dtype=torch.float64)
    A = SparseTensor.tridiagonal(0.3 * off, torch.full((20,), 3.0, dtype=torch.float64), off)
    D = DSparseTensor.from_device_mesh(
        A.values, A.row_indices, A.col_indices, (20, 20), comm=Processes(group)
    )
    b = D.vector(torch.ones(20, dtype=torch.float64))
    try:
        D.solve(b, method="gmres", preconditioner=Gathered("cholesky"))
    except PlanError:
        return True
    return False


@pytest.mark.distributed
def test_processes(ranks: Ranks) -> None:
    A = waves(complex_=True)
    exact = A.solve(programs.rhs(A.shape[-1], A.dtype))
    for x, iterations, name in ranks.run(3, solved):
        assert (iterations, name) == (1, "gathered")
        torch.testing.assert_close(x, exact, rtol=1e-8, atol=1e-8)
    found = ranks.run(2, fails)
    assert found[0] == found[1] != ""
    # Nobody waits for factors that a matrix cannot have.
    assert ranks.run(2, refuses) == [True, True]


def test_plane_waves_join_the_parts() -> None:
    """Given as near-nullspace they are the coarse space: a wave crosses all subdomains at once, as does the adjoint."""
    n, k = 40, 20.0
    A = room(n, k)
    place = torch.arange(A.shape[-1])
    x = torch.stack([place // (n + 1), place % (n + 1)], 1).double() / n
    turn = torch.arange(16) * (2 * math.pi / 16)
    way = torch.stack([turn.cos(), turn.sin()]).double()
    waves_ = torch.polar(torch.ones(len(x), 16, dtype=torch.float64), k * x @ way)
    b = programs.rhs(A.shape[-1], A.dtype).requires_grad_()
    counts = {}
    for coarse in (None, "deflation"):
        known = A if coarse is None else A.declare(near_nullspace=waves_)
        D = known.partition(8, coords=x, partition_method="coordinates")
        options = Schwarz(overlap=2, coarse=coarse, transmission="outgoing")
        found, info = D.solve(b, preconditioner=options, info=True)
        torch.testing.assert_close(found, A.solve(b), rtol=1e-7, atol=1e-7)
        counts[coarse] = info.iterations
    (slope,) = torch.autograd.grad(found.abs().square().sum(), b)
    (exact,) = torch.autograd.grad(A.solve(b).abs().square().sum(), b)
    torch.testing.assert_close(slope, exact, rtol=1e-7, atol=1e-7)
    assert counts["deflation"] <= 10
    assert counts[None] >= 2 * counts["deflation"]
