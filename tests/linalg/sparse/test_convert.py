"""Into and out of dense, torch and SciPy matrices, and pickles."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse
import torch
from torch.autograd import gradcheck, gradgradcheck

from torch_sla.errors import ArgumentError, DTypeError, GradientError, SolveError
from torch_sla.linalg import (
    SparseTensor,
    spsolve_coo,
)
from torch_sla.linalg.sparse.pattern import Pattern

DENSE = torch.tensor([[0.0, 2.0, 0.0], [1.5, 0.0, -1.0]], dtype=torch.float64)


def test_dense_and_back_keeps_the_gradient() -> None:
    A = SparseTensor.from_dense(DENSE)
    assert A.nnz == 3
    assert torch.equal(A.to_dense(), DENSE)
    batch = torch.stack([DENSE, torch.zeros_like(DENSE), -2 * DENSE])
    assert torch.equal(SparseTensor.from_dense(batch).to_dense(), batch)
    x = DENSE.clone().requires_grad_()
    (SparseTensor.from_dense(x).to_dense() ** 3).sum().backward()
    torch.testing.assert_close(x.grad, 3 * DENSE**2)


@pytest.mark.parametrize("layout", ["coo", "csr"])
def test_torch_sparse_and_back(layout: str) -> None:
    A = SparseTensor.from_dense(DENSE)
    T = A.to_torch(layout)
    assert torch.equal(T.to_dense(), DENSE)
    assert torch.equal(SparseTensor.from_torch_sparse(T).to_dense(), DENSE)


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")  # torch's own
def test_torch_blocks_are_written_out() -> None:
    values = torch.arange(1.0, 13, dtype=torch.float64).reshape(3, 2, 2).requires_grad_()
    crow, ccol = torch.tensor([0, 1, 3]), torch.tensor([0, 0, 1])
    T = torch.sparse_bsr_tensor(crow, ccol, values, (4, 4), check_invariants=True)
    A = SparseTensor.from_torch_sparse(T)
    assert torch.equal(A.to_dense(), T.to_dense())
    assert torch.equal(
        SparseTensor.from_torch_sparse(A.to_dense().to_sparse_bsc((2, 2))).to_dense(), A.to_dense()
    )
    (A.to_dense() ** 2).sum().backward()
    assert torch.equal(values.grad, 2 * values)


def test_torch_coo_is_differentiable_both_ways() -> None:
    A = SparseTensor.from_dense(DENSE)
    row, col = A.row_indices.long(), A.col_indices.long()

    def through(v: torch.Tensor) -> torch.Tensor:
        T = torch.sparse_coo_tensor(torch.stack([row, col]), v, (2, 3), check_invariants=False)
        back = SparseTensor.from_torch_sparse(T).to_torch()
        return torch.sparse.mm(back, torch.eye(3, dtype=v.dtype))

    assert gradcheck(through, (A.values.clone().requires_grad_(),))


def test_torch_coo_has_second_derivatives_or_says_that_torch_has_none() -> None:
    v = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    row, col = torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1])
    ours = {
        "entries": lambda T: SparseTensor.from_torch_sparse(T).values ** 3,
        "csr": lambda T: SparseTensor.from_torch_sparse(T.to_sparse_csr()).values ** 3,
        "dense": lambda T: T.to_dense() ** 3,
        "sum of others": lambda T: (
            (2 * T + torch.eye(2, dtype=v.dtype).to_sparse()).to_dense() ** 3
        ),
        "solve": lambda T: spsolve_coo(T, torch.ones(2, dtype=v.dtype)),
    }
    for name, function in ours.items():
        f = lambda v, g=function: g(SparseTensor(v, row, col, (2, 2)).to_torch())  # noqa: E731
        assert gradgradcheck(f, (v,)), name
    theirs = torch.sparse_coo_tensor(torch.stack([row, col]), v, (2, 2), check_invariants=True)
    for T in (theirs, 2 * theirs.coalesce()):
        y = (SparseTensor.from_torch_sparse(T).values ** 3).sum()
        assert torch.autograd.grad(y, v, retain_graph=True)[0].all()
        with pytest.raises(GradientError, match="no derivative"):
            torch.autograd.grad(y, v, create_graph=True)
    with pytest.raises(GradientError, match="no forward mode"):
        torch.func.jvp(
            lambda v: SparseTensor(v, row, col, (2, 2)).to_torch().to_dense(), (v,), (v,)
        )
    leaf = theirs.detach().coalesce().requires_grad_()  # a matrix that is a leaf has both
    y = (SparseTensor.from_torch_sparse(leaf).values ** 3).sum()
    (g,) = torch.autograd.grad(y, leaf, create_graph=True)
    (h,) = torch.autograd.grad((SparseTensor.from_torch_sparse(g).values ** 2).sum(), leaf)
    torch.testing.assert_close(h.coalesce().values(), (36 * v**3).detach())


@pytest.mark.parametrize("format", ["csr", "csc", "coo", "lil"])
def test_scipy_and_back(format: str) -> None:
    A = SparseTensor.from_dense(DENSE)
    S = A.to_scipy(format)
    assert S.format == format
    assert np.array_equal(S.toarray(), DENSE.numpy())
    assert torch.equal(SparseTensor.from_scipy(S).to_dense(), DENSE)
    with pytest.raises(DTypeError, match="dtype"):
        SparseTensor.from_scipy(scipy.sparse.csr_array(np.eye(2, dtype=int)))


def test_csr_arrays() -> None:
    crow, col, values = SparseTensor.from_dense(DENSE).to_csr()
    assert crow.tolist() == [0, 1, 3]
    assert col.tolist() == [1, 0, 2]
    assert values.tolist() == [2.0, 1.5, -1.0]


def test_a_diagonal_that_is_no_tensor_is_refused() -> None:
    for given in ([1.0, 2.0], 3, np.ones(2)):
        with pytest.raises(ArgumentError, match=f"`diagonal` .* got {type(given).__name__}"):
            SparseTensor.diag(given)


def test_families() -> None:
    d = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    assert torch.equal(SparseTensor.diag(d).to_dense(), torch.diag(d))
    assert torch.equal(SparseTensor.diag(d, -2).to_dense(), torch.diag(d, -2))
    assert torch.equal(SparseTensor.eye(3, 2).to_dense(), torch.eye(3, 2))
    low, up = torch.tensor([4.0, 5.0]).double(), torch.tensor([6.0, 7.0]).double()
    T = SparseTensor.tridiagonal(low, d, up).to_dense()
    assert torch.equal(T, torch.diag(d) + torch.diag(low, -1) + torch.diag(up, 1))
    assert gradcheck(
        lambda a, b, c: SparseTensor.tridiagonal(a, b, c).to_dense(),
        tuple(t.clone().requires_grad_() for t in (low, d, up)),
    )
    with pytest.raises(ArgumentError, match="upper"):
        SparseTensor.tridiagonal(low, d, d)


def test_numbers_in_bands_have_all_digits() -> None:
    d = torch.full((3,), 2.0, dtype=torch.float64)
    assert (
        SparseTensor.tridiagonal(0.1, d, -0.3).values.tolist() == [0.1] * 2 + [2.0] * 3 + [-0.3] * 2
    )
    assert SparseTensor.tridiagonal(0.1, d.float(), 0.1).dtype == torch.float32
    assert SparseTensor.tridiagonal(0.1j, d, 0.1).values[:2].tolist() == [0.1j] * 2
    assert SparseTensor.tridiagonal(-1, d[:0].expand(2, 0), -1).shape == (2, 0, 0)


def test_blocks_there_and_back() -> None:
    pattern = Pattern.from_coo(torch.tensor([0, 1]), torch.tensor([1, 0]), (2, 3), (2, 2))
    A = SparseTensor.from_pattern(pattern, torch.randn(2, 2, 2, dtype=torch.float64))
    flat = A.flatten_blocks()
    assert flat.shape == (4, 6)
    back = flat.unflatten_blocks((2, 2))
    assert torch.equal(back.values, A.values)
    partial = SparseTensor.from_dense(DENSE).unflatten_blocks((2, 3))
    assert torch.equal(partial.to_dense(), DENSE)
    with pytest.raises(ArgumentError, match="divide"):
        flat.unflatten_blocks(5)


def test_pickle_copy_and_print() -> None:
    A = SparseTensor.from_dense(DENSE).requires_grad_()
    for B in (pickle.loads(pickle.dumps(A)), copy.deepcopy(A)):
        assert torch.equal(A.to_dense(), B.to_dense())
        assert B.requires_grad
    assert repr(A) == (
        "SparseTensor(shape=(2, 3), nnz=3, dtype=torch.float64, device=cpu, requires_grad=True)"
    )


def test_questions_leave_the_pattern_alone() -> None:
    # Stored zeros are left out of graphs, which must not rewrite the arrays that patterns share.
    row, col = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 1, 1, 0, 1, 2])
    A = SparseTensor(torch.tensor([1.0, 0.0, 2.0, 0.0, 0.0, 3.0]), row, col, (3, 3))
    before = A.pattern.crow.clone(), A.pattern.ccol.clone()
    assert A.connected_components()[1] == 3
    for method in ("superlu", "lu"):
        A.solve(torch.ones(3), method=method)
        singular = SparseTensor.from_pattern(A.pattern, A.values * (A.row_indices != 1))
        with pytest.raises(SolveError):
            singular.solve(torch.ones(3), method=method)
    assert torch.equal(A.pattern.crow, before[0])
    assert torch.equal(A.pattern.ccol, before[1])


def test_numbers_that_torch_does_not_have_are_named() -> None:
    with pytest.raises(DTypeError, match="which torch does not have"):
        SparseTensor.from_scipy(scipy.sparse.eye(2, dtype=np.longdouble))


def test_an_identity_of_fewer_than_no_rows_is_refused() -> None:
    with pytest.raises(ArgumentError, match="two non-negative integers"):
        SparseTensor.eye(-3)


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")  # torch's own
def test_torch_matrices_of_more_dimensions_are_refused() -> None:
    for T in (torch.ones(2, 3, 3).to_sparse_csc(), torch.ones(2, 3, 3).to_sparse(2)):
        with pytest.raises(ArgumentError, match="two sparse and no dense"):
            SparseTensor.from_torch_sparse(T)
