"""What the package launches Triton's kernels with, recorded without a card and without running them."""

from __future__ import annotations

import importlib
import inspect
import itertools
import pkgutil
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tests.helpers.grids import split
from tests.helpers.lattices import box_stencil, checkerboard, laplacian
from tests.helpers.meshed import delaunay, elastic, flat_cells, poisson
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.kernels import (
    batched_cg,
    lattice,
    rows,
    sparse,
    spgemm,
    triton as device,
)
from torch_sla.linalg.kernels.detection import counted_structure, sound_rows
from torch_sla.linalg.kernels.independent import independent_rows
from torch_sla.linalg.kernels.lattice_detect import find_lattice
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.precond.multigrid import AMG, rigid_body_modes
from torch_sla.linalg.precond.multigrid.device.aggregation import DeviceAggregation
from torch_sla.linalg.precond.multigrid.device.lattice import DeviceLattice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

__all__ = ["PROGRAMS", "Launch", "files", "recorded"]

REAL, INDEX = (torch.float32, torch.float64), (torch.int32, torch.int64)
VALUES = (*REAL, torch.complex64, torch.complex128)
# Rows, terms and columns: numbers, displacements in the plane and in space, and their rigid-body modes.
BLOCKS = (
    (1, 1, 1), (2, 2, 2), (2, 2, 3), (3, 2, 2), (3, 2, 3),
    (3, 3, 3), (3, 3, 6), (6, 3, 3), (6, 3, 6), (6, 6, 3), (6, 6, 6),
)  # fmt: skip


@dataclass(frozen=True)
class Launch:
    """One binary of a kernel: what Triton compiles it for.

    Parameters
    ----------
    kernel
        The jitted function.
    arguments
        In order: dtypes for tensors, ``"int"`` and ``"float"`` for numbers (``"16"`` for an integer that Triton
        specialises on), the values of compile-time constants.
    warps
        Of a program.
    """

    kernel: Any
    arguments: tuple[Any, ...]
    warps: int

    @classmethod
    def of(cls, kernel: Any, args: tuple[Any, ...], warps: int | None) -> Launch:
        """Forget the sizes."""
        assert len(args) == len(kernel.params), kernel
        told = []
        for a, p in zip(args, kernel.params, strict=True):
            if p.is_constexpr:
                told.append(a)
            elif isinstance(a, torch.Tensor):
                told.append(a.dtype)
            elif isinstance(a, float):
                # Numbers reach kernels in single precision: what is not one comes in two parts.
                assert p.name.endswith("_low") or a == float(np.float32(a)), f"{kernel}: {p.name}"
                told.append("float")
            else:
                assert type(a) is int, f"{kernel}: {p.name} is {a!r}"
                # Otherwise one more binary would be made for 1 and for multiples of 16, unforeseen by `launch`.
                assert p.do_not_specialize or a % 16 == 0, f"{kernel}: {p.name} is {a}"
                told.append("int" if p.do_not_specialize else "16")
        return cls(kernel, tuple(told), warps or 4)


def files() -> list[Any]:
    """The modules of the folder of kernels."""
    names = [found.name for found in pkgutil.iter_modules(device.__path__)]
    return [importlib.import_module(f"{device.__name__}.{name}") for name in names]


class _Both:
    """Functions of the kernels, to be recorded, and of the fallback, for the result."""

    def __init__(self, ours: Any, fallback: Any) -> None:
        self._ours, self._fallback = ours, fallback

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def both(*args: Any) -> Any:
            getattr(self._ours, name)(*args)
            return getattr(self._fallback, name)(*args)

        return both


@contextmanager
def recorded(monkeypatch: Any) -> Iterator[dict[Launch, None]]:
    """Collect launches: whoever asks whether kernels run does its work twice.

    Once with kernels, which are noted and not run, and what comes out is dropped; and then without.
    """
    found: dict[Launch, None] = {}
    asking, launches = False, 0

    def noted(kernel: Any, grid: tuple[int, ...], *args: Any, num_warps: int | None = None) -> None:
        nonlocal launches
        assert 1 <= len(grid) <= 3
        found.setdefault(Launch.of(kernel, args, num_warps))
        launches += 1

    def runs(*_: torch.Tensor) -> bool:
        nonlocal asking
        caller = sys._getframe(1)
        if asking:
            return True
        asking, before = True, launches
        try:
            for work in _callers(caller):
                work()
                if launches > before:
                    break
        finally:
            asking = False
        return False

    # What kernels would have written is 1: numbers of entries, of rows and of what was not found.
    monkeypatch.setattr(torch, "empty", torch.ones)
    monkeypatch.setattr(torch, "empty_like", torch.ones_like)
    monkeypatch.setattr(torch.Tensor, "new_empty", torch.Tensor.new_ones)
    monkeypatch.setattr(device, "runs", runs)
    for module in files():
        if hasattr(module, "launch"):
            monkeypatch.setattr(module, "launch", noted)
    monkeypatch.setattr(
        device, "chosen", lambda name, fallback, *_: _Both(device._file(name), fallback)
    )
    yield found


