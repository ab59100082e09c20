"""Capacities and densities are nowhere negative, and options that mean nothing are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch

from torch_sla import (
    Dirichlet,
    EigenProblem,
    ElasticityProblem,
    IntervalMesh,
    MeshArrays,
    Parameter,
    PoissonProblem,
    RectangleMesh,
    TransientProblem,
    distribute,
)
from torch_sla.errors import ArgumentError, SpecError


def rod(capacity: object) -> PoissonProblem:
    return PoissonProblem(
        mesh=IntervalMesh(cells=4), capacity=capacity, boundary=[Dirichlet("left", 0.0)]
    )


@pytest.mark.parametrize("scheme", ["bdf2", "explicit"])
@pytest.mark.parametrize("capacity", ["-1.0 + 0*x", "x - 0.5"])
def test_a_negative_capacity_is_refused(scheme: str, capacity: object) -> None:
    march = TransientProblem(of=rod(capacity), initial=1.0, end=0.1, steps=4, scheme=scheme)
    with pytest.raises(ArgumentError, match="capacity must not be negative; it is"):
        march.solve()


def test_a_negative_density_is_refused() -> None:
    body = ElasticityProblem(
        mesh=RectangleMesh(cells=(2, 2)),
        model="plane_strain",
        young_modulus=1.0,
        poisson_ratio=0.3,
        density=Parameter("rho", default=-1.0),
        boundary=[Dirichlet("left", 0.0)],
    )
    with pytest.raises(ArgumentError, match="density must not be negative"):
        EigenProblem(of=body, k=2).solve()


HALVES = MeshArrays(
    points=[[0.0], [0.25], [0.5], [0.75], [1.0]],
    cells=[[0, 1], [1, 2], [2, 3], [3, 4]],
    cell="line",
    cell_tags={"left": [0, 1], "right": [2, 3]},
)


@pytest.mark.parametrize(("capacity", "count"), [("0*x", 4), ({"left": 1.0, "right": 0.0}, 2)])
def test_modes_need_mass(capacity: object, count: int) -> None:
    body = PoissonProblem(mesh=HALVES, capacity=capacity, boundary=[Dirichlet("x < 0.1", 0.0)])
    modes = EigenProblem(of=body, k=1)
    told = f"capacity: {count} of the 4 free unknowns have no mass"
    for problem in (modes.updated(k=5 - count), distribute(modes.updated(k=5 - count), 2)):
        with pytest.raises(ArgumentError, match=told + ", which leaves"):
            problem.solve()
    if count < 4:
        with pytest.raises(ArgumentError, match=told + "; in parts"):
            distribute(modes.updated(sigma=1.0), 2).solve()
        with pytest.raises(SpecError, match="largest eigenvalues are infinite") as caught:
            modes.updated(which="LA").solve()
        assert caught.value.path == "which"


@pytest.mark.parametrize("n", [6, 300])
def test_modes_of_a_body_with_a_part_without_mass(n: int) -> None:
    """Of two halves only one has a capacity; the other one holds its end like a spring."""
    rod = PoissonProblem(
        mesh=MeshArrays(
            points=[[i / (2 * n)] for i in range(2 * n + 1)],
            cells=[[i, i + 1] for i in range(2 * n)],
            cell="line",
            cell_tags={"left": list(range(n)), "right": list(range(n, 2 * n))},
        ),
        diffusivity={"left": 1.0, "right": Parameter("k", default=3.0)},
        capacity={"left": Parameter("c", default=2.0), "right": 0.0},
        boundary=[Dirichlet("x < 1e-9", 0.0), Dirichlet("x > 1 - 1e-9", 0.0)],
    )
    problem = EigenProblem(of=rod, k=3)

    def dense(k: float, c: float) -> tuple[np.ndarray, np.ndarray]:
        K, M, h = np.zeros((n + 1, n + 1)), np.zeros((n + 1, n + 1)), 1 / (2 * n)
        for i in range(n):
            K[i : i + 2, i : i + 2] += np.array([[1.0, -1.0], [-1.0, 1.0]]) / h
            M[i : i + 2, i : i + 2] += np.array([[2.0, 1.0], [1.0, 2.0]]) * c * h / 6
        K[n, n] += k / 0.5
        return scipy.linalg.eigh(K[1:, 1:], M[1:, 1:])

    k, c = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (3.0, 2.0))
    solution = problem.solve(k=k, c=c)
    w, x = dense(3.0, 2.0)
    np.testing.assert_allclose(solution.eigenvalues.detach(), w[:3], rtol=1e-8)
    # Without mass it is a straight line from the middle to the end.
    shape = np.abs(solution.flat[0].detach().numpy())
    np.testing.assert_allclose(shape[1 : n + 1], np.abs(x[:, 0]), atol=1e-7)
    np.testing.assert_allclose(shape[n:], shape[n] * np.linspace(1.0, 0.0, n + 1), atol=1e-9)

    def functional(w: Any, middle: Any) -> Any:
        return w[0] + 0.5 * w[1] - 0.1 * w[2] + middle**2

    loss = functional(solution.eigenvalues, solution.flat[0, n + n // 2])
    found = torch.autograd.grad(loss, (k, c))
    for j, h in enumerate((1e-5, 1e-5)):
        up, down = [3.0, 2.0], [3.0, 2.0]
        up[j], down[j] = up[j] + h, down[j] - h
        # Halfway through the part without mass.
        ends = [(w, x[-1, 0] * (1.0 - (n // 2) / n)) for w, x in (dense(*up), dense(*down))]
        slope = (functional(*ends[0]) - functional(*ends[1])) / (2 * h)
        assert float(found[j]) == pytest.approx(slope, rel=1e-5)


def test_a_free_body_with_a_part_without_mass() -> None:
    body = ElasticityProblem(
        mesh=RectangleMesh(cells=(6, 2), size=(3.0, 1.0)),
        model="plane_stress",
        young_modulus=10.0,
        poisson_ratio=0.3,
        density="where(x < 1.4, 1, 0)",
    )
    still = EigenProblem(of=body, k=5).solve()
    assert still.frequencies[:3].tolist() == [0.0, 0.0, 0.0]
    # A little mass changes frequencies in proportion.
    one, two = (
        EigenProblem(of=body.updated(density=f"where(x < 1.4, 1, {m})"), k=5).solve().frequencies
        for m in (1e-5, 2e-5)
    )
    torch.testing.assert_close(still.frequencies[3:], (2 * one - two)[3:], rtol=1e-6, atol=0)


def test_options_without_meaning_are_refused() -> None:
    with pytest.raises(SpecError, match="generalized_alpha has") as caught:
        TransientProblem(
            of=rod(1.0), initial=1.0, end=0.1, steps=4, scheme="bdf2", spectral_radius=0.5
        )
    assert caught.value.path == "spectral_radius"
    with pytest.raises(SpecError, match="leave which out") as caught:
        EigenProblem(matrix=[[2.0, -1.0], [-1.0, 2.0]], k=1, which="LM", sigma=0.5)
    assert caught.value.path == "which"


def test_explicit_needs_mass_at_every_node() -> None:
    rod = PoissonProblem(
        mesh=IntervalMesh(cells=8),
        source=1.0,
        capacity="where(x > 0.5, 1, 0)",
        boundary=[Dirichlet("left", 0.0)],
    )
    with pytest.raises(ArgumentError, match="capacity: the explicit scheme divides by the mass"):
        TransientProblem(of=rod, end=0.01, steps=100, scheme="explicit").solve()
