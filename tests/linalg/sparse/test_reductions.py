"""Reductions, norms and functions of entries, duplicates included, against dense torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from torch_sla.errors import ArgumentError, DTypeError
from torch_sla.linalg import SparseTensor

ROW = torch.tensor([0, 0, 1, 2, 2, 2, 3, 0])
COL = torch.tensor([0, 2, 1, 0, 2, 4, 3, 0])
SHAPE = (5, 5)  # row 4 is empty; (0, 0) is given twice


def matrix(values: torch.Tensor) -> SparseTensor:
    return SparseTensor(values, ROW, COL, (*values.shape[:-1], *SHAPE))


def sample(dtype: torch.dtype = torch.float64, *batch: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(31)
    return torch.randn(*batch, len(ROW), dtype=dtype, generator=g)


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("dim", [None, -1, -2])
@pytest.mark.parametrize("name", ["sum", "mean", "prod", "amax", "amin"])
def test_over_all_positions_equals_dense(name: str, dim: int | None, batch: tuple) -> None:
    A = matrix(sample(torch.float64, *batch))
    method = {"amax": "max", "amin": "min"}.get(name, name)
    options = {} if name == "sum" else {"stored": False}
    ours = getattr(A, method)(dim, **options)
    D = A.to_dense()
    if dim is None:
        D, dim = D.flatten(-2), -1
    torch.testing.assert_close(ours, getattr(torch, name)(D, dim))


def test_stored_entries_only() -> None:
    A = matrix(-sample().abs() - 0.1)
    v = A.csr_values
    assert A.max() == v.max()
    assert A.min() == v.min()
    torch.testing.assert_close(A.mean(), v.mean())
    torch.testing.assert_close(A.prod(), v.prod())
    rows = A.max(dim=1)
    assert rows[4] == float("-inf")
    assert A.prod(dim=1)[4] == 1
    assert torch.isnan(A.mean(dim=1)[4])


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "max", "min"])
@pytest.mark.parametrize("dim", [None, 0])
def test_derivatives_of_reductions(name: str, dim: int | None) -> None:
    def reduce(v: torch.Tensor) -> torch.Tensor:
        out = getattr(matrix(v), name)(dim)
        return out[torch.isfinite(out.detach())]

    assert gradcheck(reduce, (sample().requires_grad_(),))


@pytest.mark.parametrize("ord", ["fro", 1, 2, float("inf")])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_norms(ord: str | float, dtype: torch.dtype) -> None:
    values = sample(dtype)
    A = matrix(values)
    torch.testing.assert_close(A.norm(ord), torch.linalg.matrix_norm(A.to_dense(), ord))
    assert gradcheck(lambda v: matrix(v).norm(ord), (values.requires_grad_(),))
    if ord in ("fro", 2):
        assert gradgradcheck(lambda v: matrix(v).norm(ord), (values,))


@pytest.mark.parametrize("ord", ["fro", 1, 2, float("inf")])
def test_norms_of_a_batch_and_of_nothing(ord: str | float) -> None:
    A = matrix(sample(torch.float64, 3))
    torch.testing.assert_close(A.norm(ord), torch.linalg.matrix_norm(A.to_dense(), ord))
    none = torch.zeros(0, dtype=torch.int64)
    assert SparseTensor(torch.zeros(0), none, none, (3, 2)).norm(ord) == 0


def test_duplicates_are_summed_before_a_nonlinear_function() -> None:
    A = SparseTensor(
        torch.tensor([3.0, -1.0, 2.0]), torch.tensor([0, 0, 1]), torch.tensor([0, 0, 1]), (2, 2)
    )
    assert A.abs().sum() == 4
    assert A.square().sum() == 8
    assert A.norm("fro") == pytest.approx(8**0.5)
    assert A.norm(1) == 2
    assert A.max() == 2


NAMES = [
    "abs",
    "ceil",
    "cos",
    "cosh",
    "exp",
    "expm1",
    "floor",
    "neg",
    "relu",
    "round",
    "sigmoid",
    "sign",
    "sin",
    "sinh",
    "square",
    "tan",
    "tanh",
]


@pytest.mark.parametrize("name", [*NAMES, "sqrt", "log", "log1p", "reciprocal"])
def test_functions_of_entries(name: str) -> None:
    values = sample().abs() + 0.3 if name not in NAMES else sample()
    A = matrix(values)
    function = {"sign": torch.sgn}.get(name, getattr(torch, name))
    stored = A.csr_values
    torch.testing.assert_close(getattr(A, name)().csr_values, function(stored))
    if name not in ("ceil", "floor", "round", "sign"):
        assert gradcheck(lambda v: getattr(matrix(v), name)().values, (values.requires_grad_(),))


def test_powers_limits_and_complex_parts() -> None:
    A = matrix(sample())
    torch.testing.assert_close((A**2).to_dense(), A.to_dense() ** 2)
    torch.testing.assert_close(A.clamp(min=-0.5, max=0.5).to_dense(), A.to_dense().clamp(-0.5, 0.5))
    C = matrix(sample(torch.complex128))
    torch.testing.assert_close(C.real().to_dense(), C.to_dense().real)
    torch.testing.assert_close(C.conj().to_dense(), C.to_dense().conj())
    assert abs(A).nnz == A.pattern.nnz_csr


def test_refusals() -> None:
    A = matrix(sample(torch.complex128))
    with pytest.raises(DTypeError, match="order"):
        A.max()
    for dim in (2, (0, 1), "0", 1.0):
        with pytest.raises(ArgumentError, match="dim"):
            A.sum(dim=dim)
    with pytest.raises(ArgumentError, match="ord"):
        A.norm("nuc")


def test_exponents_and_limits_have_no_dimensions() -> None:
    """With as many numbers as entries they would meet these in the order of the slots, not as given."""
    i = torch.tensor([1, 0])
    A = SparseTensor(torch.tensor([2.0, 3.0]), i, i, (2, 2))
    for many in (torch.tensor([1.0, 2.0]), np.array([1.0, 2.0]), [1.0, 2.0]):
        with pytest.raises(ArgumentError, match="`exponent` must be a number"):
            A**many
        with pytest.raises(ArgumentError, match="`min` must be a number"):
            A.clamp(min=many)
        with pytest.raises(ArgumentError, match="`max` must be a number"):
            A.clamp(0.0, many)
    two = torch.tensor(2.0, requires_grad=True)
    (A**two).sum().backward()
    torch.testing.assert_close(two.grad, sum(x**2 * torch.tensor(x).log() for x in (2.0, 3.0)))


@pytest.mark.parametrize("dim", [-2, -1])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_products_have_tangents_and_second_derivatives_at_zeros(
    dim: int, dtype: torch.dtype
) -> None:
    """torch's own reduction of products has wrong tangents, and no second derivative at a zero."""
    row = torch.tensor([0, 2, 0, 2, 2, 0, 3, 2, 2])
    col = torch.tensor([0, 1, 2, 3, 0, 3, 1, 2, 4])
    v = torch.randn(2, 9, dtype=dtype, generator=torch.Generator().manual_seed(1))
    v[0, 3] = v[1, 0] = v[1, 2] = 0
    v.requires_grad_()

    def products(v: torch.Tensor) -> torch.Tensor:
        return SparseTensor(v, row, col, (2, 5, 5)).prod(dim)

    dense = torch.ones(2, 5, 5, dtype=dtype)
    dense[:, row, col] = v.detach()
    torch.testing.assert_close(products(v.detach()), dense.prod(dim))
    assert gradcheck(products, (v,), check_forward_ad=True)
    assert gradgradcheck(products, (v,), check_fwd_over_rev=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128])
