"""Outputs of a problem in parts: what each share says, and what becomes of it together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.distributed.everywhere import agreed
from torch_sla.problems.distributed.scene import refuse_second
from torch_sla.problems.expression.functions import root
from torch_sla.problems.lowering.conditions import positions
from torch_sla.problems.lowering.operators import Operator
from torch_sla.problems.lowering.outputs import Taken, take_one
from torch_sla.problems.lowering.reactions import held, nothing_holds
from torch_sla.problems.specs import outputs as kinds
from torch_sla.problems.specs.written import Formula

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch_sla.problems.distributed.division import Division
    from torch_sla.problems.distributed.scene import SharedScene
    from torch_sla.problems.distributed.share import Share

__all__ = ["Motion", "Quantity", "Seen", "TakenInParts", "quantities"]

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


@dataclass(frozen=True, eq=False)
class Motion:
    """What the unknowns here do, where they move ``[n_held]`` each.

    Parameters
    ----------
    inertia
        What supports bear because of it; None where it is not known.
    velocity, momentum
        Their product over two is the kinetic energy; None with one derivative in time.
    """

    inertia: Tensor | None = None
    velocity: Tensor | None = None
    momentum: Tensor | None = None

    def tensors(self) -> list[Tensor]:
        """Return what there is."""
        return [x for x in (self.inertia, self.velocity, self.momentum) if x is not None]

    def put(self, tensors: list[Tensor]) -> Motion:
        """Return others in their places."""
        rest = iter(tensors)
        each = (self.inertia, self.velocity, self.momentum)
        return Motion(*(None if x is None else next(rest) for x in each))


def seen(division: Division, scene: SharedScene, u: list[Tensor], motion: Motion) -> list[Seen]:
    """Take the solution of every share; recorded where gradients are enabled."""
    supports = any(isinstance(o, kinds.Flux | kinds.Reaction) for o in division.spec.outputs)
    found = []
    for share, x in zip(division.shares, u, strict=True):
        around, alone = (scene.of(model) for model in (share.rows, share.sums))
        none = torch.zeros(0, dtype=x.dtype, device=x.device)
        operator = share.rows.loaded(around) if supports else Operator(none, none, None)
        loads = Operator(none, share.sums.loads(alone), None)
        rows = Taken(
            share.rows,
            around,
            operator,
            x,
            None if motion.inertia is None else partial(_placed, share, motion.inertia),
            counted=share.own_nodes,
            repeats=division.repeats(share),
        )
        sums = Taken(
            share.sums,
            alone,
            loads,
            x.index_select(-1, share.into_sums),
            kinetic=None if motion.velocity is None else partial(_kinetic, share, motion),
        )
        found.append(Seen(share, rows, sums))
    return found


def _placed(share: Share, x: Tensor) -> Tensor:
    """Put the own entries of a vector of the process where the share has them."""
    return x.new_zeros(share.rows.numbering.n).index_copy(0, share.first, x[share.held])


def _kinetic(share: Share, motion: Motion) -> Tensor:
    if motion.velocity is None or motion.momentum is None:
        raise ArgumentError("nothing moves here")
    return 0.5 * (motion.velocity[share.held] * motion.momentum[share.held]).sum()


class TakenInParts:
    """A solved scene of a problem in parts, from which outputs are taken.

    Parameters
    ----------
    division, scene
        The problem and its values.
    u
        What is held here of the solution ``[n_held]``.
    motion
        How it moves.
    """

    def __init__(
        self, division: Division, scene: SharedScene, u: Tensor, motion: Motion | None = None
    ) -> None:
        self.division, self.scene, self.u = division, scene, u
        self.motion = Motion() if motion is None else motion
        self.quantities: list[Quantity] = quantities(division)

    def outputs(self, known: object = None) -> dict[str, Tensor]:
        """Evaluate all outputs, recorded as one node; in parts none is known before."""
        del known
        names = [output.name for output in self.division.spec.outputs]
        if not names:
            return {}
        inputs = (self.u, *self.motion.tensors(), *self.scene.tensors())
        if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
            found: tuple[Tensor, ...] = _Outputs.apply(self, *inputs)
        else:
            with torch.no_grad():
                found = self.values(inputs)
        return dict(zip(names, found, strict=True))

    def _seen(self, inputs: tuple[Tensor, ...], spread: list[Tensor]) -> list[Seen]:
        count = 1 + len(self.motion.tensors())
        motion, scene = self.motion.put(list(inputs[1:count])), self.scene.put(inputs[count:])
        scene.trial = self.scene.trial
        d = self.division
        return agreed(d.comm, d.device, lambda: seen(d, scene, spread, motion))

    def values(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return all outputs, not recorded."""
        found = self._seen(inputs, self.division.spread(inputs[0]))
        return tuple(q.value(found) for q in self.quantities)

    def pulled_back(
        self, inputs: tuple[Tensor, ...], grads: Sequence[Tensor | None]
    ) -> list[Tensor | None]:
        """Return the gradient of every input; of those that all processes hold, this process's share."""
        d = self.division
        with torch.enable_grad():
            spread = [x.requires_grad_() for x in d.spread(inputs[0].detach())]
            found = self._seen(inputs, spread)
            pairs = []
            for quantity, grad in zip(self.quantities, grads, strict=True):
                if grad is not None:
                    pairs += quantity.pulled_back(found, grad)
        live = [(value, seed) for value, seed in pairs if value.requires_grad]
        wanted = [x for x in inputs[1:] if x.requires_grad]
        slopes: list[Tensor | None] = [None] * (len(wanted) + len(spread))
        if live:
            slopes = list(
                torch.autograd.grad(
                    [value for value, _ in live],
                    [*wanted, *spread],
                    [seed.expand_as(value) for value, seed in live],
                    allow_unused=True,
                )
            )
        of_u = [
            torch.zeros_like(x) if g is None else g
            for x, g in zip(spread, slopes[len(wanted) :], strict=True)
        ]
        rest = iter(slopes)
        return [d.collect(of_u), *(next(rest) if x.requires_grad else None for x in inputs[1:])]


