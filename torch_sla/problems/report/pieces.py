"""Solutions in parts to files: a piece from every part, and one file that names them.

The format is the parallel unstructured grid of VTK (``.pvtu``): https://docs.vtk.org/en/latest/vtk_file_formats/
"""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from torch_sla.assembly.mesh import write_mesh
from torch_sla.errors import ArgumentError
from torch_sla.linalg.distributed.halo import Halo
from torch_sla.linalg.distributed.pieces import layout_of_owned
from torch_sla.linalg.sparse.whole import whole
from torch_sla.problems.report.frames import real_parts, said_of
from torch_sla.problems.report.save import finite, how_found, small
from torch_sla.problems.results import marked
from torch_sla.problems.specs.outputs import Field

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from torch_sla.problems.distributed.share import Share
    from torch_sla.problems.distributed.solution import DistributedSolution, SolutionInParts

__all__ = ["Frame", "save_pieces", "summary_of_parts"]

_SECTIONS = {"PointData": "PPointData", "CellData": "PCellData", "Points": "PPoints"}


class Frame(NamedTuple):
    """What a viewer sees at once.

    Parameters
    ----------
    at
        A time, or a number.
    unknowns
        Vectors of the unknowns here ``[n_held]`` by name.
    fields
        `Field` outputs on this process's sites, by name.
    """

    at: float
    unknowns: Mapping[str, Tensor]
    fields: Mapping[str, Tensor]


def save_pieces(solution: Any, path: Path) -> list[Path]:
    """Write a solution in parts; see `DistributedSolution.save`."""
    match path.suffix:
        case ".pvtu":
            return _fields(solution, solution.frames()[-1], path)
        case ".pvd":
            return _series(solution, path)
        case ".json":
            text = json.dumps(summary_of_parts(solution), indent=1) + "\n"
            if not _writes(solution):
                return []
            _write(path, text)
            return [path]
    raise ArgumentError(
        f"path ends in {path.suffix!r}; a solution in parts is saved as {' '.join(solution.endings)} (.json: numbers)"
    )


def _series(solution: DistributedSolution, path: Path) -> list[Path]:
    """Write every frame as one ``.pvtu``, and a file that names them with their times."""
    root = ET.Element("VTKFile", type="Collection", version="0.1", byte_order="LittleEndian")
    collection = ET.SubElement(root, "Collection")
    frames, written = solution.frames(), []
    digits = len(str(max(len(frames) - 1, 1)))
    for i, frame in enumerate(frames):
        one = path.with_name(f"{path.stem}-{i:0{digits}d}.pvtu")
        written += _fields(solution, frame, one)
        at = repr(float(frame.at))
        ET.SubElement(collection, "DataSet", timestep=at, group="", part="0", file=one.name)
    if _writes(solution):
        ET.indent(root)
        text = ET.tostring(root, encoding="unicode")
        _write(path, f'<?xml version="1.0"?>\n{text}\n')
        written.append(path)
    return written


def summary_of_parts(solution: SolutionInParts) -> dict[str, Any]:
    """Return the outputs that are the same everywhere and how they were found; all processes call it together."""
    comm = solution.problem.comm
    outputs = {
        name: small(marked(solution[name].cpu(), solution.info.solved))
        for name in solution
        if name not in solution.numbers
    }
    traffic = torch.tensor(
        [solution.traffic.messages, solution.traffic.bytes], device=solution.problem.device
    )
    messages, size = comm.reduce(traffic).tolist()
    ranges = solution.ranges()
    if solution.info.solved is not None:
        ranges = dict.fromkeys(ranges, (math.nan, math.nan))
    found = {
        "problem": solution.spec.name,
        "type": solution.spec.type,
        "spec_hash": solution.spec.spec_hash,
        "unknowns": solution.problem.unknowns,
        "parts": comm.parts,
        "processes": comm.world,
        "sent": {"messages": messages, "bytes": size},
        "solve": how_found(solution.info),
        **{name: {"min": low, "max": high} for name, (low, high) in ranges.items()},
        "outputs": outputs,
    }
    return {name: finite(value) for name, value in found.items()}


def _writes(solution: SolutionInParts) -> bool:
    """Whether this process writes what is written once: the one that has the first part."""
    return 0 in solution.problem.comm.held


