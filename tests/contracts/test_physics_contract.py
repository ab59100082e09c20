"""What every physics owes: one suite that walks the registry.

A new physics adds a sample in ``tests/helpers/samples``; without one, the first test here fails.
"""

from __future__ import annotations

import gc
import json
import weakref
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from tests.helpers.garbage import left_over
from tests.helpers.samples import SAMPLES, Sample
from torch_sla import Solver, clear_cache, load_problem
from torch_sla.cli.app import app
from torch_sla.errors import ArgumentError, SpecError
from torch_sla.linalg.adjoint.jacobian import jacobian
from torch_sla.problems.derivatives.check import check_gradients
from torch_sla.problems.registry import PHYSICS, problem_class
from torch_sla.problems.specs.field_problem import FieldProblem

CASES = [
    pytest.param(sample, id=f"{kind}-{name}")
    for kind, samples in SAMPLES.items()
    for name, sample in samples.items()
]
every = pytest.mark.parametrize("sample", CASES)


def close(a: torch.Tensor, b: torch.Tensor, rtol: float = 1e-8) -> None:
    scale = float(b.detach().abs().max()) or 1.0
    assert a.shape == b.shape
    assert float((a - b).detach().abs().max()) <= rtol * scale


def functional(solution, only: tuple[str, ...] | None = None) -> torch.Tensor:
    """A smooth number that every unknown enters, or only some."""
    total = 0.0
    for name, u in solution.fields.items():
        if only is not None and name not in only:
            continue
        for part in (u.real, u.imag) if u.is_complex() else (u,):
            total = total + (part**3).mean() + (part**2).mean()
    return total


def test_every_physics_has_a_sample() -> None:
    assert set(SAMPLES) == {kind for kind, entry in PHYSICS.items() if entry.kind != "search"}
    for kind in PHYSICS:
        assert problem_class(kind).model_fields["type"].default == kind


@every
def test_yaml_says_the_same(sample: Sample, tmp_path) -> None:
    problem = sample.make()
    text = problem.to_yaml(tmp_path / "p.yaml")
    again = load_problem(tmp_path / "p.yaml")
    assert type(again) is type(problem)
    assert again.spec_hash == problem.spec_hash
    assert again.to_yaml() == text
    assert again.structural_hash == problem.structural_hash


@every
def test_python_yaml_and_shell_agree(sample: Sample, tmp_path) -> None:
    problem = sample.make()
    here = problem.solve()
    problem.to_yaml(tmp_path / "p.yaml")
    there = load_problem(tmp_path / "p.yaml").solve()
    for name, u in here.fields.items():
        assert torch.equal(u, there[name])
    command = [
        "solve",
        str(tmp_path / "p.yaml"),
        "-o",
        str(tmp_path),
        "--json",
        "--no-picture",
        "--no-report",
    ]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["spec_hash"] == problem.spec_hash
    assert here.outputs
    # Nothing wants a gradient, so nothing carries a graph.
    assert not any(v.requires_grad for v in (*here.fields.values(), *here.outputs.values()))
    for name, value in here.outputs.items():
        shown = torch.tensor(report["outputs"][name], dtype=torch.float64)
        exact = torch.view_as_real(value) if value.is_complex() else value
        assert torch.equal(shown.reshape(exact.shape), exact)


@every
def test_gradients_of_every_parameter(sample: Sample) -> None:
    problem = sample.make()
    values = sample.values(problem)
    assert set(values) == set(getattr(problem.compile(), "unvaried", problem.declared))
    moving = {"points": problem.mesh_data().points} if isinstance(problem, FieldProblem) else {}
    check = problem.check_gradients({**values, **moving}, entries=0)
    assert check.passed, str(check)


@every
def test_gradients_of_every_output(sample: Sample) -> None:
    problem = sample.make()
    values = sample.values(problem)
    outputs = problem.solve(values).outputs
    generator = torch.Generator().manual_seed(31)
    weights = {
        name: (1 + torch.rand(value.shape, generator=generator, dtype=torch.float64))
        / float(value.detach().abs().max())
        for name, value in outputs.items()
    }

    def number(solution):
        total = 0.0
        for name, weight in weights.items():
            value = solution[name]
            assert value.requires_grad or not torch.is_grad_enabled(), f"{name} is detached"
            value = value.real + 0.7 * value.imag if value.is_complex() else value
            total = total + ((weight * value) ** 3).sum() + (weight * value).sum()
        return total

    check = check_gradients(
        problem, values, output=number, step=0.004, entries=0, second=False, products=False
    )
    assert check.passed, str(check)


