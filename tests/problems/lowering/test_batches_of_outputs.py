"""Parameters with a batch that only outputs use: one solution, as many outputs."""

from __future__ import annotations

import pytest
import torch

from torch_sla import (
    Dirichlet,
    Field,
    Integral,
    IntervalMesh,
    Maximum,
    Parameter,
    PoissonProblem,
    Probe,
    SweepProblem,
    TransientProblem,
)

C = Parameter("c", default=1.0)
OUTPUTS = [
    Integral("mean", "c*u"),
    Integral("square", "c*u**2"),
    Integral("alone", "c*x"),
    Integral("end", "c*x*u", on="right"),
    Integral("plain", "u"),
    Probe("p", at=[(0.5,), (0.25,)], quantity="c*u"),
    Maximum("most", "c*u"),
    Field("f", "c*u"),
]


def rod(**more) -> PoissonProblem:
    return PoissonProblem(
        **{
            "mesh": IntervalMesh(cells=8),
            "source": Parameter("q", default=1.0),
            "boundary": [Dirichlet("left", 0.0)],
            "outputs": OUTPUTS,
            "parameters": [C],
            **more,
        }
    )


@pytest.mark.parametrize("shape", [(3,), (12,), (2, 3)])
@pytest.mark.parametrize("law", [1.0, "1 + u**2"])
def test_every_output_is_that_of_each_member(shape: tuple[int, ...], law: object) -> None:
    problem = rod(diffusivity=law)
    c = torch.linspace(0.5, 2.0, torch.Size(shape).numel(), dtype=torch.float64).reshape(shape)
    together = problem.solve(c=c)
    assert together.batch == shape
    assert together.u.shape == (*shape, 9)
    for place in ((0,) * len(shape), (-1,) * len(shape)):
        alone = problem.solve(c=c[place])
        for output in OUTPUTS:
            torch.testing.assert_close(together[output.name][place], alone[output.name])


def test_gradients() -> None:
    c = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    q = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c, q: rod().solve(c=c, q=q)["mean"] ** 3, (c, q))
    # A batch of the load broadcasts with one of the outputs.
    loads = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    found = rod().solve(c=c.detach(), q=loads)["mean"]
    torch.testing.assert_close(found, loads * rod().solve(c=c.detach())["mean"])


def test_sweeps_and_marches() -> None:
    cases = [1.0, 2.0, 4.0]
    of = rod(outputs=OUTPUTS[:2])
    table = SweepProblem(of=of, cases={"c": cases}).solve().table
    assert [row["mean"] for row in table] == pytest.approx([c * table[0]["mean"] for c in cases])
    march = TransientProblem(of=of, initial=0.0, end=1.0, steps=3, save=["u"])
    found = march.solve(c=torch.tensor(cases, dtype=torch.float64))
    alone = march.solve(c=1.0)
    assert found["mean"].shape == (3, 4)
    assert found.history["u"].shape == (3, 4, 9)
    for k, c in enumerate(cases):
        torch.testing.assert_close(found["mean"][k], c * alone["mean"])


def test_integrals_of_batches_require_a_gradient_where_something_given_does() -> None:
    rod = PoissonProblem(
        mesh=IntervalMesh(cells=4),
        source=Parameter("f"),
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Integral("whole", "u"), Integral("end", "u", on="right")],
    )
    loads = torch.linspace(1.0, 2.0, 6, dtype=torch.float64)
    found = rod.solve(f=loads)
    assert not found["whole"].requires_grad
    assert found["end"].numpy().shape == (6,)
    loads.requires_grad_()
    (grad,) = torch.autograd.grad(rod.solve(f=loads)["end"].sum(), loads)
    assert torch.allclose(grad, torch.full_like(grad, 0.5))
