"""Sums and products of sparse tensors against dense torch, with derivatives of first and second order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from torch_sla.errors import ArgumentError
from torch_sla.linalg import SparseTensor, SparseTensorList, quadratic_eigs
from torch_sla.linalg.kernels import spgemm
from torch_sla.linalg.sparse.pattern import Pattern

M, N = 5, 4


def entries(nnz: int, rows: int, columns: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Coordinates with repetitions, in no order."""
    g = torch.Generator().manual_seed(seed)
    return torch.randint(rows, (nnz,), generator=g), torch.randint(columns, (nnz,), generator=g)


def sample(
    dtype: torch.dtype, *batch: int, rows: int = M, columns: int = N, seed: int = 11, nnz: int = 9
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, tuple[int, ...]]:
    row, col = entries(nnz, rows, columns, seed)
    g = torch.Generator().manual_seed(seed + 1)
    values = torch.randn(*batch, nnz, dtype=dtype, generator=g)
    return values, row, col, (*batch, rows, columns)


def make(values: torch.Tensor, row: torch.Tensor, col: torch.Tensor, shape: tuple) -> SparseTensor:
    return SparseTensor(values, row, col, shape)


OPERATIONS = {
    "add": lambda A, B: A + B,
    "subtract": lambda A, B: A - B,
    "multiply": lambda A, B: A * B,
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128, torch.float32])
@pytest.mark.parametrize("batches", [((), ()), ((3,), ()), ((2, 3), (3,))])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_different_patterns_meet(operation: str, batches: tuple, dtype: torch.dtype) -> None:
    A = make(*sample(dtype, *batches[0]))
    B = make(*sample(dtype, *batches[1], seed=23))
    function = OPERATIONS[operation]
    out = function(A, B)
    torch.testing.assert_close(out.to_dense(), function(A.to_dense(), B.to_dense()))
    assert out.pattern.entries is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_derivatives_of_sums_and_products(operation: str, dtype: torch.dtype) -> None:
    a, ra, ca, shape = sample(dtype)
    b, rb, cb, _ = sample(dtype, seed=23)
    function = OPERATIONS[operation]

    def dense(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return function(make(x, ra, ca, shape), make(y, rb, cb, shape)).values[:4]

    inputs = (a.requires_grad_(), b.requires_grad_())
    assert gradcheck(dense, inputs, check_forward_ad=True)
    assert gradgradcheck(dense, inputs)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64])
