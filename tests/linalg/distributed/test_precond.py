"""Iterations stay what they are for one matrix, however many parts it is cut into."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.helpers import rank_programs as programs
from tests.helpers.grids import diffusion
from torch_sla.errors import ArgumentError, DTypeError, PlanError, SolveError
from torch_sla.linalg import AMG, DSparseTensor, SparseTensor
from torch_sla.linalg.distributed.precond import multigrid as module
from torch_sla.linalg.distributed.precond.kept_points import keep_points
from torch_sla.linalg.distributed.precond.multigrid import PartMultigrid
from torch_sla.linalg.distributed.precond.schwarz import Schwarz

if TYPE_CHECKING:
    from tests.helpers.ranks import Ranks


def serial_iterations(A: SparseTensor, b: torch.Tensor) -> int:
    options = AMG(method="smoothed_aggregation", near_nullspace=A.declared.near_nullspace)
    known = A.declare(positive_definite=True)
    _, info = known.solve(b, method="cg", backend="pytorch", preconditioner=options, info=True)
    return info.iterations


def triangles(cells: int) -> SparseTensor:
    """Stiffness of linear triangles on a bent mesh of a square, its rim left out."""
    i = torch.arange(cells + 1)
    x, y = torch.meshgrid(i.double() / cells, i.double() / cells, indexing="xy")
    points = torch.stack([x + 0.08 * torch.sin(9 * y), y + 0.08 * torch.sin(7 * x)], 2).reshape(
        -1, 2
    )
    corner = (torch.arange(cells).unsqueeze(1) * (cells + 1) + torch.arange(cells)).flatten()
    quads = torch.stack([corner, corner + 1, corner + cells + 2, corner + cells + 1], 1)
    cell = torch.cat([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    p = points[cell]
    edges = torch.stack([p[:, 2] - p[:, 1], p[:, 0] - p[:, 2], p[:, 1] - p[:, 0]], 1)
    area = (edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0]).abs() / 2
    local = torch.einsum("cid,cjd->cij", edges, edges) / (4 * area)[:, None, None]
    row = cell.unsqueeze(2).expand(-1, -1, 3).flatten()
    col = cell.unsqueeze(1).expand(-1, 3, -1).flatten()
    rim = (torch.arange(len(points)) % (cells + 1) % cells == 0) | (
        torch.div(torch.arange(len(points)), cells + 1, rounding_mode="floor") % cells == 0
    )
    number = torch.cumsum(~rim, 0) - 1
    kept = ~rim[row] & ~rim[col]
    n = int((~rim).sum())
    return SparseTensor(local.flatten()[kept], number[row[kept]], number[col[kept]], (n, n))


@pytest.mark.parametrize("name", ["lattice", "triangles"])
def test_multigrid_needs_the_iterations_of_one_matrix(name: str) -> None:
    A = programs.poisson(45) if name == "lattice" else triangles(48)
    b = programs.rhs(A.shape[-1], A.dtype)
    serial = serial_iterations(A, b)
    exact = A.solve(b)
    for parts in (1, 2, 4, 8, 16):
        D = A.partition(parts)
        x, info = D.solve(b, preconditioner="multigrid", info=True)
        assert info.iterations <= 1.5 * serial
        torch.testing.assert_close(x, exact, rtol=1e-7, atol=1e-8)


def jumping(shape: tuple[int, ...], kind: str) -> SparseTensor:
    """Six orders of magnitude, independent in every cell."""
    rng = np.random.default_rng(5)
    k = 10 ** rng.uniform(-3, 3, shape)
    if kind == "two":
        k = np.where(rng.random(shape) < 0.5, 1e6, 1.0)
    A = diffusion(k).tocoo()
    row, col = (torch.from_numpy(i.astype(np.int64)) for i in (A.row, A.col))
    return SparseTensor(torch.from_numpy(A.data), row, col, A.shape)


@pytest.mark.parametrize("kind", ["logarithmic", "two"])
@pytest.mark.parametrize("shape", [(50, 50), (14, 14, 14)])
def test_points_are_kept_where_coefficients_jump(shape: tuple[int, ...], kind: str) -> None:
    A = jumping(shape, kind)
    b = programs.rhs(A.shape[-1], A.dtype)
    known = A.declare(positive_definite=True)
    _, info = known.solve(b, method="cg", backend="pytorch", preconditioner=AMG(), info=True)
    serial, exact = info.iterations, A.solve(b)
    found = []
    for parts in (1, 2, 4, 8, 16):
        D = A.partition(parts)
        x, info = D.solve(b, preconditioner="multigrid", info=True)
        # The error of x in the norm of A is what the residual bounds where A spreads over twelve decades.
        torch.testing.assert_close(A @ x, A @ exact, rtol=0, atol=1e-9 * float(b.norm()))
        found.append(info.iterations)
    assert max(found) <= 1.5 * serial
    # What is kept does not depend on how the matrix is cut.
    assert max(found) - min(found) <= 1
    if kind == "two":
        aggregates = PartMultigrid(method="smoothed_aggregation")
        _, info = D.solve(b, preconditioner=aggregates, info=True, throw=False, maxiter=40)
        assert not info.converged or info.iterations > 1.25 * serial


def test_kept_points_are_those_of_one_part() -> None:
    A = jumping((40, 40), "logarithmic")
    kept = []
    for parts in (1, 5):
        D = A.partition(parts)
        made = keep_points(D.sharding, D.slot_values(), 0.25)
        assert made is not None
        kept.append(made.A.rows.names.sort().values)
        ones = made.P.apply(made.transfer, torch.ones(made.A.rows.n, 1, dtype=A.dtype))
        inner = (A @ torch.ones(1600, dtype=A.dtype)).abs() < 1e-12
        torch.testing.assert_close(
            ones[inner[D.layout.names]], torch.ones_like(ones)[: inner.sum()]
        )
    assert torch.equal(*kept)


def truss(n: int) -> tuple[SparseTensor, torch.Tensor]:
    """Springs along the edges and diagonals of a lattice of ``n`` by ``n`` points, held on the left."""
    i = torch.arange(n * n)
    X = torch.stack([i % n, i // n], 1).double()
    row, col, blocks = [], [], []
    for dx, dy in ((1, 0), (0, 1), (1, 1), (1, -1)):
        ends = X + torch.tensor([dx, dy])
        inside = ((ends >= 0) & (ends < n)).all(1)
        a, b = i[inside], i[inside] + dx + n * dy
        t = torch.tensor([dx, dy], dtype=torch.float64)
        k = torch.outer(t, t) / t.norm() ** 3
        for r, c, s in ((a, a, 1.0), (b, b, 1.0), (a, b, -1.0), (b, a, -1.0)):
            row.append((2 * r.unsqueeze(1) + torch.tensor([0, 0, 1, 1])).flatten())
            col.append((2 * c.unsqueeze(1) + torch.tensor([0, 1, 0, 1])).flatten())
            blocks.append((s * k).flatten().repeat(len(r)))
    row_, col_, values = torch.cat(row), torch.cat(col), torch.cat(blocks)
    free = (X[:, 0] > 0).repeat_interleave(2)
    number = torch.cumsum(free, 0) - 1
    kept = free[row_] & free[col_]
    m = int(free.sum())
    centred = X - X.mean(0)
    modes = torch.zeros(n * n, 2, 3, dtype=torch.float64)
    modes[:, 0, 0] = modes[:, 1, 1] = 1
    modes[:, 0, 2], modes[:, 1, 2] = -centred[:, 1], centred[:, 0]
    near = modes.reshape(-1, 3)[free]
    A = SparseTensor(values[kept], number[row_[kept]], number[col_[kept]], (m, m))
    return A.declare(near_nullspace=near), near


def test_multigrid_knows_rigid_bodies() -> None:
    A, _ = truss(24)
    n = A.shape[-1]
    b = programs.rhs(n, A.dtype)
    serial = serial_iterations(A, b)
    for parts in (1, 4, 12):
        nodes = (torch.arange(n // 2) * parts) // (n // 2)
        D = A.partition(parts, partition_ids=nodes.repeat_interleave(2))
        assert D.near_nullspace is not None
        _, info = D.solve(b, preconditioner="multigrid", info=True)
        assert info.iterations <= 1.5 * serial
    torn = A.partition(3, partition_ids=torch.arange(n) % 3)
    with pytest.raises(ArgumentError, match="cut nodes"):
        torn.solve(b, preconditioner="multigrid")


@pytest.mark.parametrize("method", ["smoothed_aggregation", "classical", "lattice"])
def test_new_values_keep_what_was_chosen(method: str) -> None:
    A = programs.lattice((24, 31), (1.0, 1.0))
    n = A.shape[-1]
    b = programs.rhs(n, A.dtype)
    options = PartMultigrid(method=method, coarse_size=60)  # type: ignore[arg-type]
    # Symmetric, a tenth more or less from entry to entry.
    i, j = A.row_indices, A.col_indices
    bent = A.values * (1 + 0.1 * torch.cos((i + j).double()) * (i != j))
    for parts in (1, 4):
        D = A.partition(parts, partition_method="lattice")
        M = D.preconditioner(options)
        r = b[D.layout.names].unsqueeze(1)
        before = M.apply(r)
        larger = D.with_values(4 * D.values).preconditioner(like=M)
        torch.testing.assert_close(4 * larger.apply(r), before, rtol=1e-6, atol=1e-7)
        other = D.with_values(bent)
        fresh, renewed = (
            other.solve(b, preconditioner=m, info=True)
            for m in (options, other.preconditioner(like=M))
        )
        assert renewed[1].iterations <= fresh[1].iterations + 1
        torch.testing.assert_close(renewed[0], fresh[0], rtol=1e-7, atol=1e-7)
        # Who holds the old one keeps it.
        assert torch.equal(M.apply(r), before)
    with pytest.raises(ArgumentError, match=r"`like` keeps nothing .* Diagonal"):
        D.preconditioner(like=D.preconditioner("jacobi"))
    with pytest.raises(ArgumentError, match="`wanted` must be"):
        D.preconditioner("none")


def test_new_values_where_full_precision_was_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing fixed and hardly anything else: levels in single precision do not tell the matrix from a singular one."""
    A = programs.lattice((40, 31), (1.0, 1.0))
    i, j = A.row_indices, A.col_indices
    off = torch.where(i == j, 0.0, A.values)
    sums = torch.zeros(A.shape[0], dtype=A.dtype).index_add_(0, i, off)
    values = torch.where(i == j, -sums[i] + 1e-9, A.values)
    D = DSparseTensor(values, i, j, A.shape, num_partitions=2, partition_method="simple")
    M = D.preconditioner(PartMultigrid(method="smoothed_aggregation", coarse_size=60))
    chosen: list[int] = []
    monkeypatch.setattr(module, "coarsen", lambda *_, **__: chosen.append(1))
    again = D.with_values(1.1 * values).preconditioner(like=M)
    assert M.dtype is again.dtype is torch.float64
    assert not chosen
    r = torch.randn(A.shape[0], 1, dtype=A.dtype, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(1.1 * again.apply(r), M.apply(r), rtol=1e-5, atol=1e-6)


@pytest.mark.distributed
def test_new_values_on_processes(ranks: Ranks) -> None:
    for method in ("smoothed_aggregation", "classical", "lattice"):
        for found in ranks.run(3, programs.renewed, method):
            assert found["iterations"] == found["fresh"]
            assert found["error"] < 1e-7


def test_a_coarse_space_and_overlap_pay() -> None:
    A = programs.poisson(32)
    b = programs.rhs(A.shape[-1], A.dtype)
    exact = A.solve(b)
    D = A.partition(16)
    counts: dict[Any, int] = {}
    for options in (
        Schwarz(0, coarse=None),
        Schwarz(0),
        Schwarz(1),
        Schwarz(3),
        Schwarz(1, inner="multigrid"),
        Schwarz(1, inner="ichol"),
        PartMultigrid(degree=3),
    ):
        x, info = D.solve(b, preconditioner=options, info=True)
        torch.testing.assert_close(x, exact, rtol=1e-7, atol=1e-7)
        counts[options] = info.iterations
    jacobi = D.solve(b, preconditioner="jacobi", info=True)[1].iterations
    blocks = counts[Schwarz(0, coarse=None)]
    assert counts[Schwarz(3)] < counts[Schwarz(1)] < counts[Schwarz(0)] < blocks < jacobi
    assert D.solve(b, preconditioner="block_jacobi", info=True)[1].iterations == blocks
    assert A.partition(1).solve(b, preconditioner="schwarz", info=True)[1].iterations == 1


def test_the_default_is_multigrid_for_large_definite_matrices() -> None:
    A = programs.poisson(26)
    _, info = A.partition(3).solve(programs.rhs(26 * 26, A.dtype), info=True)
    assert (info.method, info.preconditioner) == ("cg", "multigrid")
    small = programs.poisson(10)
    _, info = small.partition(3).solve(programs.rhs(100, A.dtype), info=True)
    assert info.preconditioner == "jacobi"


@pytest.mark.parametrize(
    "options",
    [
        "schwarz",
        "block_jacobi",
        PartMultigrid(coarse_size=20),
        PartMultigrid(method="classical", coarse_size=20),
    ],
    ids=["schwarz", "block_jacobi", "multigrid", "classical"],
)
def test_gradients_use_the_adjoint_preconditioner(options: Any) -> None:
    A, _ = programs.matrix("convection")
    b = programs.rhs(A.shape[-1], A.dtype)
    grads = []
    for cut in (False, True):
        values = A.values.clone().requires_grad_()
        B = SparseTensor.from_pattern(A.pattern, values)
        asked = {"preconditioner": options, "rtol": 1e-13}
        x = B.partition(4).solve(b, **asked) if cut else B.solve(b)
        (x**3).sum().backward()
        assert values.grad is not None
        grads.append(values.grad)
    torch.testing.assert_close(*grads, rtol=1e-8, atol=1e-10)


def test_requests_that_cannot_be_honoured() -> None:
    A, _ = programs.matrix("irregular")
    D, b = A.partition(3), programs.rhs(A.shape[-1], A.dtype)
    with pytest.raises(PlanError, match="`preconditioner` must be"):
        D.solve(b, preconditioner="ilu0")
    with pytest.raises(PlanError, match="`method` must be"):
        D.solve(b, method="lu")
    with pytest.raises(SolveError, match="maxiter"):
        D.solve(b, maxiter=2)
    _, info = D.solve(b, maxiter=2, throw=False)
    assert not info.converged
    with pytest.raises(ArgumentError, match="`overlap`"):
        Schwarz(overlap=-1)
    with pytest.raises(ArgumentError, match="`inner`"):
        Schwarz(inner="lu")
    with pytest.raises(ArgumentError, match="`degree`"):
        PartMultigrid(degree=0)
    with pytest.raises(ArgumentError, match="`method` must be"):
        PartMultigrid(method="ruge_stueben")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="is for scalars"):
        PartMultigrid(method="classical", block=2)
    wave, _ = programs.matrix("irregular", torch.complex128)
    with pytest.raises(DTypeError, match="multigrid in parts is for real"):
        wave.partition(2).solve(b.to(torch.complex128), preconditioner="multigrid")


