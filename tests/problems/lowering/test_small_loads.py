"""Loads that are small beside the stiffness: a body takes them as a linear one does."""

from __future__ import annotations

import pytest
import torch

from torch_sla import BoxMesh, Dirichlet, HyperelasticityProblem, Neumann, Parameter, Probe


def block(law: str, constants: dict[str, float], **more) -> HyperelasticityProblem:
    return HyperelasticityProblem(
        mesh=BoxMesh(cells=(1, 1, 1), cell="hexahedron"),
        law=law,
        constants=constants,
        boundary=[Dirichlet("left", 0.0), Neumann("right", traction=[Parameter("p"), 0.0, 0.0])],
        outputs=[Probe("end", at=[(1, 1, 1)])],
        **more,
    )


LAWS = {
    "mooney_rivlin": {"c1": 0.4e6, "c2": 0.1e6, "kappa": 1e7},
    "neo_hookean": {"mu": 1e6, "lam": 1e7},
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("line_search", [None, True])
def test_they_scale(law: str, line_search: bool | None) -> None:
    """A traction of a millipascal on a body of a megapascal leaves a residual that is rounding."""
    solver = {"nonlinear": {"line_search": line_search}}
    problem = block(law, LAWS[law], solver=solver)
    unit = problem.solve(p=1.0)["end"][0, 0]
    for p in (1e-3, 1e-9, 1e-24):
        s = problem.solve(p=p)
        assert s.info.converged
        assert s.info.iterations <= 4
        torch.testing.assert_close(s["end"][0, 0] / p, unit, rtol=1e-3, atol=0)
    assert any("as accurate as rounding" in note for note in s.info.notes)


def test_they_have_gradients() -> None:
    p = torch.tensor(1e-9, dtype=torch.float64, requires_grad=True)
    s = block("neo_hookean", LAWS["neo_hookean"]).solve(p=p)
    (slope,) = torch.autograd.grad(s["end"][0, 0], p)
    torch.testing.assert_close(slope * 1e-9, s["end"][0, 0].detach(), rtol=1e-4, atol=0)
