"""Tensors of the simulated device, and what torch may do with them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from tests.helpers.simulated.runtime import DEVICE, rubbish, state, wait

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["DeviceTensor", "Mode", "faces", "on_host"]

UNDERNEATH = torch.device("privateuseone", 0)

aten = torch.ops.aten
_READS = {aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default}
_COUNTED = {  # how large their results are is for the host to find out
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique.default,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.unique_consecutive.default,
    aten.bincount.default,
}
_ACROSS = {aten.copy_.default, aten._to_copy.default}
_INDEXED = {  # take indices of the host, as CUDA does
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
    aten._unsafe_index.Tensor,
}


class DeviceTensor(Tensor):
    """A tensor of the simulated device: what is outside says CUDA, `host` holds the numbers."""

    host: Tensor

    @staticmethod
    def __new__(cls, host: Tensor) -> DeviceTensor:
        out: DeviceTensor = Tensor._make_wrapper_subclass(
            cls,
            host.shape,
            strides=host.stride(),
            storage_offset=host.storage_offset(),
            dtype=host.dtype,
            device=UNDERNEATH,
        )
        out.host = host
        return out

    __torch_function__: Any = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(func, args, kwargs or {})

    def data_ptr(self) -> int:
        return self.host.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.host.untyped_storage()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"{self.host!r} on {self.device}"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _moved, (self.detach().cpu(), self.requires_grad)

    def __deepcopy__(self, memo: Any) -> Any:
        if id(self) not in memo:
            memo[id(self)] = self.detach().clone().requires_grad_(self.requires_grad)
        return memo[id(self)]


def faces() -> None:
    """Let every tensor that lies on the device, in whatever wrapper of a transform, say so."""
    plain: Any = Tensor.device
    to, tolist = Tensor.to, Tensor.tolist

    def there(self: Any) -> bool:
        return bool(plain.__get__(self).type == UNDERNEATH.type)

    def device(self: Any) -> Any:
        return DEVICE if there(self) else plain.__get__(self)

    def moved(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if there(self):
            args = tuple(_underneath(a) for a in args)
            kwargs = {name: _underneath(a) for name, a in kwargs.items()}
        return to(self, *args, **kwargs)

    faces: dict[str, Any] = {
        "device": property(device),
        "is_cuda": property(there),
        "get_device": lambda self: 0 if there(self) else -1,
        "to": moved,
        "cuda": lambda self, *_, **__: self.to(DEVICE),
        "tolist": lambda self: tolist(self.cpu()),
    }
    for name, face in faces.items():
        setattr(Tensor, name, face)


def _underneath(place: Any) -> Any:
    named = isinstance(place, (str, torch.device)) and torch.device(place).type == "cuda"
    return UNDERNEATH if named else place


def _moved(host: Tensor, requires_grad: bool) -> Tensor:
    return host.to(DEVICE).requires_grad_(requires_grad)


class Mode(TorchDispatchMode):
    """Sees what is asked of the device without a tensor of it: allocations, and copies to it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


@contextmanager
def _marks_count() -> Iterator[None]:
    """Heed marks of conjugates, negatives and zeros, as torch no longer does where modes are asked."""
    excluded = torch._C._dispatch_tls_local_exclude_set()
    for mark in ("Conjugate", "Negative", "ZeroTensor"):
        excluded = excluded.remove(getattr(torch._C.DispatchKey, mark))
    with torch._C._ForceDispatchKeyGuard(torch._C._dispatch_tls_local_include_set(), excluded):
        yield


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    with _marks_count():
        return _done(func, args, kwargs)


