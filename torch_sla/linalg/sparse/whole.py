"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import itertools
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["make_folder", "named", "whole"]

_turns = itertools.count()


@contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield where to write a file, which takes its place when the block ends well.

    Whatever stops the block, an older file of that name stays, and no half of a new one is found there. A folder that
    does not exist is made.

    Parameters
    ----------
    path
        The file in the end; what is yielded lies beside it and has the same suffix.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "new" / "a.txt"
    >>> with whole(path) as beside:
    ...     _ = beside.write_text("all of it")
    >>> path.read_text(), list(path.parent.iterdir()) == [path]
    ('all of it', True)
    """
    final = Path(os.path.realpath(path))
    # Nobody else's: another process, or thread, may write the same file.
    beside = final.with_name(f".{final.stem}.{os.getpid()}-{next(_turns)}{final.suffix}")
    try:
        make_folder(final.parent)
        yield beside
        beside.replace(final)
    except OSError as error:
        named(error, path, beside)
        raise
    finally:
        with suppress(OSError):  # on a disk that cannot be written to, it is not there either
            beside.unlink()


def make_folder(folder: Path) -> None:
    """Make the folder of a file that is to be written, where there is none.

    Raises
    ------
    OSError
        If that cannot be; names what is in the way.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        code = errno.ENOTDIR  # what is there is a file
        raise NotADirectoryError(code, os.strerror(code), str(folder)) from None


def named(error: OSError, path: str | os.PathLike[str], beside: str | os.PathLike[str]) -> None:
    """Let an error of the system name the file that was to be written; that a disk is full comes without a name.

    Parameters
    ----------
    path, beside
        The file, and what it is called while it is written.
    """
    if error.errno is not None and error.filename in (None, os.fspath(beside)):
        error.filename = os.fspath(path)
