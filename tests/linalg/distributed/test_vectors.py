"""Vectors that are given whole, in parts, or cut otherwise than the matrix that they are for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.helpers import rank_programs as programs
from torch_sla.errors import ArgumentError
from torch_sla.linalg.distributed.tensor import DSparseTensor

if TYPE_CHECKING:
    from tests.helpers.rank_programs import Held
    from tests.helpers.ranks import Ranks

pytestmark = pytest.mark.distributed


def cut_twice(group: Any, gather: bool, parts: int | None = None) -> Held:
    """A vector goes from one matrix to another that is cut otherwise, and to one whose rows lie on one process."""
    comm = programs.communicator(group, parts)
    A, _ = programs.matrix("irregular")
    n = A.shape[-1]
    values = A.values.clone().requires_grad_()
    x = programs.rhs(n, A.dtype, 2).requires_grad_()
    D = programs.cut(comm, A, values, "scattered")
    E = programs.cut(comm, A, values, "gap", 1 if comm.alone else 2)
    last = torch.full((n,), E.num_partitions - 1)
    F = DSparseTensor.from_device_mesh(
        *(values, A.row_indices, A.col_indices, tuple(A.shape)), partition_ids=last, comm=E.comm
    )
    y = torch.sin(D @ D.vector(x))
    z = E @ E.vector(y.full_tensor() if gather else y)
    w = F @ F.vector(F.vector(z).local)
    loss = (w**3).sum().sum() + (y * D.vector(z)).sum().sum() + x.norm()
    loss.backward()
    return {"w": programs.whole(F, w.local.detach()), "values": values.grad, "x": x.grad}


def all_on_one(group: Any, local: bool) -> Held:
    """Gradients where one process has all rows, of vectors given whole and of what is held."""
    A, _ = programs.matrix("irregular")
    n = A.shape[-1]
    D = DSparseTensor.from_device_mesh(
        *(A.values, A.row_indices, A.col_indices, tuple(A.shape), group),
        partition_ids=torch.ones(n, dtype=torch.int64),
    )
    x = programs.rhs(n, A.dtype)
    x = (x[D.layout.names] if local else x).requires_grad_()
    (D @ D.vector(x)).norm().backward()
    return {"x": x.grad}


@pytest.mark.parametrize("gather", [False, True])
def test_vectors_go_from_one_cut_to_another(ranks: Ranks, gather: bool) -> None:
    A, _ = programs.matrix("irregular")
    values = A.values.clone().requires_grad_()
    x = programs.rhs(A.shape[-1], A.dtype, 2).requires_grad_()
    B = type(A).from_pattern(A.pattern, values)
    y = torch.sin(B @ x)
    z = B @ y
    w = B @ z
    ((w**3).sum() + (y * z).sum() + x.norm()).backward()
    for found in (*ranks.run(3, cut_twice, gather), cut_twice(None, gather, 3)):
        torch.testing.assert_close(found["w"], w.detach())
        torch.testing.assert_close(found["values"], values.grad)
        torch.testing.assert_close(found["x"], x.grad)


@pytest.mark.parametrize("local", [False, True])
def test_one_process_may_hold_all_rows(ranks: Ranks, local: bool) -> None:
    A, _ = programs.matrix("irregular")
    x = programs.rhs(A.shape[-1], A.dtype).requires_grad_()
    (A @ x).norm().backward()
    assert x.grad is not None
    for rank, found in enumerate(ranks.run(3, all_on_one, local)):
        torch.testing.assert_close(found["x"], x.grad[:0] if local and rank != 1 else x.grad)


def given_again(group: Any, parts: int | None, how: str) -> Held:
    """A vector made of its own local entries, with its gradient, and of the whole."""
    A, _ = programs.matrix("irregular")
    n = A.shape[-1]
    alone = group is None
    # Scattered, or everything in two parts of the second process.
    part = 2 + torch.arange(n) % 2 if how == "one" and not alone else (torch.arange(n) * 7) % 3
    where = (A.values, A.row_indices, A.col_indices, tuple(A.shape))
    D = (
        DSparseTensor(*where, parts, partition_ids=part)
        if alone
        else DSparseTensor.from_device_mesh(*where, group, partition_ids=part, num_partitions=parts)
    )
    x = programs.rhs(n, A.dtype).requires_grad_()
    v = D.vector(x, local=False)
    again = D.vector(v.local, local=True)
    (again**3).sum().backward()
    return {"again": again.full_tensor().detach(), "x": x.grad}


@pytest.mark.parametrize("how", ["scattered", "one"])
def test_local_entries_are_told_from_the_whole(ranks: Ranks, how: str) -> None:
    A, _ = programs.matrix("irregular")
    x = programs.rhs(A.shape[-1], A.dtype)
    for found in (*ranks.run(2, given_again, 4, how), given_again(None, 3, how)):
        assert torch.equal(found["again"], x)
        torch.testing.assert_close(found["x"], 3 * x**2)
    D = A.partition(3)
    with pytest.raises(ArgumentError, match=r"the 150 entries held here, got \[149\]"):
        D.vector(x[1:], local=True)


def bounded(group: Any, parts: int | None = None) -> Held:
    """Functions of each entry whose arguments are named: a number that all have a copy of, and another vector."""
    A, _ = programs.matrix("irregular")
    D = programs.cut(programs.communicator(group, parts), A, A.values)
    low = torch.tensor(-0.2, dtype=A.dtype, requires_grad=True)
    x = programs.rhs(A.shape[-1], A.dtype).requires_grad_()
    v = D.vector(x)
    w = torch.clamp(v, min=low) + torch.maximum(0.5 * v, other=v * v)
    (w**3).sum().backward()
    return {"low": low.grad, "x": x.grad}


def test_arguments_of_functions_may_be_named(ranks: Ranks) -> None:
    A, _ = programs.matrix("irregular")
    low = torch.tensor(-0.2, dtype=A.dtype, requires_grad=True)
    x = programs.rhs(A.shape[-1], A.dtype).requires_grad_()
    ((torch.clamp(x, min=low) + torch.maximum(0.5 * x, x * x)) ** 3).sum().backward()
    for found in (*ranks.run(2, bounded), bounded(None, 3)):
        torch.testing.assert_close(found["low"], low.grad)
        torch.testing.assert_close(found["x"], x.grad)


def one_of_two(group: Any) -> list[str]:
    """What is said where a part is asked for what all parts of its process do together."""
    A, _ = programs.matrix("irregular")
    D = programs.cut(programs.communicator(group, None), A, A.values, each=2)
    part = next(iter(D))
    own = torch.ones(part.num_owned, dtype=A.dtype)
    said = []
    for work in (part.halo_exchange, part.matvec, part.solve):
        with pytest.raises(ArgumentError) as error:
            work(own)
        said.append(str(error.value))
    return said


def test_a_part_beside_others_of_its_process_has_no_exchange_of_its_own(ranks: Ranks) -> None:
    for said in ranks.run(2, one_of_two):
        assert all("some of which this process holds as well" in text for text in said)
