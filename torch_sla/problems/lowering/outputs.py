"""Outputs: what each kind means, as tensors."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import SpecError
from torch_sla.problems.expression import Ranked
from torch_sla.problems.expression.functions import largest, root
from torch_sla.problems.lowering.affine import is_affine, is_plain, shares_row
from torch_sla.problems.lowering.conditions import at_path, positions
from torch_sla.problems.lowering.points import PointSites
from torch_sla.problems.lowering.reactions import boundary_facets, flux, flux_facets, reaction
from torch_sla.problems.lowering.selection import select_cells
from torch_sla.problems.lowering.sites import DofSites, RestrictedSites, Spread
from torch_sla.problems.specs import outputs as kinds
from torch_sla.problems.specs.written import Formula

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from torch_sla.assembly import Dofs
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.operators import Operator
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.lowering.sites import Sites

_MANY = 4
"""Members of a batch from which on integrals are products with a row."""

__all__ = ["Taken", "check_places", "everywhere", "nodal", "take_one"]


class Taken:
    """A solved scene, from which outputs are taken.

    Parameters
    ----------
    model, scene, operator
        The problem, its values and its operator before constraints; None where it is made when it is asked for.
    u
        The solution ``[*batch, n]``.
    inertia
        Makes what supports bear because it moves ``[*batch, n]``: mass times the derivative in time.
    counted
        Mask of the nodes of the first field whose reactions count ``[n_nodes]``; None for all. Of a part of a
        problem, those that belong to it.
    kinetic
        Gives the kinetic energy ``[*batch]``, where something moves.
    repeats
        A number for each node of the first field ``[n_nodes]``, one for those that repeat each other, where a part of
        a problem has such; the whole knows its own.
    """

    def __init__(
        self,
        model: Model,
        scene: Scene,
        operator: Operator | None,
        u: Tensor,
        inertia: Callable[[], Tensor] | None = None,
        counted: Tensor | None = None,
        kinetic: Callable[[], Tensor] | None = None,
        repeats: Tensor | None = None,
    ) -> None:
        self.model, self.scene, self._operator, self.u = model, scene, operator, u
        self.inertia, self.counted, self.kinetic = inertia, counted, kinetic
        self._reaction: Tensor | None = None
        self._repeats = repeats

    def outputs(
        self, known: Mapping[str, Tensor] | None = None, besides: Collection[str] = ()
    ) -> dict[str, Tensor]:
        """Evaluate all outputs of the problem but those that are known, or left out; return them in their order."""
        found, known = {}, known or {}
        for i, output in enumerate(self.model.spec.outputs):
            name = output.name
            if name in besides:
                continue
            found[name] = known[name] if name in known else take_one(self, output, f"outputs.{i}")
        return found

    @property
    def operator(self) -> Operator:
        """The operator before constraints."""
        if self._operator is None:
            self._operator = self.model.loaded(self.scene)
        return self._operator

    def forget(self) -> None:
        """Let go of the operator and what was made with it; they are made again when asked for."""
        self._operator = self._reaction = None

    @property
    def batch(self) -> tuple[int, ...]:
        """Batch dimensions of the solution; all outputs have them."""
        return tuple(self.u.shape[:-1])

    @property
    def repeats(self) -> Tensor | None:
        """A number for each node of the first field, one for those that repeat each other; None where none do."""
        return self.model.compiled.repeats if self.model.part is None else self._repeats

    @property
    def reactions(self) -> Tensor:
        """The residual before constraints ``[*batch, n]``: zero at free dofs, inflow at constrained ones."""
        if self._reaction is None:
            model = self.model
            terms = model.terms(self.scene)
            static = model.unconstrained(self.scene, self.operator, terms, self.u)
            self._reaction = static if self.inertia is None else static + self.inertia()
        return self._reaction

    def nodal(self, dofs: Dofs) -> dict[str, Ranked]:
        """Return the unknowns at the nodes of a numbering: each is continuous and has one value there."""
        numbering, found = self.model.numbering, dict[str, Ranked]()
        for name, own in numbering.fields.items():
            value, rank = numbering.shaped(self.u, name), self.model.ranks[name]
            site = value.ndim - 1 - rank
            there = Spread(dofs, own)(value.movedim(site, -1)).movedim(-1, site)
            found[name] = Ranked(there, rank)
        return found

    def at(self, expression: str, points: Tensor, path: str) -> Tensor:
        """Evaluate an expression at points ``[m, dim]``: ``[*batch, m, *shape]``."""
        sites = PointSites(self.model, self.scene.geometry, points, self.u)
        value = self.scene.evaluate(Formula(expression), sites, path)
        return _sites_only(value, points.shape[0], self.batch)


def take_one(taken: Taken, output: kinds.OutputSpec, path: str) -> Tensor:
    """Evaluate one output, declared at a path."""
    return _KINDS[type(output)](taken, output, path)


def check_places(model: Model, output: kinds.OutputSpec, path: str) -> None:
    """Check the places of an output: tags, facets, points inside the mesh."""
    match output:
        case kinds.Probe() | kinds.Line():
            with at_path(f"{path}.at"):
                model.geometry.located(positions(model, output.points, f"{path}.at"), model.dofs)
        case kinds.Integral() if output.on is not None:
            _domain(model, output.on, f"{path}.on")
        case kinds.Flux():
            flux_facets(model, output, path)
        case kinds.Reaction():
            boundary_facets(model, output.on, f"{path}.on")


def _probe(taken: Taken, output: kinds.Probe | kinds.Line, path: str) -> Tensor:
    at = positions(taken.model, output.points, f"{path}.at")
    with at_path(f"{path}.at"):
        return taken.at(output.quantity, at, f"{path}.quantity")


def _domain(model: Model, on: tuple[str, ...], path: str) -> tuple[str, Tensor]:
    """Return ``"cells"`` or ``"facets"`` and the indices."""
    mesh = model.mesh
    if not any(tag in mesh.cell_tags for tag in on):
        return "facets", model.select_facets(on, path)
    if any(tag in mesh.facet_tags for tag in on):
        raise SpecError(
            f"{' '.join(on)!r} names cells and facets; an integral is over one or the other",
            path=path,
        )
    return "cells", select_cells(mesh, on, path)


def _integral(taken: Taken, output: kinds.Integral, path: str) -> Tensor:
    many = prod(taken.batch) >= _MANY and not taken.u.is_complex()
    if (
        many
        and is_plain(taken.scene, taken.u)
        and is_affine(taken.model, output)
        and shares_row(taken.scene, output)
    ):
        return _by_row(taken, output, path)
    return _integrated(taken, output, path)


def _by_row(taken: Taken, output: kinds.Integral, path: str) -> Tensor:
    """Integrate what is linear in the solution for a whole batch: its derivative once, times each member."""
    recorded = torch.is_grad_enabled()
    with torch.enable_grad():
        zero = taken.u.detach().new_zeros(taken.u.shape[-1]).requires_grad_()
        constant = _integrated(Taken(taken.model, taken.scene, None, zero), output, path)
    if not constant.requires_grad:
        return constant.expand(taken.batch)
    (row,) = torch.autograd.grad(constant, zero, create_graph=recorded, materialize_grads=True)
    found = taken.u @ row + (constant if recorded else constant.detach())
    # The zero about which it was taken is nothing that anyone differentiates by.
    wanted = taken.u.requires_grad or taken.scene.requires_grad
    return found if wanted else found.detach()


def _integrated(taken: Taken, output: kinds.Integral, path: str) -> Tensor:
    scene, expression = taken.scene, Formula(output.expression)
    place = None if output.on is None else _domain(taken.model, output.on, f"{path}.on")
    sites = (
        scene.cells(taken.u)
        if place is None or place[0] == "cells"
        else scene.facets(place[1], taken.u)
    )
    chosen: Sites = sites
    dx = sites.basis.dx
    if place is not None and place[0] == "cells":
        # Elsewhere the integrand need not have a value.
        chosen, dx = RestrictedSites(sites, place[1]), dx.index_select(0, place[1])
    value = scene.evaluate(expression, chosen, path).tensor
    factor = taken.model.measure(scene, chosen)
    weight = dx if factor is None else factor * dx
    if weight.ndim == 2:
        # One product with the weights, and nothing of the size of all points is written.
        full = value.expand(*value.shape[:-2], *weight.shape)
        return (full.flatten(-2) @ weight.flatten().to(full.dtype)).expand(taken.batch)
    return (value * weight).sum((-2, -1)).expand(taken.batch)


def _energy(taken: Taken, output: kinds.Energy, path: str) -> Tensor:
    if output.part == "stored":
        return taken.model.energy(taken.scene, taken.u)
    if taken.kinetic is None:
        raise SpecError(
            f"nothing moves here, so there is no {output.part} energy; it is of a transient problem with two "
            "derivatives in time",
            path=f"{path}.part",
        )
    kinetic = taken.kinetic()
    return (
        kinetic if output.part == "kinetic" else taken.model.energy(taken.scene, taken.u) + kinetic
    )


def _compliance(taken: Taken, _: kinds.Compliance, __: str) -> Tensor:
    return taken.model.work(taken.scene, taken.operator, taken.u).expand(taken.batch)


def _maximum(taken: Taken, output: kinds.Maximum, path: str) -> Tensor:
    if output.p is None:
        return everywhere(taken, output.expression, path).amax((-2, -1)).expand(taken.batch)
    scene, model, expression = taken.scene, taken.model, Formula(output.expression)
    cells = scene.cells(taken.u)
    size = scene.evaluate(expression, cells, path).tensor.abs()
    # Scaled by the largest value, so that no power overflows; the scale cancels.
    scale = largest(size, (-2, -1))
    powers = model.integrate(scene, cells, (size / scale) ** output.p).sum(-1)
    volume = model.integrate(scene, cells, torch.ones_like(size)).sum(-1)
    return (scale[..., 0, 0] * root(powers / volume, output.p)).expand(taken.batch)


def _minimum(taken: Taken, output: kinds.Minimum, path: str) -> Tensor:
    return everywhere(taken, output.expression, path).amin((-2, -1)).expand(taken.batch)


def everywhere(taken: Taken, text: str, path: str) -> Tensor:
    """Evaluate a real expression at the nodes where it has values there, else at the quadrature points."""
    scene, model, expression = taken.scene, taken.model, Formula(text)
    if nodal(taken, expression):
        sites: Any = _nodes(taken, model.dofs)
    else:
        sites = scene.cells(taken.u)
    found = scene.evaluate(expression, sites, path).tensor
    if found.is_complex():
        raise SpecError("complex numbers have no order; use abs(...), real(...)", path=path)
    return found


def _field(taken: Taken, output: kinds.Field, path: str) -> Tensor:
    scene, model, mesh = taken.scene, taken.model, taken.model.mesh
    expression = Formula(output.expression)
    if output.on == "nodes" and nodal(taken, expression):
        value = scene.evaluate(expression, _nodes(taken, model.nodal), path)
        return _sites_only(value, mesh.n_points, taken.batch)
    cells = scene.cells(taken.u)
    value = scene.evaluate(expression, cells, path)
    full = _expanded(value, cells.n, cells.q, taken.batch)
    if output.on == "quadrature":
        return full.flatten(-2 - value.rank, -1 - value.rank)
    factor, ones = model.measure(scene, cells), [1] * value.rank
    dx = cells.basis.dx if factor is None else factor * cells.basis.dx
    site = full.ndim - value.rank - 2
    integral = (full * dx.reshape(*dx.shape, *ones)).sum(site + 1)
    volume = dx.sum(-1)
    if output.on == "cells":
        return integral / volume.reshape(*volume.shape, *ones)
    each = mesh.cells.shape[1]
    last = integral.movedim(site, -1)
    flat = last[..., None].expand(*last.shape, each).flatten(-2)
    around = mesh.cell_points.sum(volume.repeat_interleave(each, -1))
    around = around.reshape(*around.shape[:-1], *ones, -1)
    return (mesh.cell_points.sum(flat) / around).movedim(-1, site)


def _nodes(taken: Taken, dofs: Dofs) -> DofSites:
    """Return the nodes of a numbering, where all unknowns are seen."""
    points = dofs.points(taken.scene.geometry.points)
    every = torch.arange(dofs.n_nodes, device=taken.model.device)
    return DofSites(points, every, Spread(dofs), taken.nodal(dofs))


def nodal(taken: Taken, expression: Formula) -> bool:
    """Whether an expression has one value at each node."""
    parsed = expression.expression
    declared = taken.scene.declared
    homes = {declared[name].on for name in parsed.names & declared.keys()}
    known = declared.keys() | taken.model.ranks.keys() | set("xyzt")
    return not parsed.derivatives and homes <= {"constant", "nodes"} and parsed.names <= known


def _expanded(value: Ranked, n: int, q: int, batch: tuple[int, ...]) -> Tensor:
    tensor = value.tensor
    site = tensor.ndim - value.rank - 2
    batch = tuple(np.broadcast_shapes(tensor.shape[:site], batch))
    return tensor.expand(*batch, n, q, *tensor.shape[site + 2 :])


def _sites_only(value: Ranked, n: int, batch: tuple[int, ...]) -> Tensor:
    """Drop the point dimension of sites with one point each."""
    tensor = _expanded(value, n, 1, batch)
    return tensor.squeeze(tensor.ndim - value.rank - 1)


_KINDS: dict[type, Callable[[Taken, Any, str], Tensor]] = {
    kinds.Probe: _probe,
    kinds.Line: _probe,
    kinds.Integral: _integral,
    kinds.Flux: flux,
    kinds.Reaction: reaction,
    kinds.Energy: _energy,
    kinds.Compliance: _compliance,
    kinds.Maximum: _maximum,
    kinds.Minimum: _minimum,
    kinds.Field: _field,
}
