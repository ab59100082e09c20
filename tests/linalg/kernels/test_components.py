"""Components of graphs: by search on the CPU, by growing labels elsewhere, against each other."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from torch_sla.linalg.kernels.components import _by_hooking, component_labels
from torch_sla.linalg.sparse.pattern import Pattern


def graph(n: int, edges: list[tuple[int, int]]) -> Pattern:
    ends = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2)
    i, j = ends[:, 0], ends[:, 1]
    return Pattern.from_coo(torch.cat([i, j]), torch.cat([j, i]), (n, n))


def same_parts(a: torch.Tensor, b: torch.Tensor) -> bool:
    pairs = torch.unique(torch.stack([a, b]), dim=1).shape[1]
    return pairs == torch.unique(a).numel() == torch.unique(b).numel()


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 40).flatmap(
        lambda n: st.tuples(
            st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)))
        )
    )
)
def test_both_ways(case: tuple[int, list[tuple[int, int]]]) -> None:
    pattern = graph(*case)
    found = component_labels(pattern.crow, pattern.ccol)
    grown = _by_hooking(pattern.crow, pattern.ccol)
    assert same_parts(found, grown)
    for label in (found, grown):  # each is a row of its component
        assert torch.equal(label[label], label)


@pytest.mark.parametrize("index", [torch.int32, torch.int64])
def test_long_chains_in_any_order(index: torch.dtype) -> None:
    n = 3000
    order = torch.randperm(n)
    for number in (torch.arange(n), torch.arange(n).flip(0), order):
        links = torch.stack([number[:-1], number[1:]], 1)
        pattern = graph(n, links[torch.arange(n - 1) != 1234].tolist())
        crow, ccol = pattern.crow.to(index), pattern.ccol.to(index)
        label = _by_hooking(crow, ccol)
        assert torch.unique(label).numel() == 2
        assert same_parts(label, component_labels(crow, ccol))


def test_entries_that_connect_nothing() -> None:
    pattern = graph(4, [(0, 1), (1, 2), (2, 3)])
    linked = torch.tensor([(i, j) not in {(1, 2), (2, 1)} for i, j in zip(
        pattern.csr_row.tolist(), pattern.ccol.tolist(), strict=True
    )])  # fmt: skip
    label = component_labels(pattern.crow, pattern.ccol, linked)
    assert label[0] == label[1] != label[2] == label[3]
    assert component_labels(torch.tensor([0]), torch.empty(0, dtype=torch.int64)).shape == (0,)
