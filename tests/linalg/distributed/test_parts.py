"""Parts one by one: local vectors, subdomains, cuts, pieces; all in one process."""

from __future__ import annotations

import pytest
import torch

from tests.helpers import rank_programs as programs
from torch_sla.errors import ArgumentError
from torch_sla.linalg import DSparseMatrix, DSparseTensor, DVector, SparseTensor
from torch_sla.linalg.distributed.communicator import InProcess
from torch_sla.linalg.distributed.partition import choose_parts


def whole() -> tuple[SparseTensor, torch.Tensor]:
    A, _ = programs.matrix("irregular")
    return A, programs.rhs(A.shape[-1], A.dtype)


def test_local_vectors() -> None:
    A, x = whole()
    D = A.partition(4)
    assert len(D) == D.num_partitions == len(D.to_list()) == 4
    pieces = D.scatter_local(x)
    for part, piece in zip(D, pieces, strict=True):
        assert isinstance(part, DSparseMatrix)
        assert piece.shape == (part.num_local,)
        assert part.num_local == part.num_owned + part.num_halo
        torch.testing.assert_close(piece, x[part.local_to_global])
        torch.testing.assert_close(part.matvec(piece), (A @ x)[part.owned_nodes])
    assert torch.equal(D.gather_global(pieces), x)
    stale = [piece.clone() for piece in pieces]
    for part, piece in zip(D, stale, strict=True):
        piece[part.num_owned :] = 0
    for fresh, piece in zip(D.halo_exchange_local(stale), pieces, strict=True):
        assert torch.equal(fresh, piece)
    torch.testing.assert_close(D.gather_global(D.matvec_all(stale)), A @ x)
    without = D.gather_global(D.matvec_all(stale, exchange_halo=False))
    assert not torch.allclose(without, A @ x)
    with pytest.raises(IndexError, match="parts 0 to 3"):
        D[4]
    assert D[-1].partition_id == 3
    with pytest.raises(ArgumentError, match="halo_exchange_local"):
        D[0].halo_exchange(pieces[0])
    with pytest.raises(ArgumentError, match="4 local vectors"):
        D.gather_global(pieces[:3])


def test_subdomains_alone() -> None:
    A, x = whole()
    dense = A.to_dense()
    D = A.partition(3, partition_method="simple")
    found = D.solve_all([x[part.owned_nodes] for part in D])
    for part, y in zip(D, found, strict=True):
        own = part.owned_nodes
        torch.testing.assert_close(dense[own][:, own] @ y, x[own])
    one = DSparseMatrix.from_global(
        A.values, A.row_indices, A.col_indices, tuple(A.shape), 3, 1, partition_method="simple"
    )
    assert one.global_shape == tuple(A.shape)
    assert not one.connected
    torch.testing.assert_close(one.solve(x[one.owned_nodes]), found[1])


def test_local_vectors_carry_gradients() -> None:
    A, x = whole()
    leaf = x.clone().requires_grad_()
    D = A.partition(5)
    pieces = D.matvec_all(D.scatter_local(leaf))
    (D.gather_global(pieces) ** 3).sum().backward()
    expected = x.clone().requires_grad_()
    ((A @ expected) ** 3).sum().backward()
    torch.testing.assert_close(leaf.grad, expected.grad)


def test_there_and_back() -> None:
    A, _ = whole()
    D = DSparseTensor.from_sparse_tensor(A, 4)
    torch.testing.assert_close(D.to_dense(), A.to_dense())
    back = D.to_sparse_tensor()
    torch.testing.assert_close(back.to_dense(), A.to_dense())
    torch.testing.assert_close(D.H().to_dense(), A.to_dense().mH)
    torch.testing.assert_close(D.trace(), A.to_dense().trace())
    large = SparseTensor.eye(4001, dtype=torch.float32).partition(2)
    with pytest.warns(UserWarning, match="gathers all parts"):
        large.to_dense()


def test_blocks_stay_in_one_part() -> None:
    i = torch.arange(6)
    values = torch.eye(2, dtype=torch.float64) * 3 + 0.1
    A = SparseTensor(values.expand(6, 2, 2).contiguous(), i, i, (6, 6, 2, 2))
    D = A.partition(3)
    for part in D:
        assert torch.equal(part.owned_nodes[1::2], part.owned_nodes[::2] + 1)
    b = torch.arange(12.0, dtype=torch.float64)
    torch.testing.assert_close(D.solve(b), A.solve(b))


