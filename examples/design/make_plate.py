"""Make the quarter of a plate with a hole of hole.yaml: rings of quadrilaterals that grow outwards.

    python examples/design/make_plate.py

writes ``data/plate.npz`` beside this file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np


def main(rings: int = 12, around: int = 12, radius: float = 10.0) -> None:
    r = radius ** (np.arange(rings + 1) / rings)
    angle = 0.5 * np.pi * np.arange(around + 1) / around
    points = r[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    number = np.arange((rings + 1) * (around + 1)).reshape(rings + 1, around + 1)
    inner, outer = number[:-1], number[1:]
    corners = [inner[:, :-1], outer[:, :-1], outer[:, 1:], inner[:, 1:]]

    def edges(nodes: np.ndarray) -> np.ndarray:
        return np.stack([nodes[:-1], nodes[1:]], 1)

    np.savez_compressed(
        Path(__file__).parent / "data" / "plate.npz",
        points=np.round(points.reshape(-1, 2), 12),
        cells=np.stack([c.ravel() for c in corners], 1),
        hole=edges(number[0]),
        rim=edges(number[-1]),
        bottom=edges(number[:, 0]),
        left=edges(number[:, -1]),
    )


if __name__ == "__main__":
    main()
