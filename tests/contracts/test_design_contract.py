"""What every optimizer owes on every kind of problem: descent, feasibility, and a run that goes on as it was."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.designs import CONSTRAINED, DESIGNS, SQUARES
from torch_sla.problems.design.optimizers import OPTIMIZERS, Optimizer, Scipy, TorchOptim
from torch_sla.problems.specs.options import tag_of


def made(kind: type[Optimizer], steps: int) -> Optimizer:
    if kind is Scipy:
        return Scipy(method="SLSQP", max_iterations=steps)
    if kind is TorchOptim:
        return TorchOptim(name="RMSprop", options={"lr": 0.01}, max_iterations=steps)
    return kind(max_iterations=steps)


def serves(kind: type[Optimizer], name: str) -> bool:
    """Whether an optimizer can do what a problem asks for."""
    if tag_of(kind) == "optimality_criteria":
        return name == "cantilever"
    if name in CONSTRAINED and not kind.handles_inequalities:
        return False
    return name in SQUARES or not kind.needs_least_squares


PAIRS = [
    pytest.param(kind, name, id=f"{tag_of(kind)}-{name}")
    for kind in OPTIMIZERS
    for name in DESIGNS
    if serves(kind, name)
]


@pytest.mark.parametrize("name", DESIGNS)
def test_derivatives_of_every_problem(name: str) -> None:
    check = DESIGNS[name]("lbfgs").check_gradients()
    assert check.passed, str(check)
    assert len(check.orders) >= 1


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_it_descends_and_goes_on_to_the_same_bits(
    kind: type[Optimizer], name: str, tmp_path
) -> None:
    steps = 4
    problem = DESIGNS[name](made(kind, steps))
    whole = problem.solve(folder=tmp_path / "whole")
    first = whole.history[0]
    feasible = first.get("violation", 0.0) <= 1e-6
    if feasible and name not in CONSTRAINED:
        assert min(whole.history["objective"]) <= first["objective"] * (1 + 1e-12) + 1e-15
    stop_at = min(2, len(whole.history) - 1)

    def stop(progress) -> None:
        if progress.done == stop_at:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        problem.solve(folder=tmp_path / "part", progress=stop)
    again = problem.solve(resume=tmp_path / "part")
    assert torch.equal(again.unknowns, whole.unknowns)
    assert again.objective == whole.objective
    assert again.history["objective"] == whole.history["objective"]
    assert again.reason == whole.reason
    for variable, value in whole.design.items():
        assert torch.equal(again.design[variable], value)


@pytest.mark.parametrize("name", DESIGNS)
def test_files_say_the_same(name: str, tmp_path) -> None:
    problem = DESIGNS[name]("lbfgs")
    problem.to_yaml(tmp_path / "d.yaml")
    from torch_sla import load_problem

    assert load_problem(tmp_path / "d.yaml").spec_hash == problem.spec_hash
