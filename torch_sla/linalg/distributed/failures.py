"""What happens when a rank ends, fails, or disagrees: every rank stops with one error that names it.

Collective operations have no answer to a peer that is gone but a closed connection or a timeout, at
whichever rank happens to wait for it. So a rank that fails writes why into the store that the ranks met in,
and a rank whose collective fails looks there before it speaks: what it raises is the first cause, not its
consequence. A rank that leaves no note, does not answer a roll call and does not beat (`watch`) is the one that died.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import re
import time
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from torch_sla.errors import RankError, TorchSlaError
from torch_sla.linalg.distributed.watch import BEAT, LAST_WORD, NO_STORE, SPEAKER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch._C._distributed_c10d import Store

__all__ = ["agree", "guarded", "leave"]

_ROLL_CALL = 3.0
"""Seconds in which a living rank answers; its own collective fails about when ours does."""
_FAULT = "torch_sla/fault"
_PRESENT, _DONE = "torch_sla/present", "torch_sla/done"
_SHOWN = 200


@contextlib.contextmanager
def guarded(doing: str) -> Iterator[None]:
    """Turn the failure of a collective operation inside into a `RankError` that names the cause.

    Parameters
    ----------
    doing
        What is being done, for the message: ``"halo exchange"``.

    Raises
    ------
    RankError
        Naming the rank that failed or does not answer any more.
    """
    try:
        yield
    except TorchSlaError:
        raise
    except RuntimeError as error:
        if not _of_communication(error):
            raise
        raise RankError(f"{doing}: {_cause(error)}") from error


def agree(facts: Mapping[str, object], *, group: dist.ProcessGroup | None = None) -> None:
    """Check that all ranks say the same; a collective operation.

    Parameters
    ----------
    facts
        What must be equal everywhere, by name: shapes, dtypes, hashes. Compared by their text.
    group
        The ranks; all of them when None.

    Raises
    ------
    RankError
        On every rank alike, naming the first fact that differs and who says what.
    """
    if not dist.is_initialized() or dist.get_world_size(group) == 1:
        return
    mine = {name: str(value) for name, value in facts.items()}
    digest = hashlib.blake2b(repr(sorted(mine.items())).encode(), digest_size=8).digest()
    device = _device(group)
    number = torch.tensor([int.from_bytes(digest, "little", signed=True)], device=device)
    size = dist.get_world_size(group)
    everyone = [torch.empty_like(number) for _ in range(size)]
    with guarded("agreement of all ranks"):
        dist.all_gather(everyone, number, group=group)
        if len({int(other) for other in everyone}) == 1:
            return
        said: list[dict[str, str] | None] = [None] * size
        dist.all_gather_object(said, mine, group=group)
    known = [facts for facts in said if facts is not None]
    names = sorted({name for facts in known for name in facts})
    for name in names:
        answers: dict[str, list[str]] = {}
        for rank, facts in enumerate(known):
            answers.setdefault(facts.get(name, "nothing"), []).append(str(rank))
        if len(answers) > 1:
            parts = [
                f"{_ranks(ranks)} {_have(ranks)} {answer[:_SHOWN]}"
                for answer, ranks in answers.items()
            ]
            raise RankError(
                f"the ranks disagree on {name}: {'; '.join(parts)}; start all of them from the same files, with "
                "the same arguments"
            )
    raise RankError("the ranks disagree, though each says the same; is the network reliable?")


def _report(error: BaseException) -> None:
    """Leave a note for the other ranks, and mark what one of them says to people already."""
    rank = dist.get_rank()
    said = str(error) or type(error).__name__
    with contextlib.suppress(RuntimeError):
        if not isinstance(error, RankError):
            _store().compare_set(_FAULT, "", f"{rank} {said}")
            said = f"rank {rank} failed: {said}"
        _store().compare_set(LAST_WORD, "", said)
        if _store().compare_set(SPEAKER, "", str(rank)) != str(rank).encode():
            error.repeated = True  # type: ignore[attr-defined]


def leave(failed: BaseException) -> None:
    """Leave the group after a failure; the first rank, which may host the store of notes, leaves last."""
    rank, size, store = dist.get_rank(), dist.get_world_size(), _store()
    _report(failed)
    # The interpreter looks for cycles among all objects before it ends, which on a machine with much to do takes longer
    # than everything else here.
    gc.freeze()
    # Closed connections are what wakes the others; then they ask the store why.
    dist.destroy_process_group()
    with contextlib.suppress(RuntimeError):
        store.set(f"{_DONE}/{rank}", "gone")
        end = time.monotonic() + _ROLL_CALL
        others = [r for r in range(size) if r != rank] if rank == 0 else []
        while others and time.monotonic() < end:
            others = [r for r in others if not store.check([f"{_DONE}/{r}"])]
            time.sleep(0.05)


# -- the first cause ----------------------------------------------------------------------------


def _cause(error: RuntimeError) -> str:
    """Find out who failed, and say it."""
    rank, size = dist.get_rank(), dist.get_world_size()
    first = re.sub(r"^\[\S+\] ", "", str(error).strip()).split(". ")[0].split("\n")[0][:_SHOWN]
    missing = list(range(size))
    try:
        store = _store()
        store.set(f"{_PRESENT}/{rank}", "here")
        heard = {r: _beat(store, r) for r in missing}
        end = time.monotonic() + _ROLL_CALL
        while missing and time.monotonic() < end:
            note = _note(store)
            if note is not None and note[0] != rank:
                return f"rank {note[0]} failed: {note[1]}"
            missing = [
                r
                for r in missing
                if not store.check([f"{_PRESENT}/{r}"]) and _beat(store, r) == heard[r]
            ]
            time.sleep(0.05)
    except RuntimeError:
        # Asked once only: the store does not come back.
        return f"{NO_STORE}; start again, from a checkpoint where there is one ({first})"
    if missing:
        who, verb = _ranks([str(r) for r in missing]), "does" if len(missing) == 1 else "do"
        return (
            f"{who} {verb} not answer any more: the process ended, hangs, or its machine is gone; look at its own "
            f"output, and start again, from a checkpoint where there is one ({first})"
        )
    return f"the ranks waited for different things or too long ({first}); raise the timeout, or report this"


def _beat(store: Store, rank: int) -> bytes:
    """How far a rank has counted, which goes on while it lives; nothing where nobody watches."""
    key = f"{BEAT}/{rank}"
    return store.get(key) if store.check([key]) else b""


def _note(store: Store) -> tuple[int, str] | None:
    if not store.check([_FAULT]):
        return None
    rank, _, text = store.get(_FAULT).decode(errors="replace").partition(" ")
    return int(rank), text


def _store() -> Store:
    from torch.distributed.distributed_c10d import _get_default_store

    return _get_default_store()


def _of_communication(error: RuntimeError) -> bool:
    if isinstance(error, dist.DistError):
        return True
    text = str(error).lower()
    return any(word in text for word in ("gloo", "nccl", "connection", "timed out", "socket"))


def _device(group: dist.ProcessGroup | None) -> torch.device:
    if "nccl" in dist.get_backend(group):
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def _ranks(ranks: list[str]) -> str:
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {', '.join(ranks)}"


def _have(ranks: list[str]) -> str:
    return "has" if len(ranks) == 1 else "have"
