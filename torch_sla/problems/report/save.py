"""Solutions to files."""

from __future__ import annotations

import json
import math
import platform
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.assembly.mesh import write_mesh, write_series
from torch_sla.errors import ArgumentError
from torch_sla.linalg.eigen.convention import SEED
from torch_sla.linalg.sparse.whole import whole
from torch_sla.problems.analyses.analysis import frame_of
from torch_sla.problems.identity import versions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch_sla.linalg import SolveInfo
    from torch_sla.problems.results import Named
    from torch_sla.problems.solution import Solution

__all__ = [
    "finite",
    "hides",
    "identity",
    "save",
    "save_series",
    "summary",
    "unknowns",
    "write_arrays",
    "write_json",
]

_SHOWN = 64


def save(solution: Solution, path: Path) -> None:
    """Write a solution; see `Solution.save`."""
    match path.suffix:
        case ".vtu" | ".vtk":
            _fields(solution, path)
        case ".pvd" | ".xdmf":
            save_series(solution, path)
        case ".npz":
            write_arrays(path, solution, {"points": solution.points})
        case ".json":
            write_json(path, summary(solution))
        case suffix:
            raise ArgumentError(
                f"path ends in {suffix!r}; a solution is saved as .vtu, .vtk (fields), .pvd, .xdmf (fields over time, "
                "modes, cases, members), .npz (arrays) or .json (numbers)"
            )


def write_json(path: Path, found: Mapping[str, Any]) -> None:
    """Write numbers as JSON."""
    with whole(path) as file:
        file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def write_arrays(path: Path, solution: Named, more: Mapping[str, Tensor] | None = None) -> None:
    """Write outputs and fields as ``.npz``, with what identifies them and `more`, whose names come second."""
    found = {**(more or {}), **solution.fields, **solution.outputs}
    arrays = {name: value.detach().cpu().numpy() for name, value in found.items()}
    if solution.info.solved is not None:
        arrays.setdefault("solved", solution.info.solved.expand(solution.members).numpy())
    arrays.setdefault("identity", np.array(json.dumps(identity(solution))))
    with whole(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        # `np.savez` cannot hold an array that is called as one of its arguments is.
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)


def save_series(result: Any, path: Path) -> None:
    """Write all frames of a result: times, modes, cases, members of a batch; of a steady one the only one."""
    from torch_sla.problems.report.frames import frames_of

    frames = frames_of(result, full=True)
    if frames.points.ndim > 2:
        raise ArgumentError(
            f"each member has a mesh of its own, and {path.suffix} shares one among them; save .npz, or one by one"
        )
    every = ((at, *frames.frame(i)) for i, at in enumerate(frames.at))
    write_series(path, frames.mesh, every, points=frames.points)


def identity(solution: Named) -> dict[str, Any]:
    """Return what identifies a result: the declaration, the structure, versions and seed.

    Nothing random reaches a result but the starts of iterations for eigenvalues, which have one seed.
    """
    return {
        "spec_hash": solution.spec_hash,
        "structural_hash": solution.model.compiled.key,
        "versions": {**versions(), "python": platform.python_version()},
        "seed": SEED,
    }


def how_found(info: SolveInfo) -> dict[str, Any]:
    """Return what a report says of a solve."""
    return {
        "result": info.result.name.lower(),
        "backend": info.backend,
        "method": info.method,
        "preconditioner": info.preconditioner,
        "iterations": info.iterations,
        "residual": info.residual,
        "notes": list(info.notes),
    }


def small(value: Tensor) -> Any:
    """Return the numbers of an output, or their shape where there are too many to read."""
    return {"shape": list(value.shape)} if hides(value) else plain(value)


def hides(value: Tensor) -> bool:
    """Return whether `small` tells the shape of an output instead of its numbers."""
    return value.numel() > _SHOWN


def summary(solution: Named) -> dict[str, Any]:
    """Return the small outputs, how they were found, and what identifies them."""
    found = {
        "problem": solution.spec.name,
        "type": solution.spec.type,
        **identity(solution),
        **({"unknowns": unknowns(solution)} if solution.fields else {}),
        "solve": how_found(solution.info),
        **{name: _range(solution.told(value)) for name, value in solution.fields.items()},
        "outputs": {name: small(solution.told(value)) for name, value in solution.outputs.items()},
        **(
            {"events": {n: plain(when) for n, when in solution.events.items()}}
            if solution.events
            else {}
        ),
    }
    return {name: finite(value) for name, value in found.items()}


def finite(found: Any) -> Any:
    """Put None where a number is none, as for an event that never happened: JSON has no other word for it."""
    if isinstance(found, dict):
        return {name: finite(value) for name, value in found.items()}
    if isinstance(found, list):
        return [finite(value) for value in found]
    return None if isinstance(found, float) and not math.isfinite(found) else found


def unknowns(solution: Named) -> int:
    """Return how many one system has, whatever the numbers of modes, times, cases and members."""
    if (frame := frame_of(solution.model)) is not None:
        return frame.numbering.n
    if "modes" in solution.fields:
        return solution.fields["modes"].shape[-1]
    members = math.prod(getattr(solution, "batch", ())) * len(getattr(solution, "cases", " "))
    return sum(value.numel() for value in solution.fields.values()) // members


def _fields(solution: Solution, path: Path) -> None:
    """Write one state, in time the last."""
    from torch_sla.problems.report.frames import frames_of, real_parts, said_of

    model = solution.model
    batch = solution.batch
    if batch:
        raise ArgumentError(
            f"u has batch dimensions {list(batch)}, and {path.suffix} holds one member; save .npz, or "
            "solve for one member"
        )
    frames = frames_of(solution, full=True)
    nodal, cellwise = frames.frame(-1)
    good = frames.solved is None or frames.solved[-1]
    for name in solution.fields:
        parts = real_parts(name, model.at_points(solution.flat, name, full=True))
        nodal = {said_of(part, good): value for part, value in parts.items()} | nodal
    write_mesh(path, frames.mesh, nodal, cellwise, points=frames.points)


def plain(value: Tensor) -> Any:
    """Return numbers as JSON has them; a complex one is a pair."""
    value = value.detach().cpu()
    return torch.view_as_real(value).tolist() if value.is_complex() else value.tolist()


def _range(value: Tensor) -> dict[str, float]:
    size = value.abs() if value.is_complex() else value
    return {"min": float(size.min()), "max": float(size.max())}
