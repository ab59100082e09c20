"""Values given to a problem in parts: whole on every process, cut for each share."""

from __future__ import annotations

from copy import copy
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from torch_sla.errors import ArgumentError, GradientError
from torch_sla.linalg.distributed.communicator import described
from torch_sla.linalg.distributed.everywhere import agreed
from torch_sla.linalg.info import unsolved
from torch_sla.problems.lowering.parameters import check_names, refuse_unused, whole_value
from torch_sla.problems.lowering.states import check_batch, given_start
from torch_sla.problems.specs.python import PythonFunction
from torch_sla.problems.specs.value import ArrayFile
from torch_sla.problems.specs.written import Formula

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch_sla.linalg.distributed.communicator import Communicator
    from torch_sla.problems.expression import Expression
    from torch_sla.problems.lowering.geometry import Geometry
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.specs.value import Parameter

__all__ = ["SharedScene", "Verdict", "refuse_batch", "refuse_second", "shared", "start_here"]


class Verdict:
    """Whether a solve failed: what failed has no derivative."""

    failed: bool = False


class SharedScene:
    """What the caller gave, the same on every process; the face of a scene, and one for each share.

    Parameters
    ----------
    whole
        The problem on what this process sees, which knows how many sites there are in the whole.
    values
        Tensors, numbers and modules by name.
    options
        As `Frame.scene` takes them.

    Attributes
    ----------
    given
        Values that are tensors, by name, on the whole.
    model
        The problem on what this process sees.
    trial, ended, factor, time, replaced, known
        As of `Scene`.
    home
        The device that results return to.
    verdict
        Of the solve that it is for.
    """

    trial: bool = False
    ended: bool = False
    factor: float = 1.0
    time: Tensor | None = None
    replaced: Mapping[Any, Expression] = MappingProxyType({})
    known: Mapping[str, Tensor] = MappingProxyType({})

    def __init__(
        self,
        whole: Model,
        values: Mapping[str, Any],
        *,
        declared: Mapping[str, Parameter] | None = None,
        reaching: frozenset[str] = frozenset(),
        optional: frozenset[str] = frozenset(),
        mass: bool = False,
        timed: bool = False,
        points: Tensor | None = None,
    ) -> None:
        self.model = self._whole = whole
        self.declared = whole.declared if declared is None else declared
        self._options: dict[str, Any] = {"mass": mass, "timed": timed, "optional": optional}
        if declared is not None:
            self._options |= {"declared": declared, "reaching": reaching}
        check_names(values, self.declared)
        known = whole.reaching | reaching | (whole.reaching_mass if mass else frozenset())
        self._own = reaching
        self.given: dict[str, Tensor] = {}
        self._modules: dict[str, nn.Module] = {}
        self._weights: tuple[Tensor, ...] = ()
        self._rest: dict[str, Any] = {}
        self.home = torch.device("cpu")
        for name, parameter in self.declared.items():
            value = values.get(name, parameter.default)
            if name not in known:
                refuse_unused(name, value)
            elif isinstance(value, nn.Module):
                self._modules[name] = value
                self._weights += tuple(value.parameters())
            elif isinstance(value, PythonFunction | Formula) or value is None:
                # Evaluated on the sites of each share; what is missing is said there.
                if name in values:
                    self._rest[name] = value
            else:
                if isinstance(value, Tensor) and value.device.type != "cpu":
                    self.home = value.device
                self.given[name] = self._checked(name, value)
        self.points = None if points is None else self._moved(points)
        self._scenes: dict[tuple[int, bool], Scene] = {}
        self.verdict = Verdict()

    def _checked(self, name: str, value: Any) -> Tensor:
        whole, parameter = self._whole, self.declared[name]
        if isinstance(value, ArrayFile):
            value = whole.file_array(value, name).cpu()
        tensor = whole_value(
            *(name, value, parameter, whole.whole_counts, whole.dtype),
            allow_complex=whole.spec.is_complex,
        )
        sites = [] if parameter.on == "constant" else [whole.whole_counts[parameter.on]]
        batch = tensor.ndim - len(sites) - len(parameter.shape)
        refuse_batch(repr(name), tensor.shape[: max(batch, 0)])
        return tensor

    def _moved(self, points: Tensor) -> Tensor:
        """Check moved mesh points ``[n_points, dim]`` of the whole."""
        whole = self._whole
        wanted = (whole.whole_counts["nodes"], whole.mesh.dim)
        if tuple(points.shape) != wanted or not points.is_floating_point():
            raise ArgumentError(
                f"points has shape {tuple(points.shape)} and dtype {points.dtype}; the mesh has points {list(wanted)} "
                "of floating point"
            )
        if points.device.type != "cpu":
            self.home = points.device
        return points.to(whole.dtype)

    @property
    def facts(self) -> dict[str, object]:
        """What all processes must have the same, by name."""
        found: dict[str, object] = {}
        for name, tensor in self.given.items():
            found[f"the parameter {name!r}"] = described(tensor)
        for name, module in self._modules.items():
            shown = [described(p) for p in module.parameters()]
            found[f"the module {name!r}"] = f"{type(module).__name__} {' '.join(shown)}"
        if self.points is not None:
            found["points"] = described(self.points)
        return found

    # -- the face of a scene --------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether anything given wants a gradient."""
        return any(x.requires_grad for x in self.tensors())

    @property
    def geometry(self) -> Geometry:
        """That of what this process sees."""
        return self._whole.geometry

    def tensors(self) -> tuple[Tensor, ...]:
        """Return every tensor that a result may depend on: given values, weights of modules, moved points."""
        moved = () if self.points is None else (self.points,)
        return (*self.given.values(), *self._weights, *moved)

    def put(self, tensors: tuple[Tensor, ...]) -> SharedScene:
        """Return the scene with others in the places of `tensors`."""
        count = len(self.given)
        other = self.like(dict(zip(self.given, tensors[:count], strict=True)))
        other._weights = tuple(tensors[count : count + len(self._weights)])
        other.points = None if self.points is None else tensors[-1]
        return other

    def at(self, t: float, values: Mapping[str, Tensor]) -> SharedScene:
        """Return the scene at a time, with the values that some parameters have then."""
        other = self.like({**self.given, **values})
        other.time = torch.tensor(t, dtype=self._whole.dtype)
        return other

    def like(self, given: Mapping[str, Tensor]) -> SharedScene:
        """Return the scene with other values, at the same time."""
        other = copy(self)
        other.given, other._scenes = dict(given), {}
        other.trial = other.ended = False
        return other

    def number(self, law: Any) -> Tensor:
        """Evaluate a law that is one number for the whole body."""
        return self.of(self._whole).number(law)

    # -- shares ---------------------------------------------------------------------------------

    def of(self, model: Model) -> Scene:
        """Return the scene of a lowered piece: the values cut for it; recorded."""
        # A piece that is cut where nothing is recorded has no derivative.
        key = id(model), torch.is_grad_enabled()
        if key not in self._scenes:
            values: dict[str, Any] = dict(self._rest)
            known = model.reaching | self._own
            known |= model.reaching_mass if self._options["mass"] else frozenset()
            for name, tensor in self.given.items():
                if name in known:
                    values[name] = model.localised(tensor, self.declared[name].on, 0)
            rest = iter(self._weights)
            for name, module in self._modules.items():
                own = {n: next(rest) for n, _ in module.named_parameters()}
                if name in known:
                    values[name] = _WithWeights(module, self._widened(name, module, own, model))
            moved = None
            if self.points is not None:
                moved = model.localised(self.points, "nodes", 0).to(model.device)
            self._scenes[key] = model.scene(values, moved, **self._options)
        scene = self._scenes[key]
        scene.trial, scene.ended, scene.factor = self.trial, self.ended, self.factor
        scene.time = None if self.time is None else self.time.to(model.device)
        scene.replaced = self.replaced
        scene.known = {n: x.to(model.device) for n, x in self.known.items()}
        return scene

    def _widened(
        self, name: str, module: nn.Module, own: dict[str, Tensor], model: Model
    ) -> dict[str, Tensor]:
        """Bring weights and buffers of a law of the solution to where the problem works, in its precision."""
        if "u" not in self.declared[name].of:
            return own
        held = {**own, **dict(module.named_buffers())}
        return {
            n: x.to(model.device, model.dtype) if x.is_floating_point() else x
            for n, x in held.items()
        }


