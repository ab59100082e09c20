"""What is wrong with a declaration before anything is given: laws that use no parameter, and defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch_sla.linalg.checks import together
from torch_sla.problems.lowering.conditions import as_vector, positions, sites_of_values
from torch_sla.problems.lowering.parameters import Given, resolve
from torch_sla.problems.lowering.points import PointSites
from torch_sla.problems.lowering.scene import Scene
from torch_sla.problems.lowering.sites import RestrictedSites
from torch_sla.problems.specs.faults import dotted
from torch_sla.problems.specs.laws import laws
from torch_sla.problems.specs.value import leaves, names_of
from torch_sla.problems.specs.written import Formula, FrozenMap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.sites import Sites
    from torch_sla.problems.specs.laws import Law
    from torch_sla.problems.specs.value import Parameter

__all__ = ["check_defaults", "check_told", "needs_no_value"]

_PLACES = frozenset({"x", "y", "z", "normal"})


def needs_no_value(law: Any) -> bool:
    """Whether a law is the same in every solve: it uses no parameter, no time and no solution."""
    return all(
        (not isinstance(leaf, Formula) and not names_of(leaf))
        or (
            isinstance(leaf, Formula)
            and not leaf.expression.derivatives
            and names_of(leaf) <= _PLACES
        )
        for _, leaf in leaves(law)
    )


def check_told(model: Model) -> None:
    """Evaluate all that is told without values, as a solve would, and take none of it.

    Where that is all that a linear problem is made of, its operator is assembled.

    Raises
    ------
    SpecError, ArgumentError
        For numbers of a wrong shape, NaN, or outside the bound of their law.
    """
    with together():
        check_defaults(model, model.declared)
        scene = Scene(model, Given(), model.geometry)
        for law in laws(model.spec):
            if not model.overridden(law.path):
                _check(model, scene, law)
        if not model.nonlinear and all(
            law.place.on == "output" or needs_no_value(law.value) for law in laws(model.spec)
        ):
            model.loaded(scene)  # what laws are together, such as a material


def check_defaults(model: Model, declared: Mapping[str, Parameter]) -> None:
    """Check shapes of defaults, and whether they are finite; no bounds, since a value may replace them."""
    chosen = {
        name: parameter
        for name, parameter in declared.items()
        if parameter.default is not None and parameter.time is None
    }
    resolve(
        {},
        chosen,
        reaching=chosen,
        counts=model.counts,
        sites=lambda name: model.sites(name, None, declared),
        files=model.file_array,
        dtype=model.dtype,
        device=model.device,
        allow_complex=model.spec.is_complex,
    )


def _check(model: Model, scene: Scene, law: Law) -> None:
    path = dotted(law.path)
    if isinstance(law.value, FrozenMap) and not needs_no_value(law.value):
        told = {tag: item for tag, item in law.value.items() if needs_no_value(item)}
        sites = _sites(model, scene, law) if told else None
        if sites is not None:
            tags = tuple(law.value)
            for tag, chosen in zip(tags, model.tag_places(tags, sites, path), strict=True):
                if tag in told and len(chosen) and told[tag] != 0:
                    scene.evaluate(told[tag], RestrictedSites(sites, chosen), path)
        return
    sites = _sites(model, scene, law) if needs_no_value(law.value) else None
    if sites is None:
        return
    found = scene.evaluate(law.value, sites, path)
    if law.place.on == "dofs" or (law.place.on == "points" and found.rank):
        name = model.selections[int(law.path[1])].unknown
        as_vector(found, model.numbering.fields[name].components, path)


def _sites(model: Model, scene: Scene, law: Law) -> Sites | None:
    """Return where a law is evaluated; None for what is evaluated with something else alone."""
    if law.place.on == "cells":
        return scene.cells()
    if law.path[0] != "boundary":
        return None
    i = int(law.path[1])
    if law.place.on == "dofs":
        return sites_of_values(model, scene, i)
    at = getattr(model.spec.boundary[i], "at", None)
    if at is None:
        return model.at_condition(scene, i)
    points = positions(model, at, f"boundary.{i}.at")
    return PointSites(model, scene.geometry, points) if len(points) else None
