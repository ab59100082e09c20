"""How sure the result of an inverse problem is: misfits are the data, regularisers the prior."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.designs import conductivity
from torch_sla import Gaussian
from torch_sla.errors import ArgumentError
from torch_sla.problems.design.optimizers import GaussNewton


def test_it_is_the_inverse_of_the_whole_hessian():
    problem = conductivity(GaussNewton())
    found = problem.solve()
    posterior = problem.laplace(found.unknowns)
    oracle = problem.oracle()
    eye = torch.eye(6, dtype=torch.float64)
    hessian = torch.stack([oracle.gauss_newton(found.unknowns, row) for row in eye])
    covariance = torch.linalg.inv(hessian)
    scale = float(covariance.abs().max())
    columns = torch.stack([posterior.covariance_times(row) for row in eye])
    assert float((columns - covariance).abs().max()) < 1e-8 * scale
    # The unknowns are logarithms: a conductivity is its own size times as uncertain.
    spread = posterior.output_std("kappa")["kappa"]
    torch.testing.assert_close(spread, posterior.std["kappa"] * found.design["kappa"])
    assert list(posterior.output_std()) == ["kappa"]
    assert posterior.output_std("T")["T"].shape == (3,)
    assert 0 < posterior.informed < 3
    assert bool((posterior.std["kappa"] < posterior.prior_std["kappa"]).all())


def test_a_prior_of_ones_own():
    problem = conductivity(GaussNewton(), objective="misfit(T)")
    x = problem.oracle().start
    with pytest.raises(ArgumentError, match="leave something of 'kappa' open"):
        problem.laplace(x)
    posterior = problem.laplace(x, prior={"kappa": Gaussian(std=0.3)})
    torch.testing.assert_close(posterior.prior_std["kappa"], torch.full((6,), 0.3).double())


def test_what_it_needs_is_said():
    problem = conductivity(GaussNewton())
    with pytest.raises(ArgumentError, match=r"`unknowns` has shape \[3\]; expected \[6\]"):
        problem.laplace(torch.zeros(3).double())
    with pytest.raises(ArgumentError, match="no misfit"):
        conductivity("lbfgs", objective="tikhonov(kappa)", data={}).laplace(torch.zeros(6).double())
    with pytest.raises(ArgumentError, match="a function of its unknowns"):
        problem.jvp({"kappa": 1.0})
