"""What is given is compared over the processes once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

import torch_sla as sla
from torch_sla import distribute
from torch_sla.errors import RankError
from torch_sla.linalg.distributed import entries
from torch_sla.problems.distributed import algebra

if TYPE_CHECKING:
    from tests.helpers.ranks import Ranks

N = 12
ENTRIES = 3 * N - 2


def matrix(shift: float = 0.0) -> sla.SparseTensor:
    """Second differences, with another corner."""
    i = torch.arange(N)
    row, col = torch.cat([i, i[1:], i[:-1]]), torch.cat([i, i[:-1], i[1:]])
    values = torch.cat([torch.full((N,), 2.5), torch.full((2 * N - 2,), -1.0)]).double()
    values[0] += shift
    return sla.SparseTensor(values, row, col, (N, N))


def problem(kind: str) -> Any:
    A = sla.Parameter("A", shape=(N, N))
    if kind == "linear":
        return sla.LinearProblem(matrix=A, rhs=[1.0] * N)
    return sla.EigenProblem(matrix=A, k=1)


def counted(group: Any, kind: str) -> tuple[int, torch.Tensor, str]:
    """Return how many tensors of entries a solve hashes, what it finds, and what is said of unlike matrices."""
    places, seen, own = (algebra, entries), [], algebra.described

    def described(given: Any) -> str:
        seen.append(isinstance(given, torch.Tensor) and given.numel() == ENTRIES)
        return own(given)

    for place in places:
        place.described = described  # type: ignore[attr-defined]
    try:
        shared = distribute(problem(kind), group=group)
        found = shared.solve(A=matrix())
    finally:
        for place in places:
            place.described = own  # type: ignore[attr-defined]
    with pytest.raises(RankError) as unlike:
        shared.solve(A=matrix(float(torch.distributed.get_rank(group))))
    return sum(seen), found.whole("x") if kind == "linear" else found.eigenvalues, str(unlike.value)


@pytest.mark.distributed
@pytest.mark.parametrize("kind", ["linear", "eigen"])
def test_a_given_matrix_is_compared_once(ranks: Ranks, kind: str) -> None:
    dense = matrix().to_dense()
    exact = torch.linalg.solve(dense, torch.ones(N).double())
    if kind == "eigen":
        exact = torch.linalg.eigvalsh(dense)[:1]
    for hashes, found, said in ranks.run(2, counted, kind):
        assert hashes == 3  # values, rows and columns
        assert torch.allclose(found, exact, rtol=1e-8)
        assert "the ranks disagree on the matrix 'A'" in said


def test_one_process_compares_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (algebra, entries):
        monkeypatch.setattr(place, "described", None)
    found = distribute(problem("linear"), 3).solve(A=matrix())
    exact = torch.linalg.solve(matrix().to_dense(), torch.ones(N).double())
    assert torch.allclose(found.whole("x"), exact)
