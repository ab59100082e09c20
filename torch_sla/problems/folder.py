"""The folder of a run: who begins or goes on there, one process at a time, and what goes when the run has ended."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from torch_sla.errors import ArgumentError
from torch_sla.problems.checkpoint import Checkpoint, Checkpoints

try:
    import fcntl
except ImportError:  # this system has other locks
    _LOCKS = False
else:
    _LOCKS = True

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["all_damaged", "claimed", "forget", "held", "opened", "require_folder", "require_free"]

_LOCK = "run.lock"
_HALF = re.compile(r"(state|records)-\d{9}\.\d+\.part|\.history\.\d+-\d+\.(csv|json)")
_TAKEN = (errno.EAGAIN, errno.EACCES)


@contextlib.contextmanager
def claimed(folder: str | Path) -> Iterator[None]:
    """Be the only one at work in a folder; it is made where there is none, and goes if it stays empty.

    Halves of files that a run which was killed has left there go. The system gives the lock back when a process ends in
    whatever way, so that none is left by one that was killed. File systems without locks do without.

    Raises
    ------
    ArgumentError
        If another run is at work there, in this process or elsewhere.
    """
    folder = Path(folder)
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        file = _locked(folder)
        if file is not None:
            _clear(folder)
        try:
            yield
        finally:
            if file is not None:
                with contextlib.suppress(OSError):
                    (folder / _LOCK).unlink()
                file.close()
    finally:
        with contextlib.suppress(OSError):
            for place in made:
                place.rmdir()


def _clear(folder: Path) -> None:
    """Remove what a killed run was writing, under the names that runs alone write by; nobody else writes them now."""
    for place in (folder, *folder.glob("ranks-*/*")):
        for half in (*place.glob("*.part"), *place.glob(".history.*")):
            if _HALF.fullmatch(half.name):
                with contextlib.suppress(OSError):
                    half.unlink()


def _locked(folder: Path) -> IO[str] | None:
    """Return the locked file, None where there are no locks."""
    path = folder / _LOCK
    while _LOCKS:
        try:
            file = path.open("a+", encoding="utf-8")
        except OSError:  # nothing can be written there, so nothing gets in the way of another
            return None
        with contextlib.ExitStack() as closing:
            closing.enter_context(file)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Who had it before may have taken its name away meanwhile.
                named = os.path.samestat(os.fstat(file.fileno()), path.stat())
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno not in _TAKEN:
                    return None
                file.seek(0)
                who = file.read(200) or "another process"
                raise ArgumentError(
                    f"folder: {who} is at work in {str(folder)!r}; wait until it has ended, or take another folder"
                ) from None
            if named:
                with contextlib.suppress(OSError):  # on a full disk, nobody is named
                    os.ftruncate(file.fileno(), 0)
                    os.write(file.fileno(), f"process {os.getpid()} on {platform.node()}".encode())
                closing.pop_all()
                return file
    return None


@contextlib.contextmanager
def opened(
    folder: str | Path | None,
    resume: str | Path | None,
    identity: Mapping[str, Any],
    keep: int = 2,
    *,
    whole: bool = False,
) -> Iterator[tuple[Checkpoints | None, Checkpoint | None]]:
    """Start a run in a folder, go on with one, or neither; nobody else does meanwhile.

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

    Yields
    ------
    checkpoints, state
        Where to save, None where nothing is kept; and the state to go on from, None at the start.

    Raises
    ------
    ArgumentError
        If both are given, if ``folder`` holds a run already, if ``resume`` is no folder, holds another run or nothing
        but damaged states, or if someone else is at work there.
    """
    if folder is not None and resume is not None:
        raise ArgumentError("folder starts a run and resume goes on with one; give one of them")
    if resume is not None:
        require_folder(resume)
    where = folder if resume is None else resume
    if where is None:
        yield None, None
        return
    with claimed(where):
        checkpoints = Checkpoints(where, identity, keep)
        if resume is None:
            require_free(where)
            yield checkpoints, None
        else:
            found = _latest(checkpoints)
            if whole and found is not None:
                tensors = dict(found.tensors)
                for record in found.records:
                    tensors |= record
                found = replace(found, tensors=tensors)
            yield checkpoints, found


def _latest(checkpoints: Checkpoints) -> Checkpoint | None:
    """Return the state to go on from; None where the run did not come to its first."""
    found, resume = checkpoints.latest(), checkpoints.directory
    if found is None and not checkpoints.empty:
        raise all_damaged(resume)
    if found is None and held(resume):
        raise ArgumentError(
            f"resume: {str(resume)!r} holds a run that several processes share; they go on with it (torchrun, "
            "distribute), or start again in another folder"
        )
    return found


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
        (place / _LOCK).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            place.rmdir()
