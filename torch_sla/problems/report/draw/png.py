"""Pixels to PNG, and several to an animated one (APNG).

W3C, Portable Network Graphics (PNG) Specification, third edition, 2025: 5 (chunks), 9 (filtering), 11.3.6 (animation).
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Pixels", "png"]

Pixels: TypeAlias = np.ndarray
"""``[height, width, 4]`` uint8: red, green, blue, opacity."""

_MAGIC = b"\x89PNG\r\n\x1a\n"


def png(frames: Pixels | Sequence[Pixels], seconds: float = 0.1) -> bytes:
    """Encode one picture, or several of one size as a loop.

    Parameters
    ----------
    frames
        One or several; viewers that know no animation show the first.
    seconds
        How long each is shown.
    """
    every = [frames] if isinstance(frames, np.ndarray) else list(frames)
    height, width = every[0].shape[:2]
    parts = [_MAGIC, _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))]
    if len(every) == 1:
        parts.append(_chunk(b"IDAT", _packed(every[0])))
        return b"".join([*parts, _chunk(b"IEND", b"")])
    parts.append(_chunk(b"acTL", struct.pack(">II", len(every), 0)))
    number, delay = 0, max(1, round(1000 * seconds))
    for i, frame in enumerate(every):
        control = struct.pack(">IIIIIHHBB", number, width, height, 0, 0, delay, 1000, 0, 0)
        parts.append(_chunk(b"fcTL", control))
        number += 1
        if i == 0:
            parts.append(_chunk(b"IDAT", _packed(frame)))
        else:
            parts.append(_chunk(b"fdAT", struct.pack(">I", number) + _packed(frame)))
            number += 1
    return b"".join([*parts, _chunk(b"IEND", b"")])


def _chunk(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def _packed(pixels: Pixels) -> bytes:
    """Compress rows, each as the difference from the one above, which suits smooth pictures."""
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, 4 * width)
    found = np.empty((height, 4 * width + 1), dtype=np.uint8)
    found[:, 0] = 2
    found[0, 1:] = rows[0]
    found[1:, 1:] = rows[1:] - rows[:-1]
    return zlib.compress(found.tobytes(), 6)
