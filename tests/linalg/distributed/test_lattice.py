"""A lattice in parts has the levels of one process: the same cycle, the same iterations, however it is cut."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.helpers import rank_programs as programs
from tests.helpers.ranks import SIZES
from torch_sla.errors import ArgumentError, Result, SolveError
from torch_sla.linalg import AMG, DSparseTensor, SparseTensor
from torch_sla.linalg.distributed.lattice.boxes import box_ids, cut, slabs
from torch_sla.linalg.distributed.precond.lattice import LatticeHierarchy
from torch_sla.linalg.distributed.precond.multigrid import Hierarchy, PartMultigrid
from torch_sla.linalg.distributed.processes import Processes

if TYPE_CHECKING:
    from tests.helpers.ranks import Ranks

SMALL: dict[str, Any] = {"method": "lattice", "coarse_size": 40}
SHAPES = [((21, 34), (1.0, 1.0)), ((30, 17), (1.0, 1e-3)), ((9, 12, 10), (1.0, 1e-3, 1.0))]


def levels(D: DSparseTensor, **options: Any) -> Hierarchy | LatticeHierarchy:
    made = PartMultigrid(**{**SMALL, **options})
    return made.build_parts(D.sharding.slots, D.slot_values(), None)


@pytest.mark.parametrize("shape", [(9, 1, 1), (7, 5, 1), (6, 5, 7)])
def test_boxes_are_a_partition(shape: tuple[int, int, int]) -> None:
    n = int(np.prod(shape))
    for parts in (1, 2, 3, 7, 12, 40):
        for boxes in (cut(shape, parts), slabs(shape, [n * p // parts for p in range(parts + 1)])):
            part = box_ids(shape, boxes, torch.device("cpu"))
            assert torch.bincount(part, minlength=parts).tolist() == [box.n for box in boxes]
            for box in boxes:
                around = box.padded(shape)
                if not box.n:
                    continue
                assert box.within(around) == box
                assert box.grown(shape).within(around) == box.grown(shape)
                # Halving what is kept keeps what halving the whole keeps.
                for low, high, n_axis in zip(around.low, around.high, shape, strict=True):
                    assert low % 2 == 0
                    assert high - low >= min(n_axis, 3)


def test_boxes_have_little_surface() -> None:
    assert [box.shape for box in cut((64, 64, 64), 8)] == [(32, 32, 32)] * 8
    ends = [box.high[1] for box in cut((10, 400, 1), 4)]
    assert all(b - a == 100 for a, b in pairwise(ends))


def cycled(shape: tuple[int, ...], weights: tuple[float, ...]) -> tuple[Any, ...]:
    """A matrix, two residuals, and one cycle on them in one process."""
    A = programs.lattice(shape, weights)
    r = programs.rhs(A.shape[-1], A.dtype, 2)
    options = AMG(method="lattice", dtype="float64", coarse_size=200)
    return A, r, options.build(A.pattern, A.flat_slots()[1]).apply(r)


@pytest.mark.parametrize("how", ["lattice", "simple"])
@pytest.mark.parametrize(("shape", "weights"), SHAPES)
def test_one_cycle_is_that_of_one_process(
    shape: tuple[int, ...], weights: tuple[float, ...], how: str
) -> None:
    A, r, serial = cycled(shape, weights)
    for parts in (1, 2, 3, 7, 16):
        D = A.partition(parts, partition_method=how)
        made = levels(D, dtype="float64", coarse_size=200)
        z = made.apply(r[D.layout.names])
        torch.testing.assert_close(z, serial[D.layout.names], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("shape", "weights"), SHAPES)
def test_iterations_are_those_of_one_process(
    shape: tuple[int, ...], weights: tuple[float, ...]
) -> None:
    A = programs.lattice(shape, weights)
    b = programs.rhs(A.shape[-1], A.dtype)
    known = A.declare(positive_definite=True)
    exact, info = known.solve(b, method="cg", backend="pytorch", preconditioner=AMG(), info=True)
    for parts in (1, 2, 3, 4, 7, 16):
        for how in ("auto", "simple"):
            x, found = A.partition(parts, partition_method=how).solve(
                b, preconditioner=PartMultigrid(coarse_size=200), info=True
            )
            assert found.iterations == info.iterations
            torch.testing.assert_close(x, exact, rtol=1e-7, atol=1e-8)


def scattered(n: int, parts: int, how: str) -> torch.Tensor:
    """Parts that are no boxes: points one after the other, or halves with an edge that goes up and down."""
    i = torch.arange(n)
    return (
        i % parts if how == "dealt" else (i + 3 * torch.sin(i.double()).long()) * parts // (n + 4)
    )


@pytest.mark.parametrize("how", ["dealt", "frayed"])
@pytest.mark.parametrize(("shape", "weights"), SHAPES)
def test_parts_of_any_form_keep_stencils(
    shape: tuple[int, ...], weights: tuple[float, ...], how: str
) -> None:
    A, r, serial = cycled(shape, weights)
    for parts in (2, 5, 16):
        D = A.partition(parts, partition_ids=scattered(len(r), parts, how).clamp(min=0))
        found = D.sharding.lattice
        assert found is not None
        assert found.shift is not None
        assert torch.equal(found.leave(found.enter(r[D.layout.names])), r[D.layout.names])
        z = levels(D, dtype="float64", coarse_size=200).apply(r[D.layout.names])
        torch.testing.assert_close(z, serial[D.layout.names], rtol=1e-12, atol=1e-12)


def test_boxes_are_near_to_what_parts_own() -> None:
    """A part keeps what it owns of its box, whatever its number, and only the rest travels."""
    A = programs.lattice((20, 20), (1.0, 1.0))
    ids = box_ids((20, 20, 1), cut((20, 20, 1), 4), torch.device("cpu"))
    ids = torch.tensor([2, 0, 3, 1])[ids]
    ids[0] = 3
    D = A.partition(4, partition_ids=ids)
    found, before = D.sharding.lattice, D.traffic.copy()
    assert found is not None
    x = programs.rhs(400, A.dtype)[D.layout.names]
    assert torch.equal(found.leave(found.enter(x)), x)
    assert D.traffic.since(before).bytes == 2 * 8


def test_all_neighbours_and_an_adjoint_of_its_own() -> None:
    """Twenty-seven neighbours, no symmetry."""
    shape = (8, 9, 11)
    eye, one = np.eye, np.ones
    factors = [
        3 * eye(n) - 0.4 * np.diag(one(n - 1), 1) - 0.2 * np.diag(one(n - 1), -1) for n in shape
    ]
    A = programs.tensor_of(np.kron(np.kron(factors[0], factors[1]), factors[2]))
    n = A.shape[-1]
    r, s = programs.rhs(n, A.dtype, 2).split(1, dim=1)
    for parts in (1, 5):
        D = A.partition(parts)
        made = levels(D, dtype="float64")
        assert isinstance(made, LatticeHierarchy)
        assert not made.symmetric
        assert len(made.sizes) > 2
        back, there = made.apply_adjoint(s), made.apply(r)
        torch.testing.assert_close((r * back).sum(), (there * s).sum(), rtol=1e-11, atol=0)
        # What is not symmetric is left to aggregates unless stencils are asked for.
        assert isinstance(levels(D, method="auto"), Hierarchy)
        x, info = D.solve(r[:, 0], method="gmres", preconditioner=PartMultigrid(**SMALL), info=True)
        assert info.iterations < 20
        torch.testing.assert_close(A @ x, r[:, 0], rtol=0, atol=1e-8)


def test_what_is_no_lattice() -> None:
    A = programs.lattice((12, 9), (1.0, 1.0))
    # One entry that joins the end of a line with the beginning of the next.
    row, col = torch.tensor([8, 9]), torch.tensor([9, 8])
    torn = SparseTensor(
        torch.cat([A.values, torch.full((2,), -0.1, dtype=A.dtype)]),
        torch.cat([A.row_indices, row]),
        torch.cat([A.col_indices, col]),
        (108, 108),
    )
    D = torn.partition(2, partition_method="simple")
    assert D.sharding.lattice is None
    with pytest.raises(ArgumentError, match="entries that join neighbours"):
        levels(D)
    assert isinstance(levels(D, method="auto"), Hierarchy)
    with pytest.raises(ArgumentError, match="partition_method='lattice'"):
        torn.partition(2, partition_method="lattice")


def test_what_a_lattice_does_not_suit() -> None:
    A = programs.lattice((20, 20), (1.0, 1.0))
    row, step = A.row_indices, A.col_indices - A.row_indices
    along = torch.where(row < 200, 1.0, 1e-3).double() * (step.abs() == 1)
    across = torch.where(row < 200, 1e-3, 1.0).double() * (step.abs() == 20)
    off = along + torch.where((row < 200) == (A.col_indices < 200), across, across.clamp(max=0.1))
    diagonal = torch.zeros(400, dtype=A.dtype).index_add_(0, row, off) + 1e-3
    values = torch.where(step == 0, diagonal[row], -off)
    D = SparseTensor.from_pattern(A.pattern, values).partition(2)
    assert D.sharding.lattice is not None
    # The strong axis is another in each half.
    assert isinstance(levels(D, method="auto"), Hierarchy)
    assert isinstance(levels(D), LatticeHierarchy)
    values = D.slot_values().clone()
    values[D.sharding.slots.diagonal_slots[3]] = 0
    with pytest.raises(SolveError, match="diagonal") as caught:
        D.with_values(values).solve(
            programs.rhs(400, A.dtype), preconditioner=PartMultigrid(**SMALL)
        )
    assert caught.value.result is Result.BREAKDOWN


def test_a_part_that_owns_nothing() -> None:
    A = programs.lattice((12, 9), (1.0, 1.0))
    part = torch.where(torch.arange(108) < 36, 0, 3)
    b = programs.rhs(108, A.dtype)
    x, info = A.partition(5, partition_ids=part).solve(
        b, preconditioner=PartMultigrid(**SMALL), info=True
    )
    assert info.iterations < 15
    torch.testing.assert_close(x, A.solve(b), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("size", [1e-36, 1e30])
def test_sizes_that_single_precision_does_not_have(size: float) -> None:
    A = programs.lattice((20, 20), (1.0, 1.0))
    b = programs.rhs(400, A.dtype)
    D = A.partition(3)
    x, info = D.with_values(size * D.values).solve(
        b, preconditioner=PartMultigrid(**SMALL), info=True
    )
    assert info.iterations < 15
    torch.testing.assert_close(size * x, A.solve(b), rtol=1e-8, atol=1e-8)


@pytest.mark.distributed
@pytest.mark.parametrize("size", SIZES)
def test_processes(ranks: Ranks, size: int) -> None:
    A = programs.lattice((13, 10, 9), (1.0, 1e-2, 1.0))
    values, b = A.values.clone().requires_grad_(), programs.rhs(A.shape[-1], A.dtype)
    x = SparseTensor.from_pattern(A.pattern, values).solve(b)
    (x**3).sum().backward()
    assert values.grad is not None
    counts = set()
    for how in ("lattice", "simple"):
        for found in ranks.run(size, programs.on_a_lattice, how):
            for name, value in (("x", x.detach()), ("values", values.grad)):
                scale = float(value.abs().max())
                torch.testing.assert_close(found[name] / scale, value / scale, rtol=0, atol=1e-10)
            counts.add(found["iterations"])
    assert len(counts) == 1


def asked_twice(group: Any) -> list[bool]:
    A = programs.poisson(12)
    D = DSparseTensor.from_device_mesh(
        *(A.csr_values, A.pattern.csr_row, A.pattern.ccol, (144, 144)),
        comm=Processes(group),
        partition_method="simple",
    )
    first, second = D.sharding.lattice, D.sharding.slots.lattice
    return [first is second, D.sharding.slots is D.sharding]


@pytest.mark.distributed
def test_processes_with_entries_in_order_ask_together_with_the_others(ranks: Ranks) -> None:
    """Columns of the halo come last: of two runs of rows the first is in order, and has no slots of its own."""
    found = ranks.run(2, asked_twice)
    assert [order for _, order in found] == [True, False]
    assert all(same for same, _ in found)
