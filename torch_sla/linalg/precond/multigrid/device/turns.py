"""Work memory that is shared, by one caller at a time."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from torch_sla.linalg.kernels.threads import ForkLock

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    >>> with turns.next():
    ...     pass
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._lock = device, ForkLock()
        self._last = self._stream()

    def _stream(self) -> torch.cuda.Stream | None:
        return torch.cuda.current_stream(self._device) if self._device.type == "cuda" else None

    @contextmanager
    def next(self) -> Iterator[None]:
        """Wait for the turn, and have it as long as the block lasts."""
        with self._lock.held:
            stream, last = self._stream(), self._last
            if stream is not None and last is not None and stream != last:
                stream.wait_stream(last)
            self._last = stream
            yield
