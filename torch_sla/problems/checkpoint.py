"""Long work on disk: states that a run goes on from, and what it has found so far.

A file holds a line of magic, a checksum of the rest, a JSON header and the raw bytes of tensors. It is written under
another name, flushed to the disk and renamed, so that at every moment a reader sees whole files only. Nothing in it is
code.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.problems.identity import raw_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Checkpoint",
    "Checkpoints",
    "all_damaged",
    "forget",
    "held",
    "opened",
    "require_folder",
    "require_free",
]

logger = logging.getLogger(__name__)

_MAGIC = b"torch-sla checkpoint 1\n"
_DIGEST = 64
_FASTEST = 0.01


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
    """

    step: int
    tensors: dict[str, Tensor]
    data: dict[str, Any]


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
        since: int = 0,
    ) -> None:
        """Write a state whole or not at all, then drop older ones.

        Parameters
        ----------
        step
            How many parts are done.
        tensors, data
            The state: tensors by name, and what JSON can hold.
        records
            What was found since the last save; kept for good, see `records`.
        since
            The step up to which records are needed no more by this state; they go with the states that need them.
        """
        start = time.monotonic()
        self.directory.mkdir(parents=True, exist_ok=True)
        if records:
            self._write(self._path("records", step), step, records, {})
        self._write(self._path("state", step), step, tensors, data or {})
        for old in self._files("state")[: -self.keep]:
            old.unlink(missing_ok=True)
        self._since.append(since)
        if min(self._since) > 0 and len(self._since) == self.keep:
            for old in self._files("records"):
                if _step(old) <= min(self._since):
                    old.unlink(missing_ok=True)
        self._last = time.monotonic()
        self._cost = max(self._last - start, _FASTEST)
        logger.debug("saved step %d in %s (%.1f ms)", step, self.directory, 1e3 * self._cost)

    def _path(self, kind: str, step: int) -> Path:
        return self.directory / f"{kind}-{step:09d}.ckpt"

    def _files(self, kind: str) -> list[Path]:
        return sorted(self.directory.glob(f"{kind}-*.ckpt"))

    def _write(
        self, path: Path, step: int, tensors: Mapping[str, Tensor], data: Mapping[str, Any]
    ) -> None:
        arrays = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        layout = [
            [n, str(a.dtype).removeprefix("torch."), list(a.shape)] for n, a in arrays.items()
        ]
        header = {"step": step, "identity": self.identity, "data": dict(data), "tensors": layout}
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
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _flush_names(self.directory)

    # -- reading --------------------------------------------------------------------------------

    @property
    def empty(self) -> bool:
        """Whether the folder holds no state of any run."""
        return not self._files("state")

    def latest(self) -> Checkpoint | None:
        """Return the newest state that is whole, None where there is none.

        A damaged one is skipped and named in a warning of the log.

        Raises
        ------
        ArgumentError
            If it belongs to another run; says what differs.
        """
        for path in reversed(self._files("state")):
            try:
                return self._read(path)
            except _DamagedError as damage:
                logger.warning("%s is skipped: %s", path, damage)
        return None

    @property
    def steps(self) -> list[int]:
        """Steps that there is a state of, whole or not."""
        return [_step(path) for path in self._files("state")]

    def at(self, step: int) -> Checkpoint | None:
        """Return the state of a step; None where it is damaged or not there. Errors as of `latest`."""
        path = self._path("state", step)
        try:
            return self._read(path)
        except FileNotFoundError:
            return None
        except _DamagedError as damage:
            logger.warning("%s is skipped: %s", path, damage)
            return None

    def records(self, step: int) -> list[dict[str, Tensor]]:
        """Return what `save` was given as records up to a step, in order.

        Raises
        ------
        ArgumentError
            If one of them is damaged, or belongs to another run.
        """
        found = []
        for path in self._files("records"):
            if _step(path) > step:
                path.unlink(missing_ok=True)
                continue
            try:
                found.append(self._read(path).tensors)
            except _DamagedError as damage:
                raise ArgumentError(
                    f"{path} is damaged ({damage}), and results in it cannot be told without it; "
                    "start again in another folder"
                ) from None
        return found

    def _read(self, path: Path) -> Checkpoint:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise _DamagedError("it does not begin as a checkpoint does")
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
        return Checkpoint(header["step"], tensors, header["data"])

    def _compare(self, path: Path, other: Mapping[str, Any]) -> None:
        differences = _differences(other, self.identity)
        if differences:
            raise ArgumentError(
                f"{path} belongs to another run: {'; '.join(differences)}; take another folder, or go on with "
                "the same declaration, values, versions and threads"
            )


