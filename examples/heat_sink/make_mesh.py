"""Make heat_sink.msh: a copper plate with six aluminium fins.

    python make_mesh.py

needs gmsh (pip install gmsh). Facet tags: ``base`` (under the plate, where the chip sits), ``fins``
(every face in the air stream), ``fixed`` (the end of the plate that is clamped to a cold frame).
Cell tags: ``copper``, ``aluminium``.
"""

from __future__ import annotations

from pathlib import Path

import gmsh

MM = 1e-3
LENGTH, WIDTH, THICKNESS = 60 * MM, 40 * MM, 5 * MM
FINS, FIN_THICKNESS, FIN_HEIGHT, MARGIN = 6, 3 * MM, 20 * MM, 2 * MM
SIZE = 2.45 * MM


def main() -> None:
    gmsh.initialize()
    gmsh.option.setNumber("General.Verbosity", 1)
    gmsh.option.setNumber("General.NumThreads", 1)
    occ = gmsh.model.occ
    plate = occ.addBox(0, 0, 0, LENGTH, WIDTH, THICKNESS)
    pitch = (WIDTH - 2 * MARGIN - FIN_THICKNESS) / (FINS - 1)
    fins = [
        occ.addBox(0, MARGIN + i * pitch, THICKNESS, LENGTH, FIN_THICKNESS, FIN_HEIGHT)
        for i in range(FINS)
    ]
    occ.fragment([(3, plate)], [(3, fin) for fin in fins])
    occ.synchronize()

    def centre(dim: int, tag: int) -> tuple[float, float, float]:
        return occ.getCenterOfMass(dim, tag)

    volumes = [tag for _, tag in gmsh.model.getEntities(3)]
    copper = [tag for tag in volumes if centre(3, tag)[2] < THICKNESS]
    aluminium = [tag for tag in volumes if tag not in copper]
    base, fixed, exposed = [], [], []
    for _, tag in gmsh.model.getEntities(2):
        if len(gmsh.model.getAdjacencies(2, tag)[0]) > 1:
            continue
        x, _, z = centre(2, tag)
        if z < 1e-9:
            base.append(tag)
        elif x < 1e-9 and z < THICKNESS:
            fixed.append(tag)
        else:
            exposed.append(tag)
    for dim, name, tags in (
        (3, "copper", copper),
        (3, "aluminium", aluminium),
        (2, "base", base),
        (2, "fixed", fixed),
        (2, "fins", exposed),
    ):
        gmsh.model.addPhysicalGroup(dim, tags, name=name)

    gmsh.option.setNumber("Mesh.MeshSizeMin", SIZE)
    gmsh.option.setNumber("Mesh.MeshSizeMax", SIZE)
    gmsh.option.setNumber("Mesh.Algorithm3D", 1)
    gmsh.model.mesh.generate(3)
    import meshio

    path = str(Path(__file__).with_name("heat_sink.msh"))
    gmsh.write(path)
    gmsh.finalize()
    # Written again by meshio, whose binary version 2.2 files are a third smaller.
    meshio.write(path, meshio.read(path), file_format="gmsh22", binary=True)


if __name__ == "__main__":
    main()
