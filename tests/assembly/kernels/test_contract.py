from __future__ import annotations

import pytest
import torch

from torch_sla.assembly.kernels import contract as module
from torch_sla.assembly.kernels.contract import contract

needs_extension = pytest.mark.skipif(module._compiled is None, reason="no compiled extension")


@needs_extension
@pytest.mark.parametrize("components", [(1, 1), (3, 3), (2, 1)])
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_kernel_and_torch_agree(generator, components, batch, dtype):
    R = torch.randn(*components, *batch, 7, 9, generator=generator, dtype=dtype)
    R = torch.where(R.abs() < 0.6, 0.0, R)
    table = torch.randn(9, 4, 5, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        contract(R, table), module._torch_contract(R, table), rtol=1e-13, atol=1e-13
    )


@needs_extension
@pytest.mark.parametrize("components", [(1, 1), (1, 2), (2, 3)])
def test_adjoint(generator, components):
    R = torch.randn(*components, 2, 3, 5, generator=generator, dtype=torch.float64).requires_grad_()
    table = torch.randn(5, 2, 3, generator=generator, dtype=torch.float64)

    def function(R):
        return contract(R, table)

    assert torch.autograd.gradcheck(function, R, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, R)
    stacked = torch.stack([R, 2 * R]).detach()
    torch.testing.assert_close(
        torch.func.vmap(function)(stacked), torch.stack([*map(function, stacked)])
    )


def test_large_tables_and_nan_pass_through(generator):
    R = torch.randn(1, 1, 3, 100, generator=generator, dtype=torch.float64)
    table = torch.randn(100, 9, 9, generator=generator, dtype=torch.float64)
    expected = (R[0, 0] @ table.flatten(1)).reshape(3, 9, 9)
    torch.testing.assert_close(contract(R, table), expected)
    R[0, 0, 1, 5] = torch.nan
    bad = contract(R, table[:, :2, :2]).isnan().all((1, 2))
    assert bad.tolist() == [False, True, False]