@every
def test_numbers_together_have_the_gradients_they_have_alone(sample: Sample) -> None:
    problem = sample.make()
    leaves = {n: v.clone().requires_grad_() for n, v in sample.values(problem).items()}
    solution = problem.solve(leaves)
    numbers = (
        [functional(solution, (name,)) for name in solution.fields]
        if problem.type != "eigen"
        else []
    )
    for output in solution.outputs.values():
        parts = [output.real, output.imag] if output.is_complex() else [output]
        numbers += [part.reshape(-1)[:3] for part in parts if part.requires_grad]
    inputs = list(leaves.values())
    found = jacobian(numbers, inputs)
    for number, rows in zip(numbers, found, strict=True):
        flat = number.reshape(-1)
        for i in range(flat.numel()):
            alone = torch.autograd.grad(flat[i], inputs, retain_graph=True, allow_unused=True)
            size = max(float(g.abs().max()) for g in alone if g is not None)
            for x, row, gradient in zip(inputs, rows, alone, strict=True):
                zero = torch.zeros_like(x)
                own = zero if row is None else row.reshape(flat.numel(), *x.shape)[i]
                error = own - (zero if gradient is None else gradient)
                assert float(error.abs().max()) <= 1e-7 * size + 1e-14


@every
def test_nothing_large_waits_for_the_garbage_collector(sample: Sample) -> None:
    problem = sample.make()
    values = sample.values(problem)

    def run() -> None:
        value = functional(
            problem.solve({n: x.detach().requires_grad_() for n, x in values.items()})
        )
        value.backward()

    assert left_over(run) == []


@every
def test_second_derivatives(sample: Sample) -> None:
    problem = sample.make()
    values = sample.values(problem)
    names = list(values)
    leaves = tuple(values[name].detach().requires_grad_() for name in names)

    def value(*given: torch.Tensor) -> torch.Tensor:
        return functional(problem.solve(dict(zip(names, given, strict=True))), sample.second)

    # Taylor of the gradient along a direction: order 2 of its remainder against the Hessian product.
    generator = torch.Generator().manual_seed(77)
    move = [torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in leaves]
    move = [m * x.detach().abs().mean() for m, x in zip(move, leaves, strict=True)]
    weights = [torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in leaves]

    def slope(given: tuple[torch.Tensor, ...], *, graph: bool) -> torch.Tensor:
        grads = torch.autograd.grad(value(*given), given, create_graph=graph)
        return sum((g * w).sum() for g, w in zip(grads, weights, strict=True))

    here = slope(leaves, graph=True)
    hessian = torch.autograd.grad(here, leaves)
    exact = float(sum((h * m).sum() for h, m in zip(hessian, move, strict=True)))
    remainders = []
    for h in (2e-3, 1e-3):
        moved = tuple(
            (x.detach() + h * m).requires_grad_() for x, m in zip(leaves, move, strict=True)
        )
        there = float(slope(moved, graph=False))
        remainders.append(abs(there - float(here.detach()) - h * exact))
    assert exact != 0.0
    assert remainders[0] < 1e-9 * abs(float(here.detach())) or remainders[0] > 3.86 * remainders[1]


@every
def test_values_are_not_baked_in(sample: Sample) -> None:
    problem = sample.make()
    values = sample.values(problem)
    before = functional(problem.solve(values))
    for name, value in values.items():
        changed = {**values, name: 1.1 * value}
        there = functional(problem.solve(changed))
        assert abs(float(there - before)) > 1e-9 * abs(float(before)), name
        clear_cache()
        close(there, functional(sample.make().solve(changed)), 1e-10)
    close(functional(problem.solve(values)), before, 1e-12)


@every
def test_a_batch_of_each_parameter(sample: Sample) -> None:
    problem = sample.make()
    values = sample.values(problem)
    factors = (0.95, 1.0, 1.07)
    for name, value in values.items():
        batch = torch.stack([f * value for f in factors])
        together = problem.solve({**values, name: batch})
        assert together.batch == (3,)
        for i, f in enumerate(factors):
            alone = problem.solve({**values, name: f * value})
            for field, u in alone.fields.items():
                close(together[field][i], u, 1e-7)
            for output, number in alone.outputs.items():
                close(together[output][i], number, 1e-7)