@pytest.mark.parametrize("power", [-1, 1])
def test_a_norm_is_there_where_squares_of_entries_are_out_of_range(
    dtype: torch.dtype, power: int
) -> None:
    size = 2.0 ** (power * (100 if dtype == torch.float32 else 700))
    unit = sample(dtype, 2)
    # A member of ordinary size beside one that is not.
    ends = torch.tensor([[1.0], [size]], dtype=dtype.to_real())
    for ord in ("fro", 1, float("inf")):
        plain, large = unit.clone().requires_grad_(), (ends * unit).requires_grad_()
        here, there = matrix(plain).norm(ord), matrix(large).norm(ord)
        torch.testing.assert_close(there / ends[:, 0], here)
        (g,) = torch.autograd.grad(here.sum(), plain, create_graph=True)
        (h,) = torch.autograd.grad(there.sum(), large, create_graph=True)
        torch.testing.assert_close(h, g)
        if ord == "fro":
            (g,) = torch.autograd.grad(g[:, 1].real.sum(), plain)
            (h,) = torch.autograd.grad(h[:, 1].real.sum(), large)
            torch.testing.assert_close(h * ends, g)


def test_norms_of_what_is_nothing_or_not_finite() -> None:
    values = torch.zeros(4, len(ROW), dtype=torch.float64)
    values[1, 3], values[2, 3], values[3, 3] = float("inf"), float("nan"), 5e-324
    found = matrix(values).norm()
    assert found[[0, 1, 3]].tolist() == [0.0, float("inf"), 5e-324]
    assert torch.isnan(found[2])
