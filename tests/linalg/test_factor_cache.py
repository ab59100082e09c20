"""The bounded cache: least recently used goes first, the newest always stays."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import torch

from torch_sla.linalg import SparseTensor, cache_counters, clear_factor_cache
from torch_sla.linalg.factor_cache import FactorCache, numerics, symbolics
from torch_sla.linalg.kernels import unavailable
from torch_sla.linalg.precond.jacobi import JacobiOptions

if TYPE_CHECKING:
    from torch_sla.linalg.precond.base import Preconditioner
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure


@dataclass
class Item:
    nbytes: int


def test_least_recently_used_goes_first() -> None:
    cache = FactorCache(100)
    a = cache.get("a", lambda: Item(40))
    cache.get("b", lambda: Item(40))
    assert cache.get("a", lambda: Item(1)) is a
    cache.get("c", lambda: Item(40))
    assert cache.nbytes == 80
    assert cache.get("a", lambda: Item(1)) is a
    assert cache.get("b", lambda: Item(7)).nbytes == 7


def test_an_item_above_the_bound_stays_alone() -> None:
    cache = FactorCache(10)
    cache.get("a", lambda: Item(5))
    big = cache.get("b", lambda: Item(50))
    assert len(cache) == 1
    assert cache.get("b", lambda: Item(1)) is big


def test_each_memory_has_its_own_bound() -> None:
    cache = FactorCache({"cpu": 100, "cuda:0": 30}.__getitem__)
    for k in range(4):
        cache.get(("host", k), lambda: Item(20))
        cache.get(("device", k), lambda: Item(14), place="cuda:0")
    assert cache.nbytes == 4 * 20 + 2 * 14
    assert cache.get(("device", 2), lambda: Item(1), place="cuda:0").nbytes == 14
    assert cache.get(("device", 0), lambda: Item(1), place="cuda:0").nbytes == 1
    assert cache.get(("host", 0), lambda: Item(1)).nbytes == 20
    # A large one leaves what lies elsewhere alone.
    cache.get("large", lambda: Item(500), place="cuda:0")
    assert cache.nbytes == 4 * 20 + 500


def test_what_could_not_be_made_leaves_nothing() -> None:
    def fail() -> Item:
        raise ValueError("no")

    cache, user = FactorCache(100), User()
    with pytest.raises(ValueError, match="no"):
        cache.get("a", fail, user)
    assert not cache._users


class User:
    """Somebody who may ask again."""


MB = 1 << 20


def test_new_items_take_the_place_of_old_ones_that_nobody_uses() -> None:
    cache, users = FactorCache(1000 * MB, spare=2 * MB), [User() for _ in range(4)]
    for k, user in enumerate(users):
        cache.get(("p", k), lambda: Item(MB), user, family="p")
    cache.get(("q", 0), lambda: Item(MB), family="q")
    del user, users[1:]
    cache.get(("p", 4), lambda: Item(MB), family="p")
    assert len(cache) == 5  # that of the user, two to spare, the newest, and that of another family
    assert cache.get(("p", 0), lambda: Item(7), family="p").nbytes == MB
    assert cache.get(("p", 3), lambda: Item(7), family="p").nbytes == MB
    assert cache.get(("p", 1), lambda: Item(7), family="p").nbytes == 7


def test_the_least_recently_used_of_a_family_goes_first() -> None:
    cache = FactorCache(1000 * MB, spare=2 * MB)
    for k in (0, 1, 0, 2, 3):
        cache.get(k, lambda: Item(MB), family="p")
    assert cache.get(0, lambda: Item(7), family="p").nbytes == MB


@pytest.mark.parametrize(("members", "misses"), [(2, 2), (5, 5), (12, 12)])
def test_a_family_gets_room_for_what_it_comes_back_to(members: int, misses: int) -> None:
    cache, made = FactorCache(100 * MB), 0

    def make() -> Item:
        nonlocal made
        made += 1
        return Item(3 * MB)

    for turn in range(6):
        for k in range(members):
            cache.get(k, make, family="p")
        assert made <= misses * (turn + 1)
    # One round more than there are, at most: from the first that was missed on all have room.
    assert made <= 2 * misses
    assert cache.nbytes == 3 * MB * members


def test_room_is_bounded() -> None:
    cache = FactorCache(30 * MB)
    for _ in range(3):
        for k in range(9):
            cache.get(k, lambda: Item(3 * MB), family="p")
    assert (
        cache.nbytes == 3 * MB
    )  # nine would take more than half of the bound: nothing is gained by eight


def test_same_values_are_factorised_once() -> None:
    n = 40
    i = torch.arange(n)
    values = torch.linspace(1, 2, n, dtype=torch.float64)
    b = torch.ones(n, dtype=torch.float64)
    SparseTensor(values, i, i, (n, n)).solve(b)
    before = cache_counters()["factorize"]
    SparseTensor(values.clone(), i, i, (n, n)).solve(2 * b)
    assert cache_counters()["factorize"] == before
    SparseTensor(values + 1, i, i, (n, n)).solve(b)
    assert cache_counters()["factorize"] == before + 1


class Witness:
    """A preconditioner that notes what it was told about the matrix."""

    def __init__(self) -> None:
        self.seen: list[Structure] = []

    def build(self, pattern: Pattern, values: torch.Tensor, structure: Structure) -> Preconditioner:
        self.seen.append(structure)
        return JacobiOptions().build(pattern, values, structure)


@pytest.mark.parametrize("name", ["coordinates", "near_nullspace"])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_a_preconditioner_sees_the_vectors_of_its_own_matrix(name: str, scale: float) -> None:
    n = 30
    i = torch.arange(n)
    values = torch.linspace(1, 2, n, dtype=torch.float64)
    b, witness = torch.ones(n, dtype=torch.float64), Witness()
    known = [torch.full((n, 2), fill, dtype=torch.float64) for fill in (1.0, 3.0, 1.0)]
    for k, (vectors, size) in enumerate(zip(known, (1.0, scale, 1.0), strict=True)):
        A = SparseTensor(size * values, i, i, (n, n)).declare(**{name: vectors})
        A.solve(b, method="cg", backend="pytorch", preconditioner=witness)
        assert len(witness.seen) == min(k + 1, 2)  # equal vectors are the same ones
    for structure, fill in zip(witness.seen, (1.0, 3.0), strict=True):
        assert bool((getattr(structure, name) == fill).all())


def line(n: int) -> SparseTensor:
    one = torch.ones(n, dtype=torch.float64)
    return SparseTensor.tridiagonal(-one[1:], 2.1 * one, -one[1:])


@pytest.mark.parametrize("preconditioner", ["multigrid", "none"])
def test_mesh_after_mesh_stays_within_the_bound(
    preconditioner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clear_factor_cache()
    for k in range(8):
        A = line(2000 + k)
        b = torch.ones(2000 + k, dtype=torch.float64)
        A.solve(b, method="cg", backend="pytorch", preconditioner=preconditioner)
        if k == 0:
            one = symbolics.nbytes
            assert one >= 3 * 4 * 2000  # the columns at least
            monkeypatch.setattr(symbolics, "_limit", int(3.5 * one))
        assert symbolics.nbytes <= 3.5 * one
    assert len(symbolics) <= 4
    assert len(numerics) == (8 if preconditioner == "multigrid" else 0)
    clear_factor_cache()


def test_a_solve_leaves_nothing_to_the_garbage_collector() -> None:
    n = 30
    i = torch.arange(n)
    values = torch.linspace(1, 2, n, dtype=torch.float64, requires_grad=True)
    gc.collect()
    gc.disable()
    try:
        kept = values * 3.0
        watched = weakref.ref(kept)
        x = SparseTensor(kept, i, i, (n, n)).solve(torch.ones(n, dtype=torch.float64))
        x.sum().backward()
        del x, kept
        assert watched() is None
    finally:
        gc.enable()


WAYS = [
    pytest.param(
        {"backend": "native"},
        marks=pytest.mark.skipif(unavailable() is not None, reason=f"{unavailable()}"),
    ),
    {"method": "cg", "preconditioner": "multigrid"},
]


@pytest.mark.parametrize("way", WAYS)
def test_new_values_take_the_place_of_old_ones_that_no_graph_needs(
    way: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    n = 12
    row = torch.arange(n)
    A = SparseTensor(2.0 + torch.arange(n, dtype=torch.float64), row, row, (n, n))
    b = torch.ones(n, dtype=torch.float64)
    clear_factor_cache()
    monkeypatch.setattr(numerics, "_spare", 2 << 20)
    first = A.csr_values.clone().requires_grad_()
    x = SparseTensor.from_pattern(A.pattern, first, A.structure).solve(b, **way)
    held, reports = len(numerics), []
    for k in range(1, 12):
        other = SparseTensor.from_pattern(A.pattern, A.csr_values * (1 + k), A.structure)
        _, info = other.solve(b, info=True, **way)
        reports.append(info)  # a report keeps no factor
    # What a graph needs, the newest, and two to spare.
    assert len(numerics) <= held + 3
    before = cache_counters()["factorize"]
    x.sum().backward()
    assert cache_counters()["factorize"] == before
    torch.testing.assert_close(first.grad, -(first.detach() ** -2))
    # It makes the factor again when it is asked about that.
    assert reports[0].rcond == pytest.approx(2 / (n + 1), rel=1e-2)
    assert cache_counters()["factorize"] == before + 1


@pytest.mark.skipif(unavailable() is not None, reason=f"{unavailable()}")
def test_going_back_and_forth_among_many_matrices_factorises_each_once() -> None:
    A, b = line(50), torch.ones(50, dtype=torch.float64)
    clear_factor_cache()
    before = cache_counters()["factorize"]
    for _ in range(3):
        for k in range(10):
            other = SparseTensor.from_pattern(A.pattern, A.values * (1 + k), A.structure)
            other.solve(b, backend="native")
    assert cache_counters()["factorize"] == before + 10