class _Outputs(torch.autograd.Function):
    """Solution, motion and given values -> outputs."""

    @staticmethod
    def forward(ctx: Any, taken: TakenInParts, *inputs: Tensor) -> tuple[Tensor, ...]:
        found = taken.values(tuple(x.detach() for x in inputs))
        ctx.taken = taken
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs)
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_second()
        needed = ctx.needs_input_grad[1:]
        inputs = tuple(
            x.detach().requires_grad_(need)
            for x, need in zip(ctx.saved_tensors, needed, strict=True)
        )
        return None, *ctx.taken.pulled_back(inputs, grads)


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
    def value(self, found: list[Seen]) -> Tensor:
        """Return the output, the same on every process; all call it together."""

    @abstractmethod
    def pulled_back(self, found: list[Seen], grad: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return tensors of the shares, recorded, with the cotangents that `grad` gives them."""

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

    def value(self, found: list[Seen]) -> Tensor:
        """Sum over shares and processes."""
        return self._add([self._partial(s) for s in found])

    def pulled_back(self, found: list[Seen], grad: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Every share has the cotangent of the sum."""
        return [(self._partial(s), grad) for s in found]


class Extreme(Quantity):
    """The largest or least of what the shares have; those that have it get equal shares of the gradient."""

    @property
    def _sign(self) -> float:
        return -1.0 if isinstance(self.output, kinds.Minimum) else 1.0

    def _partial(self, s: Seen) -> Tensor:
        return self._sign * take_one(s.sums, self.output, self.path)

    def value(self, found: list[Seen]) -> Tensor:
        """Compare over shares and processes."""
        d = self.division
        least = torch.full((), -torch.inf, dtype=d.model.dtype, device=d.device)
        mine = [self._partial(s) for s in found]
        self._top = d.comm.reduce(torch.stack([least, *mine]).amax(0), "max")
        hits = torch.stack([0.0 * least.nan_to_num(), *((m == self._top).to(least) for m in mine)])
        self._hits = d.comm.reduce(hits.sum(0))
        return self._sign * self._top

    def pulled_back(self, found: list[Seen], grad: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Only those that have it see the gradient."""
        pairs = []
        for s in found:
            mine = self._partial(s)
            pairs.append((mine, self._sign * grad * (mine.detach() == self._top) / self._hits))
        return pairs


class PowerMean(Quantity):
    """``(∫|e|ᵖ / ∫1)^(1/p)``."""

    output: kinds.Maximum

    def _sizes(self, s: Seen) -> tuple[Tensor, object]:
        cells = s.sums.scene.cells(s.sums.u)
        formula = Formula(self.output.expression)
        return s.sums.scene.evaluate(formula, cells, self.path).tensor.abs(), cells

    def _partial(self, s: Seen) -> Tensor:
        """Return both integrals ``[2]``."""
        size, cells = self._sizes(s)
        model, scene = s.sums.model, s.sums.scene
        p = float(self.output.p or 1.0)
        powers = model.integrate(scene, cells, (size / self._scale) ** p)  # type: ignore[arg-type]
        volume = model.integrate(scene, cells, torch.ones_like(size))  # type: ignore[arg-type]
        return torch.stack([powers.sum(-1), volume.sum(-1)])

    def _mean(self, total: Tensor) -> Tensor:
        return self._scale * root(total[0] / total[1], float(self.output.p or 1.0))

    def value(self, found: list[Seen]) -> Tensor:
        """Scale by the largest value of all processes, so that no power overflows; the scale cancels."""
        d = self.division
        tiny = torch.full((), torch.finfo(d.model.dtype).tiny, dtype=d.model.dtype, device=d.device)
        mine = [self._sizes(s)[0].detach().amax() for s in found]
        self._scale = d.comm.reduce(torch.stack([tiny, *mine]).amax(), "max")
        zero = torch.zeros(2, dtype=d.model.dtype, device=d.device)
        self._total = d.comm.reduce(torch.stack([zero, *(self._partial(s) for s in found)]).sum(0))
        return self._mean(self._total)

    def pulled_back(self, found: list[Seen], grad: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Go through the mean of the totals, then to the integrals of each share."""
        total = self._total.detach().requires_grad_()
        with torch.enable_grad():
            (seed,) = torch.autograd.grad(self._mean(total), total, grad)
        return [(self._partial(s), seed) for s in found]


class Spread(Quantity):
    """A field: every process has it on its own sites; see `DistributedSolution.numbers`."""

    output: kinds.Field

    def _partial(self, s: Seen) -> Tensor:
        if self.output.on != "nodes":
            return take_one(s.sums, self.output, self.path)
        return take_one(s.rows, self.output, self.path).index_select(0, s.share.own_points[0])

    def value(self, found: list[Seen]) -> Tensor:
        """Put the shares of this process behind each other; nothing is exchanged."""
        return torch.cat(self._shaped([self._partial(s) for s in found], sites=0))

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
