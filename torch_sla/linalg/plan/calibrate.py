"""Measuring the figures that plans count with, in seconds."""

from __future__ import annotations

import gc
import mmap
import platform
import time
from dataclasses import replace
from datetime import date
from functools import partial
from math import log2
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from torch_sla.linalg.kernels import cholesky, eigen, sparse as kernels, symbolic, unavailable
from torch_sla.linalg.kernels.memory import total_bytes
from torch_sla.linalg.plan.machine import SHIPPED, MachineModel
from torch_sla.linalg.sparse.pattern import Pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

__all__ = ["calibrate"]

# Of the mesh without order.
_NODES = 25_000
# Bytes that are touched for the first time.
_TOUCHED = 1 << 28


def calibrate(
    *, rounds: int = 3, progress: Callable[[str], None] | None = None
) -> dict[str, MachineModel]:
    """Measure the processor on small grids, one thread, in a few seconds.

    Nothing changes by itself: give the table to `use_machine`, or save it and name the file in
    ``TORCH_SLA_MACHINE``.

    Parameters
    ----------
    rounds
        Repetitions of each measurement, of which the best counts.
    progress
        Called with the name of each part before it starts.

    Returns
    -------
    dict
        Figures by device type: ``"cpu"`` measured, others as shipped.
    """
    told = progress or _silent
    found: dict[str, float] = {}
    told("memory traffic")
    found.update(_traffic(rounds))
    if unavailable() is None:
        told("supernodal factorisation")
        found.update(_supernodal(rounds))
        told("scalar factorisation")
        found.update(_simplicial(rounds))
        told("multigrid")
        found.update(_multigrid(rounds))
    told("sparse LU")
    found.update(_lu(rounds))
    name = f"{_processor()}, one thread, {date.today().isoformat()}"
    model = replace(SHIPPED["cpu"], name=name, memory=float(total_bytes()), **found)
    return {**SHIPPED, "cpu": model}


def _silent(_: str) -> None:
    """Tell nobody."""


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        if models:
            return models[0]
    return platform.processor() or platform.machine()


def _grid(*cells: int, flow: float = 0.0) -> tuple[Pattern, Tensor]:
    """Return the Laplacian of a grid, with a wind along its first axis."""
    strides = np.cumprod((1, *cells[::-1]))[:-1][::-1]
    index = np.arange(int(np.prod(cells)), dtype=np.int64).reshape(cells)
    rows, cols, values = (
        [index.ravel()],
        [index.ravel()],
        [np.full(index.size, 2.0 * len(cells) + flow)],
    )
    for axis, stride in enumerate(strides):
        here = np.delete(index, -1, axis=axis).ravel()
        rows += [here, here + stride]
        cols += [here + stride, here]
        upwind = flow if axis == 0 else 0.0
        values += [np.full(here.size, -1.0), np.full(here.size, -1.0 - upwind)]
    row, col, entries = (torch.from_numpy(np.concatenate(part)) for part in (rows, cols, values))
    pattern = Pattern.from_coo(row, col, (index.size, index.size))
    return pattern.slots, pattern.coalesce(entries)


def _mesh(nodes: int) -> tuple[Pattern, Tensor]:
    """Return the graph Laplacian of a triangulation of random points, numbered cell by cell."""
    from scipy.spatial import Delaunay

    points = np.random.default_rng(5).random((nodes, 2))
    cells = np.floor(points * 40).astype(np.int64)
    corners = Delaunay(points[np.lexsort(cells.T)]).simplices.astype(np.int64)
    here, there = corners.ravel(), corners[:, [1, 2, 0]].ravel()
    ends = np.unique(np.sort(np.stack([here, there]), axis=0), axis=1)
    degree = np.bincount(ends.ravel(), minlength=nodes) + 1e-3
    one, nodal = np.ones(ends.shape[1]), np.arange(nodes)
    row, col = (np.concatenate([ends[k], ends[1 - k], nodal]) for k in (0, 1))
    entries = np.concatenate([-one, -one, degree])
    pattern = Pattern.from_coo(torch.from_numpy(row), torch.from_numpy(col), (nodes, nodes))
    return pattern.slots, pattern.coalesce(torch.from_numpy(entries))


