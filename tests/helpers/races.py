"""Faults of Triton's kernels that running them program by program hides, found while its interpreter does so.

Every access of a launch is noted. Programs run in any order and at once on a card, so none may touch what another one
stores; nor, between two barriers, a thread what another thread of its program stores. Elements of a tensor are taken
for threads, and a number by itself for one that all threads load and the first one stores.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

__all__ = ["Launch", "found", "install"]

# What is meant: atomic maxima that are only asked for where they may change something; a counter that is read in turns
# that ignore it; and row pointers of coordinates in disorder, which are thrown away.
_MEANT = {
    ("_row_kernel", "found", "loads what others add to"),
    ("_decide", "left", "loads what others add to"),
    ("_rows_kernel", "crow", "stores what another program stores"),
    ("_rows_kernel", "crow", "stores one place from two threads"),
    ("_rows_kernel", "crow", "stores what another thread stores"),
}
_faults: set[str] = set()


class _Access(NamedTuple):
    """Elements of one load, store or atomic operation of a program that are not masked."""

    kind: str
    address: npt.NDArray[np.int64]
    thread: npt.NDArray[np.int64]
    threads: int  # 1 for a number by itself
    value: npt.NDArray[Any]


class Launch:
    """What the programs of one launch do.

    Parameters
    ----------
    kernel
        Its name.

    Attributes
    ----------
    ranges
        First byte of each tensor that it is given, and the first after it, by the names of its arguments.
    """

    def __init__(self, kernel: str) -> None:
        self.kernel = kernel
        self.ranges: dict[str, tuple[int, int]] = {}
        self._program = self._section = 0
        self._done: defaultdict[tuple[int, int], list[_Access]] = defaultdict(list)
        self.faults: set[tuple[str, str, str]] = set()

    def begin(self) -> None:
        """Go on to the next program."""
        self._program, self._section = self._program + 1, 0

    def barrier(self) -> None:
        """All threads of the program have come so far."""
        self._section += 1

    def note(self, kind: str, pointers: Any, mask: Any, value: Any, itemsize: int) -> None:
        """Take down an access, and that it stays within the tensors."""
        there = np.broadcast_to(np.asarray(mask, bool), pointers.shape)
        address = pointers[there].astype(np.int64)
        inside = np.zeros(len(address), bool)
        for first, end in self.ranges.values():
            inside |= (address >= first) & (address + itemsize <= end)
        if not inside.all():
            self.faults.add((self.kernel, "", f"a {kind} beyond its tensors"))
        thread = np.arange(pointers.size).reshape(pointers.shape)[there]
        values = np.zeros(0) if value is None else np.broadcast_to(value, pointers.shape)[there]
        access = _Access(kind, address, thread, pointers.size, values)
        self._done[self._program, self._section].append(access)

    def end(self) -> set[tuple[str, str, str]]:
        """Return kernel, argument and fault of everything that is wrong."""
        self._between_programs()
        for accesses in self._done.values():
            for i, access in enumerate(accesses):
                self._within(access, accesses[:i])
        return self.faults - _MEANT

    def _all(self, kind: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Addresses of a kind of access, and their programs."""
        own = [(a, p) for (p, _), done in self._done.items() for a in done if a.kind == kind]
        program = [np.full(len(a.address), p) for a, p in own]
        empty = np.zeros(0, np.int64)
        return np.concatenate([empty, *(a.address for a, _ in own)]), np.concatenate(
            [empty, *program]
        )

    def _between_programs(self) -> None:
        stores, loads, sums = (self._all(kind) for kind in ("store", "load", "atomic"))
        for seen, by, fault in (
            (stores, stores, "stores what another program stores"),
            (loads, stores, "loads what another program stores"),
            (sums, stores, "adds to what another program stores"),
            (loads, sums, "loads what others add to"),
        ):
            if not by[0].size or not seen[0].size:
                continue
            place, where = np.unique(by[0], return_inverse=True)
            lowest, highest = np.full(len(place), np.iinfo(np.int64).max), np.zeros_like(place)
            np.minimum.at(lowest, where, by[1])
            np.maximum.at(highest, where, by[1])
            k = np.searchsorted(place, seen[0]).clip(max=len(place) - 1)
            other = (place[k] == seen[0]) & ((lowest[k] != seen[1]) | (highest[k] != seen[1]))
            self._blame(fault, seen[0][other])

    def _within(self, access: _Access, before: Sequence[_Access]) -> None:
        """Compare an access with those since the last barrier."""
        if access.kind == "store":
            order = np.argsort(access.address, kind="stable")
            twice = np.diff(access.address[order]) == 0
            differs = access.value[order][1:] != access.value[order][:-1]
            self._blame(
                "stores one place from two threads", access.address[order][1:][twice & differs]
            )
        for other in before:
            if "store" not in (access.kind, other.kind):
                continue
            same, i, k = np.intersect1d(access.address, other.address, return_indices=True)
            apart = (access.threads != other.threads) | (access.thread[i] != other.thread[k])
            if access.threads == other.threads == 1:
                apart |= other.kind == "store" and access.kind == "load"
            self._blame(f"{access.kind}s what another thread {other.kind}s", same[apart])

    def _blame(self, fault: str, addresses: npt.NDArray[np.int64]) -> None:
        for name, (first, end) in self.ranges.items():
            if bool(((addresses >= first) & (addresses < end)).any()):
                self.faults.add((self.kernel, name, fault))