@pytest.mark.parametrize("method", ["auto", "metis", "coordinates", "simple", "rcb", "contiguous"])
def test_cuts(method: str) -> None:
    if method == "metis":
        pytest.importorskip("pymetis")
    A, points = programs.matrix("irregular")
    n = A.shape[-1]
    part = choose_parts(A.row_indices, A.col_indices, n, 4, coords=points, method=method)
    counts = torch.bincount(part, minlength=4)
    assert int(counts.min()) > 0.7 * n / 4
    assert choose_parts(A.row_indices, A.col_indices, n, 2 * n, method="auto").max() < 2 * n


def test_cuts_that_cannot_be() -> None:
    A, points = programs.matrix("tiny")
    with pytest.raises(ArgumentError, match="needs `coords`"):
        A.partition(2, partition_method="coordinates")
    with pytest.raises(ArgumentError, match="`partition_method` must be"):
        A.partition(2, partition_method="scotch")
    with pytest.raises(ArgumentError, match="`coords` must be"):
        A.partition(2, coords=points[:2])
    D = A.declare(coordinates=points).partition(2, partition_method="coordinates")
    assert sum(p.num_owned for p in D) == 3


def test_pieces() -> None:
    found, (A, _) = programs.assembled(None, 3), programs.matrix("irregular")
    torch.testing.assert_close(
        found["y"], A @ programs.rhs(A.shape[-1], A.dtype), rtol=1e-8, atol=1e-8
    )
    i = torch.arange(4)
    ones = torch.ones(4, dtype=torch.float64)
    for owned, what in (
        ([i[:2], i[1:]], "exactly one part"),
        ([i[:2], i[3:]], "exactly one part"),
        ([i[:2], i[2:] + 1], r"names in \[0, 4\)"),
        ([i], "for 2 parts"),
    ):
        with pytest.raises(ArgumentError, match=what):
            DSparseTensor.from_local(ones, i, i, (4, 4), owned, comm=InProcess(2))


def test_several_values_on_one_cut() -> None:
    A, x = whole()
    D = A.partition(3)
    E = D.with_values(2 * D.values)
    torch.testing.assert_close(E @ x, 2 * (A @ x))
    assert E.sharding is D.sharding
    with pytest.raises(ArgumentError, match="`values` must be"):
        D.with_values(D.values[:3])


def test_vectors() -> None:
    A, x = whole()
    D = A.partition(3)
    v = D.vector(x)
    assert v.shape == x.shape
    assert torch.equal(v.full_tensor(), x)
    for function in (
        lambda v: 2 - v / 3 + 1 / (2 + v * v),
        lambda v: torch.where(v > 0, v, -v) ** 2,
        lambda v: torch.exp(-v.abs()) * torch.maximum(v, v * 0.5),
        lambda v: v.map(lambda t, w: t * w[0] + w[1], torch.tensor([2.0, 3.0]).double()),
    ):
        local = function(v)
        assert isinstance(local, DVector)
        torch.testing.assert_close(local.full_tensor(), _plain(function, x))
    assert float(v.min()) == float(x.min())
    assert float(D.zeros(2).norm().sum()) == 0
    assert D.vector(torch.full_like(x, torch.nan)).norm().isnan()
    for size in (2.0**700, 2.0**-700):  # whose square is out of range
        far = D.vector((size * x).requires_grad_())
        torch.testing.assert_close(far.norm() / size, x.norm())
        (g,) = torch.autograd.grad(far.norm(), far.local)
        torch.testing.assert_close(g, far.local.detach() / far.norm().detach())
        far_matrix = (A * size).partition(4)
        torch.testing.assert_close(far_matrix.norm() / size, torch.linalg.norm(A.to_dense()))
    zero = D.vector(torch.zeros_like(x).requires_grad_())
    (g,) = torch.autograd.grad(zero.norm(), zero.local)
    assert not g.any()
    with pytest.raises(ArgumentError, match="not a function of each entry"):
        torch.cumsum(v, 0)
    with pytest.raises(ArgumentError, match="does not say which parts"):
        v + x
    with pytest.raises(ArgumentError, match="different parts"):
        v + A.partition(2).vector(x)
    with pytest.raises(ArgumentError, match="entries of the whole"):
        D.vector(x[:7])


def _plain(function: object, x: torch.Tensor) -> torch.Tensor:
    class Plain(torch.Tensor):
        def map(self, function, *others):
            return function(self.as_subclass(torch.Tensor), *others)

    return function(x.as_subclass(Plain)).as_subclass(torch.Tensor)  # type: ignore[operator]


