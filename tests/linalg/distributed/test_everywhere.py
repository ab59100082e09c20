"""Work that fails on some processes, which all of them then tell alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from torch_sla.errors import ArgumentError, Result, SolveError, TorchSlaError
from torch_sla.linalg.distributed.everywhere import agreed
from torch_sla.linalg.distributed.processes import Processes

if TYPE_CHECKING:
    from tests.helpers.ranks import Ranks

FAILURES = {
    "argument": ArgumentError("`x` is bad"),
    "singular": SolveError(Result.SINGULAR, "row 3"),
    "breakdown": SolveError(Result.BREAKDOWN, "step 2"),
    "other": ValueError("what is this"),
}


def failing(group: Any, *names: str | None) -> tuple[str, str, str]:
    """Fail as one is told to; return kind, result and text of what is raised."""
    comm = Processes(group)
    name = names[comm.rank]

    def work() -> None:
        if name is not None:
            raise FAILURES[name]

    try:
        agreed(comm, "cpu", work)
    except (TorchSlaError, ValueError) as error:
        result = error.result.name if isinstance(error, SolveError) else ""
        return type(error).__name__, result, str(error)
    return "", "", ""


@pytest.mark.distributed
def test_processes_that_fail_in_several_ways_raise_one_kind_of_error(ranks: Ranks) -> None:
    """Lest one goes on after an error of its kind, and waits for one that has ended with another."""
    for names, kind, result in (
        ((None, "singular", "argument"), "SolveError", "SINGULAR"),
        (("argument", "singular", None), "ArgumentError", ""),
        (("singular", "breakdown", "singular"), "SolveError", "SINGULAR"),
    ):
        found = ranks.run(3, failing, *names)
        assert {answer[:2] for answer in found} == {(kind, result)}
        first = next(i for i, name in enumerate(names) if name)
        assert f"process {first} cannot do its part" in found[(first + 1) % 3][2]
    kinds = [answer[0] for answer in ranks.run(3, failing, "other", "singular", "other")]
    assert kinds == ["ValueError", "RankError", "ValueError"]
