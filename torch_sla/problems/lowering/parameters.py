"""The tensors given by name: checked, cast, moved, and known to reach something."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from torch_sla.errors import ArgumentError, DTypeError, GradientError
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.checks import require
from torch_sla.linalg.factor_cache import memory_share
from torch_sla.linalg.kernels.detection import all_finite
from torch_sla.problems.expression import nearest
from torch_sla.problems.specs.python import PythonFunction
from torch_sla.problems.specs.value import ArrayFile, Parameter, check_of_places
from torch_sla.problems.specs.written import Formula

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

__all__ = [
    "Given",
    "among_others",
    "bound",
    "check_default",
    "check_names",
    "home_of",
    "law_tensors",
    "must_enter",
    "refuse_broken",
    "refuse_imaginary",
    "require_room",
    "resolve",
    "whole_value",
]


_among_others: ContextVar[bool] = ContextVar("among_others", default=False)


@contextmanager
def among_others() -> Iterator[None]:
    """Let what wants a gradient enter nothing: other problems may use it, and who solves them all sees to that."""
    token = _among_others.set(True)
    try:
        yield
    finally:
        _among_others.reset(token)


class Given(dict[str, Tensor]):
    """Resolved parameters by name, and the device results return to."""

    home: torch.device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.laws: dict[str, nn.Module | Callable[[Tensor], Tensor]] = {}
        """Modules given as laws of the solution."""

    def came_from(self, value: object) -> None:
        """Let results return to where something given lies: a tensor, or the weights of a module; else to the CPU."""
        held = value.parameters() if isinstance(value, nn.Module) else (value,)
        for tensor in held:
            if isinstance(tensor, Tensor | SparseTensor) and tensor.device.type != "cpu":
                self.home = tensor.device

    def changed(self, values: Mapping[str, Tensor]) -> Given:
        """Return a copy with other values of some."""
        other = Given()
        other.home, other.laws = self.home, self.laws
        other.update({**self, **values})
        return other


def home_of(values: Iterable[object]) -> torch.device:
    """Return the device that results return to where all this is given."""
    given = Given()
    for value in values:
        given.came_from(value)
    return given.home


class _Bound:
    """A module with other tensors in the place of its parameters."""

    def __init__(self, module: nn.Module, own: dict[str, Tensor]) -> None:
        self.module, self.own = module, own

    def __call__(self, x: Tensor) -> Any:
        return torch.func.functional_call(self.module, self.own, (x,))


def law_tensors(law: object) -> list[Tensor]:
    """Return the tensors that a law of the solution depends on."""
    if isinstance(law, _Bound):
        return list(law.own.values())
    return list(law.parameters()) if isinstance(law, nn.Module) else []


def bound(law: Any, tensors: Sequence[Tensor]) -> Any:
    """Return a law with other tensors in the places of `law_tensors`."""
    if isinstance(law, _Bound):
        return _Bound(law.module, dict(zip(law.own, tensors, strict=True)))
    if not isinstance(law, nn.Module):
        return law
    names = [name for name, _ in law.named_parameters()]
    return _Bound(law, dict(zip(names, tensors, strict=True)))


def _widened(module: nn.Module, dtype: torch.dtype, device: torch.device) -> nn.Module | _Bound:
    """Return a module of another precision, or on another device, as one that works where the problem does.

    A law of single precision would be evaluated with its noise, below which no iteration converges; gradients
    go to the weights as they are.
    """
    held = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    wide = {
        name: t.to(device=device, dtype=dtype if t.is_floating_point() else t.dtype)
        for name, t in held.items()
    }
    if all(wide[name] is t for name, t in held.items()):
        return module
    return _Bound(
        module, {n: t for n, t in wide.items() if t.is_floating_point() or t is not held[n]}
    )


def check_names(values: Collection[str], declared: Collection[str]) -> None:
    """Refuse names that are no parameters.

    Raises
    ------
    ArgumentError
        With the nearest name there is.
    """
    for name in values:
        if name not in declared:
            known = " ".join(declared) or "none"
            raise ArgumentError(
                f"{name!r} is no parameter of this problem{nearest(name, declared)}; parameters: {known}"
            )


def resolve(
    values: Mapping[str, Any],
    declared: Mapping[str, Parameter],
    *,
    reaching: Collection[str],
    counts: Mapping[str, int],
    sites: Callable[[str], Tensor],
    files: Callable[[ArrayFile, str], Tensor],
    dtype: torch.dtype,
    device: torch.device,
    allow_complex: bool = False,
    optional: Collection[str] = (),
) -> Given:
    """Bring everything given, or its default, to ``[*batch, *sites, *shape]``.

    Parameters
    ----------
    values
        What the caller gave.
    declared
        The parameters of the problem.
    reaching
        Names that some law or output uses.
    counts
        Number of sites of each kind of home.
    sites, files
        Coordinates of a parameter's sites, for modules and formulas; numbers of a default's file, by name.
    dtype, device
        Where work happens.
    allow_complex, optional
        Whether values may be complex; names that need no value.

    Raises
    ------
    ArgumentError, DTypeError, GradientError
        By name: unknown, missing, of wrong shape or dtype, not finite, or reaching nothing.
    """
    check_names(values, declared)
    given = Given()
    for name, parameter in declared.items():
        value = values.get(name, parameter.default)
        if name not in reaching:
            refuse_unused(name, value)
            continue
        if value is None and name in optional:
            continue
        if value is None:
            shape = " ".join(["*batch", *_home(parameter, counts), *map(str, parameter.shape)])
            raise ArgumentError(
                f"{name!r} has no default: give it to solve(...) as a number or a tensor [{shape}]"
            )
        given.came_from(value)
        if isinstance(value, nn.Module | PythonFunction) and "u" in parameter.of:
            given.laws[name] = (
                value.function
                if isinstance(value, PythonFunction)
                else _widened(value, dtype, device)
            )
            continue
        if isinstance(value, ArrayFile):
            value = files(value, name)
        tensor = _tensor(name, value, parameter, sites, dtype, allow_complex)
        wide = dtype.to_complex() if tensor.is_complex() else dtype
        batched = name in values or parameter.time is not None
        fitted = _fitted(name, tensor, parameter, counts, batched=batched)
        require_room(repr(name), fitted.shape, wide)
        given[name] = fitted.to(device=device, dtype=wide)
        refuse_broken(given[name], repr(name))
    _check_batches(given, declared)
    return given


def refuse_broken(x: Tensor, what: str) -> None:
    """Refuse numbers that are NaN or infinite, naming them."""
    require(all_finite(x.detach()), lambda: ArgumentError(f"{what} holds NaN or infinity"))


def refuse_imaginary(x: Tensor, what: str, dtype: torch.dtype) -> None:
    """Refuse complex numbers, naming them, where those of `dtype` are real."""
    if x.is_complex() and not dtype.is_complex:
        raise DTypeError(f"{what} is complex, and this problem is real")


def require_room(what: str, shape: Sequence[int], dtype: torch.dtype) -> None:
    """Refuse what has more numbers than the memory of this machine holds.

    Raises
    ------
    ArgumentError
        Naming it, before anything is allocated.
    """
    needed, there = prod(shape) * dtype.itemsize, memory_share(1.0)
    if needed > there:
        raise ArgumentError(
            f"{what} has the shape {list(shape)}: {needed / 1e9:.3g} GB, and this machine has {there / 1e9:.3g} GB; "
            "give a smaller shape (a large matrix is a SparseTensor or a file)"
        )


def _check_batches(given: Given, declared: Mapping[str, Parameter]) -> None:
    """Refuse batches without members, and those that do not broadcast against each other."""
    known: tuple[int, ...] = ()
    first = ""
    for name, value in given.items():
        parameter = declared[name]
        own = len(parameter.shape) + (parameter.on != "constant")
        batch = tuple(value.shape[: value.ndim - own])
        if 0 in batch:
            raise ArgumentError(f"{name!r} has the batch dimensions {list(batch)}: no member")
        try:
            both = tuple(np.broadcast_shapes(known, batch))
        except ValueError:
            raise ArgumentError(
                f"{name!r} has the batch dimensions {list(batch)}, and {first!r} has {list(known)}; they broadcast "
                "against each other: add a dimension of 1 for all combinations"
            ) from None
        if both != known:
            known, first = both, name


def whole_value(
    name: str,
    value: Any,
    parameter: Parameter,
    counts: Mapping[str, int],
    dtype: torch.dtype,
    *,
    allow_complex: bool,
) -> Tensor:
    """Bring numbers, arrays and tensors to ``[*batch, *sites, *shape]``, as `resolve` does.

    Raises
    ------
    ArgumentError, DTypeError
        For another shape, type or dtype.
    """
    tensor = _tensor(name, value, parameter, lambda _: torch.zeros(0), dtype, allow_complex)
    return _fitted(name, tensor, parameter, counts, batched=True)


def refuse_unused(name: str, value: Any) -> None:
    """Refuse a value that wants a gradient and enters nothing."""
    if must_enter(value):
        raise GradientError(
            f"{name!r} requires grad, but no law and no output uses it, so its gradient would be zero in silence; "
            "use it in an expression, or pass it detached"
        )


def must_enter(value: Any) -> bool:
    """Whether a value wants a gradient, which would be zero in silence if it entered nothing."""
    return wants_gradient(value) and not _among_others.get()


def wants_gradient(value: Any) -> bool:
    """Whether a value given for a parameter is to be differentiated."""
    if isinstance(value, Tensor):
        return value.requires_grad
    return isinstance(value, nn.Module) and any(p.requires_grad for p in value.parameters())


def _home(parameter: Parameter, counts: Mapping[str, int]) -> list[str]:
    return [] if parameter.on == "constant" else [f"{counts[parameter.on]} {parameter.on}"]


def _tensor(
    name: str,
    value: Any,
    parameter: Parameter,
    sites: Callable[[str], Tensor],
    dtype: torch.dtype,
    allow_complex: bool,
) -> Tensor:
    if isinstance(value, nn.Module | PythonFunction):
        return _called(name, value, parameter, sites)
    if isinstance(value, Formula):
        return _evaluated(name, value, sites(name))
    if isinstance(value, bool):
        raise DTypeError(f"{name!r} is a truth value; a number or a tensor is needed")
    if isinstance(value, int | float | complex | tuple | list | np.ndarray | np.generic):
        value = torch.as_tensor(np.array(value))
        if not value.is_complex() and value.dtype != torch.bool:
            value = value.to(dtype)
    if not isinstance(value, Tensor):
        raise DTypeError(
            f"{name!r} is a {type(value).__name__}; a number, a tensor, an array or an nn.Module is needed"
        )
    if not value.is_floating_point() and not (allow_complex and value.is_complex()):
        raise DTypeError(f"{name!r} has dtype {value.dtype}; a floating point tensor is needed")
    return value


def _called(
    name: str,
    module: nn.Module | PythonFunction,
    parameter: Parameter,
    sites: Callable[[str], Tensor],
) -> Tensor:
    if parameter.on == "constant":
        raise ArgumentError(
            f"{name!r} is one constant, and a module is a function of place; declare it on cells, facets, "
            "nodes or quadrature"
        )
    x = sites(name)
    if isinstance(module, PythonFunction):
        result = module.function(x)
    else:
        weight = next(module.parameters(), None)
        result = module(x if weight is None else x.to(weight))
    if not isinstance(result, Tensor) or result.shape[:1] != x.shape[:1]:
        shape = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise ArgumentError(
            f"{name!r}: the module maps coordinates {tuple(x.shape)} to {shape}; the first dimension must be "
            f"the {len(x)} sites"
        )
    if parameter.shape == () and result.ndim == 2 and result.shape[1] == 1:
        result = result[:, 0]
    return result


def check_default(name: str, formula: Formula, dim: int) -> None:
    """Check that the default of a parameter is a formula of the coordinates that there are; a `SpecError` if not."""
    check_of_places(formula, f"the default of {name!r}", "xyz"[:dim])


def _evaluated(name: str, formula: Formula, x: Tensor) -> Tensor:
    from torch_sla.problems.lowering.selection import coordinates

    check_default(name, formula, x.shape[-1])
    return formula.expression.evaluate(coordinates(x)).tensor.expand(x.shape[:1])


def _fitted(
    name: str, tensor: Tensor, parameter: Parameter, counts: Mapping[str, int], *, batched: bool
) -> Tensor:
    """Check the trailing dimensions; one number stands for the same number everywhere."""
    wanted = (*([] if parameter.on == "constant" else [counts[parameter.on]]), *parameter.shape)
    if tensor.ndim == 0 and wanted:
        return tensor.expand(wanted)
    if tensor.shape == parameter.shape and wanted and parameter.shape:
        return tensor.expand(wanted)
    over = tensor.ndim - len(wanted)
    if over < 0 or tuple(tensor.shape[over:]) != wanted or (over and not batched):
        text = ", ".join([*(["*batch"] if batched else []), *(str(n) for n in wanted)])
        where = "" if parameter.on == "constant" else f" (it lives on {parameter.on})"
        said = "" if batched else "; it is the default, and a batch is given to solve(...)"
        raise ArgumentError(
            f"{name!r} has shape {tuple(tensor.shape)}; expected [{text}]{where}{said}"
        )
    return tensor
