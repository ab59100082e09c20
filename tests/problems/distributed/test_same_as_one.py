"""Problems in parts against the same problems whole: solutions, outputs and gradients to 1e-10."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest

from tests.helpers.shared_problems import CASES, Found, on_ranks, problem_of, solved
from torch_sla.problems.distributed.problem import distribute

if TYPE_CHECKING:
    from torch import Tensor

    from tests.helpers.ranks import Ranks


@cache
def whole(case: str) -> Found:
    return solved(*problem_of(case))


def close(found: Tensor, wanted: Tensor, name: str) -> None:
    assert found.shape == wanted.shape, name
    scale = max(float(wanted.abs().max()), 1e-6)
    assert float((found - wanted).abs().max()) <= 1e-10 * scale, name


def same(found: Found, wanted: Found) -> None:
    close(found.u, wanted.u, "u")
    close(found.loss, wanted.loss, "loss")
    assert found.outputs.keys() == wanted.outputs.keys()
    for name, value in wanted.outputs.items():
        close(found.outputs[name], value, name)
    assert found.gradients.keys() == wanted.gradients.keys()
    for name, value in wanted.gradients.items():
        close(found.gradients[name], value, f"gradient of {name}")


@pytest.mark.parametrize("parts", [3, 7])
@pytest.mark.parametrize("case", CASES)
def test_parts_in_one_process(case: str, parts: int) -> None:
    problem, values = problem_of(case)
    same(solved(distribute(problem, parts), values), whole(case))


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("case", "size"),
    [
        ("disk", 1),
        ("disk", 2),
        ("disk", 3),
        ("disk", 4),
        ("disk", 7),
        ("bracket", 3),
        ("corner", 4),
        ("stream", 2),
        ("learned", 2),
        ("two_materials", 4),
        ("bar", 7),
        ("strip", 4),
        ("strip", 7),
        ("two_materials", 7),
        ("system", 3),
        ("drums", 2),
        ("reaction", 4),
        ("cases", 2),
    ],
)
def test_processes(ranks: Ranks, case: str, size: int) -> None:
    for found in ranks.run(size, on_ranks, case):
        same(found, whole(case))
