"""Steps of nonlinear problems: where laws are evaluated, and when Newton's method may end."""

from __future__ import annotations

import pytest
import torch

from torch_sla import (
    Dirichlet,
    HyperelasticityProblem,
    Integral,
    IntervalMesh,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    Solver,
    TransientProblem,
)


def rises(level: float, scheme: str, h: float) -> torch.Tensor:
    """How far a field has risen above the level where it starts and is held."""
    rod = PoissonProblem(
        mesh=IntervalMesh(cells=8),
        diffusivity=f"1 + 0.1*(u - {level})",
        source="2 + x",
        boundary=[Dirichlet("left", level)],
        outputs=[Integral("rise", f"u - {level}")],
    )
    return TransientProblem(of=rod, initial=level, end=10 * h, steps=10, scheme=scheme).solve()[
        "rise"
    ]


@pytest.mark.parametrize(
    ("scheme", "h"),
    [
        ("newmark", 1e-4),
        ("generalized_alpha", 1e-4),
        ("backward_euler", 1e-8),
        ("bdf2", 1e-8),
        ("crank_nicolson", 1e-8),
    ],
)
def test_a_field_far_from_zero_rises_as_one_at_zero(scheme: str, h: float) -> None:
    # c M u, with c = 4/h² or 1/h, is 1e10 times as large as what moves the field.
    torch.testing.assert_close(
        rises(300.0, scheme, h), rises(0.0, scheme, h), rtol=2e-4, atol=1e-13
    )


@pytest.mark.parametrize("scheme", ["backward_euler", "bdf2", "newmark"])
def test_long_steps_in_single_precision_end_at_its_rounding(scheme: str) -> None:
    # Beside the load there is c M u, which long steps make small, and K u, of whose rounding residuals are.
    def at_last(dtype: str) -> torch.Tensor:
        plate = PoissonProblem(
            mesh=RectangleMesh(cells=(10, 10)),
            diffusivity="1 + 0.001*(u - 300)",
            source=1e-2,
            boundary=[Dirichlet("left", 300.0)],
            solver=Solver(dtype=dtype),
        )
        march = TransientProblem(of=plate, initial=300.0, end=3.0, steps=3, scheme=scheme)
        return march.solve()["u"][-1].double()

    torch.testing.assert_close(at_last("float32"), at_last("float64"), rtol=0, atol=5e-4)


def test_a_law_without_a_meaning_at_zero_serves_where_the_field_is() -> None:
    # At zero the diffusivity would be -29. Held at both ends, u = 300 + w with w + 0.05 w² a parabola in the end.
    rod = PoissonProblem(
        mesh=IntervalMesh(cells=8),
        order=2,
        diffusivity="1 + 0.1*(u - 300)",
        source=1.0,
        boundary=[Dirichlet(["left", "right"], 300.0)],
        outputs=[Probe("middle", at=[(0.5,)], quantity="u - 300")],
    )
    begun = torch.tensor([300.0, 310.0], dtype=torch.float64)
    warm = TransientProblem(
        of=rod, initial=Parameter("begun"), end=5.0, steps=20, scheme="backward_euler"
    )
    w = warm.solve(begun=begun)["middle"]
    last = w[:, -1, 0]
    torch.testing.assert_close(last + 0.05 * last**2, w.new_full((2,), 0.125), rtol=1e-5, atol=0)


def test_a_body_far_from_where_it_began_accelerates() -> None:
    def path(start: float) -> torch.Tensor:
        block = HyperelasticityProblem(
            mesh=RectangleMesh(cells=(1, 1), cell="quad"),
            constants={"mu": 1.0, "lam": 1.0},
            body_force=[1.0, 0.0],
            outputs=[Integral("way", f"u[0] - {start}")],
        )
        fall = TransientProblem(
            of=block, initial=[start, 0.0], end=1e-3, steps=10, scheme="newmark"
        )
        return fall.solve()["way"]

    times = torch.linspace(0, 1e-3, 11, dtype=torch.float64)
    torch.testing.assert_close(path(1000.0), 0.5 * times**2, rtol=1e-3, atol=1e-11)
