"""Functions in a declaration: which of them count as the same."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.helpers.designs import conductivity
from torch_sla import LBFGS, DesignProblem
from torch_sla.errors import ArgumentError
from torch_sla.problems.specs.python import PythonFunction

if TYPE_CHECKING:
    from collections.abc import Callable


def weighted(weight: Any) -> Callable[[Any], Any]:
    return lambda s: weight * s["T"].square().sum()


def by_default(weight: float) -> Callable[..., Any]:
    def goal(s: Any, w: float = weight) -> Any:
        return w * s["T"].square().sum()

    return goal


def called(weight: float) -> Callable[[Any], Any]:
    inner = weighted(weight)
    return lambda s: inner(s)


def of_a_module(weight: float) -> Callable[[Any], Any]:
    around: dict[str, Any] = {"WEIGHT": weight, "__name__": "laws"}
    exec("def goal(s): return [WEIGHT * t for t in s]", around)
    return around["goal"]


@pytest.mark.parametrize("make", [weighted, by_default, called, of_a_module])
def test_values_that_a_function_reads_tell_it_from_others(make: Callable[[Any], Any]) -> None:
    one, again, other = (PythonFunction(make(w)).digest for w in (1.0, 1.0, 50.0))
    assert one == again
    assert one != other


def test_tensors_count_by_content_and_functions_may_call_themselves() -> None:
    digests = [PythonFunction(weighted(torch.tensor([w]))).digest for w in (1.0, 1.0, 2.0)]
    assert digests[0] == digests[1] != digests[2]

    def factorial(n: int) -> int:
        return n * factorial(n - 1) if n else 1

    assert PythonFunction(factorial).digest == PythonFunction(factorial).digest


def test_the_hash_is_that_of_every_process() -> None:
    """What prints where it is in memory, and sets, whose order is another each time, are no part of it."""
    script = """
    from torch_sla.problems.specs.python import PythonFunction

    class Thing:
        pass

    KNOWN, TABLE = {"f": print, "g": Thing()}, {"a": [1, 2.0]}

    def made(thing, other=Thing()):
        return lambda s, t=thing: s in {"left", "right", "top"} and (thing, t, KNOWN, TABLE)

    print(PythonFunction(made(Thing())).digest)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    found = {
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_a_search_does_not_go_on_with_another_function(tmp_path) -> None:
    """It went on with answers of the first one."""

    def search(weight: float) -> DesignProblem:
        return conductivity(LBFGS(max_iterations=4), objective=weighted(weight), data={})

    def stop(progress: Any) -> None:
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(1.0).solve(folder=tmp_path, progress=stop)
    with pytest.raises(ArgumentError, match="belongs to another run: spec_hash"):
        search(50.0).solve(resume=tmp_path)
    assert torch.equal(search(1.0).solve(resume=tmp_path).unknowns, search(1.0).solve().unknowns)