@pytest.mark.parametrize("batches", [((), ()), ((3,), ()), ((), (2,)), ((2, 3), (3,))])
def test_sparse_times_sparse(
    batches: tuple, dtype: torch.dtype, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(spgemm, "_compiled", None)
    A = make(*sample(dtype, *batches[0]))
    B = make(*sample(dtype, *batches[1], rows=N, columns=6, seed=5))
    C = A @ B
    assert isinstance(C, SparseTensor)
    torch.testing.assert_close(C.to_dense(), A.to_dense() @ B.to_dense())


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("batches", [((), ()), ((2,), ())])
def test_derivatives_of_sparse_times_sparse(batches: tuple, dtype: torch.dtype) -> None:
    a, ra, ca, sa = sample(dtype, *batches[0])
    b, rb, cb, sb = sample(dtype, *batches[1], rows=N, columns=6, seed=5)

    def product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (make(x, ra, ca, sa) @ make(y, rb, cb, sb)).values[..., :4]

    inputs = (a.requires_grad_(), b.requires_grad_())
    assert gradcheck(product, inputs, check_forward_ad=True)
    assert gradgradcheck(product, inputs)


def test_vmap_of_grad_through_a_sparse_product() -> None:
    a, ra, ca, sa = sample(torch.float64)
    b, rb, cb, sb = sample(torch.float64, rows=N, columns=6, seed=5)
    many = torch.randn(4, a.numel(), dtype=torch.float64)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return ((make(x, ra, ca, sa) @ make(b, rb, cb, sb)).values ** 3).sum()

    both = torch.func.vmap(torch.func.grad(loss))(many)
    torch.testing.assert_close(both, torch.stack([torch.func.grad(loss)(x) for x in many]))


def test_empty_rows_columns_and_nothing_at_all() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    A = SparseTensor(torch.zeros(0), none, none, (3, 4))
    B = SparseTensor(torch.ones(1), torch.tensor([3]), torch.tensor([1]), (4, 2))
    assert (A @ B).nnz == 0
    assert (A + A).nnz == 0
    assert torch.equal((B * B).to_dense(), B.to_dense())
    assert (SparseTensor(torch.zeros(0), none, none, (0, 0)) @ SparseTensor.eye(0)).shape == (0, 0)


@pytest.mark.parametrize("batch", [(), (3,)])
def test_dense_times_sparse(batch: tuple[int, ...]) -> None:
    values, row, col, shape = sample(torch.float64, *batch)
    A = make(values, row, col, shape)
    x, X = torch.randn(M, dtype=torch.float64), torch.randn(2, M, dtype=torch.float64)
    torch.testing.assert_close(x @ A, torch.einsum("m,...mn->...n", x, A.to_dense()))
    torch.testing.assert_close(X @ A, X @ A.to_dense())
    assert gradcheck(
        lambda v, y: y @ make(v, row, col, shape),
        (values.requires_grad_(), X.requires_grad_()),
    )


def test_a_batch_of_vectors_wins_over_shared_columns() -> None:
    # With as many members as columns both readings fit; solve reads vectors, and so does this.
    values, row, col, shape = sample(torch.float64, N, rows=N, columns=N)
    A = make(values, row, col, shape)
    x = torch.randn(N, N, dtype=torch.float64)
    torch.testing.assert_close(A @ x, torch.einsum("bmn,bn->bm", A.to_dense(), x))


@pytest.mark.parametrize("scale", [(M, 1), (1, N), (M, N), (2, 1, 1), (1, 1)])
def test_scaling_by_a_broadcasting_dense_factor(scale: tuple[int, ...]) -> None:
    A = make(*sample(torch.float64))
    s = torch.rand(scale, dtype=torch.float64) + 0.5
    torch.testing.assert_close((A * s).to_dense(), A.to_dense() * s)
    torch.testing.assert_close((s * A).to_dense(), A.to_dense() * s)
    torch.testing.assert_close((A / s).to_dense(), A.to_dense() / s)


def test_scalars_keep_their_graph() -> None:
    values, row, col, shape = sample(torch.float64)
    s = torch.tensor(2.5, dtype=torch.float64, requires_grad=True)
    assert gradcheck(
        lambda v, t: ((make(v, row, col, shape) * t) / (t + 1)).to_dense(),
        (values.requires_grad_(), s),
    )


def test_blocks_take_part() -> None:
    pattern = Pattern.from_coo(torch.tensor([0, 1, 1]), torch.tensor([1, 0, 1]), (2, 2), (2, 3))
    other = Pattern.from_coo(torch.tensor([0, 1]), torch.tensor([0, 1]), (2, 2), (2, 3))
    A = SparseTensor.from_pattern(pattern, torch.randn(3, 2, 3, dtype=torch.float64))
    B = SparseTensor.from_pattern(other, torch.randn(2, 2, 3, dtype=torch.float64))
    assert (A + B).block_shape == (2, 3)
    torch.testing.assert_close((A + B).to_dense(), A.to_dense() + B.to_dense())
    torch.testing.assert_close((A * B).to_dense(), A.to_dense() * B.to_dense())
    torch.testing.assert_close((A @ B.T()).to_dense(), A.to_dense() @ B.to_dense().T)
    flat = B.flatten_blocks()
    torch.testing.assert_close((A + flat).to_dense(), A.to_dense() + B.to_dense())


def test_what_would_fill_the_matrix_is_refused() -> None:
    A = make(*sample(torch.float64))
    for wrong in (lambda: A + 1.0, lambda: A - torch.ones(M, N), lambda: 1.0 - A, lambda: A / A):
        with pytest.raises(ArgumentError):
            wrong()
    with pytest.raises(ArgumentError, match="shapes"):
        A + make(*sample(torch.float64, rows=M + 1))
    with pytest.raises(ArgumentError, match="shapes"):
        A @ A
    with pytest.raises(ArgumentError, match="broadcast"):
        A * torch.ones(M)
    with pytest.raises(ArgumentError, match="x @ A"):
        torch.tensor(2.0) @ A


def test_batches_that_do_not_broadcast_are_named() -> None:
    A = SparseTensor.from_dense(torch.eye(3).expand(2, 3, 3))
    three = torch.ones(3, 3, 3)
    for wrong in (
        lambda: A * three,
        lambda: A / three,
        lambda: three @ A,
        lambda: A @ three,
        lambda: A @ SparseTensor.from_dense(three),
        lambda: A + SparseTensor.from_dense(three),
        lambda: A.solve(three),
        lambda: quadratic_eigs(A, A, SparseTensor.from_dense(three), k=1),
        lambda: SparseTensor.tridiagonal(-1.0, torch.ones(2, 3), torch.ones(3, 2)),
    ):
        with pytest.raises(ArgumentError, match=r"batch dimensions of .* do not broadcast: "):
            wrong()


def test_arrays_of_numpy_are_no_factors() -> None:
    A = SparseTensor.from_dense(torch.tensor([[1.0, 2.0], [0.0, 3.0]], dtype=torch.float64))
    for array in (np.ones((2, 1)), np.ones(A.nnz), [1.0, 2.0, 3.0]):
        for product in (lambda x: A * x, lambda x: x * A, lambda x: A / x):
            with pytest.raises(ArgumentError, match=r"torch\.as_tensor"):
                product(array)
    with pytest.raises(TypeError):
        np.ones(2) @ A
    two = np.float64(2.0) * SparseTensorList([A])
    assert isinstance(two, SparseTensorList)
    for B in (
        np.float64(2.0) * A,
        A * np.float64(2.0),
        A / np.float64(0.5),
        np.array(2.0) * A,
        two[0],
    ):
        assert torch.equal(B.to_dense(), 2 * A.to_dense())


def test_a_list_can_be_summed() -> None:
    A = make(*sample(torch.float64))
    torch.testing.assert_close(sum([A, A, A]).to_dense(), 3 * A.to_dense())


def test_products_of_an_empty_batch_and_one_matrix() -> None:
    A = SparseTensor(*sample(torch.float64, 0))
    B = SparseTensor(*sample(torch.float64, rows=N, columns=3, seed=5))
    for product, shape in ((A @ B, (0, M, 3)), (B.T() @ A.T(), (0, 3, M))):
        assert product.to_dense().shape == shape


def test_what_is_largest_among_no_entries_is_not_detached() -> None:
    values = torch.zeros(2, 0, dtype=torch.float64, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    A = SparseTensor(values, none, none, (2, M, N))
    for found, value in ((A.max(), -torch.inf), (A.min(), torch.inf), (A.prod(), 1.0)):
        assert found.tolist() == [value, value]
        assert torch.autograd.grad(found.sum(), values)[0].shape == values.shape


def test_a_list_of_a_generator_has_its_members() -> None:
    made = SparseTensorList(n * SparseTensor.eye(n) for n in (2, 3))
    assert made.shapes == [(2, 2), (3, 3)]


def test_factors_on_another_device_are_named() -> None:
    A = SparseTensor.from_dense(2 * torch.eye(2, dtype=torch.float64))
    x, away = (torch.ones(2, dtype=torch.float64, device=d) for d in ("cpu", "meta"))
    for verb, name in (
        (lambda: A @ away, "x"),
        (lambda: away @ A, "x"),
        (lambda: A.solve(away), "b"),
        (lambda: A.solve(x, method="cg", x0=away), "x0"),
    ):
        with pytest.raises(ArgumentError, match=f"`{name}` must be on the device of the matrix"):
            verb()
