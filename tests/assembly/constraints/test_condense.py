from __future__ import annotations

import torch

from torch_sla.assembly.constraints.condense import condense

REMOVED, LIFTED = torch.tensor([1, 3, 4]), torch.tensor([3])


def function(values):
    return condense(values, REMOVED, LIFTED)


def test_values():
    kept, coupling = function(torch.arange(1.0, 7.0))
    assert kept.tolist() == [1.0, 0.0, 3.0, 0.0, 0.0, 6.0]
    assert coupling.tolist() == [4.0]


def test_infinite_entries_leave_without_a_trace():
    values = torch.tensor([1.0, torch.inf, 2.0, 3.0, torch.nan, 4.0], requires_grad=True)
    function(values)[0].sum().backward()
    assert values.grad.tolist() == [1.0, 0.0, 1.0, 0.0, 0.0, 1.0]


def test_derivatives(generator):
    values = torch.randn(2, 6, generator=generator, dtype=torch.complex128).requires_grad_()
    assert torch.autograd.gradcheck(function, values, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda v: [t * t for t in function(v)], values)
    real = torch.randn(3, 2, 6, generator=generator, dtype=torch.float64)
    both = torch.func.vmap(function)(real)
    torch.testing.assert_close(both, function(real))

    def gradient(v):
        return torch.func.grad(lambda v: sum(t.pow(3).sum() for t in function(v)))(v)

    torch.testing.assert_close(
        torch.func.vmap(gradient)(real), torch.stack([gradient(v) for v in real])
    )
    torch.testing.assert_close(
        torch.func.vmap(gradient, in_dims=1, out_dims=1)(real), torch.func.vmap(gradient)(real)
    )
