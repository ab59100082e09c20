r"""Nonlinear terms: what a point of the body does to the test functions, and its derivative.

A weak residual is an integral of duals against the jets of the test function,

.. math:: R(u; v) = \int s(u, \nabla u) \cdot v + P(u, \nabla u) : \nabla v,

so a physics says s and P at a quadrature point and nothing else. Their derivatives with respect to the jets
of the trial function are found by automatic differentiation, point by point, and assembled like the
coefficients of any bilinear form: the sparse tangent, exact and differentiable again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from torch_sla.assembly import Field
from torch_sla.assembly.forms.contract import (
    Parts,
    element_matrices,
    element_vectors,
    matrix_values,
)
from torch_sla.problems.lowering.sites import Fields

if TYPE_CHECKING:
    from torch_sla.problems.lowering.averaged import Averages
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.lowering.sites import BasisSites

__all__ = ["Dual", "Duals", "Term", "duals_of_integrand", "residual", "tangent", "uniform"]


class Dual(NamedTuple):
    """What meets a test function: ``value [*batch, n|1, q|1(, c)]`` and ``gradient [..., (c,) dim]``."""

    value: Tensor | None = None
    gradient: Tensor | None = None


Duals = Mapping[str, Dual]


@dataclass(frozen=True)
class Term:
    """One integral of a residual.

    Parameters
    ----------
    sites
        Where; the solution is put in when the term is evaluated.
    duals
        ``sites -> {test: Dual}``, with the solution seen at the sites.
    trials
        Unknowns it depends on.
    averages
        Functions that are averaged over each cell, which the duals take after the sites; of a single unknown.
    """

    sites: BasisSites
    duals: Callable[..., Duals]
    trials: tuple[str, ...] = ("u",)
    averages: Averages | None = None

    def at(self, sites: BasisSites) -> Duals:
        """Evaluate the duals where the solution is seen."""
        return self.duals(sites, *(() if self.averages is None else self.averages.at(sites)))


def uniform(value: Tensor, rank: int, make: Callable[[Tensor], Tensor]) -> Tensor:
    """Assemble a load of a batch of laws that are the same everywhere from the load of one.

    Parameters
    ----------
    value
        The law ``[*batch, n|1, q|1]``, a vector of rank 1 with its components last.
    make
        Assembles the load ``[*batch, n]`` of a law; linear.
    """
    sites = value.shape[value.ndim - rank - 2 : value.ndim - rank]
    batched = value.ndim > rank + 2
    if not batched or tuple(sites) != (1, 1):
        return make(value)
    flat = value.reshape(*value.shape[: value.ndim - rank - 2], -1)
    units = torch.eye(flat.shape[-1], dtype=value.dtype, device=value.device)
    each = [make(unit.reshape(1, 1, *value.shape[value.ndim - rank :])) for unit in units]
    return flat @ torch.stack(each)


def residual(scene: Scene, terms: Iterable[Term], u: Tensor) -> Tensor | None:
    """Assemble the terms at a solution ``[*batch, n]``; None where there are none."""
    total: Tensor | None = None
    for term in terms:
        sites = term.sites.seeing(scene.fields(term.sites.basis, u))
        facets = sites.basis.facets
        parts = {}
        for name, dual in term.at(sites).items():
            stacked, shape = _stack(dual, scene.model.ranks[name])
            basis = scene.geometry.basis(name, facets)
            parts[name] = element_vectors(stacked, basis, shape)
        values = scene.model.numbering.vector(parts, facets)
        total = values if total is None else total + values
    return total


def tangent(
    scene: Scene, terms: Iterable[Term], u: Tensor, *, recorded: bool = False
) -> Tensor | None:
    """Differentiate the terms at ``u`` that has all batch dimensions: values ``[*batch, nnz]``.

    Parameters
    ----------
    recorded
        Whether the values are to be differentiable themselves.
    """
    total: Tensor | None = None
    with torch.enable_grad():
        for term in terms:
            if not term.trials:
                continue
            values = _tangent(scene, term, u, recorded)
            if values is not None:
                total = values if total is None else total + values
    return total


def _tangent(scene: Scene, term: Term, u: Tensor, recorded: bool) -> Tensor | None:
    plain, ranks = scene.fields(term.sites.basis, u), scene.model.ranks
    leaves: dict[str, tuple[Tensor, Tensor]] = {}
    for name in term.trials:
        field = plain[name]
        leaves[name] = (_leaf(field.value, recorded), _leaf(field.gradient, recorded))

    def get(name: str) -> Field:
        return Field(*leaves[name]) if name in leaves else plain[name]

    sites = term.sites.seeing(Fields(get, ranks))
    facets, numbering = sites.basis.facets, scene.model.numbering
    blocks: dict[tuple[str, str], Tensor] = {}
    averages = term.averages
    held = []
    if averages is not None:
        held = [_leaf(x, recorded) for x in averages.at(term.sites.seeing(plain))]
    flat = [leaf for name in term.trials for leaf in leaves[name]] + held
    duals = term.duals(sites, *held)
    rows: list[tuple[str, Tensor]] = []
    shapes = {}
    for test, dual in duals.items():
        stacked, shapes[test] = _stack(dual, ranks[test])
        rows += [(test, row) for row in stacked.unbind(0)]
    found: dict[str, list[tuple[Tensor | None, ...]]] = {test: [] for test in duals}
    for test, row in rows:
        if row.requires_grad:
            grads: tuple[Tensor | None, ...] = torch.autograd.grad(
                row.sum(), flat, create_graph=recorded, retain_graph=True, allow_unused=True
            )
        else:
            grads = tuple[Tensor | None, ...]([None] * len(flat))
        found[test].append(grads)
    for test, grads_of in found.items():
        for k, trial in enumerate(term.trials):
            pair = [(g[2 * k], g[2 * k + 1]) for g in grads_of]
            parts = Parts(any(v is not None for v, _ in pair), any(g is not None for _, g in pair))
            if parts == Parts():
                continue
            value, gradient = leaves[trial]
            columns = [_columns(v, g, parts, value, gradient, ranks[trial]) for v, g in pair]
            C = torch.stack(columns)
            alone = numbering.fields[trial] if len(numbering.fields) == 1 else None
            if alone is not None and facets is None:
                basis = scene.geometry.basis(trial)
                shape = shapes[test]
                values = matrix_values(C.flatten(0, 1), None, basis, alone, parts, shape)
                if averages is None:
                    return values
                by_average = [[g[2 + j] for g in grads_of] for j in range(len(held))]
                slopes = averages.slopes(sites, held, leaves[trial], recorded=recorded)
                return values + alone.assemble_matrix(averages.chained(by_average, slopes, shape))
            blocks[test, trial] = element_matrices(
                C,
                scene.geometry.basis(trial, facets),
                scene.geometry.basis(test, facets),
                parts,
                shapes[test],
            )
    return numbering.matrix(blocks, facets) if blocks else None


def _leaf(x: Tensor, recorded: bool) -> Tensor:
    # A view, which what was made of the tensor before does not depend on.
    return x.view_as(x) if recorded and x.requires_grad else x.detach().requires_grad_()


def _columns(
    v: Tensor | None, g: Tensor | None, parts: Parts, value: Tensor, gradient: Tensor, rank: int
) -> Tensor:
    """Return the derivatives of one dual by the jet of the trial function ``[components * jet, *batch, n, q]``."""
    pieces = []
    if parts.value:
        pieces.append((torch.zeros_like(value) if v is None else v)[..., None])
    if parts.gradient:
        pieces.append(torch.zeros_like(gradient) if g is None else g)
    jets = torch.cat(pieces, -1)
    return (jets if rank == 0 else jets.flatten(-2)).movedim(-1, 0)


def _stack(dual: Dual, rank: int) -> tuple[Tensor, Parts]:
    """Stack a dual as the coefficients of a linear form ``[components * jet, *batch, n|1, q|1]``."""
    value = None if dual.value is None else dual.value[..., None]
    gradient = dual.gradient
    if value is not None and gradient is not None:
        shape = np.broadcast_shapes(value.shape[:-1], gradient.shape[:-1])
        jets = torch.cat([value.expand(*shape, 1), gradient.expand(*shape, gradient.shape[-1])], -1)
    elif value is not None:
        jets = value
    elif gradient is not None:
        jets = gradient
    else:
        raise ValueError("a dual has a value, a gradient, or both")
    stacked = (jets if rank == 0 else jets.flatten(-2)).movedim(-1, 0)
    return stacked, Parts(value is not None, gradient is not None)


def _fields(leaves: Mapping[str, tuple[Tensor, Tensor]]) -> Callable[[str], Field]:
    return lambda name: Field(*leaves[name])


def duals_of_integrand(
    integrand: Callable[[Fields], Tensor], like: Fields, tests: Mapping[str, str], n: int, q: int
) -> Duals:
    """Find the duals of an integrand that is linear in its test functions, by differentiating it.

    Parameters
    ----------
    integrand
        Function of the test functions, ``-> [*batch, n|1, q|1]``.
    like
        The solution, whose shapes the test functions take.
    tests
        Test function of each unknown.
    n, q
        Numbers of sites and points.
    """
    batch: tuple[int, ...] = ()

    def make(shape: tuple[int, ...]) -> dict[str, tuple[Tensor, Tensor]]:
        made = {}
        for unknown, test in tests.items():
            field, rank = like[unknown], like.ranks[unknown]
            trailing = field.gradient.shape[field.gradient.ndim - rank - 1 :]
            value = field.value.new_zeros(*shape, n, q, *trailing[:-1]).requires_grad_()
            gradient = field.value.new_zeros(*shape, n, q, *trailing).requires_grad_()
            made[test] = (value, gradient)
        return made

    names = {test: like.ranks[unknown] for unknown, test in tests.items()}
    with torch.enable_grad():
        for _ in range(2):
            leaves = make(batch)
            value = integrand(Fields(_fields(leaves), names))
            full = tuple(value.shape[:-2])
            if full == batch:
                break
            batch = full
        flat = [leaf for pair in leaves.values() for leaf in pair]
        total = value.expand(*batch, n, q).sum()
        grads = torch.autograd.grad(
            total, flat, create_graph=True, retain_graph=True, allow_unused=True
        )
    duals = {}
    for k, unknown in enumerate(tests):
        pair = Dual(grads[2 * k], grads[2 * k + 1])
        if pair != (None, None):
            duals[unknown] = pair
    return duals