def test_the_report_says_what_was_done(caplog: pytest.LogCaptureFixture) -> None:
    A, x = whole()
    with caplog.at_level("INFO", logger="torch_sla"):
        D = A.partition(3, verbose=True)
        _, info = D.solve(x, info=True, verbose=True)
    assert "owned" in caplog.text
    assert info.method == "cg"
    assert 0 < len(info.history) == info.iterations
    assert "3 parts" in repr(D)
    assert "owned=" in repr(D[0])
    assert "DVector" in repr(D.vector(x))


def test_a_gathered_vector_has_gradients() -> None:
    A = SparseTensor.tridiagonal(
        *(torch.tensor([v] * n).double() for v, n in ((-1.0, 8), (3.0, 9), (-1.0, 8)))
    )
    values = A.values.clone().requires_grad_()
    D = DSparseTensor(values, A.row_indices, A.col_indices, (9, 9), 3)
    weights = torch.linspace(1, 2, 9, dtype=torch.float64)
    (weights * D.diagonal().full_tensor()).sum().backward()
    torch.testing.assert_close(
        values.grad, (A.row_indices == A.col_indices) * weights[A.row_indices]
    )


@pytest.mark.parametrize("preconditioner", ["jacobi", "schwarz"])
def test_indefinite_preconditioners_of_indefinite_matrices_go_to_gmres(preconditioner: str) -> None:
    g = torch.Generator().manual_seed(1)
    dense = torch.randn(20, 20, dtype=torch.float64, generator=g)
    A = SparseTensor.from_dense(dense + dense.T)
    b = torch.ones(20, dtype=torch.float64)
    x, info = A.partition(2).solve(b, preconditioner=preconditioner, info=True)
    assert info.method == "gmres"
    torch.testing.assert_close(A @ x, b, rtol=1e-8, atol=1e-8)


def test_parts_and_positions_of_the_wrong_type() -> None:
    with pytest.raises(ArgumentError, match="num_partitions"):
        SparseTensor.eye(4).partition(2.5)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="`row` must be a tensor"):
        DSparseTensor(torch.ones(1), [0], torch.tensor([0]), (1, 1))  # type: ignore[arg-type]


@pytest.mark.skipif(
    torch.__version__ < (2, 7), reason="torch 2.6 fails to differentiate concatenated parts in vmap"
)
def test_products_are_mapped_over() -> None:
    A, _ = whole()
    D, n = A.partition(3), A.shape[-1]
    X = torch.randn(4, n, dtype=A.dtype, generator=torch.Generator().manual_seed(2))
    expected = (A @ X.T).T
    torch.testing.assert_close(torch.func.vmap(lambda x: D @ x)(X), expected)
    torch.testing.assert_close(torch.func.vmap(lambda x: D @ x, in_dims=1)(X.T), expected)
    each = torch.func.vmap(torch.func.grad(lambda x: (D @ x).pow(3).sum()))(X)
    torch.testing.assert_close(each, (A.T() @ (3 * expected.T**2)).T)


def test_solves_refuse_to_be_mapped_over_matrices() -> None:
    A, _ = whole()
    b = torch.ones(A.shape[-1], dtype=A.dtype)

    def loss(v: torch.Tensor) -> torch.Tensor:
        return (A.from_pattern(A.pattern, v).partition(2).solve_distributed(b) ** 3).sum()

    v = A.values.detach()
    given = v.clone().requires_grad_()
    torch.testing.assert_close(torch.func.grad(loss)(v), torch.autograd.grad(loss(given), given)[0])
    for many in (torch.func.vmap(loss), torch.func.vmap(torch.func.grad(loss))):
        with pytest.raises(ArgumentError, match="parts"):
            many(torch.stack([v, 2 * v]))


@pytest.mark.parametrize("kept", [torch.inf, torch.nan])
def test_norms_of_infinite_entries(kept: float) -> None:
    values = torch.tensor([1.0, torch.inf, -torch.inf, kept, 3.0], dtype=torch.float64)
    where = (torch.tensor([0, 1, 2, 2, 3]), torch.tensor([0, 0, 3, 2, 1]), (4, 4))
    D, dense = DSparseTensor(values, *where, 2), SparseTensor(values, *where).to_dense()
    for order in ("fro", 1, torch.inf):
        wanted = torch.linalg.matrix_norm(dense, order)  # type: ignore[arg-type]
        torch.testing.assert_close(D.norm(order), wanted, equal_nan=True)
