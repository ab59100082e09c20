"""What is to be the same on every process, and is not, or is wrong on one: all are told, and go on with other work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.helpers.rank_programs import matrix
from torch_sla.errors import TorchSlaError
from torch_sla.linalg import DSparseTensor
from torch_sla.linalg.distributed.processes import Processes

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.helpers.ranks import Ranks

pytestmark = pytest.mark.distributed


def _with(given: dict[str, Any], rank: int, name: str, value: Any) -> dict[str, Any]:
    return {**given, name: value} if rank == 1 else given


def _bumped(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x[:1] + 1, x[1:]])


WHOLE: dict[str, tuple[Callable[[dict[str, Any], int], dict[str, Any]], str, str]] = {
    "values": (
        lambda g, r: _with(g, r, "values", _bumped(g["values"])),
        *("the ranks disagree on `values`: rank 0 has float64",) * 2,
    ),
    "last bit": (
        lambda g, r: _with(g, r, "values", g["values"] * (1 + 2.0**-52)),
        *("the ranks disagree on `values`",) * 2,
    ),
    "places": (
        lambda g, r: _with(g, r, "col", g["col"].flip(0)),
        *("the ranks disagree on `col`",) * 2,
    ),
    "cut": (
        lambda g, r: {**g, "partition_ids": (torch.arange(3) + r) % 2},
        *("the ranks disagree on `partition_ids`",) * 2,
    ),
    "cut by one": (
        lambda g, r: _with(g, r, "partition_ids", torch.zeros(3, dtype=torch.int64)),
        *("the ranks disagree on `partition_ids`: rank 0 has nothing",) * 2,
    ),
    "modes of one": (
        lambda g, r: _with(g, r, "near_nullspace", torch.ones(3, 1)),
        *("the ranks disagree on `near_nullspace`",) * 2,
    ),
    "method": (
        lambda g, _: {**g, "partition_method": "nope"},
        "`partition_method` must be",
        "process 0 cannot do its part: `partition_method` must be",
    ),
    "rank": (
        lambda g, r: _with(g, r, "rank", 0),
        "process 1 cannot do its part: `rank` is 0",
        "`rank` is 0, torch.distributed says 1",
    ),
}


def refused(group: Any, name: str) -> str:
    comm, (A, _) = Processes(group), matrix("tiny")
    given = {"values": A.values, "row": A.row_indices, "col": A.col_indices, "shape": (3, 3)}
    said = "nothing"
    try:
        DSparseTensor.from_global_distributed(**WHOLE[name][0](given, comm.rank), device_mesh=group)
    except TorchSlaError as error:
        said = str(error)
    assert comm.reduce(torch.ones(3)).tolist() == [2.0] * 3
    return said


def test_matrices_that_are_not_the_same(ranks: Ranks) -> None:
    for name, (_, *wanted) in WHOLE.items():
        for said, begins in zip(ranks.run(2, refused, name), wanted, strict=True):
            assert said.startswith(begins), (name, said)


def pieces(group: Any, wrong: str) -> str:
    """Put a matrix together whose second piece is wrong."""
    comm, (A, _) = Processes(group), matrix("tiny")
    owned: Any = torch.tensor([0, 2] if comm.rank == 0 else [1])
    near = torch.ones(len(owned), 1)
    if comm.rank == 1 and wrong == "owned":
        owned = [owned, owned]
    if comm.rank == 1:
        near = {"rows": torch.ones(3, 1), "columns": torch.ones(1, 2)}.get(wrong, near)
    share = slice(comm.rank, None, 2)
    entries = A.values[share], A.row_indices[share], A.col_indices[share]
    said = "nothing"
    try:
        DSparseTensor.from_local(*entries, (3, 3), owned, group, near_nullspace=near)
    except TorchSlaError as error:
        said = str(error)
    assert comm.reduce(torch.ones(3)).tolist() == [2.0] * 3
    return said


@pytest.mark.parametrize(
    ("wrong", "first", "second"),
    [
        ("owned", "process 1 cannot do its part: `owned` must", "`owned` must list rows for 1"),
        ("rows", "process 1 cannot do its part: `near_null", "`near_nullspace` must be [1, k]"),
        ("columns", "the ranks disagree on `near_null", "the ranks disagree on `near_null"),
        ("nothing", "nothing", "nothing"),
    ],
)
def test_pieces_that_do_not_fit(ranks: Ranks, wrong: str, first: str, second: str) -> None:
    said = ranks.run(2, pieces, wrong)
    assert said[0].startswith(first)
    assert said[1].startswith(second)