def _step(path: Path) -> int:
    return int(path.stem.partition("-")[2])


def opened(
    folder: str | Path | None,
    resume: str | Path | None,
    identity: Mapping[str, Any],
    keep: int = 2,
    *,
    whole: bool = False,
) -> tuple[Checkpoints | None, Checkpoint | None]:
    """Start a run in a folder, go on with one, or neither.

    Parameters
    ----------
    folder
        Where a new run is kept.
    resume
        Where a run goes on.
    identity, keep
        See `Checkpoints`.
    whole
        Whether what was saved as records stands among the tensors of the state.

    Returns
    -------
    checkpoints, state
        Where to save, None where nothing is kept; and the state to go on from, None at the start.

    Raises
    ------
    ArgumentError
        If both are given, if ``folder`` holds a run already, if ``resume`` is no folder, holds another run or nothing
        but damaged states.
    """
    if folder is not None and resume is not None:
        raise ArgumentError("folder starts a run and resume goes on with one; give one of them")
    if resume is not None:
        require_folder(resume)
        checkpoints = Checkpoints(resume, identity, keep)
        found = checkpoints.latest()
        if found is None and not checkpoints.empty:
            raise all_damaged(resume)
        if found is None and held(resume):
            raise ArgumentError(
                f"resume: {str(resume)!r} holds a run that several processes share; they go on with it (torchrun, "
                "distribute), or start again in another folder"
            )
        if whole and found is not None:
            tensors = dict(found.tensors)
            for record in checkpoints.records(found.step):
                tensors |= record
            found = replace(found, tensors=tensors)
        return checkpoints, found
    if folder is None:
        return None, None
    require_free(folder)
    return Checkpoints(folder, identity, keep), None


def held(folder: str | Path) -> bool:
    """Whether a folder holds any state of any run, of one process or of several with one folder each."""
    places = [folder := Path(folder), *folder.glob("ranks-*/*")]
    return any(not Checkpoints(place, {}).empty for place in places)


def require_free(folder: str | Path) -> None:
    """Raise where a new run would be kept beside another."""
    if held(folder):
        raise ArgumentError(
            f"folder: {str(folder)!r} holds a run already; resume={str(folder)!r} goes on with it, or take "
            "another folder"
        )


def require_folder(resume: str | Path) -> None:
    """Raise where there is nothing that a run could go on from."""
    if not Path(resume).is_dir():
        raise ArgumentError(f"resume: there is no folder {str(resume)!r} to go on from")


def all_damaged(resume: str | Path) -> ArgumentError:
    """Return the error for a run of which no state can be read."""
    return ArgumentError(
        f"resume: every state in {str(resume)!r} is damaged, so there is nothing to go on from; start again in "
        "another folder"
    )


def forget(folder: str | Path) -> None:
    """Drop a run that is at its end: its states, and the folders that hold nothing else then.

    Whatever else lies there is somebody's.

    Parameters
    ----------
    folder
        Of one process, or of several with one folder each.
    """
    every = [folder := Path(folder), *folder.glob("ranks-*"), *folder.glob("ranks-*/*")]
    for place in reversed(every):
        for kind in ("state", "records"):
            for file in place.glob(f"{kind}-*"):
                if file.suffix in (".ckpt", ".part"):
                    file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            place.rmdir()


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
