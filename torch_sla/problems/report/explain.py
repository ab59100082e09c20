"""A problem and its plan in words."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import PlanError
from torch_sla.linalg import SparseTensor
from torch_sla.problems.analyses.analysis import Analysis
from torch_sla.problems.lowering.algebra import Algebra
from torch_sla.problems.lowering.parameters import check_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch_sla.linalg import Structure
    from torch_sla.problems.lowering.model import Model

__all__ = ["explain", "plan_of"]


def explain(model: Model | Algebra | Analysis, values: Mapping[str, Any]) -> str:
    """Describe size, parameters, conditions and the plan; nothing is assembled."""
    check_names(values, model.spec.declared)
    if isinstance(model, Algebra | Analysis):
        device = [f"  device      {model.placement}"] if isinstance(model, Algebra) else []
        return "\n".join([_head(model), *device, *_declared(model), *model.describe(values)])
    spec, mesh, numbering = model.spec, model.mesh, model.numbering
    fixed = len(model.compiled.constrained)
    asked = spec.quadrature_degree
    lines = [
        _head(model),
        f"  mesh        {mesh.n_cells} {mesh.cell} cells, {mesh.n_points} points in {mesh.dim}D",
        (
            f"  unknowns    {numbering.n}, of which {fixed} have a given value; order {spec.order}, "
            f"{spec.solver.dtype}{f', quadrature of degree {asked}' if asked else ''}"
        ),
        (
            f"  matrix      {numbering.pattern.nnz_csr} entries, "
            f"{numbering.pattern.nnz_csr / numbering.n:.1f} per row, {_known(model)}"
        ),
    ]
    lines.append(f"  device      {model.placement}")
    for condition, selection in zip(spec.boundary, model.selections, strict=True):
        tags, at = getattr(condition, "on", None), getattr(condition, "at", None) or ()
        on = f"{len(selection.facets)} facets on {' '.join(tags)}" if tags else f"{len(at)} points"
        lines.append(f"  {condition.type:<11} {on}")
    lines += _declared(model)
    for output in spec.outputs:
        unit = f" [{output.unit}]" if output.unit else ""
        lines.append(f"  output      {output.name}{unit}: {output.type}")
    needs_grad = any(isinstance(v, Tensor) and v.requires_grad for v in values.values())
    lines.append("plan")
    structure = model.structure(_definite(model), model.symmetric)
    plan = plan_of(model, needs_grad)
    lines.extend(f"  {line}" for line in str(plan).splitlines())
    for words, other in _possible(structure):
        choice = _choice(model, needs_grad, other)
        if choice != str(plan.choice):
            lines.append(f"  where the values make it {words}: {choice}")
    return "\n".join(lines)


def _possible(structure: Structure) -> Iterator[tuple[str, Structure]]:
    """Yield what the values of a matrix may turn out to be, beside what is known."""
    if structure.positive_definite is None:
        yield (
            "symmetric positive definite",
            replace(structure, symmetric=True, hermitian=True, positive_definite=True),
        )
    if structure.symmetric is None:
        yield (
            "unsymmetric",
            replace(structure, symmetric=False, hermitian=False, positive_definite=False),
        )


def _choice(model: Model, needs_grad: bool, structure: Structure) -> str:
    try:
        return str(plan_of(model, needs_grad, structure).choice)
    except PlanError as error:
        return f"refused: {error}"


def plan_of(model: Model, needs_grad: bool = False, structure: Structure | None = None) -> Any:
    """Return the plan of the solve from the structure alone, which is that of the model where none is given."""
    pattern = model.numbering.pattern
    if structure is None:
        structure = model.structure(_definite(model), model.symmetric)
    # Ones say nothing; multipliers have zeros on the diagonal.
    values = torch.ones(pattern.nnz_csr, dtype=model.field_dtype, device=model.device)
    values[pattern.diagonal_slots.long()] -= model.level
    A = SparseTensor.from_pattern(pattern, values, structure=structure)
    solver = model.spec.solver
    return A.plan(
        needs_grad=needs_grad,
        backend=solver.backend,
        method=solver.method,
        preconditioner=solver.preconditioner,
    )


def _definite(model: Model) -> bool | None:
    definite = model.definite_tangent if model.nonlinear else model.definite
    return definite if model.symmetric else None


def _known(model: Model) -> str:
    structure = model.structure(_definite(model), model.symmetric)
    if structure.positive_definite:
        words = "symmetric positive definite"
    elif structure.symmetric:
        words = "symmetric"
    else:
        words = "unsymmetric" if structure.symmetric is False else "structure found from its values"
    return words + (", nonlinear: Newton's method" if model.nonlinear else "")


def _head(model: Any) -> str:
    spec = model.spec
    return (
        f"{spec.name or type(spec).__name__} ({spec.type}, spec {spec.spec_hash[:12]}, structure "
        f"{model.compiled.key[:12]})"
    )


def _declared(model: Any) -> list[str]:
    lines = []
    for name, parameter in model.declared.items():
        unit = f" [{parameter.unit}]" if parameter.unit else ""
        default = "needs no value here" if name in model.idle_names else "required"
        default = default if parameter.default is None else f"default {parameter.default}"
        count = 1 if parameter.on == "constant" else model.counts[parameter.on]
        lines.append(f"  parameter   {name}{unit}: {count} on {parameter.on}, {default}")
    return lines