def _callers(frame: FrameType | None) -> Iterator[Callable[[], Any]]:
    """The functions that led to a frame, the innermost first, to be called again with what they were given."""
    for _ in range(4):
        if frame is None:
            return
        code, values = frame.f_code, frame.f_locals
        function: Any = frame.f_globals.get(code.co_name)
        if getattr(function, "__code__", None) is code:
            names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            given = [values[n] for n in names[: code.co_argcount]]
            if code.co_flags & inspect.CO_VARARGS:
                given += values[code.co_varnames[len(names)]]
            named = {n: values[n] for n in names[code.co_argcount :]}
            yield partial(function, *given, **named)
        frame = frame.f_back


def lattices() -> None:
    """Hierarchies of stencils in every number of dimensions, isotropic and not, with jumps."""
    for A in (
        laplacian(2100),
        laplacian(21, 33),
        laplacian(20, 30, weights=(1.0, 1e3)),
        box_stencil(17, 20),
        checkerboard(40, 1e6, 6),
        laplacian(9, 12, 7),
        laplacian(8, 9, 10, weights=(1.0, 1e3, 1.0)),
        box_stencil(7, 8, 9),
    ):
        pattern, values = split(A)
        crow, ccol = pattern.crow.long(), pattern.ccol.long()  # of more than 2**31 entries
        wide = find_lattice(crow, ccol)
        assert wide is not None
        for kind, levels in itertools.product(REAL, REAL):
            v, b = values.to(kind), torch.ones(A.shape[0], 1, dtype=kind)
            hierarchy = DeviceLattice(
                pattern, v, AMG(dtype="float32" if levels is torch.float32 else "float64")
            )
            hierarchy.cg(v, b, x0=b, options=KrylovOptions(maxiter=2))
            for kind_of_vector in REAL:
                hierarchy.apply(b.to(kind_of_vector))
                hierarchy.apply_adjoint(b.to(kind_of_vector))
            lattice.load(wide, crow, ccol, v, levels)
        hierarchy.cg(v, b, options=KrylovOptions(maxiter=2))


def aggregates() -> None:
    """Hierarchies of aggregates: scalars and blocks, symmetric and not, rows that are tied."""
    plate, points = elastic((4, 3))
    body, corners = elastic((3, 2, 2))
    systems = [
        (delaunay(400, 2), None, {}),
        (poisson(20, 15), None, {"unsymmetric": True}),
        (flat_cells(1e4, edge=7), None, {}),
        (plate, rigid_body_modes(points), {}),
        (body, rigid_body_modes(corners), {}),
    ]
    chosen = [
        AMG(smoother=s, coarse_size=20) for s in ("chebyshev", "jacobi", "l1_jacobi", "spai0")
    ]
    chosen.append(AMG(cycle="W", coarse_size=20, dtype="float32"))
    for (A, vectors, facts), kind in itertools.product(systems, REAL):
        pattern, values = split(A)
        values = values.to(kind)
        for options in chosen:
            hierarchy = DeviceAggregation(
                pattern, values, options, None if vectors is None else vectors.to(kind), **facts
            )
            b = torch.ones(A.shape[0], 3, dtype=kind)
            hierarchy.apply(b)
            hierarchy.apply_adjoint(b[:, :1])
        hierarchy.update(2 * values)
        if not facts:
            hierarchy.cg(values, b[:, :1])


def entries() -> None:
    """Kernels on rows and entries, at every dtype of values and indices and every shape of a tile."""
    for index in INDEX:
        for length in (1, 12, 30, 60, 70):  # every width of a tile
            ccol = torch.arange(length).repeat(6).to(index)
            crow = (torch.arange(7) * length).to(index)
            for a, x in itertools.product(VALUES, VALUES):
                _products(crow, ccol, a, x, length)
            for source in (*REAL, *INDEX):
                rows.row_max(crow, torch.ones(6 * length, dtype=source), None, 0)
                rows.row_max(crow, torch.ones(length, dtype=source), ccol, 0)
            sparse.diagonal_slots(crow, ccol, length)
            for kind in REAL:
                A = rows.Rows.of(crow, ccol, torch.ones(6 * length, dtype=kind), length)
                for squares in (False, True):
                    rows.row_sizes(A, squares=squares)
            free = torch.ones(6, dtype=torch.bool)
            independent_rows(crow, (ccol % 6).contiguous(), free)


