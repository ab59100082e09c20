"""What the first process says or makes for all: where it cannot, all end with its error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from torch_sla import (
    LBFGS,
    DesignProblem,
    Dirichlet,
    Integral,
    Parameter,
    PoissonProblem,
    RectangleMesh,
    SweepProblem,
    TransientProblem,
    Variable,
    distribute,
)
from torch_sla.errors import ArgumentError
from torch_sla.linalg.distributed.communicator import InProcess
from torch_sla.linalg.distributed.processes import Processes
from torch_sla.problems.checkpoint import Checkpoints
from torch_sla.problems.distributed.together import handed_out, told
from torch_sla.problems.specs.value import ArrayFile

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.ranks import Ranks


def made(rank: int, bad: str) -> Any:
    if bad == "made" and rank == 1:
        raise OSError("no room for part 1")
    return (lambda: rank) if bad == "sent" else {"part": rank}


def attempt(comm: Processes, bad: str, verb: str) -> Any:
    host = torch.device("cpu")
    try:
        if verb == "told":
            return told(comm, host, lambda: made(1, bad))
        return handed_out(comm, host, lambda rank: made(rank, bad))
    except Exception as error:  # noqa: BLE001  whatever it is, all must be told
        return f"{type(error).__name__}: {error}"
    finally:
        assert comm.reduce(torch.ones(3)).tolist() == [3.0] * 3


def together(group: Any) -> list[Any]:
    """Hand out and tell what is fine, what cannot be made, and what cannot be sent."""
    comm = Processes(group)
    return [attempt(comm, b, verb) for b in ("", "made", "sent") for verb in ("handed", "told")]


@pytest.mark.distributed
def test_what_the_first_process_cannot_make_or_send_ends_all(ranks: Ranks) -> None:
    for rank, found in enumerate(ranks.run(3, together)):
        assert found[:2] == [{"part": rank}, {"part": 1}]
        why = "OSError: no room for part 1"
        if rank:
            why = f"RankError: process 0 cannot do its part: {why.partition(': ')[2]}"
        assert found[2:4] == [why, why]
        for said in found[4:]:
            assert "pickle" in said
            assert said.startswith("RankError") == (rank > 0)


def stopping(group: Any, kind: str) -> tuple[str, float]:
    """Solve with a callback that raises, catch that, and solve again."""
    heat = PoissonProblem(
        mesh=RectangleMesh(cells=(3, 3)),
        diffusivity=Parameter("k", default=1.0),
        source=1.0,
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Integral("i", "u")],
    )
    problem: Any = {
        "march": lambda: TransientProblem(of=heat, end=1.0, steps=3),
        "sweep": lambda: SweepProblem(of=heat, cases={"k": [1.0, 2.0, 3.0]}),
        "design": lambda: DesignProblem(
            of=heat,
            variables=[Variable("k", bounds=(0.5, 2.0))],
            objective="i",
            optimizer=LBFGS(max_iterations=3),
        ),
    }[kind]()
    shared = distribute(problem, group=group)

    def stop(progress: Any) -> None:
        if progress.done >= 1:
            raise OSError("enough")

    comm = Processes(group)
    # The others need not be given any.
    try:
        shared.solve(progress=stop if comm.rank == 0 else None)
        said = "nothing"
    except Exception as error:  # noqa: BLE001  whatever it is, all must be told
        said = f"{type(error).__name__}: {error}"
    return said, float(comm.reduce(torch.ones(1)))


@pytest.mark.distributed
@pytest.mark.parametrize("kind", ["march", "sweep", "design"])
def test_a_callback_that_raises_ends_the_work_of_all(ranks: Ranks, kind: str) -> None:
    first, *others = ranks.run(2, stopping, kind)
    assert first == ("OSError: enough", 2.0)
    assert others == [("RankError: process 0 cannot do its part: enough", 2.0)]


def fails_on(rank: int, bad: int, kind: str, folder: Path) -> Any:
    """Do something that goes wrong on one process alone."""
    heat = PoissonProblem(
        mesh=RectangleMesh(cells=(3, 3)),
        diffusivity=Parameter("k", default=1.0),
        source=1.0,
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Integral("i", "u")],
    )
    here = folder / f"{rank}.npy"
    np.save(here, np.ones(16 if kind == "file" else ()))
    file = ArrayFile(file=str(here))
    shared: dict[str, Any] = {"of": heat, "variables": [Variable("k")], "objective": "i"}
    shared["optimizer"] = LBFGS(max_iterations=3)
    calls: list[int] = []

    def goal(solution: Any) -> torch.Tensor:
        calls.append(rank)
        if rank == bad and len(calls) > 2:
            raise MemoryError("no room")
        if kind == "two goals" and len(calls) > 2:  # which alone would be a point to turn back from
            raise ArgumentError("no such value")
        return solution["i"]  # type: ignore[no-any-return]

    match kind:
        case "file":
            found: Any = heat.updated(source=Parameter("f", on="nodes", default=file))
        case "initial":
            found = DesignProblem(**{**shared, "variables": [Variable("k", initial=file)]})
        case "bound":
            bounds = (0.5, 2.0 + rank)
            found = DesignProblem(**{**shared, "variables": [Variable("k", bounds=bounds)]})
        case "goal" | "two goals":
            found = DesignProblem(**{**shared, "objective": goal})
        case "part of a goal":  # of which each process has its own
            found = DesignProblem(**{**shared, "objective": lambda s: s.u.square().sum()})
        case "kept march":
            found = TransientProblem(of=heat, end=1.0, steps=4)
        case _:
            found = DesignProblem(**shared)
    if rank == bad:
        here.unlink()
    return found


def going_wrong(group: Any, kind: str, bad: int, folder: Path) -> tuple[str, float]:
    comm = Processes(group)

    def full(*_: Any) -> None:
        raise OSError("no space left")

    kept = {"folder": folder / "run"} if kind.startswith("kept") else {}
    write = Checkpoints._write
    if kept and comm.rank == bad:
        Checkpoints._write = full  # type: ignore[method-assign]
    try:
        problem = fails_on(comm.rank, bad, kind, folder)
        said = str(distribute(problem, group=group).solve(**kept))
    except Exception as error:  # noqa: BLE001  whatever it is, all must be told
        said = f"{type(error).__name__}: {error}"
    finally:
        Checkpoints._write = write  # type: ignore[method-assign]
    return said, float(comm.reduce(torch.ones(1)))


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("kind", "bad", "why"),
    [
        ("file", 1, "No such file"),
        ("initial", 0, "No such file"),
        ("goal", 1, "MemoryError('no room')"),
        ("two goals", 1, "the goals cannot be evaluated"),
        ("bound", 1, "the ranks disagree on `variables`"),
        ("part of a goal", 1, "the ranks disagree on the objective"),
        ("kept march", 1, "no space left"),
        ("kept design", 0, "no space left"),
    ],
)
def test_what_goes_wrong_on_one_process_ends_all(
    ranks: Ranks, tmp_path: Path, kind: str, bad: int, why: str
) -> None:
    found = ranks.run(2, going_wrong, kind, bad, tmp_path)
    assert all(why in said and together == 2.0 for said, together in found), found
    assert found[1 - bad][0].startswith("RankError: ")


def test_one_process_has_what_it_makes() -> None:
    comm, host = InProcess(3), torch.device("cpu")
    assert handed_out(comm, host, lambda rank: made(rank, "")) == {"part": 0}
    assert told(comm, host, lambda: made(1, "")) == {"part": 1}
    with pytest.raises(OSError, match="no room"):
        told(comm, host, lambda: made(1, "made"))
