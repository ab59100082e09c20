from __future__ import annotations

from itertools import product

import pytest
import torch

from torch_sla.assembly.kernels import pullback
from torch_sla.assembly.kernels.pullback import Jets, pull_back

needs_extension = pytest.mark.skipif(pullback._compiled is None, reason="no compiled extension")
PARTS = [(True, False), (False, True), (True, True)]


def random(generator, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=generator, dtype=dtype)


@needs_extension
@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize(("test", "trial"), list(product(PARTS, PARTS)))
@pytest.mark.parametrize("shared", ["none", "sites", "points", "both"])
def test_kernel_and_torch_agree(generator, dim, test, trial, shared):
    sizes = [int(value) + dim * int(gradient) for value, gradient in (test, trial)]
    n, nq, jets = 5, 4, Jets(*test, *trial)
    for dtype, geometry_points in product((torch.float64, torch.complex128), (1, nq)):
        inverse = random(generator, n, geometry_points, dim, dim)
        measure = random(generator, n, geometry_points).abs()
        sites, points = (
            1 if shared in (s, "both") else c for s, c in (("sites", n), ("points", nq))
        )
        C = random(generator, 2, sizes[0], 3, sizes[1], 2, sites, points, dtype=dtype)
        got = pull_back(C, inverse, measure, jets)
        expected = pullback._torch_pull_back(C, inverse, measure, jets)
        torch.testing.assert_close(got, expected, rtol=1e-13, atol=1e-13)


@needs_extension
@pytest.mark.parametrize(("sites", "points"), [(5, 3), (1, 3), (5, 1), (1, 1)])
def test_adjoint(generator, sites, points):
    jets = Jets(test_value=True, test_gradient=True, trial_value=False, trial_gradient=True)
    inverse, measure = random(generator, 5, 3, 2, 2), random(generator, 5, 3).abs()
    C = random(generator, 1, 3, 2, 2, sites, points).requires_grad_()

    def function(C):
        return pull_back(C, inverse, measure, jets)

    assert function(C).grad_fn is not None
    assert torch.autograd.gradcheck(function, C, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, C, fast_mode=True)
