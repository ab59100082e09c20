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


def hessian_by_differences(problem, x, h=1e-4):
    """Of the objective, from its gradients."""
    oracle = problem.oracle()
    rows = [
        oracle.value_and_grad(x + h * e).gradient - oracle.value_and_grad(x - h * e).gradient
        for e in torch.eye(len(x), dtype=torch.float64)
    ]
    found = torch.stack(rows) / (2 * h)
    return 0.5 * (found + found.T)


FIT = "misfit(T) + 2*tikhonov(log(kappa))"


def test_other_terms_have_curvature_that_is_not_left_out():
    problem = conductivity("lbfgs", objective=FIT)
    x = problem.oracle().start
    plain = torch.linalg.inv(hessian_by_differences(problem, x))
    more = conductivity("lbfgs", objective=f"{FIT} + 50*(sum(kappa) - 5)**2")
    whole = torch.linalg.inv(hessian_by_differences(more, x))
    assert float((whole - plain).abs().max()) > 0.1 * float(plain.abs().max())
    with pytest.raises(
        ArgumentError, match=r"the term .*kappa.* neither data nor a Gaussian prior"
    ):
        more.laplace(x)
    with pytest.raises(ArgumentError, match="curvature would be missing"):
        more.laplace(x, prior={"kappa": Gaussian(std=0.3)})
    bent = problem.updated(objective=f"{FIT} + total_variation(kappa)")
    with pytest.raises(ArgumentError, match=r"total_variation.*give prior="):
        bent.laplace(x)
    eye = torch.eye(len(x), dtype=torch.float64)
    prior = {"kappa": Gaussian(std=0.3)}
    for one, given in ((bent, prior), (problem.updated(objective=f"{FIT} + 3 - pi"), None)):
        found, expected = one.laplace(x, prior=given), problem.laplace(x, prior=given)
        for row in eye:
            torch.testing.assert_close(found.covariance_times(row), expected.covariance_times(row))


def test_it_is_of_the_last_stage():
    last = conductivity(GaussNewton(), objective="misfit(T) + 5*tikhonov(log(kappa))")
    problem = conductivity(
        GaussNewton(), objective=FIT, stages=[{"objective": str(last.objective)}]
    )
    x = problem.solve().unknowns
    std, expected = problem.laplace(x).std["kappa"], last.laplace(x).std["kappa"]
    torch.testing.assert_close(std, expected, rtol=1e-12, atol=0)


def test_what_it_needs_is_said():
    problem = conductivity(GaussNewton())
    with pytest.raises(ArgumentError, match=r"`unknowns` has shape \[3\]; expected \[6\]"):
        problem.laplace(torch.zeros(3).double())
    with pytest.raises(ArgumentError, match="no misfit"):
        conductivity("lbfgs", objective="tikhonov(kappa)", data={}).laplace(torch.zeros(6).double())
    with pytest.raises(ArgumentError, match="a function of its unknowns"):
        problem.jvp({"kappa": 1.0})