def _best(function: Callable[[], object], rounds: int) -> float:
    """Best time, collections of garbage kept out; of the processor where its clock is fine enough.

    Other work on the machine then matters less.
    """
    best = float("inf")
    fine = time.get_clock_info("process_time").resolution < 1e-5
    clock = time.process_time if fine else time.perf_counter
    enabled = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            start = clock()
            function()
            best = min(best, clock() - start)
    finally:
        if enabled:
            gc.enable()
    return best


def _fit(
    rows: Sequence[tuple[float, ...]], times: list[float], names: tuple[str, ...]
) -> dict[str, float]:
    """Fit times by nonnegative figures, each time with the same relative weight."""
    from scipy.optimize import nnls

    matrix = np.array(rows) / np.array(times)[:, None]
    scale = matrix.max(axis=0)
    figures, _ = nnls(matrix / scale, np.ones(len(times)))
    # A part too small to be seen must not become free.
    least = 0.02 / scale
    return dict(zip(names, np.maximum(figures / scale, least).tolist(), strict=True))


def _traffic(rounds: int) -> dict[str, float]:
    out: dict[str, float] = {}
    for name, edge in (("cached", 250), ("bandwidth", 1100)):
        pattern, values = _grid(edge, edge)
        x = torch.ones(pattern.shape[0], 1, dtype=values.dtype)

        def multiply(p: Pattern = pattern, v: Tensor = values, x: Tensor = x) -> Tensor:
            return kernels.spmm(p.crow, p.ccol, v, x, threads=1)

        moved = pattern.nnz_csr * 12 + pattern.shape[0] * (4 + 16)
        out[name] = moved / _best(multiply, 3 * rounds)
    small = torch.ones(100, dtype=torch.float64)

    def calls() -> None:
        for _ in range(1000):
            torch.add(small, small)

    pattern, values = _mesh(_NODES)
    x = torch.ones(_NODES, 1, dtype=values.dtype)
    seconds = _best(
        lambda: kernels.spmm(pattern.crow, pattern.ccol, values, x, threads=1), 3 * rounds
    )
    lost = seconds - (pattern.nnz_csr * 12 + _NODES * (4 + 16)) / out["cached"]
    out["row"] = max(lost / _NODES, 1e-10)
    out |= {"call": 4 * _best(calls, rounds) / 1000, "cache": _cache_bytes()}
    return {**out, "page": _first_touch()}


def _first_touch() -> float:
    """Seconds per byte of writing to memory that nobody has written to, more than to memory that somebody has."""
    with mmap.mmap(-1, _TOUCHED) as fresh:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            fresh.madvise(mmap.MADV_HUGEPAGE)

        def write() -> None:
            np.frombuffer(fresh, dtype=np.float64).fill(1.0)

        first, again = _best(write, 1), _best(write, 1)
    return max(first - again, 1e-3 * first) / _TOUCHED


