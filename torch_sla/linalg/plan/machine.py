"""How fast the machine is taken to be: a shipped table, replaced only when somebody says so."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from torch_sla.errors import ArgumentError, PlanError
from torch_sla.linalg.sparse.whole import whole

__all__ = [
    "SHIPPED",
    "VARIABLE",
    "MachineModel",
    "load_machine",
    "machine",
    "read_json",
    "save_machine",
    "use_machine",
]

# Names a file with a table to be used instead of the shipped one.
VARIABLE = "TORCH_SLA_MACHINE"
# Bytes that minimum degree visits again and again, per row and stored entry; how much longer it takes where
# neighbours lie further apart than so many bytes.
_GRAPH, _NEAR, _APART = 12, 1e6, 2.0
# Share of the cache within which all is in it, and beyond which nothing is.
_WITHIN, _BEYOND = 0.7, 1.4
# Bytes that a process has at hand: touched before, and not given back yet.
_AT_HAND = 1e8
# Beyond any figure.
_MOST = 1e300


@dataclass(frozen=True)
class MachineModel:
    """Speeds of one kind of device that a plan counts with.

    The figures rank candidates, the same way on every run; they follow the clock of the machine they
    were measured on, one thread, double precision. ``torch-sla calibrate`` measures others.

    Parameters
    ----------
    name
        Where the figures come from.
    bandwidth, cached, cache
        Bytes per second that a sparse matrix-vector product streams from memory, from the cache, and
        how many bytes that holds.
    row
        Seconds that a product loses per row where rows differ in length.
    call, launch
        Seconds of overhead of one vector operation issued from Python, and of one kernel of a solver
        that lives on a device.
    page
        Seconds per byte of touching memory for the first time, beyond what a process has at hand.
    front, entry, flop
        Seconds of a supernodal factorisation per front, per stored entry of the factor and per flop
        (a multiplication with an addition).
    scalar_entry, scalar_flop
        Seconds of a factorisation without supernodes, likewise.
    lu_entry, lu_flop
        Seconds of a sparse LU factorisation, per entry of both factors and per flop of the symmetric
        factorisation on the same ordering.
    ordering, dissection
        Seconds per row and stored entry of an analysis with minimum degree, in the cache, and per entry
        and level of nested dissection.
    coarsening, cycle
        Seconds per stored entry (of all levels) to set up aggregation multigrid on a mesh without
        order, and of one iteration with it, in the cache.
    lattice_coarsening, lattice_cycle
        The same on a lattice.
    solve
        Seconds of a solve whatever the size: looking up what is kept, judging the result. The first of all
        takes twice that.
    memory
        Bytes that a solve may take where nothing else is known.
    """

    name: str = "AMD EPYC (x86-64, AVX-512), one core, November 2026"
    bandwidth: float = 1.8e10
    cached: float = 3.0e10
    cache: float = 3.3e7
    row: float = 6e-9
    call: float = 4e-6
    launch: float = 1e-7
    page: float = 1.5e-9
    front: float = 7e-7
    entry: float = 3e-9
    flop: float = 1.9e-11
    scalar_entry: float = 5e-9
    scalar_flop: float = 4.5e-10
    lu_entry: float = 1.8e-8
    lu_flop: float = 8e-11
    ordering: float = 4e-8
    dissection: float = 1e-7
    coarsening: float = 8e-8
    cycle: float = 6e-9
    lattice_coarsening: float = 7e-9
    lattice_cycle: float = 7.2e-10
    solve: float = 5e-4
    memory: float = 16e9

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "name":
                if not isinstance(value, str):
                    raise ArgumentError(f"`name` of a machine model must be a word, got {value!r}")
            elif (
                isinstance(value, bool)
                or not isinstance(value, (int, float))
                or not 0 < value <= _MOST
            ):
                raise ArgumentError(
                    f"`{f.name}` of a machine model must be a positive number, got {value!r}"
                )

    def stream(self, nbytes: float, held: float | None = None) -> float:
        """Seconds of reading or writing so many bytes, of `held` ones (as many) that are used again and again."""
        held = nbytes if held is None else held
        return nbytes / self.cached * self.slowdown(held)

    def slowdown(self, nbytes: float) -> float:
        """How much slower work on this many bytes is than in the cache; between the two, part of it misses."""
        outside = (nbytes / self.cache - _WITHIN) / (_BEYOND - _WITHIN)
        most = max(1.0, self.cached / self.bandwidth)
        return 1.0 + (most - 1.0) * min(max(outside, 0.0), 1.0)

    def touch(self, nbytes: float) -> float:
        """Seconds of touching so much memory for the first time."""
        return self.page * max(0.0, nbytes - _AT_HAND)

    def order(self, n: float, nnz: float, spread: float = 0.0) -> float:
        """Seconds of an analysis with minimum degree of a graph whose neighbours lie `spread` rows apart.

        Where neighbours are not near each other its reads wait, beyond the cache longer than those in a stream.
        """
        graph, reach = _GRAPH * (n + nnz), _GRAPH * (n + nnz) / max(n, 1.0) * spread
        apart = 1.0 if reach < _NEAR else _APART * self.slowdown(graph) ** 2
        return (n + nnz) * self.ordering * apart

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], device: str = "cpu") -> MachineModel:
        """Read what `to_dict` wrote; fields that are left out keep the shipped figures of the device type.

        Raises
        ------
        ArgumentError
            When a field is unknown or not a positive number.
        """
        known = [f.name for f in fields(cls)]
        unknown = sorted(set(data) - set(known))
        if unknown:
            raise ArgumentError(f"a machine model has no {unknown[0]!r}; it has {', '.join(known)}")
        return replace(SHIPPED.get(device, cls()), **data)


SHIPPED: dict[str, MachineModel] = {
    "cpu": MachineModel(),
    # Measured, by benchmarks/gpu.
    "cuda": MachineModel(
        name="NVIDIA H200, torch 2.11, CUDA 13.0, November 2026",
        bandwidth=3.4e12,
        cached=3.4e12,
        cache=5e7,
        row=1e-11,
        call=8e-6,
        launch=3e-6,
        page=1e-12,
        front=1e-9,
        entry=1e-9,
        flop=5e-13,
        ordering=2.5e-7,
        coarsening=7e-10,
        cycle=3.5e-11,
        lattice_coarsening=8e-11,
        lattice_cycle=1.1e-11,
        solve=3e-3,
        memory=120e9,
    ),
}


class _Chosen:
    """The table in force, process-wide."""

    table: dict[str, MachineModel] | None = None


@cache
def _from_environment(path: str) -> dict[str, MachineModel]:
    return load_machine(path)


def machine(device: str = "cpu") -> MachineModel:
    """Return the figures plans count with for a device type.

    The table is the one given to `use_machine`, else the one in the file that the environment
    variable ``TORCH_SLA_MACHINE`` names, else the shipped one.

    Examples
    --------
    >>> machine("cpu").bandwidth > 1e9
    True
    """
    table = _Chosen.table
    if table is None:
        path = os.environ.get(VARIABLE)
        table = SHIPPED if not path else _from_environment(path)
    return table.get(device) or SHIPPED.get(device) or SHIPPED["cpu"]


def use_machine(
    source: str | os.PathLike[str] | MachineModel | Mapping[str, MachineModel] | None,
) -> None:
    """Make plans count with other figures from now on, in this process.

    Parameters
    ----------
    source
        A file written by ``torch-sla calibrate`` or `save_machine`, figures for the CPU, a mapping
        from device types to figures, or None for what there was at the start.

    Raises
    ------
    PlanError, ArgumentError
        When a file cannot be read, or is no table of machine models.

    Examples
    --------
    >>> use_machine(MachineModel(bandwidth=2e10))
    >>> machine().bandwidth
    20000000000.0
    >>> use_machine(None)
    """
    if source is None:
        _Chosen.table = None
    elif isinstance(source, MachineModel):
        _Chosen.table = {**SHIPPED, "cpu": source}
    elif isinstance(source, (str, os.PathLike)):
        _Chosen.table = load_machine(source)
    else:
        _Chosen.table = _table(source)


def load_machine(path: str | os.PathLike[str]) -> dict[str, MachineModel]:
    """Read a table of machine models, by device type.

    Raises
    ------
    PlanError
        When the file cannot be read or is not such a table.
    ArgumentError
        When a field is unknown or not a positive number.
    """
    try:
        data = read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise PlanError(f"the machine model {os.fspath(path)!r} cannot be read: {error}") from None
    if not isinstance(data, dict) or not all(isinstance(v, dict) for v in data.values()):
        raise PlanError(
            f"{os.fspath(path)!r} is no table of machine models: it must map device types to figures"
        )
    return _table({k: MachineModel.from_dict(v, k) for k, v in data.items()})


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file in which no object has a key twice; of two figures Python would take the last.

    Raises
    ------
    OSError, ValueError, RecursionError
        When it cannot be read.
    """
    return json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} is there twice")
        found[key] = value
    return found


def _table(given: object) -> dict[str, MachineModel]:
    """Put figures in the place of shipped ones; those of a device that is none would never be used."""
    if not isinstance(given, Mapping) or not all(
        isinstance(m, MachineModel) for m in given.values()
    ):
        raise ArgumentError(
            f"a table of machine models maps device types to `MachineModel`s, got {given!r}"
        )
    unknown = [device for device in given if device not in SHIPPED]
    if unknown:
        raise ArgumentError(
            f"no plan looks at figures of a device {unknown[0]!r}; there are {', '.join(SHIPPED)}"
        )
    return {**SHIPPED, **given}


def save_machine(path: str | os.PathLike[str], table: Mapping[str, MachineModel]) -> None:
    """Write a table of machine models as JSON, for `use_machine` and ``TORCH_SLA_MACHINE``."""
    data = {device: model.to_dict() for device, model in table.items()}
    with whole(path) as file:
        file.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
