"""How much each output depends on each parameter: derivatives, and derivatives per cent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.adjoint.jacobian import jacobian
from torch_sla.problems.derivatives.gradient import nothing_given
from torch_sla.problems.derivatives.products import Linearised, units
from torch_sla.problems.expression import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch_sla.problems.specs.problem import Problem

__all__ = ["Sensitivities", "sensitivities"]


@dataclass(frozen=True, eq=False)
class Sensitivities:
    """Derivatives of outputs by parameter; ``print`` it for a table.

    Parameters
    ----------
    outputs, parameters
        Values by name.
    derivatives
        ``derivatives[output][parameter]`` is ``[*output, *parameter]``, where the output is.

    Examples
    --------
    >>> from torch_sla import Dirichlet, Integral, IntervalMesh, Parameter, PoissonProblem
    >>> problem = PoissonProblem(
    ...     mesh=IntervalMesh(cells=8),
    ...     diffusivity=Parameter("k", default=1.0),
    ...     source=Parameter("f", default=1.0),
    ...     boundary=[Dirichlet("left", 0.0), Dirichlet("right", 0.0)],
    ...     outputs=[Integral("total", "u")],
    ... )
    >>> print(problem.sensitivities(k=2.0, f=3.0))
    output            value  parameter  derivative  % per %
    total             0.123  k            -0.06152   -1.000
    total             0.123  f             0.04102    1.000
    """

    outputs: dict[str, Tensor]
    parameters: dict[str, Tensor]
    derivatives: dict[str, dict[str, Tensor]]

    @property
    def normalised(self) -> dict[str, dict[str, Tensor]]:
        """``p/J ∂J/∂p`` for every entry: per cent of the output for one per cent of the entry of the parameter."""
        found: dict[str, dict[str, Tensor]] = {}
        for name, rows in self.derivatives.items():
            value = self.outputs[name]
            found[name] = {
                parameter: derivative
                * self.parameters[parameter].to(derivative.device)
                / value.reshape(value.shape + (1,) * self.parameters[parameter].ndim)
                for parameter, derivative in rows.items()
            }
        return found

    def __str__(self) -> str:
        lines = [f"{'output':<12} {'value':>10}  {'parameter':<9} {'derivative':>11}  % per %"]
        for name, rows in self.normalised.items():
            values = self.outputs[name]
            for index in range(values.numel()):
                word = name if values.ndim == 0 else f"{name}[{_place(values, index)}]"
                for parameter, normal in rows.items():
                    p = self.parameters[parameter]
                    share = _number(normal.reshape(values.numel(), -1)[index].sum(), 3, 8)
                    whole = self.derivatives[name][parameter].reshape(values.numel(), -1)[index]
                    # A field as a whole: how the output follows when all of it is scaled.
                    slope = _number(whole[0], 0, 11) if p.ndim == 0 else f"{'scaled':>11}"
                    value = _number(values.flatten()[index], 0, 10)
                    lines.append(f"{word:<12} {value}  {parameter:<9} {slope} {share}")
        return "\n".join(lines)


def sensitivities(
    problem: Problem,
    outputs: Sequence[str],
    values: Mapping[str, Any],
    start: Tensor | None = None,
) -> Sensitivities:
    """Return derivatives of outputs; see `Problem.sensitivities`."""
    if not values:
        raise nothing_given(problem)
    point = Linearised.at(problem, values, start)
    known = point.names
    for name in outputs:
        if name not in point.results:
            raise ArgumentError(
                f"there is no output {name!r}{nearest(name, known)}; outputs: {' '.join(known) or 'none'}"
            )
    chosen = {n: point.results[n] for n in outputs or known}
    if not chosen:
        raise ArgumentError("the problem declares no outputs; name fields, or declare some")
    leaves = point.leaves
    rows = sum(t.numel() for t in chosen.values())
    columns = sum(t.numel() for t in leaves.values())
    by_rows = rows <= columns
    found = {
        n: {p: t.new_zeros((*t.shape, *leaf.shape)) for p, leaf in leaves.items()}
        for n, t in chosen.items()
    }
    if by_rows and not any(t.is_complex() for t in chosen.values()):
        # Outputs of one solve are right-hand sides of one adjoint solve.
        gradients = jacobian(list(chosen.values()), list(leaves.values()))
        for name, of in zip(chosen, gradients, strict=True):
            reached = {p: g for p, g in zip(leaves, of, strict=True) if g is not None}
            found[name].update({p: g.to(chosen[name].device) for p, g in reached.items()})
    else:
        for p, leaf in leaves.items():
            for places, unit in units(leaf):
                along = point.jvps({p: unit}, tuple(chosen))
                for name, tangents in along.items():
                    whole = found[name][p].view(-1, leaf.numel())
                    whole[:, places.to(whole.device)] = tangents.reshape(len(places), -1).T
    return Sensitivities(
        {n: t.detach() for n, t in chosen.items()},
        {n: leaf.detach() for n, leaf in leaves.items()},
        found,
    )


def _place(values: Tensor, index: int) -> str:
    found = torch.unravel_index(torch.tensor(index), values.shape)
    return ",".join(str(int(i)) for i in found)


def _number(value: Tensor, digits: int, width: int) -> str:
    if value.is_complex():
        return f"{complex(value):{width}.3g}"
    return f"{float(value):{width}.{digits}f}" if digits else f"{float(value):{width}.4g}"
