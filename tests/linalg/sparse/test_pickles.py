"""Pickles, and files of torch that run no code of theirs."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch

from torch_sla import SparseTensor, SparseTensorList
from torch_sla.errors import ArgumentError


def unsorted() -> SparseTensor:
    """Entries in any order, two of them in one place."""
    values = torch.arange(1.0, 7.0, dtype=torch.float64)
    row, col = torch.tensor([2, 0, 1, 2, 2, 0]), torch.tensor([2, 0, 1, 2, 1, 2])
    known = {"coordinates": torch.rand(3, 2), "ordering": "natural", "symmetric": False}
    return SparseTensor(values, row, col, (3, 3)).declare(**known)


def stored(what: Any) -> io.BytesIO:
    buffer = io.BytesIO()
    torch.save(what, buffer)
    buffer.seek(0)
    return buffer


def loaded(what: Any) -> Any:
    return torch.load(stored(what), weights_only=True)


class Holder(torch.nn.Module):
    """A layer that keeps a matrix beside its weights."""

    def __init__(self, A: SparseTensor) -> None:
        super().__init__()
        self.layer, self.A = torch.nn.Linear(3, 3), A

    def get_extra_state(self) -> SparseTensor:
        return self.A

    def set_extra_state(self, state: SparseTensor) -> None:
        self.A = state


@pytest.mark.parametrize("way", [loaded, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_everything_comes_back(way: Any) -> None:
    A = unsorted()
    batch = SparseTensor.from_pattern(A.pattern, torch.rand(2, 6, requires_grad=True))
    blocks = SparseTensor(torch.rand(1, 2, 2), torch.tensor([0]), torch.tensor([1]), (2, 2, 2, 2))
    found = way({"A": A, "batch": batch, "list": SparseTensorList([A, blocks])})
    for name, expected in {"A": A, "batch": batch}.items():
        assert torch.equal(found[name].values, expected.values)
        assert torch.equal(found[name].to_dense(), expected.to_dense())
    assert found["A"].pattern is found["batch"].pattern
    assert found["batch"].requires_grad
    assert found["A"].declared.ordering == "natural"
    assert found["A"].declared.symmetric is False
    assert torch.equal(found["A"].declared.coordinates, A.declared.coordinates)
    assert torch.equal(found["list"][1].to_dense(), blocks.to_dense())


def test_modules_that_hold_one() -> None:
    one, other = Holder(unsorted()), Holder(SparseTensor.eye(3))
    other.load_state_dict(loaded(one.state_dict()))
    assert torch.equal(other.A.to_dense(), one.A.to_dense())


class Forged:
    """A pickle that calls the function of another with arguments of its own."""

    def __init__(self, like: Any, *changed: Any) -> None:
        self.function, given = like.__reduce__()
        self.given = tuple(b if a is None else a for a, b in zip(changed, given, strict=True))

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.given


def ints(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.int32)


# The entries of `unsorted` are rows of 2, 1 and 2.
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ((None, ints(0, 2, 1, 1, 10**9), None, None, None), r"`ccol` must lie in \[0, 3\)"),
        ((None, ints(0, -1, 1, 1, 2), None, None, None), r"`ccol` must lie in"),
        ((ints(0, 2, 3, 9), None, None, None, None), "`crow` must rise"),
        ((ints(0, 3, 2, 5), None, None, None, None), "`crow` must rise"),
        ((None, None, (9, 3), None, None), "`crow` must be int32 or int64 of length 10"),
        ((None, None, (3, -3), None, None), "non-negative"),
        ((None, None, None, None, ints(0, 1, 2, 3, 4, 5)), "target"),
    ],
)
def test_a_forged_pattern_is_refused(changed: tuple[Any, ...], message: str) -> None:
    forged = Forged(unsorted().pattern, *changed)
    for weights_only in (True, False):
        with pytest.raises(ArgumentError, match=message):
            torch.load(stored(forged), weights_only=weights_only)


def test_forged_values_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"`values` must end in \[6\]"):
        loaded(Forged(unsorted(), None, torch.ones(7), None))
    with pytest.raises(ArgumentError, match="`members` must be SparseTensors"):
        loaded(Forged(SparseTensorList([]), ["code"]))


def test_nothing_but_checked_functions_is_safe() -> None:
    """Classes would let a file set their fields unseen."""
    ours = [
        f for f in torch.serialization.get_safe_globals() if f.__module__.startswith("torch_sla")
    ]
    assert len(ours) == 3
    assert {f.__name__ for f in ours} == {"_rebuilt"}
