"""Where work happens: a rule on facts that weighs transfer and overhead against size."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import torch

from torch_sla.errors import PlanError
from torch_sla.linalg.backends.registry import backend

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch_sla.assembly import Mesh
    from torch_sla.problems.lowering.compiled import Unknown
    from torch_sla.problems.specs.value import Parameter

__all__ = [
    "DeviceFacts",
    "Placement",
    "about",
    "facts_here",
    "place",
    "solver_device",
    "travelling",
]

# Seconds of a solve with its gradient on a structure that is compiled: fixed, and per unknown. Of a Poisson
# problem in 2D on an H200 and one of its host's processors (benchmarks/gpu/RESULTS.md); in 3D and for vectors
# a processor does worse, so the rule errs to its side.
_CPU, _CPU_UNKNOWN = 5e-3, 1.0e-6
_CUDA, _CUDA_UNKNOWN = 15e-3, 0.01e-6
# Bytes per second across the bus, and seconds to begin a transfer.
_BUS, _TRANSFER = 1.2e10, 2e-5
# How many times faster it has to be, for the figures are of other machines and the first solve costs more.
_MARGIN = 2.0
# Bytes of a factorisation and its tangent per unknown, and the share of the memory it may take.
_BYTES, _SHARE = 4000, 0.5

_HOST = frozenset({"scipy", "eigen", "native"})
_DEVICE = frozenset({"cudss", "cusolver"})


@dataclass(frozen=True)
class DeviceFacts:
    """What the choice depends on.

    Parameters
    ----------
    unknowns
        About how many; None where no mesh says.
    travelling
        Bytes that cross the bus in each solve: parameters in, fields out, and back for gradients.
    definite
        Whether the matrix is known to be positive definite, so that iterative methods serve.
    backend
        The backend asked for, or ``"auto"``.
    unusable
        Why CUDA cannot be used; None when it can.
    memory
        Bytes the GPU has.
    direct
        Whether a sparse direct solver is there on the GPU.
    """

    unknowns: int | None
    travelling: int = 0
    definite: bool = False
    backend: str = "auto"
    unusable: str | None = None
    memory: int = 0
    direct: bool = False


@dataclass(frozen=True)
class Placement:
    """The choice, and why; prints as ``cuda (auto: ...)``."""

    device: str
    reason: str

    def __str__(self) -> str:
        return f"{self.device} ({self.reason})"


def place(facts: DeviceFacts) -> Placement:
    """Choose the device of ``device: auto``.

    Examples
    --------
    >>> print(place(DeviceFacts(66_049, 2_000_000, True, memory=80 << 30, direct=True)))
    cuda (auto: 66049 unknowns take about 16 ms there, 0.2 ms of it transfer, and 71 ms on the cpu)
    >>> place(DeviceFacts(4_225, 100_000, True, memory=80 << 30, direct=True)).device
    'cpu'
    """
    n = facts.unknowns
    if facts.unusable is not None:
        return Placement("cpu", f"auto: {facts.unusable}")
    if facts.backend in _HOST:
        return Placement("cpu", f"auto: {facts.backend} works there")
    if facts.backend in _DEVICE:
        return Placement("cuda", f"auto: {facts.backend} works there")
    if n is None:
        return Placement("cpu", "auto: without a mesh the size is not known before values are")
    if not (facts.direct or facts.definite):
        why = "the matrix may need a direct solver, and there is none for the GPU: install cuDSS"
        return Placement("cpu", f"auto: {why}")
    if n * _BYTES > _SHARE * facts.memory:
        return Placement(
            "cpu", f"auto: {n} unknowns may not fit into {facts.memory / 2**30:.0f} GiB"
        )
    transfer = 2 * _TRANSFER + facts.travelling / _BUS
    there = _CUDA + _CUDA_UNKNOWN * n + transfer
    here = _CPU + _CPU_UNKNOWN * n
    times = f"{n} unknowns take about {1e3 * there:.0f} ms there, {1e3 * transfer:.1f} ms of it transfer"
    if _MARGIN * there < here:
        return Placement("cuda", f"auto: {times}, and {1e3 * here:.0f} ms on the cpu")
    there_text = times.replace(" there", " on the GPU")
    return Placement("cpu", f"auto: {there_text}, and {1e3 * here:.0f} ms here")


def about(mesh: Mesh, unknowns: Iterable[Unknown]) -> int:
    """Return about how many unknowns there are, before they are numbered."""
    straight = mesh.cells.shape[1] == mesh.reference.n_vertices
    return sum(
        mesh.n_points * max(u.components, 1) * (2**mesh.dim if u.order == 2 and straight else 1)
        for u in unknowns
    )


def travelling(mesh: Mesh, parameters: Iterable[Parameter], unknowns: int, itemsize: int) -> int:
    """Return the bytes of parameters in, fields out, and the same back for gradients."""
    homes = {
        "constant": 1,
        "cells": mesh.n_cells,
        "facets": mesh.n_facets,
        "nodes": mesh.n_points,
        "quadrature": 4 * mesh.n_cells,
    }
    numbers: int = sum(homes[p.on] * prod(p.shape) for p in parameters)
    return 2 * itemsize * (numbers + unknowns)


def facts_here(
    unknowns: int | None, travelling: int, *, definite: bool, wanted: str
) -> DeviceFacts:
    """Gather the facts of this machine."""
    if not torch.cuda.is_available():
        why = "no CUDA device can be used here"
        return DeviceFacts(unknowns, travelling, definite, wanted, unusable=why)
    return DeviceFacts(
        unknowns,
        travelling,
        definite,
        wanted,
        memory=int(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory),
        direct=backend("cudss").unavailable() is None,
    )


def solver_device(
    name: str, unknowns: int | None, travelling: int, *, definite: bool, backend: str
) -> tuple[torch.device, Placement]:
    """Return where work happens, and why.

    Raises
    ------
    PlanError
        If CUDA is asked for and cannot be used.
    """
    if name == "auto":
        facts = facts_here(unknowns, travelling, definite=definite, wanted=backend)
        placement = place(facts)
    else:
        placement = Placement(name, "as asked")
    if placement.device == "cpu":
        return torch.device("cpu"), placement
    if not torch.cuda.is_available():
        why = (
            "no CUDA device is visible"
            if torch.version.cuda
            else "this torch is built without CUDA"
        )
        raise PlanError(f"solver.device: 'cuda' cannot be used here: {why}; use 'cpu'")
    return torch.device("cuda", torch.cuda.current_device()), placement
