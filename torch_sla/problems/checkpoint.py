"""Long work on disk: states that a run goes on from, and what it has found so far.

A file holds a line of magic, a checksum of the rest, a JSON header and the raw bytes of tensors. It is written under
another name, flushed to the disk and renamed, so that at every moment a reader sees whole files only. Nothing in it is
code.

What a run has found so far is in records, one file for each save. A state names the newest of those that it stands on,
and each of them the one before, so that one that is gone is missed, and one of a run that did not get as far as its
state is nobody's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.sparse.whole import named
from torch_sla.problems.identity import raw_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Checkpoint", "Checkpoints"]

logger = logging.getLogger(__name__)

_FORM = 3
"""Goes up where states hold something else than before, whatever run they are of."""
_MAGIC = f"torch-sla checkpoint {_FORM}\n".encode()
_DIGEST = 64
_FASTEST = 0.01
_DIGITS = 9


class _DamagedError(Exception):
    """A file that is not what was written."""


@dataclass(frozen=True)
class Checkpoint:
    """A state on disk.

    Attributes
    ----------
    step
        How many parts are done.
    tensors
        By name, on the CPU; bit for bit what was saved.
    data
        What else was saved, as JSON has it.
    records
        What the saves up to this one were given as records, in order.
    """

    step: int
    tensors: dict[str, Tensor]
    data: dict[str, Any]
    records: tuple[dict[str, Tensor], ...] = ()


class Checkpoints:
    """The states of one run, in a folder.

    Parameters
    ----------
    directory
        The folder; made with the first file.
    identity
        What a run must share to go on from here, as JSON has it: declaration, values, versions.
    keep
        How many of the newest states stay.

    Examples
    --------
    >>> import tempfile, torch
    >>> folder = tempfile.mkdtemp()
    >>> states = Checkpoints(folder, {"spec": "abc"})
    >>> states.save(3, {"u": torch.ones(2)}, {"h": 0.1})
    >>> found = Checkpoints(folder, {"spec": "abc"}).latest()
    >>> found.step, found.tensors["u"].tolist(), found.data
    (3, [1.0, 1.0], {'h': 0.1})
    """

    patience = 20.0
    """A state is due when the time since the last one is this many times what saving takes, 10 ms at least."""

    def __init__(self, directory: str | Path, identity: Mapping[str, Any], keep: int = 2) -> None:
        if keep < 1:
            raise ArgumentError(f"keep is {keep}; at least 1 state must stay")
        self.directory, self.keep = Path(directory), keep
        self.identity: dict[str, Any] = json.loads(json.dumps(dict(identity)))
        self._cost, self._last = _FASTEST, time.monotonic()
        self._since: deque[int] = deque(maxlen=keep)
        # Steps of the newest records, and of those before them.
        self._newest: int | None = None
        self._before: int | None = None

    # -- writing --------------------------------------------------------------------------------

    @property
    def due(self) -> bool:
        """Whether it is time to save again, so that saving takes a small part of all time."""
        return time.monotonic() - self._last >= self.patience * self._cost

    def save(
        self,
        step: int,
        tensors: Mapping[str, Tensor],
        data: Mapping[str, Any] | None = None,
        records: Mapping[str, Tensor] | None = None,
        since: int = -1,
    ) -> None:
        """Write a state whole or not at all, then drop older ones.

        Parameters
        ----------
        step
            How many parts are done.
        tensors, data
            The state: tensors by name, and what JSON can hold.
        records
            What was found since the last save; kept for good. Saving a step again replaces its records.
        since
            The step up to which records are needed no more by this state; they go with the states that need them.
        """
        start = time.monotonic()
        self.directory.mkdir(parents=True, exist_ok=True)
        if records:
            before = self._before if step == self._newest else self._newest
            self._write(self._path("records", step), step, records, {"before": before})
            self._newest, self._before = step, before
        more = {"data": dict(data or {}), "records": self._newest, "since": since}
        self._write(self._path("state", step), step, tensors, more)
        for old in self._files("state")[: -self.keep]:
            old.unlink(missing_ok=True)
        self._since.append(since)
        if min(self._since) >= 0 and len(self._since) == self.keep:
            for old in self._files("records"):
                if _step(old) <= min(self._since):
                    old.unlink(missing_ok=True)
        self._last = time.monotonic()
        self._cost = max(self._last - start, _FASTEST)
        logger.debug("saved step %d in %s (%.1f ms)", step, self.directory, 1e3 * self._cost)

    def _path(self, kind: str, step: int) -> Path:
        return self.directory / f"{kind}-{step:0{_DIGITS}d}.ckpt"

    def _files(self, kind: str) -> list[Path]:
        # What else begins like this, a copy that someone made, is none of them.
        return sorted(self.directory.glob(f"{kind}-{'[0-9]' * _DIGITS}.ckpt"))

    def _write(
        self, path: Path, step: int, tensors: Mapping[str, Tensor], more: Mapping[str, Any]
    ) -> None:
        arrays = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        layout = [
            [n, str(a.dtype).removeprefix("torch."), list(a.shape)] for n, a in arrays.items()
        ]
        header = {"step": step, "identity": self.identity, "tensors": layout, **more}
        parts: list[bytes | memoryview] = [json.dumps(header).encode() + b"\n"]
        parts += [raw_bytes(a) for a in arrays.values()]
        digest = hashlib.blake2b(digest_size=_DIGEST // 2)
        for part in parts:
            digest.update(part)
        temporary = path.with_suffix(f".{os.getpid()}.part")
        try:
            with temporary.open("wb") as file:
                file.write(_MAGIC + digest.hexdigest().encode() + b"\n")
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            if isinstance(error, OSError):
                named(error, path, temporary)
            raise
        _flush_names(self.directory)

    # -- reading --------------------------------------------------------------------------------

    @property
    def empty(self) -> bool:
        """Whether the folder holds no state of any run."""
        return not self._files("state")

    def latest(self) -> Checkpoint | None:
        """Return the newest state that is whole, with all records that it stands on; None where there is none.

        A damaged one is skipped and named in a warning of the log. What is saved next goes on from the one returned.

        Raises
        ------
        ArgumentError
            If it belongs to another run, and says what differs; or if another version of the library wrote it.
        """
        for step in reversed(self.steps):
            found = self.at(step)
            if found is not None:
                return found
        return None

    @property
    def steps(self) -> list[int]:
        """Steps that there is a state of, whole or not."""
        return [_step(path) for path in self._files("state")]

    def at(self, step: int) -> Checkpoint | None:
        """Return the state of a step; None where it is damaged or not there. Otherwise as `latest`."""
        path = self._path("state", step)
        if not path.exists():
            return None
        try:
            header, tensors = self._read(path)
            steps, records = self._records(header["records"], header["since"])
        except _DamagedError as damage:
            logger.warning("%s is skipped: %s", path, damage)
            return None
        self._newest, self._before, *_ = [*steps, None, None]
        return Checkpoint(header["step"], tensors, header["data"], tuple(reversed(records)))

    def _records(self, newest: int | None, since: int) -> tuple[list[int], list[dict[str, Tensor]]]:
        """Return the steps of the records that a state needs, and what is in them, the newest first."""
        steps: list[int] = []
        found: list[dict[str, Tensor]] = []
        step = newest
        while step is not None and step > since:
            path = self._path("records", step)
            try:
                header, tensors = self._read(path)
            except FileNotFoundError:
                raise _DamagedError(f"{path.name}, which it stands on, is gone") from None
            except _DamagedError as damage:
                raise _DamagedError(f"of {path.name}, which it stands on: {damage}") from None
            steps.append(step)
            found.append(tensors)
            step = header["before"]
        return steps, found

    def _read(self, path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
        with path.open("rb") as file:
            first = file.readline(len(_MAGIC) + 8)
            if first != _MAGIC:
                _require_form(path, first)
            wanted = file.read(_DIGEST + 1).strip().decode("ascii", "replace")
            body = bytearray(file.read())
        found = hashlib.blake2b(body, digest_size=_DIGEST // 2).hexdigest()
        if found != wanted:
            raise _DamagedError("its checksum is not that of its content")
        end = body.index(b"\n")
        header = json.loads(body[:end])
        self._compare(path, header["identity"])
        tensors, at = {}, end + 1
        for name, kind, shape in header["tensors"]:
            dtype = getattr(torch, kind)
            size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
            raw = torch.frombuffer(body[at : at + size], dtype=torch.uint8) if size else None
            value = torch.empty(0, dtype=dtype) if raw is None else raw.view(dtype)
            tensors[name] = value.reshape(shape)
            at += size
        return header, tensors

    def _compare(self, path: Path, other: Mapping[str, Any]) -> None:
        differences = _differences(other, self.identity)
        if differences:
            raise ArgumentError(
                f"{path} belongs to another run: {'; '.join(differences)}; take another folder, or go on with "
                "the same declaration, values, versions and threads"
            )


def _require_form(path: Path, first: bytes) -> None:
    """Say of a file that does not begin as it should whether it is damaged, or of another version."""
    told = re.fullmatch(rb"torch-sla checkpoint (\d+)\n", first)
    if told is None:
        raise _DamagedError("it does not begin as a checkpoint does")
    raise ArgumentError(
        f"{path} has form {int(told[1])}, and this torch_sla reads form {_FORM} only: go on with the version that "
        "wrote it, or start again in another folder"
    )


def _step(path: Path) -> int:
    return int(path.stem.partition("-")[2])


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in sorted(old.keys() | new.keys())
            for line in _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if old == new else [f"{path} was {old!r}, and is {new!r}"]


def _flush_names(directory: Path) -> None:
    """Make a rename last; not every system can, and none loses a whole file without."""
    with contextlib.suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
