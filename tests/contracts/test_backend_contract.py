"""Every backend and method of the registry, on every device, against dense torch, on the whole zoo.

What a backend does not offer, its capabilities say; asking for it is then refused by the plan, which
is checked too. What is not installed is skipped for the reason that the registry states. Solves run in full,
gradients over a pairwise covering array, and in full with ``-m slow``.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch

from tests.helpers.covering import pairwise
from tests.helpers.zoo import CASES, Case, case, residual_limit, rhs
from torch_sla.errors import PlanError, Result, SolveError
from torch_sla.linalg.backends.base import ALL_DTYPES, Backend, Method, SolveOptions
from torch_sla.linalg.backends.registry import backends
from torch_sla.linalg.precond.base import GIVEN, kind

DTYPES = sorted(ALL_DTYPES, key=str)
BY_NAME = {
    f"{device}-{b.name}-{m.name}": (b, m)
    for device in ("cpu", "cuda")
    for b in backends()
    for m in b.capabilities.methods
    if device in b.capabilities.devices
}


def missing(name: str) -> str | None:
    """Why a method cannot be used here, in the registry's words."""
    if name.startswith("cuda") and not torch.cuda.is_available():
        return "needs a CUDA device"
    b, m = BY_NAME[name]
    return b.unavailable() or b.unavailable_method(m.name)


def on_device(name: str, *rest: object) -> object:
    """One parameter of a test, skipped with the reason where its device or library is missing."""
    why = missing(name)
    marks = [pytest.mark.skip(reason=why)] if why else []
    return pytest.param(
        name, *rest, marks=[*marks, pytest.mark.gpu] if name.startswith("cuda") else marks
    )


NAMES = [on_device(name) for name in BY_NAME]


def place(name: str) -> str:
    """Return the device of a test."""
    return name.split("-", maxsplit=1)[0]


def offered(b: Backend, m: Method, c: Case, dtype: torch.dtype) -> bool:
    """Whether the capabilities promise this combination."""
    fits = c.square or m.rectangular
    structure = m.needs == "general" or c.hermitian or (m.needs == "symmetric" and c.symmetric)
    return fits and structure and dtype in b.capabilities.dtypes & m.dtypes & c.dtypes


def request(
    b: Backend, m: Method, c: Case, dtype: torch.dtype, device: str = "cpu"
) -> dict[str, object]:
    options: dict[str, object] = {"backend": b.name, "method": m.name}
    if m.kind == "iterative":
        options["rtol"] = residual_limit(dtype)
        if c.zero_diagonal and "none" in m.preconditioners:
            options["preconditioner"] = "none"
    if c.nullspace is not None:
        options["nullspace"] = c.nullspace.to(device, dtype)
    return options


def dense_solution(c: Case, dtype: torch.dtype, b: torch.Tensor, vector: bool) -> torch.Tensor:
    wide = torch.complex128 if dtype.is_complex else torch.float64
    A, b = c.dense(dtype).to(b.device, wide), b.to(wide)
    b = b.unsqueeze(-1) if vector else b
    x = torch.linalg.pinv(A) @ b
    return x.squeeze(-1) if vector else x


@pytest.mark.parametrize("c", CASES, ids=lambda c: c.name)
@pytest.mark.parametrize("name", NAMES)
def test_solve(name: str, c: Case) -> None:
    b, m = BY_NAME[name]
    for dtype in [d for d in DTYPES if d in c.dtypes]:
        A = c.sparse(dtype).to(place(name))
        if not offered(b, m, c, dtype):
            with pytest.raises(PlanError):
                A.solve(rhs(A, None), **request(b, m, c, dtype, place(name)))
            continue
        for columns in (None, 3):
            check(b, m, c, dtype, columns, place(name))


PRECONDITIONED = [
    on_device(name, wanted)
    for name, (_, m) in BY_NAME.items()
    for wanted in m.preconditioners
    if wanted != GIVEN
]


@pytest.mark.parametrize(("name", "wanted"), PRECONDITIONED)
def test_preconditioned(name: str, wanted: str) -> None:
    b, m = BY_NAME[name]
    entry, device = kind(wanted), place(name)
    for c in CASES:
        for dtype in [d for d in DTYPES if d in c.dtypes]:
            if not offered(b, m, c, dtype):
                continue  # refused by the plan, see above
            if entry is not None and (
                dtype not in entry.dtypes
                or device not in entry.devices
                or (entry.needs == "hermitian" and not c.hermitian)
            ):
                A = c.sparse(dtype).to(device)
                asked = request(b, m, c, dtype, device) | {"preconditioner": wanted}
                with pytest.raises(PlanError, match=wanted):
                    A.solve(rhs(A, None), **asked)
                continue
            check(b, m, c, dtype, None, device, preconditioner=wanted)