def _range(t: torch.Tensor) -> tuple[int, int]:
    """First byte of a tensor, and the first after it."""
    steps = zip(t.shape, t.stride(), strict=True)
    return t.data_ptr(), t.data_ptr() + t.element_size() * (1 + sum((n - 1) * s for n, s in steps))


def found() -> Iterator[str]:
    """Yield the faults of all launches since it was last asked."""
    while _faults:
        yield _faults.pop()


def install() -> None:
    """Watch every launch of this process from now on."""
    from triton.runtime import interpreter

    builder: Any = type(interpreter.interpreter_builder)
    executor: Any = interpreter.GridExecutor
    load, store = builder.create_masked_load, builder.create_masked_store
    add, wait = builder.create_atomic_rmw, builder.create_barrier
    go_on, run, hosted = builder.set_grid_idx, executor.__call__, executor._init_args_hst
    running: list[Launch] = []

    def create_masked_load(self: Any, pointers: Any, mask: Any, *rest: Any) -> Any:
        out = load(self, pointers, mask, *rest)
        running[-1].note("load", pointers.data, mask.data, None, out.data.itemsize)
        return out

    def create_masked_store(self: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        running[-1].note("store", pointers.data, mask.data, value.data, value.data.itemsize)
        return store(self, pointers, value, mask, *rest)

    def create_atomic_rmw(self: Any, op: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:  # fmt: skip
        running[-1].note("atomic", pointers.data, mask.data, value.data, value.data.itemsize)
        return add(self, op, pointers, value, mask, *rest)

    def create_barrier(self: Any, *rest: Any) -> Any:
        running[-1].barrier()
        return wait(self, *rest)

    def set_grid_idx(self: Any, *place: int) -> Any:
        running[-1].begin()
        return go_on(self, *place)

    def on_host(self: Any, *args: Any) -> Any:
        out = hosted(self, *args)
        for name, argument in zip(self.arg_names, out[0], strict=False):
            if isinstance(argument, torch.Tensor) and argument.numel():
                running[-1].ranges[name] = _range(argument)
        return out

    def call(self: Any, *args: Any, **options: Any) -> Any:
        running.append(Launch(self.fn.__name__))
        try:
            return run(self, *args, **options)
        finally:
            for kernel, argument, fault in running.pop().end():
                _faults.add(f"{kernel} {fault}{f', of {argument}' if argument else ''}")

    builder.create_masked_load, builder.create_masked_store = (
        create_masked_load,
        create_masked_store,
    )
    builder.create_atomic_rmw, builder.create_barrier = create_atomic_rmw, create_barrier
    builder.set_grid_idx, executor.__call__, executor._init_args_hst = set_grid_idx, call, on_host
