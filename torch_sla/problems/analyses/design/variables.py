"""The unknowns of a search: what varies, behind each other in one vector."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, SpecError
from torch_sla.problems.analyses.analysis import frame_of
from torch_sla.problems.design.transforms import Chain, Place
from torch_sla.problems.specs.arrays import numbers
from torch_sla.problems.specs.of import times_in
from torch_sla.problems.specs.value import ArrayFile, Parameter, check_of_places
from torch_sla.problems.specs.variable import POINTS
from torch_sla.problems.specs.written import Formula

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch_sla.problems.lowering.frame import Frame
    from torch_sla.problems.specs.design import DesignProblem
    from torch_sla.problems.specs.variable import Variable

__all__ = ["Unknowns"]


class Unknowns:
    """Maps one vector ``[n]`` to the values of all variables, and back for bounds and start.

    Parameters
    ----------
    spec
        The declaration.
    models
        The lowered problems by name.
    """

    def __init__(self, spec: DesignProblem, models: Mapping[str, Any]) -> None:
        self.spec, self.models = spec, models
        self.chains: dict[str, Chain] = {}
        self.ranges: dict[str, slice] = {}
        first = 0
        for i, variable in enumerate(spec.variables):
            place = self._place(variable, f"variables.{i}")
            try:
                chain = Chain(variable.transform, place)
            except SpecError:
                raise
            except ArgumentError as error:
                raise SpecError(str(error), path=f"variables.{i}.transform") from None
            size = math.prod(chain.shape)
            self.chains[variable.parameter] = chain
            self.ranges[variable.parameter] = slice(first, first + size)
            first += size
        self.n = first

    def _home(self, name: str) -> Any:
        """Return a model in which a parameter lives."""
        for model in self.models.values():
            if name == POINTS:
                if frame_of(model) is not None:
                    return model
            elif name in model.declared:
                return model
        raise ArgumentError(
            f"{name!r} lives nowhere"
        )  # pragma: no cover  (the declaration was checked)

    def _place(self, variable: Variable, path: str) -> Place:
        name = variable.parameter
        model = self._home(name)
        frame = frame_of(model)
        mesh = None if frame is None else frame.mesh.to("cpu")
        if frame is not None:
            self._same_sites(name, frame, path)
        if name == POINTS and mesh is not None:
            return Place("nodes", mesh, (mesh.dim,), moves=True)
        parameter = model.declared[name]
        shape = tuple(parameter.shape)
        if "u" in parameter.of:
            raise SpecError(
                f"{name!r} is a law of the solution; train it as a module, see problem.module()",
                path=path,
            )
        if parameter.time is not None:
            if parameter.on != "constant":
                raise SpecError(
                    f"{name!r} has a value for each time and each of the {parameter.on}; a variable has one of both",
                    path=path,
                )
            return Place("constant", mesh, (times_in(model.spec), *shape))
        if parameter.on == "constant" or mesh is None:
            return Place("constant", mesh, shape)
        return Place(parameter.on, mesh, shape, sites=model.sites(name).detach().cpu().double())

    def _same_sites(self, name: str, frame: Frame, path: str) -> None:
        """Refuse meshes that differ, where problems share what lives on them."""
        for case, model in self.models.items():
            other = frame_of(model)
            if other is None or other is frame:
                continue
            lives = name == POINTS or (
                name in model.declared and model.declared[name].on != "constant"
            )
            same = other.mesh.topology_key == frame.mesh.topology_key
            if lives and not (same and torch.equal(other.mesh.points, frame.mesh.points)):
                raise SpecError(
                    f"{name!r} lives on meshes that differ between the problems ({case!r} has another one); give "
                    "each its own parameter, or one mesh to all",
                    path=path,
                )

    # -- numbers --------------------------------------------------------------------------------

    def start(self) -> Tensor:
        """Return where the search starts ``[n]``."""
        parts = []
        for i, variable in enumerate(self.spec.variables):
            name, path = variable.parameter, f"variables.{i}.initial"
            chain = self.chains[name]
            initial: Any = variable.initial
            if name == POINTS:
                found = chain.place.on_mesh.points
            else:
                parameter = self._home(name).declared[name]
                if initial is None:
                    initial = parameter.default
                if initial is None:
                    raise SpecError(f"{name!r} has no default to start from; say where", path=path)
                found = self._numbers(name, initial, path)
            try:
                parts.append(chain.start(found).reshape(-1))
            except ArgumentError as error:
                raise SpecError(str(error), path=path) from None
        found = torch.cat(parts)
        lower, upper = self.bounds()
        slack = 1e-9 * (1.0 + found.abs())
        outside = torch.nonzero((found < lower - slack) | (found > upper + slack))[:, 0]
        if len(outside):
            i = self._variable(int(outside[0]))
            raise SpecError("the start lies outside the bounds", path=f"variables.{i}.initial")
        return found

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return bounds ``[n]``, infinite where there are none."""
        sides: tuple[list[Tensor], list[Tensor]] = ([], [])
        for i, variable in enumerate(self.spec.variables):
            name, path = variable.parameter, f"variables.{i}.bounds"
            chain = self.chains[name]
            pair = variable.bounds or (None, None)
            given = [None if b is None else self._numbers(name, b, path) for b in pair]
            try:
                found = chain.bounds(*given)
            except ArgumentError as error:
                raise SpecError(str(error), path=path) from None
            for side, bound, free in zip(sides, found, (-math.inf, math.inf), strict=True):
                full = torch.full(chain.shape, free, dtype=torch.float64)
                side.append((full if bound is None else bound.expand(chain.shape)).reshape(-1))
        lower, upper = torch.cat(sides[0]), torch.cat(sides[1])
        self._check_order(lower, upper)
        return lower, upper

    def _check_order(self, lower: Tensor, upper: Tensor) -> None:
        if bool((lower <= upper).all()):
            return
        worst = int((lower - upper).argmax())
        i = self._variable(worst)
        raise SpecError(
            f"the lower bound {float(lower[worst]):g} is above the upper one {float(upper[worst]):g}",
            path=f"variables.{i}.bounds",
        )

    def _variable(self, place: int) -> int:
        """Return which variable one of the unknowns belongs to."""
        parts = self.ranges.values()
        return next(i for i, part in enumerate(parts) if part.start <= place < part.stop)

    def called(self, place: int) -> str:
        """Return what one of the unknowns is called where a person reads of it."""
        name, part = list(self.ranges.items())[self._variable(place)]
        alone = part.stop - part.start == 1
        return f"{name!r}" if alone else f"unknown {place - part.start} of {name!r}"

    def _numbers(self, name: str, value: Any, path: str) -> Tensor:
        """Evaluate a number, an expression, a file or a function at the sites of a variable."""
        if isinstance(value, int | float):
            return torch.tensor(float(value), dtype=torch.float64)
        place = self.chains[name].place
        model = self._home(name)
        frame = frame_of(model)
        if frame is None or place.on == "constant":
            if isinstance(value, ArrayFile):
                value = numbers(value.file, value.key, path)
            try:
                found = torch.as_tensor(np.array(value), dtype=torch.float64)
            except (TypeError, ValueError):
                raise SpecError("a number or a list is needed for a constant", path=path) from None
            timed = model.declared[name].time is not None and found.shape == place.shape[1:]
            return found.expand(place.shape) if timed else found
        if isinstance(value, Formula):
            check_of_places(value, path, "xyz"[: frame.mesh.dim])
        on: Any = place.on
        try:
            home = Parameter(name, on=on, shape=place.shape, default=value)
        except SpecError as error:
            raise SpecError(error.message, path=path) from None
        try:
            found = frame.defaults([name], {name: home})[name]
        except SpecError:
            raise
        except ArgumentError as error:
            raise SpecError(str(error), path=path) from None
        return found.detach().cpu().double()

    # -- values ---------------------------------------------------------------------------------

    def part(self, name: str, x: Tensor) -> Tensor:
        """Return the unknowns of one variable in its shape."""
        return x[self.ranges[name]].reshape(self.chains[name].shape)

    def values(self, x: Tensor) -> dict[str, Tensor]:
        """Return the values of all variables by name, differentiable in ``x`` ``[n]``."""
        return {name: chain(self.part(name, x)) for name, chain in self.chains.items()}

    def plain(self, x: Tensor, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the same values as goals see them: no transform bends their gradients."""
        bent = {name: chain for name, chain in self.chains.items() if chain.bends}
        return {**values, **{n: chain.plain(self.part(n, x)) for n, chain in bent.items()}}

    def describe(self) -> list[str]:
        """Return a line for each variable."""
        lines = []
        for variable in self.spec.variables:
            name = variable.parameter
            chain = self.chains[name]
            count = math.prod(chain.shape)
            words = [f"{count} unknown{'s' if count > 1 else ''}"]
            if chain.place.on != "constant":
                words.append(f"on {chain.place.on}")
            if variable.transform:
                words.append("through " + ", ".join(t.type for t in variable.transform))
            if variable.bounds is not None:
                low, high = (
                    ("-inf", "inf")[k] if b is None else b for k, b in enumerate(variable.bounds)
                )
                words.append(f"between {low} and {high}")
            lines.append(f"  variable    {name}: {' '.join(words)}")
        return lines