def check(
    b: Backend,
    m: Method,
    c: Case,
    dtype: torch.dtype,
    columns: int | None,
    device: str,
    **more: object,
) -> None:
    A = c.sparse(dtype).to(device)
    load = rhs(A, columns)
    eps = torch.finfo(dtype).eps
    x, info = A.solve(load, throw=False, **request(b, m, c, dtype, device) | more)
    if m.kind == "iterative" and c.hard and not info.converged:
        assert info.result not in (Result.CONVERGED, Result.ROUNDOFF)
        return
    if m.needs == "positive_definite" and not c.definite and not info.converged:
        assert info.result in (Result.NOT_POSITIVE_DEFINITE, Result.BREAKDOWN)
        return
    if info.result is Result.BREAKDOWN and (c.zero_diagonal or c.nullspace is not None):
        # A factorisation that does not pivot, or a preconditioner that is one, said so.
        words = ("pivot", "row", "preconditioner", "symmetric")
        assert any(word in "".join(info.notes) for word in words)
        return
    assert info.converged, (dtype, columns, info.result, info.notes)
    assert x.shape == (
        *load.shape[: len(A.batch_shape)],
        A.flat_shape[1],
        *load.shape[-1:][: columns is not None],
    )
    exact = dense_solution(c, dtype, load, columns is None)
    if m.kind == "direct":
        assert info.backward_error <= 50 * eps
    else:
        assert (
            info.residual <= residual_limit(dtype) or not c.square or info.result is Result.ROUNDOFF
        )
        assert info.iterations > 0
        assert info.history
    if not c.hard:
        # Conditions of these are below 1e3.
        limit = 1e4 * eps if m.kind == "direct" else 1e4 * residual_limit(dtype)
        assert float((x - exact).norm()) <= limit * float(exact.norm()), (dtype, columns)


@pytest.mark.parametrize(
    "c", [c for c in CASES if not c.hard and c.nullspace is None], ids=lambda c: c.name
)
@pytest.mark.parametrize("name", NAMES)
def test_modes_and_refactorisation(name: str, c: Case) -> None:
    b, m = BY_NAME[name]
    if m.needs == "positive_definite" and not c.definite:
        return  # refused by the plan, see above
    tested = False
    for dtype in (torch.complex128, torch.float64):
        if not offered(b, m, c, dtype) or (dtype is torch.float64 and tested):
            continue
        tested = True
        A = c.sparse(dtype).to(place(name))
        pattern, values = A.flat_slots()
        values = values.reshape(-1, values.shape[-1])[0].clone()
        structure = replace(A.structure, hermitian=c.hermitian, positive_definite=c.definite)
        options = SolveOptions(
            1e-12, preconditioner=m.preconditioners[0] if m.preconditioners else None
        )
        symbolic = b.analyze(pattern, m.name, structure)
        numeric = b.factorize(symbolic, values, options)
        other = b.refactorize(numeric, 2 * values, options)
        D = c.dense(dtype).reshape(-1, *c.shape)[0].to(place(name))
        for mode, op in (("n", D), ("t", D.mT), ("h", D.mH)):
            g = torch.Generator().manual_seed(61)
            load = torch.randn(op.shape[0], 2, dtype=dtype, generator=g).to(place(name))
            expected = torch.linalg.pinv(op) @ load
            for n, a, factor in ((numeric, values, 1), (other, 2 * values, 2)):
                x = b.solve(n, a, load, mode, options=options).x
                assert float((factor * x - expected).norm()) <= 1e-8 * float(expected.norm()), mode


def possible(row: tuple[Any, ...]) -> bool:
    b, m = BY_NAME[row[0]]
    c = case(row[1])
    return offered(b, m, c, row[2]) and (m.needs != "positive_definite" or c.definite)


FACTORS = (
    list(BY_NAME),
    [c.name for c in CASES if not c.hard and c.nullspace is None],
    [torch.float64, torch.complex128],
    [None, 2],
)
GRADIENTS = pairwise(*FACTORS, allowed=possible)


@pytest.mark.parametrize(
    ("name", "zoo", "dtype", "columns"), [on_device(*row) for row in GRADIENTS], ids=str
)
def test_gradient(name: str, zoo: str, dtype: torch.dtype, columns: int | None) -> None:
    gradient(name, zoo, dtype, columns)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "zoo", "dtype", "columns"),
    [on_device(*row) for row in product(*FACTORS) if possible(row)],
    ids=str,
)
def test_every_gradient(name: str, zoo: str, dtype: torch.dtype, columns: int | None) -> None:
    gradient(name, zoo, dtype, columns)


def gradient(name: str, zoo: str, dtype: torch.dtype, columns: int | None) -> None:
    b, m = BY_NAME[name]
    c = case(zoo)
    A = c.sparse(dtype).to(place(name))
    values = A.values.detach().clone().requires_grad_()
    load = rhs(A, columns).requires_grad_()
    options = request(b, m, c, dtype, place(name)) | {"rtol": 1e-13}

    def loss(x: torch.Tensor) -> torch.Tensor:
        return (x.abs() ** 3).sum() + (x.real**2).sum()

    try:
        x = A.from_pattern(A.pattern, values).solve(load, **options)
        found = torch.autograd.grad(loss(x), (values, load))
    except SolveError as error:
        # 1e-13 may be out of reach, and is then refused.
        if m.kind == "direct" or not error.residual < 1e-9:
            raise
        return
    dense = A.from_pattern(A.pattern, values).to_dense()
    vectors = load.unsqueeze(-1) if columns is None else load
    exact = torch.linalg.pinv(dense) @ vectors
    expected = torch.autograd.grad(
        loss(exact.squeeze(-1) if columns is None else exact), (values, load)
    )
    for one, two in zip(found, expected, strict=True):
        assert float((one - two).norm()) <= 1e-7 * float(two.norm())