@every
def test_problems_and_models_go_without_the_garbage_collector(sample: Sample) -> None:
    problem = sample.make()
    solution = problem.solve(sample.values(problem))
    left = [weakref.ref(problem), weakref.ref(problem.compile())]
    gc.collect()
    gc.disable()
    try:
        del problem
        assert left[0]() is None
        assert solution.spec.spec_hash
        del solution
        assert left[1]() is None
    finally:
        gc.enable()


@every
def test_a_batch_of_meshes_is_the_meshes_one_by_one(sample: Sample) -> None:
    problem = sample.make()
    if not isinstance(problem, FieldProblem):
        pytest.skip("has no mesh")
    values, points = sample.values(problem), problem.mesh_data().points
    # Each member is the other as seen from elsewhere, and every parameter takes part in the batch.
    factors = torch.tensor([1.0, 1.01, 0.99], dtype=torch.float64)
    X = (points * factors[:, None, None]).requires_grad_()
    batches = {
        name: torch.stack([f * value for f in (1.0, 0.97, 1.02)]).requires_grad_()
        for name, value in values.items()
    }
    given = [X, *batches.values()]
    together = problem.solve(batches, points=X)
    assert together.batch == (3,)
    alone = [
        problem.solve({name: value[i] for name, value in batches.items()}, points=X[i])
        for i in range(3)
    ]
    for names in ("fields", "outputs"):
        for name, found in getattr(together, names).items():
            close(found, torch.stack([getattr(one, names)[name] for one in alone]), 1e-7)
    whole = torch.autograd.grad(functional(together), given)
    parts = torch.autograd.grad(sum(map(functional, alone)) / 3, given)
    for one, other in zip(whole, parts, strict=True):
        close(one, other, 1e-6)
    u = 0.9 * together.flat.detach()
    left = problem.residual(u, batches, points=X)
    for i in range(3):
        own = {name: value[i] for name, value in batches.items()}
        close(left[i], problem.residual(u[i], own, points=X[i]))


@every
def test_names_that_do_not_exist_are_refused(sample: Sample) -> None:
    problem = sample.make()
    name = next(iter(problem.declared))
    with pytest.raises(ArgumentError, match="no parameter of this problem"):
        problem.solve({f"{name}x": 1.0})
    with pytest.raises(SpecError, match=r"unknown field 'solvre'.*did you mean 'solver'"):
        type(problem)(**problem.given(), solvre=1)


@every
def test_the_residual_vanishes_and_the_jacobian_is_its_derivative(sample: Sample) -> None:
    problem = sample.make()
    if not isinstance(problem, FieldProblem):
        pytest.skip("has no mesh")
    values = sample.values(problem)
    solution = problem.solve(values)
    u = solution.flat
    size = float(problem.residual(torch.zeros_like(u), values).abs().max())
    assert float(problem.residual(u, values).abs().max()) < 1e-8 * size
    generator = torch.Generator().manual_seed(5)
    v = torch.randn(u.shape, generator=generator, dtype=torch.float64) * u.abs().mean()
    J = problem.jacobian(u, values, constrained=False)
    h = 1e-5
    plus = problem.residual(u + h * v, values, constrained=False)
    minus = problem.residual(u - h * v, values, constrained=False)
    close((plus - minus) / (2 * h), J @ v.to(u), 1e-6)


@every
def test_it_explains_itself(sample: Sample) -> None:
    problem = sample.make()
    text = problem.explain()
    assert problem.spec_hash[:12] in text
    assert "plan" in text


def on(problem: Any, device: str) -> Any:
    """Return the problem solved on a device; an analysis is where its problem is."""
    if getattr(problem, "of", None) is not None:
        return problem.updated(of=on(problem.of, device))
    return problem.updated(solver=Solver(device=device))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@every
def test_the_same_on_a_device(sample: Sample) -> None:
    problem = sample.make()
    values = sample.values(problem)
    there = on(problem, "cuda")
    results = []
    for where in (problem, there):
        leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
        solution = where.solve(leaves)
        functional(solution).backward()
        results.append((solution, leaves))
    (here, expected), (device, found) = results
    for name, u in here.fields.items():
        assert device[name].device == u.device
        close(device[name], u, 1e-7)
    for name, leaf in expected.items():
        close(found[name].grad, leaf.grad, 1e-6)
