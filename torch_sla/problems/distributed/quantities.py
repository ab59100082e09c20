"""The kinds of outputs in parts: what each share says, what all make of it, and the way back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from torch_sla.problems.expression.functions import root
from torch_sla.problems.lowering.conditions import positions
from torch_sla.problems.lowering.outputs import Taken, everywhere, nodal, take_one
from torch_sla.problems.lowering.reactions import held, nothing_holds
from torch_sla.problems.specs import outputs as kinds
from torch_sla.problems.specs.written import Formula

if TYPE_CHECKING:
    from torch_sla.problems.distributed.division import Division
    from torch_sla.problems.distributed.share import Share

__all__ = ["Quantity", "Seen", "quantities"]

_RANKS = 6


@dataclass(frozen=True, eq=False)
class Seen:
    """A solved share.

    Parameters
    ----------
    rows, sums
        The solution on the cells around, and on the cells of the part alone.
    """

    share: Share
    rows: Taken
    sums: Taken


class Quantity(ABC):
    """One output.

    Parameters
    ----------
    division
        The problem in parts.
    output, path
        What is declared, and where.
    """

    def __init__(self, division: Division, output: kinds.OutputSpec, path: str) -> None:
        self.division, self.output, self.path = division, output, path

    @abstractmethod
    def of_shares(self, found: list[Seen]) -> list[Any]:
        """Return what each share says. This evaluates what is declared, and may fail on one process alone."""

    @abstractmethod
    def joined(self, parts: list[Any]) -> Tensor:
        """Make the output of what the shares here say, the same on every process; all call it together."""

    @abstractmethod
    def pulled_back(self, found: list[Seen], grad: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return tensors of the shares, recorded, with the cotangents that `grad` gives them; nothing is exchanged."""

    def _add(self, parts: list[Tensor]) -> Tensor:
        return self.division.comm.reduce(torch.stack(self._shaped(parts)).sum(0))

    def _shaped(self, parts: list[Tensor], sites: int | None = None) -> list[Tensor]:
        """Give a process without cells, which knows no shape, a zero of the right one.

        Parameters
        ----------
        sites
            How many sites that process has, where the first dimension counts them.
        """
        d = self.division
        if d.everyone_has_cells:
            return parts
        shape = torch.full((_RANKS + 1,), -1, device=d.device)
        if parts:
            shape[: parts[0].ndim] = torch.tensor(parts[0].shape, device=d.device)
            shape[_RANKS] = int(parts[0].is_complex())
        *known, complex_valued = d.comm.reduce(shape, "max").tolist()
        sizes = [int(n) for n in known if n >= 0]
        if sites is not None:
            sizes[0] = sites
        dtype = d.model.field_dtype if complex_valued else d.model.dtype
        zero = torch.zeros(sizes, dtype=dtype, device=d.device)
        return parts or [zero]