def _fields(solution: DistributedSolution, frame: Frame, path: Path) -> list[Path]:
    division = solution.problem.division
    spread = {n: division.spread(x.detach()) for n, x in frame.unknowns.items()}
    kinds = {o.name: o.on for o in division.spec.outputs if isinstance(o, Field)}
    on_points = {
        name: _at_points(solution, value)
        for name, value in frame.fields.items()
        if kinds[name] == "nodes"
    }
    written = []
    solved = solution.info.solved
    good = solved is None or bool(solved.all())
    offset = 0
    for i, share in enumerate(division.shares):
        n_cells = share.sums.mesh.n_cells
        several = len(share.sums.ranks) > 1
        points = {
            name if several else n: share.sums.at_points(u[i][share.into_sums], name)
            for n, u in spread.items()
            for name in share.sums.ranks
        }
        points |= {name: parts[i] for name, parts in on_points.items()}
        points = {
            n: x for name, value in points.items() for n, x in real_parts(name, value).items()
        }
        cells = {
            name: value.detach()[offset : offset + n_cells]
            for name, value in frame.fields.items()
            if kinds[name] == "cells"
        }
        cells = {n: x for name, value in cells.items() for n, x in real_parts(name, value).items()}
        offset += n_cells
        points = {said_of(n, good): x for n, x in points.items()}
        cells = {said_of(n, good): x for n, x in cells.items()}
        written.append(_piece(path, share.part))
        moved = solution.points
        if moved is not None:
            moved = moved.detach()[_numbers(share).to(moved.device)]
        write_mesh(written[-1], share.sums.mesh, points, cells, moved)
    # The file that names the pieces appears when all of them are there.
    division.comm.reduce(torch.zeros(1, device=division.device))
    if division.filled[0] in division.comm.held:
        names = [_piece(path, p).name for p in division.filled]
        _write(path, _master(written[0], names))
        written.append(path)
    return written


def _piece(path: Path, part: int) -> Path:
    return path.with_name(f"{path.stem}.{part}.vtu")


def _write(path: Path, text: str) -> None:
    with whole(path) as file:
        file.write_text(text, encoding="utf-8")


def _master(piece: Path, names: list[str]) -> str:
    """Name all pieces, and the arrays that one of them has."""
    root = ET.Element("VTKFile", type="PUnstructuredGrid", version="0.1", byte_order="LittleEndian")
    grid = ET.SubElement(root, "PUnstructuredGrid", GhostLevel="0")
    section: ET.Element | None = None
    for event, element in ET.iterparse(piece, events=("start", "end")):
        if event == "start" and element.tag in _SECTIONS:
            section = ET.SubElement(grid, _SECTIONS[element.tag])
        elif event == "start" and element.tag == "DataArray" and section is not None:
            kept = ("type", "Name", "NumberOfComponents")
            ET.SubElement(
                section, "PDataArray", {k: v for k, v in element.attrib.items() if k in kept}
            )
        elif event == "end":
            section = None if element.tag in _SECTIONS else section
            element.clear()
    for name in names:
        ET.SubElement(grid, "Piece", Source=name)
    ET.indent(root)
    return '<?xml version="1.0"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _at_points(solution: DistributedSolution, value: Tensor) -> list[Tensor]:
    """Return a nodal field at all mesh points of every share, those of others fetched."""
    division = solution.problem.division
    comm, none = division.comm, torch.zeros(0, dtype=torch.int64, device=division.device)
    of = {share.part: share.own_points[1] for share in division.shares}
    layout, directory = layout_of_owned(
        comm, [of.get(part, none) for part in comm.held], division.counts["nodes"]
    )
    numbers = [_numbers(share) for share in division.shares]
    every = directory.places(torch.cat([none, *numbers])).long()
    wanted, parts, orders, own = [], [], [], []
    places = every.split([len(n) for n in numbers]) if numbers else ()
    for share, place in zip(division.shares, places, strict=True):
        held = layout.part_slice(share.part)
        mine = (place >= layout.start + held.start) & (place < layout.start + held.stop)
        own.append(mine)
        foreign = torch.nonzero(~mine)[:, 0]
        order = foreign[place[foreign].argsort()]
        orders.append(order)
        wanted.append(place[order])
        parts.append(torch.full_like(order, share.part))
    halo = Halo(layout, torch.cat([none, *wanted]), torch.cat([none, *parts]))
    value = value.detach().to(division.device)
    # A process without cells does not know how many numbers there are at a point.
    numbers_each = torch.tensor([math.prod(value.shape[1:])], device=division.device)
    flat = value.reshape(layout.n_held, int(comm.reduce(numbers_each, "max")))
    ghosts = halo.fetch(flat).split([len(o) for o in orders])
    found = []
    for mine, place, order, ghost in zip(own, places, orders, ghosts, strict=True):
        here = flat.new_empty(len(mine), flat.shape[1])
        here[mine] = flat[place[mine] - layout.start]
        here[order] = ghost
        found.append(here.reshape(len(mine), *value.shape[1:]))
    return found


def _numbers(share: Share) -> Tensor:
    if share.sums.part is None:
        raise ArgumentError("a share is a part of a problem")
    return share.sums.part.numbers["nodes"]
