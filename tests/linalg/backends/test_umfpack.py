"""The calls to scikit-umfpack, which needs SuiteSparse to build: recorded by a stand-in with its face."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import pytest
import scipy.sparse.linalg
import torch

from tests.helpers.zoo import case, rhs
from torch_sla.errors import PlanError, Result, SolveError
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.backends import scipy as wing

CALLS: list[tuple[Any, ...]] = []


class UmfpackWarning(UserWarning):
    pass


class Context:
    """As `scikits.umfpack.UmfpackContext`: CSC matrices, system codes, a vector at a time."""

    def __init__(self, family: str) -> None:
        CALLS.append(("context", family))
        self.family = family

    def numeric(self, matrix: Any) -> None:
        assert matrix.format == "csc"
        dtype = np.complex128 if self.family[0] == "z" else np.float64
        assert matrix.data.dtype == dtype
        assert matrix.indices.dtype == (np.int32 if self.family[1] == "i" else np.int64)
        CALLS.append(("numeric", matrix.shape))
        if not np.all(abs(matrix).sum(axis=0)):
            import warnings

            warnings.warn("(almost) singular matrix!", UmfpackWarning, stacklevel=1)
        self.lu = scipy.sparse.linalg.splu(matrix)
        self.info = np.full(90, 8.0)

    def solve(self, code: int, matrix: Any, b: np.ndarray) -> np.ndarray:
        assert b.ndim == 1
        assert b.flags.c_contiguous
        CALLS.append(("solve", code))
        # UMFPACK_A solves A x = b; UMFPACK_Aat the transpose without conjugation.
        return self.lu.solve(b, "N" if code == 0 else "T")


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    CALLS.clear()
    module: Any = types.ModuleType("scikits.umfpack")
    module.UmfpackContext, module.UmfpackWarning = Context, UmfpackWarning
    module.UMFPACK_A, module.UMFPACK_Aat = 0, 2
    module.UMFPACK_NUMERIC_SIZE, module.UMFPACK_SIZE_OF_UNIT = 40, 3
    parent: Any = types.ModuleType("scikits")
    parent.umfpack = module
    monkeypatch.setitem(sys.modules, "scikits", parent)
    monkeypatch.setitem(sys.modules, "scikits.umfpack", module)
    monkeypatch.setattr(wing.SciPy, "unavailable_method", lambda self, method: None)
    from torch_sla.linalg import clear_factor_cache
    from torch_sla.linalg.plan.stages import forget_plans

    forget_plans()
    clear_factor_cache()
    yield
    forget_plans()
    clear_factor_cache()


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_solve_and_gradient(dtype: torch.dtype) -> None:
    A = case("general").sparse(dtype)
    v, b = A.values.clone().requires_grad_(), rhs(A, 2)
    x, info = A.from_pattern(A.pattern, v).solve(b, method="umfpack", info=True)
    assert (info.backend, info.method) == ("scipy", "umfpack")
    D = A.from_pattern(A.pattern, v).to_dense()
    exact = torch.linalg.solve(D, b)
    torch.testing.assert_close(x, exact)
    weight = torch.randn_like(x)
    torch.testing.assert_close(
        torch.autograd.grad(x, v, weight)[0], torch.autograd.grad(exact, v, weight)[0]
    )
    assert ("context", "zi" if dtype.is_complex else "di") in CALLS
    assert sum(call[0] == "numeric" for call in CALLS) == 1
    # The factor is that of the transpose: solves ask for its transpose, adjoints for itself.
    assert {call[1] for call in CALLS if call[0] == "solve"} == {0, 2}


def test_singular_is_an_error() -> None:
    i = torch.arange(2)
    A = SparseTensor(torch.tensor([1.0, 0.0], dtype=torch.float64), i, i, (2, 2))
    with pytest.raises(SolveError) as caught:
        A.solve(torch.ones(2, dtype=torch.float64), method="umfpack")
    assert caught.value.result is Result.SINGULAR


def test_single_precision_is_refused_with_the_reason() -> None:
    with pytest.raises(PlanError, match=r"does not take torch\.float32"):
        SparseTensor.eye(3).solve(torch.ones(3), method="umfpack")
