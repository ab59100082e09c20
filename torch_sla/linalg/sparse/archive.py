"""Arrays of an archive, in pieces."""

from __future__ import annotations

import struct
import zipfile
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

__all__ = ["BROKEN", "Archive"]

BROKEN = (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile, struct.error)
"""What reading a damaged archive raises."""

_BLOCK = 1 << 22  # bytes of a compressed array that are looked at in one go
_LOCAL_HEADER, _LENGTHS_AT = 30, 26


class Archive:
    """Arrays of an ``.npz`` file: read where they are if they are stored, else as far as needed."""

    def __init__(self, source: Path) -> None:
        self._source = source
        with zipfile.ZipFile(source) as archive:
            self._infos = {i.filename.removesuffix(".npy"): i for i in archive.infolist()}
        self.names = set(self._infos)

    def _opened(self, archive: zipfile.ZipFile, name: str) -> tuple[IO[bytes], Any, Any]:
        file = archive.open(self._infos[name])
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
            version, np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read(file)
        if dtype.hasobject or (fortran and len(shape) > 1):
            raise ValueError(f"the array {name!r} holds {dtype}, by columns: {fortran}")
        return file, shape, dtype

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an array."""
        with zipfile.ZipFile(self._source) as archive:
            return tuple(self._opened(archive, name)[1])

    def read(self, name: str, begin: int, end: int) -> Tensor:
        """Return ``[begin:end]``."""
        with zipfile.ZipFile(self._source) as archive:
            file, shape, dtype = self._opened(archive, name)
            if not 0 <= begin <= end <= (shape[0] if shape else 0):
                raise ValueError(f"the array {name!r} of shape {shape} has no [{begin}:{end}]")
            row = int(np.prod(shape[1:], dtype=np.int64))
            size, skip = (end - begin) * row, begin * row * dtype.itemsize
            if self._infos[name].compress_type == zipfile.ZIP_STORED:
                with self._source.open("rb") as raw:
                    raw.seek(self._data(raw, name) + file.tell() + skip)
                    found = np.fromfile(raw, dtype, size)
            else:
                while skip:  # decompressed and forgotten
                    got = len(file.read(min(skip, _BLOCK)))
                    if not got:
                        break
                    skip -= got
                found = np.frombuffer(file.read(size * dtype.itemsize), dtype).copy()
        if len(found) != size:
            raise ValueError(f"the array {name!r} is shorter than it says")
        whole = found.reshape(end - begin, *shape[1:]).astype(dtype.newbyteorder("="), copy=False)
        return torch.from_numpy(whole)

    def _data(self, raw: IO[bytes], name: str) -> int:
        """Where the bytes of a member begin."""
        at = self._infos[name].header_offset
        raw.seek(at)
        name_, extra = struct.unpack("<HH", raw.read(_LOCAL_HEADER)[_LENGTHS_AT:])
        return at + _LOCAL_HEADER + int(name_) + int(extra)

    def small(self, name: str) -> Any:
        """Return a whole array, of what is known to be little."""
        with np.load(self._source, allow_pickle=False) as archive:
            return archive[name]