def _done(func: Any, args: Any, kwargs: Any) -> Any:
    given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    ours = [t for t in given if isinstance(t, DeviceTensor)]
    asked = kwargs.get("device")
    kwargs = dict(kwargs)
    if kwargs.get("pin_memory"):
        kwargs["pin_memory"] = False
    place = None if asked is None else torch.device(asked).type
    if not ours and place in (None, "cpu", "meta"):
        return func(*args, **kwargs)
    if func is aten._efficientzerotensor.default:  # torch would keep no memory for it
        func = aten.zeros.default
    on_device = bool(ours) if place is None else place not in ("cpu", "meta")
    if on_device and place is not None:
        kwargs["device"] = torch.device("cpu")
    if func is aten.record_stream.default:
        return None
    _check(func, given, args)
    known = {id(t.host): t for t in ours}
    host_args, host_kwargs = tree_map(on_host, (args, kwargs))
    if func is aten.copy_.default:
        return _copy(args, host_args, kwargs.get("non_blocking", len(args) > 2 and args[2]))
    if func is aten._to_copy.default and ours and not on_device and kwargs.get("non_blocking"):
        out = torch.full_like(host_args[0], rubbish(host_args[0].dtype))
        state.later(out, host_args[0].clone())
        return out
    if _waits(func, args, kwargs, ours, on_device) or _sends(func, args, kwargs, on_device):
        wait(0 if on_device else host_args[0].nbytes)
    across = func is aten._to_copy.default and bool(ours) != on_device
    if across:
        host_kwargs["non_blocking"] = False
    state.before(func, host_args, host_kwargs)
    out = func(*host_args, **host_kwargs)
    if across and out is host_args[0]:
        out = out.clone()
    state.after(func, host_args, host_kwargs, out)
    if not on_device:
        return out
    return tree_map(lambda t: known[id(t)] if id(t) in known else _wrapped(t), out)


def _wrapped(thing: Any) -> Any:
    """Return a tensor of the device; what is conjugate or negative by a mark alone becomes so in its numbers."""
    if not isinstance(thing, Tensor):
        return thing
    return DeviceTensor(thing.resolve_conj().resolve_neg())


def on_host(thing: Any) -> Any:
    return thing.host if isinstance(thing, DeviceTensor) else thing


def _check(func: Any, given: list[Tensor], args: Any) -> None:
    """Refuse what CUDA refuses: tensors of two devices in one operation."""
    if func in _ACROSS:
        return
    ours = any(isinstance(t, DeviceTensor) for t in given)
    if func in _INDEXED:
        given = [t for i, t in enumerate(args) if i != 1 and isinstance(t, Tensor)]
        ours = isinstance(args[0], DeviceTensor)
    strangers = [t for t in given if isinstance(t, DeviceTensor) != ours and t.dim() > 0]
    if (
        not ours
        and func in _INDEXED
        and any(isinstance(t, DeviceTensor) for t in args[1] if t is not None)
    ):
        raise RuntimeError(
            "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
        )
    if strangers:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! ({func})"
        )


def _waits(func: Any, args: Any, kwargs: Any, ours: list[Any], on_device: bool) -> bool:
    if not ours:
        return False
    if func in _READS or func in _COUNTED or (func is aten._to_copy.default and not on_device):
        return True
    if func is aten.repeat_interleave.Tensor:
        return kwargs.get("output_size") is None
    if func is not aten.index.Tensor:
        return False
    return any(t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1])


def _sends(func: Any, args: Any, kwargs: Any, on_device: bool) -> bool:
    """Whether numbers of the host go to the device, which it waits for as well: indices, and copies."""
    if not on_device:
        return False
    if func in _INDEXED:
        return any(t is not None and not isinstance(t, DeviceTensor) for t in args[1])
    sent = func is aten._to_copy.default and not isinstance(args[0], DeviceTensor)
    return sent and not kwargs.get("non_blocking")


def _copy(args: Any, host_args: Any, non_blocking: bool) -> Any:
    target, source = args[:2]
    from_device = isinstance(source, DeviceTensor)
    if isinstance(target, DeviceTensor) == from_device or not from_device:
        if not from_device and not non_blocking:
            wait()
        state.before(aten.copy_.default, host_args, {})
        host_args[0].copy_(host_args[1])
        state.after(aten.copy_.default, host_args, {}, host_args[0])
    elif non_blocking:
        state.later(target, host_args[1].clone())
    else:
        wait(target.nbytes)
        target.copy_(host_args[1])
    return target
