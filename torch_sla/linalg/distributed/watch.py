"""A thread beside every rank that hears whether the others live, and ends this one when the run is over.

A rank that waits for a dead one learns of it at once where the connection closes. One that waits for a third rank,
or computes, does not, and nothing wakes a gloo operation. So every rank beats in the store that the ranks met in, and
listens to the next one in a ring: whoever does not hear it any more, and whoever fails, writes a last word there. All
that read it have a moment to end by themselves, and are ended then.

Silence is measured by the clock, but of what passes between two polls no more than a few periods count: a listener that
could not run itself accuses nobody, and one that runs slowly, on a machine with much to do, is hardly later. Nothing
wakes a listener that waits for the store either, where the machine of the store is gone: a second thread listens to the
first one.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import torch.distributed as dist

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

__all__ = ["BEAT", "LAST_WORD", "NO_STORE", "SPEAKER", "Watch"]

BEAT, LAST_WORD, SPEAKER = "torch_sla/beat", "torch_sla/last_word", "torch_sla/speaker"
"""Keys of the store: how far each rank counted, why the run is over, and which rank tells people."""
NO_STORE = (
    "the rank that kept the store of all ranks does not answer any more: its process ended or its "
    "machine is gone"
)

_FAILED = 1
_POLLS, _LONGEST = 60, 1.0
_SILENT, _MOMENT, _LEAST = 0.6, 0.2, 4.0
_STRETCH = 3.0  # periods between two polls that count at most
_log = logging.getLogger(__name__)


class _Silence:
    """Seconds for which something has stayed as it is.

    Parameters
    ----------
    most
        Seconds that count at most between two looks.
    """

    def __init__(self, most: float) -> None:
        self._most, self._at = most, time.monotonic()
        self._seen: object = None
        self._seconds = 0.0

    def of(self, state: object) -> float:
        """Look at it."""
        now = time.monotonic()
        passed = min(now - self._at, self._most)
        self._seconds = self._seconds + passed if state == self._seen else 0.0
        self._at, self._seen = now, state
        return self._seconds


class Watch:
    """Beats for this rank and listens to the next one until it is stopped.

    A rank that is not heard for 0.6 of the timeout is given up, and a rank that is in the middle of something when the
    run is over is ended after 0.2 more, or four seconds: what finding the cause takes.

    Parameters
    ----------
    store
        Of all ranks; a connection of its own, so that nobody else's waiting stands before it.
    rank, size
        Which one this is, of how many.
    timeout
        Seconds within which all ranks end when one of them is lost.
    """

    def __init__(self, store: Store, rank: int, size: int, timeout: float) -> None:
        self._store, self._rank, self._timeout = store, rank, timeout
        self._next = (rank + 1) % size
        self._period = min(_LONGEST, timeout / _POLLS)
        self._stopped = threading.Event()
        self._beats = 0
        self._threads = [
            threading.Thread(target=target, name="torch_sla-watch", daemon=True)
            for target in (self._listen, self._guard)
        ]
        self._store.set(f"{BEAT}/{rank}", "0")

    def start(self) -> None:
        """Begin to listen, when all ranks have begun to beat."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Beat and listen no more; when this rank has left the group."""
        self._stopped.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_LEAST)  # longer only where it waits for a store that is gone

    @property
    def _moment(self) -> float:
        return max(_MOMENT * self._timeout, _LEAST)

    def _silence(self) -> _Silence:
        return _Silence(_STRETCH * self._period)

    def _listen(self) -> None:
        try:
            why = self._heard()
        except RuntimeError:
            why = NO_STORE
        if why and not self._stopped.wait(self._moment):
            self._end(why)

    def _heard(self) -> str:
        """Return why the run is over, or nothing when this watch was stopped."""
        silence = self._silence()
        while not self._stopped.wait(self._period):
            self._beats += 1
            self._store.set(f"{BEAT}/{self._rank}", str(self._beats))
            if self._store.check([LAST_WORD]):
                return self._store.get(LAST_WORD).decode(errors="replace")
            now = self._store.get(f"{BEAT}/{self._next}")
            if silence.of(now) >= _SILENT * self._timeout:
                why = (
                    f"rank {self._next} does not answer any more: the process ended, hangs, or its machine is gone; "
                    "look at its own output, and start again, from a checkpoint where there is one"
                )
                return self._store.compare_set(LAST_WORD, "", why).decode(errors="replace")
        return ""

    def _guard(self) -> None:
        """End this process where the listener waits for a store that says nothing."""
        silence = self._silence()
        while not self._stopped.wait(self._period):
            if silence.of(self._beats) >= _SILENT * self._timeout + self._moment:
                self._end(NO_STORE, alone=True)
                return

    def _end(self, why: str, *, alone: bool = False) -> None:
        """End this process: the only thing that stops an operation that waits.

        Parameters
        ----------
        alone
            Without asking the store who speaks.
        """
        try:
            speaks = alone or (
                self._store.compare_set(SPEAKER, "", str(self._rank)) == str(self._rank).encode()
            )
        except RuntimeError:
            speaks = True
        if speaks:
            _log.critical("%s", why)
        os._exit(_FAILED)


def watched(timeout: float) -> Watch:
    """Return a watch of this rank over the others of `torch.distributed`."""
    from torch.distributed.distributed_c10d import _get_default_store

    return Watch(
        _connected_anew(_get_default_store()), dist.get_rank(), dist.get_world_size(), timeout
    )


def _connected_anew(store: Any) -> Any:
    """Return the same store for another thread: one that waits in a connection blocks all that use it."""
    if hasattr(store, "clone"):
        return store.clone()
    from torch._C._distributed_c10d import PrefixStore, TCPStore

    # Before torch 2.7 there is no clone, and a prefix does not tell its name: that of a restarted run is another.
    server = store
    while isinstance(server, PrefixStore):
        server = server.underlying_store
    if not isinstance(server, TCPStore):
        return store
    own = TCPStore(server.host, server.port, is_master=False, wait_for_workers=False)
    return PrefixStore(f"torch_sla/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", own)
