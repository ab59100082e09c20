"""Exceptions that go from one process to another, or into a file, stay what they are."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import pytest
import torch

from torch_sla import Dirichlet, PoissonProblem, RectangleMesh, SolveError, SparseTensor, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable


def singular() -> None:
    SparseTensor.diag(torch.tensor([1.0, 0.0])).solve(torch.ones(2))


def misspelt() -> None:
    PoissonProblem(mesh=RectangleMesh(cells=(2, 2)), boundary=[Dirichlet("lfet", 0.0)]).solve()


@pytest.mark.parametrize(("kind", "wrong"), [(SolveError, singular), (SpecError, misspelt)])
def test_round_trips(kind: type[Exception], wrong: Callable[[], None]) -> None:
    with pytest.raises(kind) as found:
        wrong()
    error = found.value
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert vars(other).keys() == vars(error).keys()
