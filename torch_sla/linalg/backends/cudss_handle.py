"""Handles of cuDSS: one for each device and dtype (a handle must not see two), one call at a time on each.

Device memory comes from torch's allocator, work goes to the current stream, and objects are destroyed outside of
calls.
"""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from torch_sla.linalg.backends import cudss_library as library

__all__ = ["Handle", "handle_of"]

_ALLOC = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.c_size_t,
    ctypes.c_void_p,
)
_FREE = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p
)


class _MemoryHandler(ctypes.Structure):
    """``cudssDeviceMemHandler_t``."""

    _fields_ = (
        ("ctx", ctypes.c_void_p),
        ("device_alloc", _ALLOC),
        ("device_free", _FREE),
        ("name", ctypes.c_char * 64),
    )


def _memory_handler(index: int) -> _MemoryHandler:
    """Let cuDSS allocate from torch's caching allocator, on the stream that it names."""

    def take(_: Any, out: Any, size: int, stream: int | None) -> int:
        try:
            out[0] = torch.cuda.caching_allocator_alloc(size, index, int(stream or 0))
        except (torch.cuda.OutOfMemoryError, RuntimeError):
            return 2  # cudaErrorMemoryAllocation: an exception must not cross the library
        return 0

    def give(_: Any, pointer: int | None, size: int, stream: int | None) -> int:
        del size, stream
        if pointer:
            torch.cuda.caching_allocator_delete(pointer)
        return 0

    return _MemoryHandler(None, _ALLOC(take), _FREE(give), b"torch")


class Handle:
    """A cuDSS handle with its lock. Lives as long as the process: what it owns goes with the device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.lock = threading.Lock()
        self._graveyard: deque[tuple[int, int, int]] = deque()
        self._streams: set[int] = set()
        lib = library.bindings()
        with self.on_device():
            self.pointer = int(lib.create())
            self._memory = None
            if device.type == "cuda":
                self._memory = _memory_handler(device.index or 0)
                lib.set_device_mem_handler(self.pointer, ctypes.addressof(self._memory))
            layer = library.threading_layer()
            self.threaded = layer is not None
            if layer is not None:
                lib.set_threading_layer(self.pointer, layer)

    def switch(self) -> None:
        """Point the library at the current stream; from the second one on, let the device come to rest.

        On an H200 a solve on the default stream, after one on another, did not wait for its right-hand
        side (0.8.0; its residual told). Order between streams is therefore not left to the library.
        """
        stream = self.stream()
        self._streams.add(stream)
        self.rest()
        library.bindings().set_stream(self.pointer, stream)

    def rest(self) -> None:
        """Wait for the device, where work came on several streams."""
        if len(self._streams) > 1:
            torch.cuda.synchronize(self.device)

    def on_device(self) -> AbstractContextManager[Any]:
        """Make its device the current one."""
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()

    def stream(self) -> int:
        """Return the current stream of its device, 0 on the host."""
        if self.device.type != "cuda":
            return 0
        return int(torch.cuda.current_stream(self.device).cuda_stream)

    def dispose(self, data: int, config: int, matrix: int) -> None:
        """Destroy now, or before the next call where the library is in the middle of one.

        The garbage collector calls this wherever it likes, inside our allocator too.
        """
        self._graveyard.append((data, config, matrix))
        if self.lock.acquire(blocking=False):
            try:
                self.bury()
            finally:
                self.lock.release()

    def bury(self) -> None:
        """Destroy what was left; the lock must be held."""
        lib = library.bindings()
        while self._graveyard:
            data, config, matrix = self._graveyard.popleft()
            with self.on_device():
                lib.matrix_destroy(matrix)
                lib.data_destroy(self.pointer, data)
                lib.config_destroy(config)


_handles: dict[tuple[str, int | None, torch.dtype], Handle] = {}
_handles_lock = threading.Lock()


def handle_of(device: torch.device, dtype: torch.dtype) -> Handle:
    """Return the handle of a device and dtype, made on first use."""
    with _handles_lock:
        key = (device.type, device.index, dtype)
        if key not in _handles:
            _handles[key] = Handle(device)
        return _handles[key]
