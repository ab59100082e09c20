"""Threads, forks, copies, files and compilers around a solve."""

from __future__ import annotations

import contextlib
import copy
import multiprocessing
import os
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from tests.helpers.zoo import case, rhs
from torch_sla.errors import GradientError
from torch_sla.linalg import SparseTensor, clear_factor_cache, nonlinear_solve
from torch_sla.linalg.backends.analyses import Analyses
from torch_sla.linalg.factor_cache import numerics, symbolics


def grid(n: int) -> SparseTensor:
    i = torch.arange(n * n)
    right, up = i[i % n != n - 1], i[:-n]
    row = torch.cat([i, right, right + 1, up, up + n])
    col = torch.cat([i, right + 1, right, up + n, up])
    values = torch.cat([4.1 * torch.ones(n * n), -torch.ones(len(row) - n * n)]).double()
    return SparseTensor(values, row, col, (n * n, n * n))


@pytest.mark.parametrize("method", ["auto", "superlu", "lu", "gmres"])
def test_eight_threads_get_the_bits_of_one(method: str) -> None:
    A = grid(20)
    loads = [torch.linspace(-1, k, 400, dtype=torch.float64) for k in range(1, 9)]

    def work(k: int) -> torch.Tensor:
        v = (A.values * (1 + k % 3)).requires_grad_()
        way = {"preconditioner": "ilu"} if method == "gmres" else {}
        x = A.from_pattern(A.pattern, v).solve(loads[k], method=method, **way)
        return torch.cat([x.detach(), torch.autograd.grad((x**2).sum(), v)[0]])

    alone = [work(k) for k in range(8)]
    clear_factor_cache()
    with ThreadPoolExecutor(8) as pool:
        for _ in range(2):
            together = list(pool.map(work, range(8)))
            assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def _child(queue: Any, A: SparseTensor, b: torch.Tensor) -> None:
    x = A.solve(b)
    y = A.solve(b, backend="pytorch", method="cg", preconditioner="ssor")
    queue.put((x.tolist(), float((x - y).norm())))


def _run(worker: Any) -> None:
    worker.start()
    worker.join(60)
    if worker.is_alive():
        worker.kill()
        pytest.fail("the worker hangs")
    assert worker.exitcode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_worker_solves() -> None:
    A, b = grid(20), torch.ones(400, dtype=torch.float64)
    here = A.solve(b)
    A @ torch.ones(400, 50, dtype=torch.float64)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    worker = context.Process(target=_child, args=(queue, A, b))
    _run(worker)
    there, difference = queue.get()
    assert there == here.tolist()
    assert difference < 1e-8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_worker_forked_while_a_thread_was_at_the_caches() -> None:
    A, b = grid(20), torch.ones(400, dtype=torch.float64)
    A.solve(b, method="cholesky", backend="native")
    locks = [cache._lock for cache in (numerics, symbolics)]
    locks += [kept._lock.held for kept in symbolics._items.values() if isinstance(kept, Analyses)]
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    worker = context.Process(target=_child, args=(queue, A, b))
    with contextlib.ExitStack() as held:
        for lock in locks:
            held.enter_context(lock)
        worker.start()
    worker.join(60)
    if worker.is_alive():
        worker.kill()
        pytest.fail("the worker hangs")
    assert queue.get()[1] < 1e-8


def _by_multigrid(A: SparseTensor, b: torch.Tensor) -> torch.Tensor:
    return A.solve(b, method="cg", preconditioner="multigrid")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_forked_while_a_thread_was_inside_a_hierarchy() -> None:
    A, b, done = grid(60), torch.ones(3600, dtype=torch.float64), threading.Event()
    _by_multigrid(A, b)

    def go_on() -> None:
        while not done.is_set():
            _by_multigrid(A, b)

    context = multiprocessing.get_context("fork")
    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(go_on)
        try:
            for _ in range(4):
                _run(context.Process(target=_by_multigrid, args=(A, b)))
        finally:
            done.set()
        going.result()


class _Solutions(torch.utils.data.Dataset[torch.Tensor]):
    def __init__(self, A: SparseTensor) -> None:
        self.A = A

    def __len__(self) -> int:
        return 4

    def __getitem__(self, k: int) -> torch.Tensor:
        return self.A.solve(torch.full((100,), float(k + 1), dtype=torch.float64))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are forked on Linux")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_data_loader_with_workers() -> None:
    data = _Solutions(grid(10))
    loader = torch.utils.data.DataLoader(
        data, batch_size=2, num_workers=1, timeout=60, multiprocessing_context="fork"
    )
    out = torch.cat(list(loader))
    assert torch.equal(out, torch.stack([data[k] for k in range(4)]))


