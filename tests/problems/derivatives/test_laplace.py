"""The Gaussian about a fit, against dense algebra: a linear problem with a Gaussian prior is exact."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.devices import NEEDS_CUDA, ON_CUDA
from torch_sla import (
    Dirichlet,
    Gaussian,
    HelmholtzProblem,
    IntervalMesh,
    Parameter,
    PoissonProblem,
    Probe,
    Solver,
    SparseTensor,
    TransientProblem,
)
from torch_sla.errors import ArgumentError, GradientError
from torch_sla.problems.derivatives.laplace import Blocks, eigenpairs
from torch_sla.problems.derivatives.products import Linearised


def rod(cells, sensors=3):
    at = [((i + 0.6) / sensors,) for i in range(sensors)]
    return PoissonProblem(
        mesh=IntervalMesh(cells=cells),
        source=Parameter("f", on="cells"),
        boundary=[Dirichlet("left", Parameter("g", default=0.0))],
        outputs=[Probe("s", at=at), Probe("end", at=[(0.93,)])],
    )


def smooth(n):
    """A precision that ties neighbours to each other."""
    ones = torch.ones(n, dtype=torch.float64)
    return SparseTensor.tridiagonal(-5 * ones[1:], 10.5 * ones, -5 * ones[1:])


def jacobian(problem, values, name, output):
    n = values[name].numel() if torch.is_tensor(values[name]) else 1
    columns = []
    for i in range(n):
        unit = torch.zeros(n, dtype=torch.float64)
        unit[i] = 1.0
        unit = unit.reshape(torch.as_tensor(values[name]).shape)
        columns.append(problem.jvp({name: unit}, values)[output].reshape(-1))
    return torch.stack(columns, 1)


@pytest.mark.parametrize("cells", [20, 150])  # dense, and by Lanczos
@pytest.mark.parametrize("kind", ["independent", "smooth"])
def test_linear_and_gaussian_is_exact(cells, kind):
    problem = rod(cells)
    values = {"f": torch.linspace(1, 2, cells, dtype=torch.float64), "g": 0.3}
    precision = smooth(cells)
    prior = Gaussian(std=0.7) if kind == "independent" else Gaussian(precision=precision)
    noise = torch.tensor([0.01, 0.02, 0.005], dtype=torch.float64)
    posterior = problem.laplace({"s": noise}, {"f": prior, "g": Gaussian(std=0.1)}, values)

    R = torch.zeros(cells + 1, cells + 1, dtype=torch.float64)
    eye = torch.eye(cells, dtype=torch.float64)
    R[:cells, :cells] = eye / 0.49 if kind == "independent" else precision.to_dense()
    R[-1, -1] = 100.0
    J = torch.cat([jacobian(problem, values, name, "s") for name in ("f", "g")], 1)
    covariance = torch.linalg.inv(J.T @ torch.diag(noise**-2) @ J + R)
    scale = float(covariance.abs().max())
    std = torch.cat([posterior.std["f"], posterior.std["g"].reshape(1)])
    assert torch.allclose(std, covariance.diagonal().sqrt(), rtol=1e-8, atol=0)
    columns = torch.stack(
        [posterior.covariance_times(row) for row in torch.eye(cells + 1, dtype=torch.float64)]
    )
    assert float((columns - covariance).abs().max()) < 1e-8 * scale
    E = torch.cat([jacobian(problem, values, name, "end") for name in ("f", "g")], 1)
    assert torch.allclose(
        posterior.output_std("end")["end"], (E @ covariance @ E.T).sqrt()[0], rtol=1e-8, atol=0
    )
    assert posterior.complete
    assert posterior.informed <= 3
    before = torch.linalg.inv(R).diagonal().sqrt()
    assert torch.allclose(posterior.prior_std["f"], before[:cells], rtol=1e-10, atol=0)
    assert bool((posterior.std["f"] <= posterior.prior_std["f"]).all())


def test_samples_have_the_covariance():
    """The map from noise to samples is a square root of the covariance, exactly."""
    cells = 12
    problem = rod(cells)
    values = {"f": torch.ones(cells, dtype=torch.float64)}
    prior = Gaussian(precision=smooth(cells))
    posterior = problem.laplace({"s": 0.01}, {"f": prior}, values)
    shrink = 1 - (1 + posterior.eigenvalues).rsqrt()
    V = posterior.vectors

    def sample(noise):
        before = prior.root(noise)
        return before - V @ (shrink * (V.T @ prior.times(before)))

    S = torch.stack([sample(e) for e in torch.eye(cells, dtype=torch.float64)], 1)
    covariance = torch.stack(
        [posterior.covariance_times(e) for e in torch.eye(cells, dtype=torch.float64)], 1
    )
    assert float((S @ S.T - covariance).abs().max()) < 1e-10 * float(covariance.abs().max())
    drawn = posterior.samples(400)["f"]
    assert drawn.shape == (400, cells)
    assert torch.equal(drawn, posterior.samples(400)["f"])
    assert float((drawn.mean(0) - 1).abs().max()) < 4 * float(posterior.std["f"].max()) / 20
    assert torch.allclose(drawn.std(0), posterior.std["f"], rtol=0.2)


@pytest.mark.parametrize("condition", [10.0, 1e6, 1e9])
def test_the_root_of_a_precision(condition):
    n = 30
    g = torch.Generator().manual_seed(1)
    Q, _ = torch.linalg.qr(torch.randn(n, n, generator=g, dtype=torch.float64))
    w = torch.logspace(0, float(torch.log10(torch.tensor(condition))), n, dtype=torch.float64)
    prior = Gaussian(precision=Q @ torch.diag(w) @ Q.T)
    exact = Q @ torch.diag(w**-0.5) @ Q.T
    found = torch.stack([prior.root(e) for e in torch.eye(n, dtype=torch.float64)])
    assert float((found - exact).abs().max()) < 1e-9


def test_a_transient_and_two_kinds_of_data():
    heat = PoissonProblem(
        mesh=IntervalMesh(cells=10),
        diffusivity=Parameter("k"),
        capacity=Parameter("c"),
        source=1.0,
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Probe("s", at=[(0.5,), (1.0,)])],
    )
    problem = TransientProblem(of=heat, end=0.5, steps=5)
    values = {"k": 1.2, "c": 0.9}
    priors = {"k": Gaussian(std=0.5), "c": Gaussian(std=0.5)}
    posterior = problem.laplace({"s": 0.01}, priors, values)
    J = torch.cat([jacobian(problem, values, name, "s") for name in values], 1)
    exact = torch.linalg.inv(J.T @ J / 1e-4 + torch.eye(2, dtype=torch.float64) / 0.25)
    found = torch.stack([posterior.std["k"], posterior.std["c"]])
    assert torch.allclose(found, exact.diagonal().sqrt(), rtol=1e-8, atol=0)
    assert "data determine" in str(posterior)


def heated(diffusivity, cells=30):
    return PoissonProblem(
        mesh=IntervalMesh(cells=cells),
        parameters=[Parameter("k"), Parameter("f")],
        diffusivity=diffusivity,
        capacity=1.0,
        source="f",
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Probe("s", at=[(0.5,), (1.0,)])],
    )


@pytest.mark.parametrize(
    "problem",
    [
        heated("k"),
        heated("k*(1 + u**2)"),
        TransientProblem(of=heated("k"), end=0.5, steps=3),
    ],
    ids=["linear", "nonlinear", "transient"],
)
def test_spreads_of_a_field_by_tangents_are_those_by_adjoints(problem, monkeypatch):
    """Where parameters are fewer than outputs each takes a linearised solve, and no output an adjoint one."""
    prior = {"k": Gaussian(precision=4 * torch.eye(1).double()), "f": Gaussian(std=0.3)}
    posterior = problem.laplace({"s": 0.01}, prior, {"k": 1.2, "f": 0.9})
    u = posterior.point.results["u"]
    slopes = []
    for i in range(u.numel()):
        unit = torch.zeros_like(u).detach()
        unit.view(-1)[i] = 1.0
        slopes.append(posterior.blocks.joined(posterior.point.vjp({"u": unit})))
    exact = torch.stack([v @ posterior.covariance_times(v) for v in slopes]).clamp(min=0).sqrt()
    monkeypatch.setattr(Linearised, "vjps", None)
    found = posterior.output_std("u", "s")
    assert found["u"].shape == u.shape
    torch.testing.assert_close(found["u"].reshape(-1), exact, rtol=1e-8, atol=1e-14)
    monkeypatch.undo()
    torch.testing.assert_close(posterior.output_std("s")["s"], found["s"], rtol=1e-8, atol=0)


def test_complex_data_count_twice():
    waves = HelmholtzProblem(
        mesh=IntervalMesh(cells=12),
        wavenumber=2.0,
        refraction=Parameter("n", on="cells"),
        source="1 + 2j*x",
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Probe("s", at=[(0.4,)])],
    )
    values = {"n": torch.full((12,), 1.1, dtype=torch.float64)}
    posterior = waves.laplace({"s": 0.01}, {"n": Gaussian(std=0.3)}, values)
    J = jacobian(waves, values, "n", "s")
    J = torch.cat([J.real, J.imag])
    exact = torch.linalg.inv(J.T @ J / 1e-4 + torch.eye(12, dtype=torch.float64) / 0.09)
    assert torch.allclose(posterior.std["n"], exact.diagonal().sqrt(), rtol=1e-8, atol=0)


def test_a_rank_that_is_too_small_is_said():
    cells = 100
    problem = rod(cells, sensors=8)
    values = {"f": torch.ones(cells, dtype=torch.float64)}
    few = problem.laplace({"s": 1e-4}, {"f": Gaussian(std=1.0)}, values, rank=2)
    assert not few.complete
    assert "raise `rank`" in str(few)
    every = problem.laplace({"s": 1e-4}, {"f": Gaussian(std=1.0)}, values)
    assert every.complete
    assert torch.allclose(few.eigenvalues, every.eigenvalues[:2], rtol=1e-8)
    assert bool((few.std["f"] >= every.std["f"] - 1e-12).all())


def test_pairs_are_doubled_until_they_are_negligible():
    n = 200
    spectrum = 1e4 * 0.7 ** torch.arange(n, dtype=torch.float64)
    like = {"x": torch.zeros(n)}
    blocks = Blocks(like, {"x": Gaussian(std=1.0)})
    w, V, complete = eigenpairs(lambda v: spectrum * v, blocks, n - 1)
    assert complete
    assert 32 < len(w) <= 64
    assert torch.allclose(w, spectrum[: len(w)], rtol=1e-8)
    assert torch.allclose(V.T @ V, torch.eye(len(w), dtype=torch.float64), atol=1e-10)


@pytest.mark.parametrize(
    ("noise", "prior", "message"),
    [
        ({"s": 0.1}, {}, "missing: f"),
        ({"s": 0.1}, {"f": Gaussian(std=1.0), "h": Gaussian(std=1.0)}, "unknown: h"),
        ({"t": 0.1}, {"f": Gaussian(std=1.0)}, "the noise 't' belongs to no field or output"),
        ({"s": torch.ones(2)}, {"f": Gaussian(std=1.0)}, "noise of 's' has shape"),
        ({"s": -1.0}, {"f": Gaussian(std=1.0)}, "must be > 0"),
        ({"s": float("inf")}, {"f": Gaussian(std=1.0)}, "noise of 's' must be > 0 and finite"),
        ({"s": None}, {"f": Gaussian(std=1.0)}, "noise of 's' must be a number"),
        ({"s": 0.1}, {"f": 1.0}, "prior of 'f' must be a Gaussian, got 1.0"),
        ({}, {"f": Gaussian(std=1.0)}, "without data nothing is learned"),
        ({"s": 0.1}, {"f": Gaussian(std=torch.ones(4))}, "is of 4 numbers; expected 6"),
    ],
)
def test_what_does_not_fit_is_named(noise, prior, message):
    with pytest.raises(ArgumentError, match=message):
        rod(6).laplace(noise, prior, f=torch.ones(6, dtype=torch.float64))


def test_data_that_depend_on_nothing():
    problem = rod(6)
    still = PoissonProblem(
        mesh=problem.mesh,
        source=Parameter("f", default=1.0),
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Probe("x", at=[(0.5,)], quantity="x")],
    )
    with pytest.raises(GradientError, match="'x' does not depend"):
        still.laplace({"x": 0.1}, {"f": Gaussian(std=1.0)}, f=1.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gaussian(), "either `std` or `precision`"),
        (lambda: Gaussian(std=0.0), "`std` must be > 0 and finite, got 0.0"),
        (lambda: Gaussian(std=torch.inf), "take a large number"),
        (lambda: Gaussian(std="wide"), "`std` must be a number or an array of numbers, got 'wide'"),
        (lambda: Gaussian(precision=-torch.eye(2).double()), "positive definite"),
        (lambda: Gaussian(precision=torch.ones(2, 3).double()), "square"),
    ],
)
def test_bad_priors(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


@pytest.mark.parametrize("where", [pytest.param("cuda", marks=NEEDS_CUDA)])
@pytest.mark.parametrize("dense", [64, 1])  # dense, and by Lanczos
@pytest.mark.parametrize("kind", ["independent", "smooth"])
def test_parameters_on_a_device(kind, dense, where, monkeypatch):
    """All of it is as on the host, and stays where the parameters are."""
    monkeypatch.setattr("torch_sla.problems.derivatives.laplace.DENSE", dense)

    def told(device):
        problem = rod(6).updated(solver=Solver(device=device))
        std = torch.full((6,), 0.7, dtype=torch.float64, device=device)
        prior = {"std": std} if kind == "independent" else {"precision": smooth(6).to(device)}
        f = torch.linspace(1, 2, 6, dtype=torch.float64).to(device)
        noise = torch.tensor([0.01, 0.02, 0.005], dtype=torch.float64, device=device)
        posterior = problem.laplace({"s": noise}, {"f": Gaussian(**prior)}, f=f)
        return {
            "std": posterior.std["f"],
            "before": posterior.prior_std["f"],
            "sample": posterior.samples(2)["f"],
            "product": posterior.covariance_times(f),
            "by rows": posterior.output_std("end")["end"],
            "by columns": posterior.output_std("u")["u"],
        }

    here, there = told("cpu"), told(where)
    for name, expected in here.items():
        assert there[name].device.type == where, name
        torch.testing.assert_close(there[name].cpu(), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", ["independent", "smooth"])
@pytest.mark.parametrize("device", ["cpu", ON_CUDA])
def test_a_default_device_has_no_part_in_it(kind, device):
    def told(where):
        prior = {"std": 0.7} if kind == "independent" else {"precision": smooth(6)}
        f = torch.linspace(1, 2, 6, dtype=torch.float64)
        problem = rod(6)
        with torch.device(where):
            check = problem.check_gradients(f=f, g=0.0, second=False)
            posterior = problem.laplace({"s": 0.01}, {"f": Gaussian(**prior)}, f=f)
            spread = posterior.output_std("u")["u"], posterior.output_std("end")["end"]
            return check.passed, [*spread, posterior.std["f"], posterior.samples(2)["f"]]

    assert told(device)[0]
    for found, expected in zip(told(device)[1], told("cpu")[1], strict=True):
        assert torch.equal(found, expected)
