"""Memory of past factors serves the next ones, within a bound, and goes on demand."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.grids import poisson
from torch_sla import _core
from torch_sla.linalg import SparseTensor, clear_factor_cache
from torch_sla.linalg.kernels import cholesky, memory, sparse, symbolic, unavailable

pytestmark = pytest.mark.skipif(
    unavailable() is not None, reason=f"no compiled extension: {_core.reason}"
)


def test_new_factors_lie_where_old_ones_lay() -> None:
    A = SparseTensor.from_scipy(poisson(220, 220))
    b = torch.ones(A.shape[0], dtype=torch.float64)
    clear_factor_cache()
    assert memory.kept_bytes() == 0
    solver = A.factorize(backend="native", method="cholesky")
    assert memory.kept_bytes() < 8 << 20  # the factor is in use
    x = solver.solve(b)
    del solver
    clear_factor_cache()
    assert memory.kept_bytes() == 0  # what is cleared goes back to the system
    for k in range(2):
        cholesky_of = SparseTensor.from_pattern(A.pattern, A.csr_values * (1.0 + k), A.structure)
        torch.testing.assert_close(
            (1.0 + k) * cholesky_of.solve(b, backend="native", method="cholesky"), x
        )
    one = memory.kept_bytes()
    for k in range(2, 9):
        other = SparseTensor.from_pattern(A.pattern, A.csr_values * (1.0 + k), A.structure)
        other.solve(b, backend="native", method="cholesky")
    # As many factors come as go.
    assert memory.kept_bytes() <= max(one, 16 << 20)
    clear_factor_cache()
    assert memory.kept_bytes() == 0


def test_the_bound_holds() -> None:
    A = SparseTensor.from_scipy(poisson(220, 220))
    analysis = symbolic.analyze(A.pattern.crow, A.pattern.ccol)
    memory.release()
    made = [cholesky.factorize(analysis, A.csr_values) for _ in range(3)]
    each = analysis.factor_bytes(torch.float64)
    assert each > 8 << 20
    memory.release()
    del made[0]
    assert each <= memory.kept_bytes() <= each + (4 << 20)
    made.append(cholesky.factorize(analysis, A.csr_values))
    assert memory.kept_bytes() < each
    made.clear()
    assert memory.kept_bytes() >= 3 * each
    memory.release()
    assert memory.kept_bytes() == 0


def test_gradients_lie_where_old_ones_lay() -> None:
    A = SparseTensor.from_scipy(poisson(600, 600))
    p, u = A.pattern, torch.rand(A.shape[0], 1, dtype=torch.float64)
    memory.release()
    first = sparse.sampled_product(p.crow, p.ccol, u, u)
    assert first.numel() * 8 > 8 << 20
    held, part, where = first.clone(), first[5:7], first.data_ptr()
    other = sparse.sampled_product(p.crow, p.ccol, u, -u)
    torch.testing.assert_close(first, held)  # its memory is its own as long as it lives
    torch.testing.assert_close(other, -held)
    del first
    assert memory.kept_bytes() == 0  # a part still looks at it
    torch.testing.assert_close(part, held[5:7])
    del part
    assert memory.kept_bytes() >= 8 * held.numel()
    again = sparse.sampled_product(p.crow, p.ccol, u, u)
    assert again.data_ptr() == where
    torch.testing.assert_close(again, held)
    del again, other
    memory.release()
    assert memory.kept_bytes() == 0