def test_copies_and_pickles_solve_alike() -> None:
    A = case("general").sparse(torch.float64)
    b = rhs(A, None)
    A.values.requires_grad_()
    for other in (copy.copy(A), copy.deepcopy(A), pickle.loads(pickle.dumps(A))):
        assert torch.equal(other.solve(b), A.solve(b))
        assert other.requires_grad
    deep = copy.deepcopy(A)
    deep.values.data.mul_(2)
    assert not torch.equal(deep.values, A.values)
    factor = A.detach().lu()
    for again in (copy.deepcopy(factor), pickle.loads(pickle.dumps(factor))):
        assert type(again) is type(factor)
        assert torch.equal(again.solve(b), factor.solve(b))
    info = A.solve(b, info=True)[1]
    assert pickle.loads(pickle.dumps(info)).result is info.result


def _cubic(u: torch.Tensor, A: SparseTensor, x: torch.Tensor) -> torch.Tensor:
    return A @ u + u**3 - x


COMPILED: dict[str, Any] = {
    "product": lambda A, x: ((A @ (x * 3)) ** 2).sum(),
    "solve": lambda A, x: (A.solve(x * 3) ** 2).sum(),
    "batch": lambda A, x: (A.solve_batch(torch.stack([A.values, 2 * A.values]), x) ** 2).sum(),
    "lu": lambda A, x: (A.lu().solve(x * 3) ** 2).sum(),
    "slogdet": lambda A, x: A.slogdet()[1] * x.sum(),
    "eigs": lambda A, x: A.eigs(2)[0].abs().sum() * x.sum(),
    "sum of patterns": lambda A, x: ((A + A.T()) @ x).sum(),
    "sparse product": lambda A, x: ((A @ A) @ x).sum(),
    "nonlinear": lambda A, x: nonlinear_solve(_cubic, 0 * x, A, x).sum(),
}


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)
@pytest.mark.parametrize(
    ("name", "backend"),
    [*((name, "eager") for name in COMPILED), ("solve", "aot_eager"), ("nonlinear", "aot_eager")],
)
def test_torch_compile_breaks_the_graph_and_nothing_else(name: str, backend: str) -> None:
    A = case("general").sparse(torch.float64)
    b = rhs(A, None)

    def loss(v: torch.Tensor, load: torch.Tensor) -> torch.Tensor:
        return COMPILED[name](A.from_pattern(A.pattern, 2 * v), load) * 2

    torch._dynamo.reset()
    compiled = torch.compile(loss, backend=backend)
    results = []
    for function in (loss, compiled):
        v, x = A.values.clone().requires_grad_(), b.clone().requires_grad_()
        y = function(v, x)
        results.append((y.detach(), *torch.autograd.grad(y, (v, x))))
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)
def test_matrices_made_inside_a_compiled_function_are_not_traced() -> None:
    A = case("general").sparse(torch.float64)
    row, col, shape = A.row_indices, A.col_indices, tuple(A.shape)

    def loss(v: torch.Tensor) -> torch.Tensor:
        B = SparseTensor(v, row, col, shape)
        return (B.T().sum(-1) ** 2).sum() + B.norm(1) + B.square().to_dense().sum()

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    v = A.values.clone().requires_grad_()
    results = []
    for function in (loss, torch.compile(loss, backend="eager")):
        y = function(v)
        results.append((y.detach(), *torch.autograd.grad(y, v)))
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two)
    reasons = list(torch._dynamo.utils.counters["graph_break"])
    assert reasons
    if torch.__version__ < (2, 7):
        return  # its compiler looks into what it does not trace
    assert not [reason for reason in reasons if "trace" in reason and "builtin" in reason]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.parametrize(
    "record",
    [
        lambda f, v: torch.func.linearize(f, v)[1](v),
        lambda f, v: make_fx(f)(v)(v),
        lambda f, v: torch.jit.trace(f, (v,))(v),
    ],
    ids=["linearize", "make_fx", "jit"],
)
def test_what_records_without_seeing_kernels_is_refused(name: str, record: Any) -> None:
    A = case("general").sparse(torch.float64)
    b = rhs(A, None)
    with pytest.raises(GradientError, match="constants"):
        record(lambda x: COMPILED[name](A, x), b)
