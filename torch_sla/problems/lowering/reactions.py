"""What goes through facets: flux, and what supports bear."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from torch_sla.assembly.kernels.contents import contents
from torch_sla.errors import SpecError
from torch_sla.linalg.kernels.ordered import summed

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.outputs import Taken
    from torch_sla.problems.specs import outputs as kinds

__all__ = [
    "boundary_facets",
    "flux",
    "flux_facets",
    "held",
    "is_held",
    "nothing_holds",
    "reaction",
]


def flux(taken: Taken, output: kinds.Flux, path: str) -> Tensor:
    """Return what flows out through facets ``[*batch(, components)]``."""
    facets = flux_facets(taken.model, output, path)
    return taken.model.natural_outflow(taken.scene, taken.u, facets) - held(taken, facets)


def flux_facets(model: Model, output: kinds.Flux, path: str) -> Tensor:
    """Return the facets of a flux, on all of which conditions give it."""

    def make() -> Tensor:
        facets = boundary_facets(model, output.on, f"{path}.on")
        tied = [side for s in model.selections if s.to is not None for side in (s.facets, s.to)]
        if tied and bool(torch.isin(facets, torch.cat(tied)).any()):
            raise SpecError(
                f"{' '.join(output.on)!r} holds facets of a periodic condition, through which no condition gives the "
                "flux; integrate it: -dot(kappa*grad(u), normal) on these facets",
                path=f"{path}.on",
            )
        return facets

    return model.once(("flux", output.on), make)


def reaction(taken: Taken, output: kinds.Reaction, path: str) -> Tensor:
    """Return what supports bear ``[*batch(, components)]``."""
    model = taken.model

    def make() -> Tensor:
        facets = boundary_facets(model, output.on, f"{path}.on")
        if not is_held(model, facets):
            raise nothing_holds(model, path)
        return facets

    return held(taken, model.once(("reaction", output.on), make))


def is_held(model: Model, facets: Tensor) -> bool:
    """Return whether a Dirichlet condition holds the first unknown on some of the facets."""
    first = next(iter(model.ranks))
    fixed = [s.facets for s in model.selections if s.kind == "dirichlet" and s.unknown == first]
    return bool(fixed) and bool(torch.isin(facets, torch.cat(fixed)).any())


def nothing_holds(model: Model, path: str) -> SpecError:
    """Return the error of a reaction on facets that are free."""
    first = next(iter(model.ranks))
    return SpecError(
        f"no Dirichlet condition holds {first!r} on these facets, so there is no reaction on them",
        path=f"{path}.on",
    )


def boundary_facets(model: Model, on: tuple[str, ...], path: str) -> Tensor:
    """Return named facets, all of which have an outer side."""
    facets = model.select_facets(on, path)
    if bool((model.mesh.facet_neighbours[facets] >= 0).any()):
        raise SpecError(
            f"{' '.join(on)!r} holds facets inside the body, which have no outer side", path=path
        )
    return facets


def held(taken: Taken, facets: Tensor) -> Tensor:
    """Inflow through the given facets that have a Dirichlet value ``[*batch(, components)]``.

    The reaction of a node shared with other held facets is split by their areas, so that parts add up
    to the whole without loss.
    """
    model = taken.model
    name, dofs = next(iter(model.ranks)), model.dofs
    reactions = model.numbering.part(taken.reactions, name).unflatten(-1, (-1, dofs.components))
    return _joined(
        [_held_component(taken, facets, reactions[..., c], c) for c in range(dofs.components)]
    )


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.stack(parts, -1)


def _held_component(taken: Taken, facets: Tensor, reactions: Tensor, component: int) -> Tensor:
    """Sum the reactions ``[*batch, n_nodes]`` of one component ``[*batch]``."""
    model = taken.model
    key = ("held", component, contents(facets))
    support = model.once(key, lambda: _support(taken, facets, component))
    if support is None:
        return reactions.new_zeros(reactions.shape[:-1])
    area = taken.scene.geometry.facets(support.facets).dx.sum(-1)
    spread = area[:, None].expand_as(support.nodes)
    n, inside = model.dofs.n_nodes, support.inside
    whole = summed(spread, support.nodes, n)
    part = summed(spread[inside], support.nodes[inside], n)
    chosen, bearers = support.chosen, support.bearers
    if taken.counted is not None:
        counted = taken.counted[chosen]
        chosen, bearers = chosen[counted], bearers[counted]
    share = part[bearers] / whole[bearers]
    return (reactions.index_select(-1, chosen) * share).sum(-1)


class _Support(NamedTuple):
    """What holds a component.

    Parameters
    ----------
    facets, nodes
        All facets that do ``[m]``, and their nodes ``[m, nb]``.
    inside
        Which of these facets are wanted.
    chosen, bearers
        Nodes that are held by these, and the node of these by which each is held: itself, or one that it repeats.
    """

    facets: Tensor
    nodes: Tensor
    inside: Tensor
    chosen: Tensor
    bearers: Tensor


def _support(taken: Taken, facets: Tensor, component: int) -> _Support | None:
    """Find what holds a component on some facets; None where nothing holds it anywhere."""
    model = taken.model
    name, dofs = next(iter(model.ranks)), model.dofs
    held = [
        s.facets
        for s in model.selections
        if s.kind == "dirichlet" and s.unknown == name and s.component in (None, component)
    ]
    if not held:
        return None
    every = torch.cat(held).unique()
    local = dofs.element.facet_nodes.to(every.device)[model.mesh.facet_sides[every]]
    nodes = dofs.cell_nodes[model.mesh.facet_cells[every]].gather(1, local)
    inside = torch.isin(every, facets).nonzero()[:, 0]
    chosen = nodes[inside].unique()
    bearers = chosen
    if taken.repeats is not None:
        # A value that is given on one side of a periodic pair holds on both, and is held for both.
        others, by = _repeating(taken.repeats, nodes.unique())
        wanted = torch.isin(by, chosen)
        chosen, bearers = torch.cat([chosen, others[wanted]]), torch.cat([bearers, by[wanted]])
    return _Support(every, nodes, inside, chosen, bearers)


def _repeating(repeats: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nodes that repeat others which are held, and are not held themselves, and one of these others each."""
    n = len(repeats)
    first = torch.full_like(repeats, n).scatter_reduce(0, repeats[held], held, "amin")
    by = first[repeats]
    by[held] = n
    others = (by < n).nonzero()[:, 0]
    return others, by[others]