@pytest.mark.distributed
def test_processes_count_as_parts_do(ranks: Ranks) -> None:
    names = ("multigrid", "classical", "schwarz", "block_jacobi")
    A = programs.poisson(25)
    b = programs.rhs(A.shape[-1], A.dtype)
    exact, D = A.solve(b), A.partition(4)
    for found in ranks.run(4, programs.preconditioned, names):
        for name in names:
            _, info = D.solve(b, preconditioner=programs.PRECONDITIONERS.get(name, name), info=True)
            iterations, x, gathered = found[name]
            # Of vectors only the last level is gathered, and for Schwarz one number of each part.
            per_cycle = (
                8 * {"block_jacobi": 0, "schwarz": 1, "multigrid": 60, "classical": 150}[name]
            )
            assert gathered < 60_000 + 2 * (iterations + 3) * per_cycle
            assert abs(iterations - info.iterations) <= 1
            torch.testing.assert_close(x, exact, rtol=1e-7, atol=1e-7)


def with_a_hole(group: Any) -> tuple[str, str]:
    """A matrix ``[[I, I], [I, 0]]``, whose second part has no incomplete factors."""
    i = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    j = torch.tensor([0, 2, 1, 3, 0, 2, 1, 3])
    values = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    part = torch.tensor([0, 0, 1, 1])
    D = DSparseTensor.from_device_mesh(values, i, j, (4, 4), group, partition_ids=part)
    wanted: Any = Schwarz(overlap=0, coarse=None, inner="ilu")
    b = D.vector(torch.ones(4, dtype=torch.float64))
    _, info = D.solve(b, method="gmres", preconditioner=wanted, info=True, throw=False)
    try:
        D.solve(b, method="gmres", preconditioner=wanted)
    except SolveError as error:
        return info.result.name, error.detail
    return info.result.name, ""


@pytest.mark.distributed
def test_a_subdomain_without_a_solver_is_told_to_all(ranks: Ranks) -> None:
    own = "ilu needs a nonzero diagonal; row 0 has none"
    assert ranks.run(2, with_a_hole) == [
        ("BREAKDOWN", f"process 1 cannot do its part: {own}"),
        ("BREAKDOWN", own),
    ]
