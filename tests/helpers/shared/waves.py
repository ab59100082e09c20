"""Complex fields."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import torch_sla as sla
from tests.helpers.shared.values import TIGHT, number, rand

__all__ = ["lossy", "ripple", "waves"]


def waves() -> tuple[Any, dict[str, Any]]:
    """A complex field with impedances and a perfectly matched layer."""
    problem = sla.HelmholtzProblem(
        mesh=sla.RectangleMesh(cells=(14, 9)),
        wavenumber=sla.Parameter("k"),
        refraction=sla.Parameter("n", on="cells"),
        source="exp(-40*((x - 0.5)**2 + (y - 0.4)**2))",
        boundary=[sla.Robin(["bottom", "top"], "-1j*k", 0.0)],
        layer=sla.PML(lower=(0.2, 0.0), upper=(0.8, 1.0), thickness=0.2),
        outputs=[
            sla.Integral("power", "abs(u)**2"),
            sla.Probe("size", at=[(0.3, 0.4), (0.7, 0.9)], quantity="abs(u)"),
        ],
        solver=TIGHT,
    )
    return problem, {"k": number(7.0), "n": 0.5 + rand(252)}


def ripple() -> tuple[Any, dict[str, Any]]:
    """A complex field on two cells, with outputs that are real, for more parts than there are."""
    problem = sla.HelmholtzProblem(
        mesh=sla.RectangleMesh(cells=(2, 1)),
        wavenumber=sla.Parameter("k"),
        source=1.0,
        boundary=[sla.Dirichlet("left", 1.0)],
        outputs=[
            sla.Integral("power", "abs(u)**2"),
            sla.Probe("size", at=[(0.4, 0.3)], quantity="abs(u)"),
        ],
        solver=TIGHT,
    )
    return problem, {"k": number(2.1)}


class _Losses(torch.nn.Module):
    """A function of place with complex weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(
            torch.tensor([0.3 - 0.2j, 0.1 - 0.4j], dtype=torch.complex128)
        )

    def forward(self, x: Tensor) -> Tensor:
        return 1.0 + x.to(self.weight) @ self.weight


def lossy() -> tuple[Any, dict[str, Any]]:
    """Complex parameters beside real ones, and a module with complex weights."""
    problem = sla.HelmholtzProblem(
        mesh=sla.RectangleMesh(cells=(6, 5)),
        stiffness=sla.Parameter("r", on="cells"),
        wavenumber=sla.Parameter("k"),
        refraction=sla.Parameter("n", on="cells"),
        source=sla.Parameter("f"),
        boundary=[sla.Robin("left", "-2j", sla.Parameter("a", on="facets"))],
        outputs=[sla.Integral("power", "abs(u)**2")],
        solver=TIGHT,
    )
    facets = problem.mesh_data().n_facets
    given = {"k": number(2.0), "f": number(1.0) * (1.0 + 0.3j), "a": rand(facets) * (0.5 - 1.0j)}
    return problem, {"r": _Losses(), "n": rand(60), **given}
