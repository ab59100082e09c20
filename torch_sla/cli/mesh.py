"""``torch-sla mesh``."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003  (typer reads this at run time)
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.markup import escape
from rich.table import Table

from torch_sla.cli.console import out
from torch_sla.cli.inputs import check_folder, read_problem
from torch_sla.cli.options import Json, Settings, Trust  # noqa: TC001
from torch_sla.errors import ArgumentError, SpecError

if TYPE_CHECKING:
    from torch_sla.assembly import Mesh
    from torch_sla.assembly.summary import MeshSummary

__all__ = ["mesh"]

_PROBLEMS = (".yaml", ".yml", ".json")


def mesh(
    file: Annotated[
        Path, typer.Argument(help="Problem as YAML or JSON, or a mesh file.", show_default=False)
    ],
    settings: Settings = None,
    scale: Annotated[
        Optional[float],  # noqa: UP045  (typer reads this at run time)
        typer.Option(help="What the coordinates in a mesh file are multiplied by, as 1e-3."),
    ] = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045  (typer reads this at run time)
        typer.Option("--output", "-o", help="Folder for the mesh as .vtu (to look at) and .npz."),
    ] = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Describe a mesh: sizes, quality of the cells, bodies, tags.

    With -o it is written as .vtu with the quality of cells and their tags, and as .npz, of which the processes of a
    problem in parts each read their share.
    """
    from torch_sla.assembly.summary import mesh_summary

    if output is not None:
        check_folder(output, file.stem)
    found = _mesh_of(file, settings, scale, trust=trust)
    known = mesh_summary(found)
    written = [] if output is None else _written(found, output, file.stem)
    if as_json:
        typer.echo(json.dumps({**known.as_dict(), "files": [str(path) for path in written]}))
        return
    _tell(known)
    for path in written:
        out.print(f"wrote {path}", markup=False)


def _mesh_of(file: Path, settings: list[str] | None, scale: float | None, *, trust: bool) -> Mesh:
    from torch_sla.assembly import Mesh, read_mesh

    if file.suffix.lower() not in _PROBLEMS:
        if settings:
            raise ArgumentError(f"--set changes fields of a problem; {file} is read as a mesh")
        return read_mesh(
            file,
            scale=1.0 if scale is None else scale,
            duplicate_nodes="allow",
            hanging_nodes="allow",
        )
    if scale is not None:
        raise ArgumentError(
            f"--scale is for mesh files; {file} is read as a problem: use --set mesh.scale={scale}"
        )
    problem = read_problem(file, settings, trust=trust)
    found = problem.check()
    if not isinstance(found, Mesh):
        raise SpecError(f"{file} declares a {problem.type} problem, which has no mesh of its own")
    return found


def _written(found: Mesh, folder: Path, stem: str) -> list[Path]:
    import torch

    from torch_sla.assembly import write_mesh
    from torch_sla.assembly.summary import shape_quality

    fields = {"quality": shape_quality(found)}
    for name, cells in found.cell_tags.items():
        fields[name] = torch.zeros(found.n_cells, dtype=torch.float64)
        fields[name][cells] = 1.0
    paths = [folder / f"{stem}.vtu", folder / f"{stem}.npz"]
    write_mesh(paths[0], found, cell_data=fields)
    write_mesh(paths[1], found)
    return paths


def _tell(known: MeshSummary) -> None:
    bodies = "" if known.n_bodies == 1 else f", {known.n_bodies} bodies"
    out.print(
        f"{known.n_cells} {known.cell} cells, {known.n_points} points in {known.dim}D{bodies}"
    )
    box = " x ".join(f"[{a:.6g}, {b:.6g}]" for a, b in zip(known.low, known.high, strict=True))
    what = ("length", "area", "volume")[known.dim - 1]
    out.print(f"  box {box}, {what} {known.measure:.6g}", markup=False)
    out.print(f"  cells from {known.smallest:.3g} to {known.largest:.3g}")
    worst = f"{known.quality:.3g} at worst (cell {known.worst})"
    out.print(f"  quality {worst}, {known.mean_quality:.3g} in the mean; 1 is regular")
    out.print()
    table = Table("tag", "of", "number", "measure", box=None, pad_edge=False, header_style="bold")
    table.add_row("", "boundary", str(known.boundary.count), f"{known.boundary.measure:.6g}")
    for kind, tags in (("cells", known.cell_tags), ("facets", known.facet_tags)):
        for name, tag in tags.items():
            table.add_row(escape(name), kind, str(tag.count), f"{tag.measure:.6g}")
    out.print(table)