class _WithWeights(nn.Module):
    """A module with other tensors in the places of its weights."""

    def __init__(self, module: nn.Module, own: dict[str, Tensor]) -> None:
        super().__init__()
        # In a list: the module's own weights are not those of this one.
        self._of, self._own = [module], own

    def parameters(self, recurse: bool = True) -> Any:
        del recurse
        return iter(self._own.values())

    def forward(self, x: Tensor) -> Any:
        return torch.func.functional_call(self._of[0], self._own, (x,))


class _Shared(torch.autograd.Function):
    """What every process holds a copy of -> the same; the shares of its gradient are added, in one message."""

    @staticmethod
    def forward(
        ctx: Any, comm: Communicator, home: torch.Tensor, verdict: Verdict, *values: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.comm, ctx.like, ctx.verdict = comm, home, verdict
        ctx.set_materialize_grads(False)
        ctx.shapes = [(v.shape, v.dtype, v.device) for v in values]
        return tuple(v.view_as(v) for v in values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_second()
        if ctx.verdict.failed:
            raise unsolved()
        flat = [
            ctx.like.new_zeros(shape.numel()) if g is None else g.flatten().to(ctx.like)
            for g, (shape, _, _) in zip(grads, ctx.shapes, strict=True)
        ]
        total = ctx.comm.reduce(torch.cat(flat)).split([len(g) for g in flat])
        return (
            *(None, None, None),
            *(
                (g.real.clone() if g.is_complex() and not dtype.is_complex else g)
                .reshape(shape)
                .to(device, dtype)
                for g, (shape, dtype, device) in zip(total, ctx.shapes, strict=True)
            ),
        )


def shared(
    comm: Communicator, like: Tensor, verdict: Verdict, tensors: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Return tensors that every process holds, with gradients that are whole on each.

    Parameters
    ----------
    like
        Of the dtype and on the device that messages have; complex ones where one of the tensors is.
    verdict
        Of the solve they are for.
    """
    wanted = [x for x in tensors if x.requires_grad]
    if not wanted or not torch.is_grad_enabled():
        return tensors
    if any(x.is_complex() for x in wanted):
        like = like.to(like.dtype.to_complex())
    found = iter(_Shared.apply(comm, like, verdict, *wanted))
    return tuple(next(found) if x.requires_grad else x for x in tensors)


def refuse_second() -> None:
    """Raise where the gradient is to be differentiated itself, as ``create_graph=True`` asks for."""
    if torch.is_grad_enabled():
        raise GradientError(
            "problems in parts have first derivatives only; leave create_graph out, or solve in one process"
        )


def start_here(
    comm: Communicator,
    start: Tensor,
    n: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    batch: Sequence[int] = (),
    components: int = 1,
) -> Tensor:
    """Return where an iteration begins ``[*batch, n]`` of what this process has; all call it together."""

    def checked() -> Tensor:
        whose = " of this process's own unknowns"
        first = given_start(start, n, dtype, device, components=components, whose=whose)
        check_batch(first, batch)
        return first.expand(*batch, n)

    return agreed(comm, device, checked)


def refuse_batch(what: str, batch: Sequence[int]) -> None:
    """Raise where something has batch dimensions."""
    if batch:
        raise ArgumentError(
            f"{what} has batch dimensions {list(batch)}; several processes share one problem at a time: solve for "
            "one member after the other"
        )
