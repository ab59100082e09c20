"""Gradients of matrix values that stay two vectors until somebody needs their entries."""

from __future__ import annotations

import copy
import io
from typing import ClassVar

import pytest
import torch

from torch_sla.linalg import Pattern, SparseTensor
from torch_sla.linalg.adjoint.products import Products


class Taken(torch.autograd.Function):
    """The identity, which takes products and says what came."""

    takes_products = True
    came: ClassVar[list[type]] = []

    @staticmethod
    def forward(x):
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, grad):
        Taken.came.append(type(grad))
        return 1.0 * grad


@pytest.fixture(autouse=True)
def _nothing_came():
    Taken.came.clear()


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(5)


@pytest.fixture
def pattern():
    i = torch.arange(12)
    row, col = torch.cat([i, i[1:], i[:-1]]), torch.cat([i, i[:-1], i[1:]])
    order = (12 * row + col).argsort()
    return Pattern.from_coo(row[order], col[order], (12, 12))


@pytest.fixture
def product(pattern, generator):
    factors = (torch.randn(12, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    return Products(*factors, pattern)


def values_of(pattern, x):
    return torch.where(pattern.csr_row == pattern.ccol, 4.0, -1.0) * x


def test_entries(product, pattern):
    whole = (product.left @ product.right.T)[pattern.row, pattern.col]
    torch.testing.assert_close(product.entries(), whole)


def test_written_into_it_is_its_entries(product, pattern):
    assert product.on(pattern)
    twice = 2 * product.entries()
    product.mul_(2)
    assert not product.on(pattern)
    torch.testing.assert_close(product.entries(), twice, rtol=0, atol=0)
    torch.testing.assert_close(product[None].squeeze(0) + 0.0, twice, rtol=0, atol=0)


def test_what_touches_it_sees_a_tensor(product):
    entries = product.entries()
    for f in (
        torch.Tensor.tolist,
        torch.Tensor.numpy,
        lambda x: 2 * x + x.sum(),
        lambda x: x[3],
        lambda x: torch.stack([x, x]),
        copy.deepcopy,
        lambda x: x.reshape(2, -1),
    ):
        mine, theirs = f(product), f(entries)
        assert type(mine) is type(theirs)
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    assert product.shape == entries.shape
    assert (product.dtype, product.device, product.requires_grad) == (
        entries.dtype,
        entries.device,
        False,
    )
    assert repr(product) == repr(entries)
    file = io.BytesIO()
    torch.save(product, file)
    file.seek(0)
    assert torch.equal(torch.load(file), entries)


@pytest.mark.parametrize(
    ("through", "came"),
    [
        (lambda v: v, Products),
        (lambda v: v[None].squeeze(0), Products),
        (lambda v: v + 1.0, Products),
        (lambda v: v + torch.zeros((), dtype=v.dtype).requires_grad_(), Products),
        (lambda v: v.index_add(0, torch.tensor([0]), torch.ones(1, dtype=v.dtype)), Products),
        (lambda v: v * 2.0, torch.Tensor),
        (lambda v: v.flip(0).flip(0), torch.Tensor),
    ],
)
def test_sent_where_it_is_taken(pattern, generator, through, came):
    b = torch.randn(12, generator=generator, dtype=torch.float64)
    x = torch.ones(pattern.nnz_csr, dtype=torch.float64).requires_grad_()

    def loss(take):
        u = SparseTensor.from_pattern(pattern, through(take(values_of(pattern, x)))).solve(b)
        return u.pow(3).sum()

    mine = torch.autograd.grad(loss(Taken.apply), x)[0]
    assert Taken.came == [came]
    torch.testing.assert_close(mine, torch.autograd.grad(loss(lambda v: v), x)[0])


def test_entries_where_several_meet_or_look(pattern, generator):
    b = torch.randn(12, generator=generator, dtype=torch.float64)
    x = torch.ones(pattern.nnz_csr, dtype=torch.float64).requires_grad_()

    def twice(take, hook=None):
        values = take(values_of(pattern, x))
        if hook is not None:
            values.register_hook(hook)
        A = SparseTensor.from_pattern(pattern, values)
        return A.solve(A.solve(b)).pow(3).sum()

    mine = torch.autograd.grad(twice(Taken.apply), x)[0]
    torch.testing.assert_close(mine, torch.autograd.grad(twice(lambda v: v), x)[0])
    doubled = torch.autograd.grad(twice(Taken.apply, lambda g: 2 * g), x)[0]
    torch.testing.assert_close(doubled, 2 * mine)
    many = SparseTensor.from_pattern(pattern, Taken.apply(values_of(pattern, x)))
    Taken.came.clear()
    many.solve(torch.randn(12, 5, generator=generator, dtype=torch.float64)).sum().backward()
    assert Taken.came == [torch.Tensor]


def test_hooks_may_write(pattern, generator):
    b = torch.randn(12, generator=generator, dtype=torch.float64)
    x = torch.ones(pattern.nnz_csr, dtype=torch.float64).requires_grad_()

    def gradient(hook):
        values = Taken.apply(values_of(pattern, x))[None].squeeze(0)
        values.register_hook(hook)
        loss = SparseTensor.from_pattern(pattern, values).solve(b).pow(3).sum()
        return torch.autograd.grad(loss, x)[0]

    def double(grad):
        grad.mul_(2)  # and returns nothing

    assert torch.equal(gradient(double), 2 * gradient(lambda grad: None))
    assert Taken.came == [torch.Tensor, Products]


def test_leaves_and_graphs_get_tensors(pattern, generator):
    b = torch.randn(12, generator=generator, dtype=torch.float64)
    x = values_of(pattern, torch.ones(pattern.nnz_csr, dtype=torch.float64)).requires_grad_()

    def loss(x):
        return SparseTensor.from_pattern(pattern, Taken.apply(x)).solve(b).pow(3).sum()

    assert type(torch.autograd.grad(loss(x), x)[0]) is torch.Tensor
    SparseTensor.from_pattern(pattern, x).solve(b).sum().backward()
    assert type(x.grad) is torch.Tensor
    Taken.came.clear()
    assert torch.autograd.gradgradcheck(loss, x)
    assert Products not in Taken.came
