"""Draw the pictures of docs/design_examples.md.

Run ``python examples/design/draw.py docs/design_examples.png``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import conductivity
import cooling
import hole
import mbb_beam
from make_data import true_conductivity


def main(path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 5.2), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.0, 1.15))
    beam, plate = top.subplots(1, 2, width_ratios=(2.4, 1.0))
    truth, found, shape = bottom.subplots(1, 3)

    density = mbb_beam.declare().solve().design["rho"].reshape(20, 60)
    beam.imshow(density, origin="lower", cmap="Greys", vmin=0, vmax=1)
    beam.set_title("half MBB beam", fontsize=9)
    metal = cooling.declare().solve().design["rho"].reshape(40, 40)
    plate.imshow(metal, origin="lower", cmap="Oranges", vmin=0, vmax=1)
    plate.set_title("heat sink, cooled below", fontsize=9)

    problem = conductivity.declare()
    kappa = problem.solve().design["kappa"].reshape(21, 21)
    exact = true_conductivity(problem.of.of.sites("kappa")).reshape(21, 21)
    for axes, values, title in (
        (truth, exact, "conductivity"),
        (found, kappa, "found from noisy sensors"),
    ):
        image = axes.imshow(values, origin="lower", extent=(0, 1, 0, 1), vmin=1.0, vmax=2.8)
        axes.set_title(title, fontsize=9)
    found.plot(*zip(*conductivity.SENSORS, strict=True), "w.", markersize=2)
    figure.colorbar(image, ax=found, fraction=0.05)

    search = hole.declare()
    points = search.solve().design["points"].numpy()
    cells = search.of.mesh_data().cells.numpy()
    for cell in cells:
        ring = points[[*cell, cell[0]]]
        shape.plot(ring[:, 0], ring[:, 1], color="0.4", linewidth=0.5)
    shape.set(xlim=(0, 3), ylim=(0, 3), aspect="equal")
    shape.set_title("hole under 3 : 2", fontsize=9)
    for axes in (beam, plate, truth, found, shape):
        axes.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