def _cache_bytes() -> float:
    """Bytes of the largest cache, as Linux tells; the shipped figure elsewhere."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text(encoding="ascii").strip()
        if text[-1:] in units and text[:-1].isdigit():
            sizes.append(float(int(text[:-1]) * units[text[-1]]))
    return max(sizes, default=SHIPPED["cpu"].cache)


def _supernodal(rounds: int) -> dict[str, float]:
    rows, times, analyses, kept = [], [], [], []
    for cells in ((60, 60), (200, 200), (350, 350), (12, 12, 12), (22, 22, 22)):
        pattern, values = _grid(*cells)

        def analyze(pattern: Pattern = pattern) -> symbolic.Analysis:
            return symbolic.analyze(pattern.crow, pattern.ccol, ordering="amd", threads=1)

        a = analyze()
        entries = a.factor_bytes(torch.float64) / 8
        rows.append((a.supernodes, entries, a.front_flops))

        def factorize(a: symbolic.Analysis = a, values: Tensor = values) -> None:
            # Kept, so that each finds fresh pages, as it does in use.
            kept.append(cholesky.factorize(a, values, threads=1))

        times.append(_best(factorize, rounds + 1))
        if len(cells) == 2:
            analyses.append(_best(analyze, rounds) / (pattern.shape[0] + pattern.nnz_csr))
    pattern, _ = _grid(120, 120)
    seconds = _best(
        lambda: symbolic.analyze(pattern.crow, pattern.ccol, ordering="dissection", threads=1), 1
    )
    levels = log2(pattern.shape[0] / 300)
    return {
        **_fit(rows, times, ("front", "entry", "flop")),
        "ordering": max(analyses),
        "dissection": seconds / (pattern.nnz_csr * levels),
    }


def _simplicial(rounds: int) -> dict[str, float]:
    rows, times = [], []
    for cells in ((100, 100), (250, 250), (14, 14, 14), (21, 21, 21)):
        pattern, values = _grid(*cells)
        counted = symbolic.analyze(pattern.crow, pattern.ccol, ordering="amd", threads=1)
        found = eigen.analyze("llt", pattern.crow, pattern.ccol)
        rows.append((counted.factor_nnz, counted.flops))
        times.append(_best(partial(found.factorize, values), min(rounds, 2)))
    return _fit(rows, times, ("scalar_entry", "scalar_flop"))


def _lu(rounds: int) -> dict[str, float]:
    from scipy.sparse import csc_array
    from scipy.sparse.linalg import splu

    rows, times = [], []
    for cells in ((100, 100), (200, 200), (14, 14, 14), (21, 21, 21)):
        pattern, values = _grid(*cells, flow=3.0)
        parts = (values.numpy(), pattern.ccol.numpy(), pattern.crow.numpy())
        matrix = csc_array(parts, shape=pattern.shape)
        a, order = None, "COLAMD"
        if unavailable() is None:
            a = symbolic.analyze(pattern.crow, pattern.ccol, ordering="amd", threads=1)
            matrix, order = matrix[a.order.numpy()][:, a.order.numpy()].tocsc(), "NATURAL"
        factorize = partial(splu, matrix, permc_spec=order, diag_pivot_thresh=0.1)
        nnz = float(factorize().nnz)
        rows.append((nnz, nnz**1.5 if a is None else a.flops))
        times.append(_best(factorize, min(rounds, 2)))
    return _fit(rows, times, ("lu_entry", "lu_flop"))


def _multigrid(rounds: int) -> dict[str, float]:
    from torch_sla.linalg.precond.multigrid.hierarchy import Hierarchy
    from torch_sla.linalg.precond.multigrid.options import AMG

    out: dict[str, float] = {}
    for method, prefix in (("smoothed_aggregation", ""), ("lattice", "lattice_")):
        rows, setups, steps = [], [], []
        grids = [_grid(300, 300), _grid(35, 35, 35)] if prefix else [_mesh(_NODES)]
        for pattern, values in grids:
            options = AMG(method=method, threads=1)  # type: ignore[arg-type]
            hierarchy = Hierarchy(pattern, values, options)
            entries = sum(level.nonzeros for level in hierarchy.levels)
            b = torch.ones(pattern.shape[0], 1, dtype=values.dtype)
            counted = hierarchy.cg(values, b)
            rows.append(entries)
            seconds = _best(partial(hierarchy.cg, values, b), rounds)
            steps.append(seconds / max(counted.iterations, 1))
            setups.append(_best(partial(Hierarchy, pattern, values, options), rounds))
        out[f"{prefix}coarsening"] = float(np.mean(np.array(setups) / rows))
        out[f"{prefix}cycle"] = float(np.mean(np.array(steps) / rows))
    return out
