"""Long runs of several processes on disk: each keeps what it holds, and any number of them goes on.

The folder has one folder for each number of processes that the run was kept by, ``ranks-4``, and in it one for each
process. All processes save at the same steps, so the newest step that all of them have is where a run goes on, from
files that each reads one after the other, taking what it holds now.
"""

from __future__ import annotations

import re
import shutil
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.distributed.everywhere import agreed
from torch_sla.problems.analyses.watching import Watching, refuse_gradients
from torch_sla.problems.checkpoint import Checkpoint, Checkpoints
from torch_sla.problems.distributed.together import told
from torch_sla.problems.folder import all_damaged, claimed, held, require_folder, require_free
from torch_sla.problems.identity import run_identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch_sla.linalg.distributed.communicator import Communicator
    from torch_sla.problems.distributed.problem import Asked

__all__ = ["KeptTogether", "watched"]

_NAMES = " numbers."

Read = tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]


class KeptTogether(Watching):
    """Follows a run of several processes.

    Parameters
    ----------
    comm, device
        The processes, and where messages are.
    asked
        The folder, and who is told.
    identity
        What a run must share to go on.
    numbers
        Numbers in the whole of what this process holds, by what they count.
    cut
        From the name of a tensor to what its entries count: a key of `numbers`; None where every process has it.
    claim
        What the folder is claimed with, as long as the run goes on.
    """

    def __init__(
        self,
        comm: Communicator,
        device: torch.device,
        asked: Asked,
        identity: Mapping[str, Any],
        numbers: Mapping[str, Tensor],
        cut: Callable[[str], str | None],
        claim: ExitStack,
    ) -> None:
        self._comm, self._device, self._cut = comm, device, cut
        self._numbers = {name: n.cpu() for name, n in numbers.items()}
        self._identity = identity
        self._rows: dict[str, Tensor] = {}
        where = asked.resume if asked.folder is None else asked.folder
        if where is None:
            super().__init__(None, None, asked.progress)
            return
        folder = Path(where)
        states = self._of(folder, comm.world, comm.rank)
        super().__init__(states, self._found(folder, asked, states, claim), asked.progress)

    def _of(self, folder: Path, world: int, rank: int) -> Checkpoints:
        return Checkpoints(folder / f"ranks-{world}" / str(rank), self._identity)

    # -- going on -------------------------------------------------------------------------------

    def _found(
        self, folder: Path, asked: Asked, states: Checkpoints, claim: ExitStack
    ) -> Checkpoint | None:
        """Return the state to go on from, as this process holds it."""
        comm = self._comm

        candidates = told(comm, self._device, lambda: _candidates(folder, asked, claim))
        for step, world in candidates:
            found = self._read(folder, step, world, states)
            whole = torch.tensor([float(found is not None)], device=self._device)
            if not float(comm.reduce(whole, "min")) or found is None:
                continue
            state, self._rows, data = found
            if world != comm.world:
                self._moved(folder, states, step, world, found)
            return Checkpoint(step, state, data)
        if candidates:
            raise all_damaged(folder)
        return None

    def _read(self, folder: Path, step: int, world: int, states: Checkpoints) -> Read | None:
        """Take what this process holds from the files of all; None where one of them is damaged."""

        def work() -> Read | None:
            state: dict[str, Tensor] = {}
            rows: dict[str, Tensor] = {}
            data: dict[str, Any] = {}
            for rank in range(world):
                kept = self._of(folder, world, rank)
                own = kept.directory == states.directory
                found = (states if own else kept).at(step)
                if found is None:
                    return None
                numbers = {
                    n.removeprefix(_NAMES): x
                    for n, x in found.tensors.items()
                    if n.startswith(_NAMES)
                }
                records = found.records
                names = records[0] if records else ()
                every = {n: torch.cat([part[n] for part in records]) for n in names}
                self._take(state, found.tensors, numbers, 0)
                self._take(rows, every, numbers, 1)
                data = found.data if rank == 0 else data
            return state, rows, data

        return agreed(self._comm, self._device, work)

    def _take(
        self,
        into: dict[str, Tensor],
        tensors: Mapping[str, Tensor],
        numbers: Mapping[str, Tensor],
        dim: int,
    ) -> None:
        """Take from the tensors of one process what this one holds now."""
        for name, value in tensors.items():
            if name.startswith(_NAMES):
                continue
            key = self._cut(name)
            if key is None:
                into[name] = value
                continue
            own, order = self._numbers[key].sort()
            if name not in into:
                shape = [*value.shape]
                shape[dim] = len(own)
                into[name] = value.new_zeros(shape)
            if not len(own):
                continue
            at = torch.searchsorted(own, numbers[key]).clamp(max=len(own) - 1)
            mine = torch.nonzero(own[at] == numbers[key])[:, 0]
            into[name].index_copy_(dim, order[at[mine]], value.index_select(dim, mine))

    def _moved(self, folder: Path, states: Checkpoints, step: int, world: int, found: Read) -> None:
        """Keep what was found as this number of processes has it, then drop what the others had."""
        state, rows, data = found
        source = folder / f"ranks-{world}"
        self._alone(lambda: _drop(folder, but=source))
        kept = self._told(state), data, self._new(rows)
        agreed(self._comm, self._device, lambda: states.save(step, *kept))
        self._alone(lambda: _drop(folder, but=states.directory.parent))

    def _alone(self, work: Callable[[], None]) -> None:
        """Do something on the first process when all have come here, and go on when it is done."""
        self._comm.reduce(torch.zeros(1, device=self._device))

        agreed(self._comm, self._device, lambda: work() if self._comm.rank == 0 else None)

    def begin(
        self, device: torch.device | None = None
    ) -> tuple[int, dict[str, Tensor], dict[str, Tensor]] | None:
        """Return where to go on, as `Watching.begin`."""
        if self.found is None:
            return None
        self._saved = len(next(iter(self._rows.values()))) if self._rows else 0
        state = {name: value.to(device) for name, value in self.found.tensors.items()}
        return self.done, state, {name: value.to(device) for name, value in self._rows.items()}

    # -- keeping --------------------------------------------------------------------------------

    @property
    def due(self) -> bool:
        """Whether it is time to keep the state again: for all processes, when it is for the first."""
        now = torch.tensor([float(super().due)], device=self._device)
        return float(self._comm.broadcast(now)) > 0

    def save(
        self,
        done: int,
        state: Mapping[str, Tensor],
        data: Mapping[str, Any],
        new: Mapping[str, Tensor],
    ) -> None:
        """Keep what this process holds, and the first one what all have; where one cannot, none goes on."""
        keep = super().save
        told, own = self._told(state), self._new(new)
        agreed(self._comm, self._device, lambda: keep(done, told, data, own))

    def _told(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {**state, **{f"{_NAMES}{key}": n for key, n in self._numbers.items()}}

    def _new(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        first = self._comm.rank == 0
        return {name: x for name, x in rows.items() if first or self._cut(name) is not None}


@contextmanager
def watched(
    problem: Any,
    values: Mapping[str, Any],
    asked: Asked,
    numbers: Mapping[str, Tensor],
    cut: Callable[[str], str | None],
) -> Iterator[Watching]:
    """Open the folder of a run, where there is one, for these alone; all processes call it together.

    Parameters
    ----------
    problem
        In parts.
    values
        All that it is solved for.
    asked
        The folder, and who is told.
    numbers, cut
        See `KeptTogether`.
    """
    if asked.folder is None and asked.resume is None:
        yield Watching(None, None, asked.progress)
        return
    if asked.folder is not None and asked.resume is not None:
        raise ArgumentError("folder starts a run and resume goes on with one; give one of them")
    refuse_gradients(values)
    like = SimpleNamespace(
        spec=problem.spec, compiled=SimpleNamespace(key="shared"), device="shared"
    )
    # Any number of processes and threads goes on with the run, to rounding.
    identity = {**run_identity(like, values), "threads": "any"}
    with ExitStack() as claim:
        yield KeptTogether(problem.comm, problem.device, asked, identity, numbers, cut, claim)


def _candidates(folder: Path, asked: Asked, claim: ExitStack) -> list[tuple[int, int]]:
    """Return steps that all processes of a group have, and how many these are; newest first."""
    if asked.resume is not None:
        require_folder(folder)
    claim.enter_context(claimed(folder))
    found: list[tuple[int, int]] = []
    for world, group in _groups(folder).items():
        each = [set(Checkpoints(group / str(rank), {}).steps) for rank in range(world)]
        found += [(step, world) for step in set.intersection(*each)]
    if asked.folder is not None:
        require_free(folder)
        return []
    if not found and held(folder):
        raise ArgumentError(
            f"resume: {str(folder)!r} holds states, but none that all processes of a run kept there (a run that was "
            "not in parts goes on without them, and all processes must see one folder); start again in another folder"
        )
    return sorted(found, reverse=True)


def _groups(folder: Path) -> dict[int, Path]:
    """Return the folders of runs by the number of processes; whatever else is called like them is somebody's."""
    names = {path: re.fullmatch(r"ranks-([1-9]\d*)", path.name) for path in folder.glob("ranks-*")}
    return {int(name[1]): path for path, name in names.items() if name is not None}


def _drop(folder: Path, but: Path) -> None:
    for group in _groups(folder).values():
        if group != but:
            shutil.rmtree(group)
