"""Files that are written whole or not at all."""

from __future__ import annotations

import itertools
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["whole"]

_turns = itertools.count()


@contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield where to write a file, which takes its place when the block ends well.

    Whatever stops the block, an older file of that name stays, and no half of a new one is found there.

    Parameters
    ----------
    path
        The file in the end; what is yielded lies beside it and has the same suffix.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with whole(path) as beside:
    ...     _ = beside.write_text("all of it")
    >>> path.read_text(), list(path.parent.iterdir()) == [path]
    ('all of it', True)
    """
    final = Path(os.path.realpath(path))
    # Nobody else's: another process, or thread, may write the same file.
    beside = final.with_name(f".{final.stem}.{os.getpid()}-{next(_turns)}{final.suffix}")
    try:
        yield beside
        beside.replace(final)
    except OSError as error:
        if error.filename == str(beside):
            error.filename = str(path)
        raise
    finally:
        beside.unlink(missing_ok=True)