def _products(
    crow: torch.Tensor, ccol: torch.Tensor, a: torch.dtype, x: torch.dtype, n: int
) -> None:
    from torch_sla.linalg.kernels.triton.residual import residual

    values, order = torch.ones(len(ccol), dtype=a), torch.arange(len(ccol)).to(ccol)
    for k in (1, 2, 3, 5, 9):  # every number of columns in a tile
        vectors = torch.ones(n, k, dtype=x)
        for conj, slots in itertools.product((False, True), (None, order)):
            sparse.spmm(crow, ccol, values, vectors, slots=slots, conj=conj)
        if a is x:
            sparse.segment_sum(torch.ones(1, len(ccol), k, dtype=x), crow, order)
            sparse.sampled_product(crow, ccol, torch.ones(6, k, dtype=x), vectors)
        if a is x and a in REAL:
            both = torch.ones(2, 6, k, dtype=a)
            residual(crow, (ccol % 6).contiguous(), values[None], both, both, slots=order)
        if a in REAL and x in REAL:
            A = rows.Rows.of(crow, (ccol % 6).contiguous(), values, 6)
            y, w = torch.ones(6, k, dtype=x), torch.ones(6, dtype=a)
            rows.residual(A, y, y)
            rows.relax(A, y, y, w, 0.5, before=y, momentum=0.25)
            for edge in (2, 3, 6):  # as many rows in a node as there are kinds of
                rows.relax(A, y, y, torch.ones(6 // edge, edge, edge, dtype=a), 0.5)


def positions() -> None:
    """Products of matrices on given positions, and questions about patterns and values."""
    from torch_sla.linalg.kernels.triton.patterns import largest_row_sum

    pattern, values = split(laplacian(6, 5))
    for index in INDEX:
        crow, ccol, row = (t.to(index) for t in (pattern.crow, pattern.ccol, pattern.csr_row))
        where = (crow, ccol)
        for kind in VALUES:
            v = values.to(kind)
            for r, m, c in BLOCKS:
                x, y = (v[None, :, None, None].repeat(1, 1, *shape) for shape in ((r, m), (m, c)))
                spgemm.spgemm_masked(where, x, where, y, where, 30)
            if kind in REAL:
                counted_structure(crow, ccol, v)
                largest_row_sum(crow, v)  # whose face has another answer on the CPU
        sparse.coo_to_csr(row, ccol, 30, 30)
        sparse.transpose_csr(crow, ccol, 30)
        sound_rows(crow, ccol, 30)
        sparse.fingerprint(ccol[: len(ccol) // 2 * 2 - 1])
    many = torch.zeros((1 << 22) + 2, dtype=torch.int32)
    sparse.fingerprint(many)
    sparse.fingerprint(many[:-1])


def strong_parts() -> None:
    """What is strong in a matrix, whose face has another answer on the CPU."""
    from torch_sla.linalg.kernels.triton.strength import choose, take

    strong: dict[str, Any] = {"decoupled": 0.05, "kept": 0.1, "tied": 0.55, "codes": (1, 2)}
    pattern, values = split(laplacian(6, 5))
    for kind, index in itertools.product(REAL, INDEX):
        given = pattern.crow.to(index), pattern.ccol.to(index), values.to(kind)
        for keep in (None, (values < 0).to(torch.uint8)):
            found = choose(*given, 0.25, keep, bits=8, **strong)
        for apart in (False, True):
            take(*given, found._replace(apart=apart), 0.5, bits=8, strong=2)
        spgemm.product_pattern(*given[:2], *given[:2], 30)


def batches() -> None:
    """Many small systems, up to the largest that one program holds."""
    for n, kind, index in itertools.product((5, 100, 200, 300, 600, 1100, 2100, 4096), REAL, INDEX):
        pattern, values = split(laplacian(n))
        a = values.to(kind).repeat(2, 1)
        b = torch.ones(2, n, dtype=kind)
        batched_cg.batched_cg(
            pattern.crow.to(index), pattern.ccol.to(index), a, 2 * b, b, b[:, 0], 1
        )


def solves() -> None:
    """What a matrix is asked, and its gradient."""
    pattern, values = split(laplacian(7, 6))
    for kind in VALUES:
        v = values.to(kind).requires_grad_()
        A = SparseTensor.from_pattern(pattern, v)
        b = torch.ones(42, 2, dtype=kind, requires_grad=True)
        for method in ("cg", "gmres", "bicgstab", "minres"):
            x = A.solve(b, backend="pytorch", method=method, preconditioner="jacobi")
            x.abs().sum().backward()
        (A @ A).to_dense().abs().sum().backward()
        (A.T() @ b).abs().sum().backward()


PROGRAMS = (lattices, aggregates, entries, positions, strong_parts, batches, solves)
