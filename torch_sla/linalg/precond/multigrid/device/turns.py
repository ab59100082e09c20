"""Work memory that is shared, by one caller at a time."""

from __future__ import annotations

import torch

from torch_sla.linalg.kernels.threads import ForkLock

__all__ = ["Turns"]


class Turns:
    """Lets threads in one after the other, and lets the work that one queues on a stream wait for that of the last.

    The host does not wait for a device.

    Parameters
    ----------
    device
        Where the memory is; its current stream has made it.

    Examples
    --------
    >>> turns = Turns(torch.device("cpu"))
    >>> with turns:
    ...     pass
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._lock = device, ForkLock()
        self._last = self._stream()

    def _stream(self) -> torch.cuda.Stream | None:
        return torch.cuda.current_stream(self._device) if self._device.type == "cuda" else None

    def __enter__(self) -> None:
        self._lock.__enter__()
        stream, last = self._stream(), self._last
        if stream is not None and last is not None and stream != last:
            stream.wait_stream(last)
        self._last = stream

    def __exit__(self, *_: object) -> None:
        self._lock.__exit__()
