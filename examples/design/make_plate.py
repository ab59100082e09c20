"""Make the plate with a hole of hole.yaml: rings of quadrilaterals that grow outwards.

    python examples/design/make_plate.py

writes ``data/plate.npz`` beside this file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np


def main(rings: int = 14, around: int = 48, radius: float = 10.0) -> None:
    r = radius ** (np.arange(rings + 1) / rings)
    angle = 2 * np.pi * np.arange(around) / around
    points = r[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    ring, i = np.meshgrid(np.arange(rings), np.arange(around), indexing="ij")
    inner, after = ring * around + i, ring * around + (i + 1) % around
    cells = np.stack([inner, inner + around, after + around, after], -1).reshape(-1, 4)
    edge = np.stack([i[0], (i[0] + 1) % around], 1)
    np.savez_compressed(
        Path(__file__).parent / "data" / "plate.npz",
        points=np.round(points.reshape(-1, 2), 12),
        cells=cells,
        hole=edge,
        rim=edge + rings * around,
    )


if __name__ == "__main__":
    main()
