"""Values given to the verbs of a problem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from torch_sla.errors import ArgumentError, DTypeError, GradientError
from torch_sla.problems.expression import nearest
from torch_sla.problems.specs.arrays import native

if TYPE_CHECKING:
    from typing import TypeAlias

    from torch import Tensor

    from torch_sla.problems.specs.design import DesignProblem

    Starts: TypeAlias = Tensor | Mapping[str, Tensor] | None

__all__ = ["joined", "moving", "starts_of", "state"]


def joined(values: Mapping[str, Any] | None, named: Mapping[str, Any]) -> dict[str, Any]:
    """Return all values by name: those of the mapping and those given by keyword.

    Raises
    ------
    ArgumentError
        If a name is given in both ways, or what should be a mapping is a value.
    DTypeError
        If an array or a list does not hold numbers, or a tensor is sparse or has none.

    Examples
    --------
    >>> joined({"kappa-1": 2.0}, {"f": 1.0})
    {'kappa-1': 2.0, 'f': 1.0}
    """
    if values is not None and not isinstance(values, Mapping):
        raise ArgumentError(
            "values are given by name, as in solve(kappa=k) or solve({'kappa': k}); received a "
            f"{type(values).__name__}"
        )
    found = dict(values or {})
    for name, value in named.items():
        if name in found:
            raise ArgumentError(f"{name!r} is given twice: in the mapping, and by keyword")
        found[name] = value
    return {name: moving(_numbers(repr(name), value)) for name, value in found.items()}


def state(name: str, value: Any) -> Tensor | None:
    """Return points, a start or a state as a tensor, which may be given as an array or a list; None as it is.

    Raises
    ------
    DTypeError
        If it is something else.
    """
    import torch

    value = _numbers(name, value)
    if isinstance(value, np.ndarray):
        value = torch.as_tensor(value)
    if value is not None and not isinstance(value, torch.Tensor):
        raise DTypeError(f"{name} is a {type(value).__name__}; a tensor or an array is needed")
    found: Tensor | None = moving(value)
    return found


def starts_of(problem: DesignProblem, start: Starts) -> dict[str, Tensor]:
    """Return where solves of the problems of a search begin, by name; one alone is called ``""``.

    Raises
    ------
    ArgumentError
        If a name is unknown, or one state is given for several problems.
    """
    if start is None:
        return {}
    several, parts = problem.inner is None, problem.parts
    if several != isinstance(start, Mapping):
        names = " ".join(parts)
        what = f"a mapping by the names of the problems ({names})" if several else "a tensor"
        raise ArgumentError(f"start is a {type(start).__name__}; expected {what}")
    given = start if isinstance(start, Mapping) else {"": start}
    for case in given:
        if case not in parts:
            raise ArgumentError(
                f"start: no problem is called {case!r}{nearest(case, parts)}; problems: {' '.join(parts)}"
            )
    found = {c: state(f"start of {c!r}" if c else "start", u) for c, u in given.items()}
    return {case: u.detach() for case, u in found.items() if u is not None}


def _numbers(name: str, value: Any) -> Any:
    """Return arrays and lists as arrays of numbers that torch holds, apart from theirs; anything else as it is."""
    import torch

    if isinstance(value, torch.Tensor) and (
        value.layout != torch.strided or value.is_nested or value.is_meta
    ):
        what = "on the meta device" if value.is_meta else f"of layout {value.layout}"
        raise DTypeError(
            f"{name} is a tensor {what}; a dense one is needed, or SparseTensor.from_torch_sparse of a matrix"
        )
    if not isinstance(value, np.ndarray | list | tuple):
        return value
    if np.ma.is_masked(value):
        raise DTypeError(f"{name} is masked, and a gap has no value: fill it")
    try:
        array = np.array(value)
    except (TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "requires grad" in str(error):
            raise GradientError(
                f"{name} is a list of tensors that require grad; torch.stack makes one tensor of them"
            ) from None
        raise DTypeError(f"{name} cannot be read as an array of numbers: {error}") from None
    if array.dtype.kind not in "biufc":
        raise DTypeError(f"{name} holds {array.dtype}; numbers are needed")
    return native(array)


def moving(value: Any) -> Any:
    """Return a tensor that Newton's method and laws that are differentiated can record; anything else as it is.

    They record what requires grad; a tangent alone would be lost there, without a word. So what is found from a tensor
    with a tangent requires grad, too; `detach` its tangent before it becomes a number. One that was made in inference
    mode cannot be recorded, and is copied.

    Raises
    ------
    GradientError
        Of many tangents at once, as `torch.autograd.functional.jacobian` gives them with ``vectorize=True``.
    """
    import torch
    from torch.autograd import forward_ad

    from torch_sla.linalg.adjoint.unmapped import refuse_old_vmap
    from torch_sla.linalg.sparse.transforms import is_transformed

    if not isinstance(value, torch.Tensor):
        return value
    if value.is_inference():
        with torch.inference_mode(mode=False):
            value = value.clone()
    if forward_ad._current_level < 0 or is_transformed():
        return value
    primal, tangent = forward_ad.unpack_dual(value)
    if tangent is None:
        return value
    refuse_old_vmap(tangent)
    if value.requires_grad:
        return value
    return forward_ad.make_dual(primal.detach().requires_grad_(), tangent)
