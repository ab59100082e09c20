"""Gathering and summing by index."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.devices import ON_CUDA
from torch_sla.linalg.kernels.ordered import summed, taken


@pytest.mark.parametrize("device", ["cpu", ON_CUDA])
@pytest.mark.parametrize("shape", [(5,), (2, 5, 3), (5, 4)])
def test_entries_are_taken_and_their_gradients_added_up(
    shape: tuple[int, ...], device: str
) -> None:
    generator = torch.Generator().manual_seed(0)
    index = torch.tensor([[0, 4, 4], [2, 0, 4]], device=device)
    x = torch.rand(shape, dtype=torch.float64, generator=generator).to(device).requires_grad_()
    dim = shape.index(5)
    for given in (dim, dim - len(shape)):
        y = taken(x, index, given)
        assert torch.equal(y, x.movedim(dim, 0)[index].movedim((0, 1), (dim, dim + 1)))
        weight = torch.rand(y.shape, dtype=torch.float64, generator=generator).to(device)
        (gradient,) = torch.autograd.grad(y, x, weight)
        found = summed(weight.movedim((dim, dim + 1), (0, 1)), index, 5).movedim(0, dim)
        torch.testing.assert_close(gradient, found, rtol=0, atol=1e-15)
    assert torch.autograd.gradcheck(
        lambda t: summed(taken(t, index, dim).movedim((dim, dim + 1), (0, 1)), index, 6), x
    )


@pytest.mark.parametrize("device", ["cpu", ON_CUDA])
def test_sums_of_nothing(device: str) -> None:
    index = torch.tensor([1, 0, 1], device=device)
    assert summed(torch.ones(3, 0, 2, device=device), index, 4).shape == (4, 0, 2)
    assert summed(torch.ones(0, device=device), index[:0], 2).tolist() == [0.0, 0.0]


def test_sums_have_the_same_bits_whatever_the_threads() -> None:
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(0, 50, (200_000,), generator=generator)
    values = torch.randn(200_000, generator=generator)
    x = torch.randn(50, requires_grad=True)
    threads = torch.get_num_threads()
    sums, gradients = set(), set()
    try:
        for count in (1, 2, 2, 2, 2):
            torch.set_num_threads(count)
            sums.add(tuple(summed(values, index, 50).tolist()))
            (gradient,) = torch.autograd.grad(taken(x, index), x, values)
            gradients.add(tuple(gradient.tolist()))
    finally:
        torch.set_num_threads(threads)
    assert len(sums) == len(gradients) == 1