class Total(Quantity):
    """What adds up: integrals, energies, works, supports, and probes, each of which one part has."""

    def _partial(self, s: Seen) -> Tensor:
        match self.output:
            case kinds.Probe() | kinds.Line():
                return self._probe(s, self.output)
            case kinds.Flux():
                facets = s.sums.model.select_facets(self.output.on, f"{self.path}.on")
                inflow = self._held(s, self.output.on)
                return s.sums.model.natural_outflow(s.sums.scene, s.sums.u, facets) - inflow
            case kinds.Reaction():
                return self._held(s, self.output.on)
        return take_one(s.sums, self.output, self.path)

    def _held(self, s: Seen, on: tuple[str, ...]) -> Tensor:
        return held(s.rows, s.rows.model.select_facets(on, f"{self.path}.on"))

    def _probe(self, s: Seen, output: kinds.Probe | kinds.Line) -> Tensor:
        """Evaluate at the points in the cells of the part, zero at the others ``[m, *shape]``."""
        path = f"{self.path}.at"
        at = positions(s.rows.model, output.points, path)
        part = s.rows.model.part
        if part is None or not len(at):
            # Somewhere in the part, for the shape; it counts nothing.
            centre = s.rows.model.mesh.centroids[:1].to(s.rows.model.dtype)
            value = 0.0 * s.rows.at(output.quantity, centre, f"{self.path}.quantity").detach()
            return value.expand(len(output.points), *value.shape[1:])
        value = s.rows.at(output.quantity, at, f"{self.path}.quantity")
        zero = value.new_zeros(len(output.points), *value.shape[1:])
        return zero.index_copy(0, part.near[path], value)

    def of_shares(self, found: list[Seen]) -> list[Tensor]:
        """Return the sum over each share."""
        return [self._partial(s) for s in found]

    def joined(self, parts: list[Tensor]) -> Tensor:
        """Sum over shares and processes."""
        return self._add(parts)

    def pulled_back(self, found: list[Seen], grad: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Every share has the cotangent of the sum."""
        return [(self._partial(s), grad) for s in found]


class Extreme(Quantity):
    """The largest or least at the sites of all shares; those that have it get equal shares of the gradient."""

    output: kinds.Maximum | kinds.Minimum

    @property
    def _sign(self) -> float:
        return -1.0 if isinstance(self.output, kinds.Minimum) else 1.0

    def _partial(self, s: Seen) -> Tensor:
        """Return the values at the sites of the part alone, flat: no node counts for two parts."""
        text = self.output.expression
        if not nodal(s.rows, Formula(text)):
            return self._sign * everywhere(s.sums, text, self.path).flatten()
        found = everywhere(s.rows, text, self.path).flatten()
        # One number for all nodes is of no node.
        own = found[s.share.own_nodes] if len(found) == len(s.share.own_nodes) else found
        return self._sign * own

    def of_shares(self, found: list[Seen]) -> list[Tensor]:
        """Return the values in each share."""
        return [self._partial(s) for s in found]

    def joined(self, parts: list[Tensor]) -> Tensor:
        """Compare over shares and processes."""
        d = self.division
        least = torch.full((1,), -torch.inf, dtype=d.model.dtype, device=d.device)
        self._top = d.comm.reduce(torch.cat([least, *parts]).amax(), "max")
        self._hits = d.comm.reduce((torch.cat([least, *parts]) == self._top).to(least).sum())
        return self._sign * self._top

    def pulled_back(self, found: list[Seen], grad: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Only those that have it see the gradient."""
        pairs = []
        for s in found:
            mine = self._partial(s)
            pairs.append((mine, self._sign * grad * (mine.detach() == self._top) / self._hits))
        return pairs


class _Sizes(NamedTuple):
    """Sizes ``|e|`` at the quadrature points of a share, and its volume."""

    share: Seen
    cells: Any
    size: Tensor
    volume: Tensor


class PowerMean(Quantity):
    """``(∫|e|ᵖ / ∫1)^(1/p)``."""

    output: kinds.Maximum

    def _sizes(self, s: Seen) -> _Sizes:
        cells = s.sums.scene.cells(s.sums.u)
        formula = Formula(self.output.expression)
        size = s.sums.scene.evaluate(formula, cells, self.path).tensor.abs()
        return _Sizes(s, cells, size, self._integral(s, cells, torch.ones_like(size)))

    def _integral(self, s: Seen, cells: Any, of: Tensor) -> Tensor:
        return s.sums.model.integrate(s.sums.scene, cells, of).sum(-1)

    def _partial(self, of: _Sizes) -> Tensor:
        """Return both integrals ``[2]``."""
        powers = (of.size / self._scale) ** float(self.output.p or 1.0)
        return torch.stack([self._integral(of.share, of.cells, powers), of.volume])

    def _mean(self, total: Tensor) -> Tensor:
        return self._scale * root(total[0] / total[1], float(self.output.p or 1.0))

    def of_shares(self, found: list[Seen]) -> list[_Sizes]:
        """Return the sizes in each share."""
        return [self._sizes(s) for s in found]

    def joined(self, parts: list[_Sizes]) -> Tensor:
        """Scale by the largest value of all processes, so that no power overflows; the scale cancels."""
        d = self.division
        tiny = torch.full((), torch.finfo(d.model.dtype).tiny, dtype=d.model.dtype, device=d.device)
        mine = [of.size.amax() for of in parts]
        self._scale = d.comm.reduce(torch.stack([tiny, *mine]).amax(), "max")
        zero = torch.zeros(2, dtype=d.model.dtype, device=d.device)
        self._total = d.comm.reduce(
            torch.stack([zero, *(self._partial(of) for of in parts)]).sum(0)
        )
        return self._mean(self._total)

    def pulled_back(self, found: list[Seen], grad: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Go through the mean of the totals, then to the integrals of each share."""
        total = self._total.detach().requires_grad_()
        with torch.enable_grad():
            (seed,) = torch.autograd.grad(self._mean(total), total, grad)
        return [(self._partial(self._sizes(s)), seed) for s in found]


class Spread(Quantity):
    """A field: every process has it on its own sites; see `DistributedSolution.numbers`."""

    output: kinds.Field

    def _partial(self, s: Seen) -> Tensor:
        if self.output.on != "nodes":
            return take_one(s.sums, self.output, self.path)
        return take_one(s.rows, self.output, self.path).index_select(0, s.share.own_points[0])

    def of_shares(self, found: list[Seen]) -> list[Tensor]:
        """Return the values at the sites of each share."""
        return [self._partial(s) for s in found]

    def joined(self, parts: list[Tensor]) -> Tensor:
        """Put the shares of this process behind each other."""
        return torch.cat(self._shaped(parts, sites=0))

    def pulled_back(self, found: list[Seen], grad: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Every share has its own rows of the gradient."""
        parts = [self._partial(s) for s in found]
        return list(zip(parts, grad.split([len(p) for p in parts]), strict=True))


def quantities(division: Division) -> list[Quantity]:
    """Return the outputs of a problem, in order; all processes call it together."""
    for i in division.free_sides:
        raise nothing_holds(division.model, f"outputs.{i}")
    found: list[Quantity] = []
    for i, output in enumerate(division.spec.outputs):
        kind: type[Quantity] = Total
        if isinstance(output, kinds.Maximum | kinds.Minimum):
            kind = Extreme if getattr(output, "p", None) is None else PowerMean
        elif isinstance(output, kinds.Field):
            kind = Spread
        found.append(kind(division, output, f"outputs.{i}"))
    return found
