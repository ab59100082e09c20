"""What is known of a matrix is found out once, and changes nothing."""

from __future__ import annotations

import pytest
import torch

from torch_sla.errors import SolveError
from torch_sla.linalg import SparseTensor, Structure
from torch_sla.linalg.adjoint.saving import is_recorded
from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.known import Known
from torch_sla.linalg.solve import solve


def _second_difference(n: int = 200) -> SparseTensor:
    i = torch.arange(n)
    row = torch.cat([i, i[1:], i[:-1]])
    col = torch.cat([i, i[:-1], i[1:]])
    values = torch.cat([torch.full((n,), 2.5), torch.full((2 * n - 2,), -1.0)]).double()
    A = SparseTensor(values, row, col, (n, n))
    return SparseTensor.from_pattern(A.pattern, A.values, structure=Structure(True, True, True))


@pytest.mark.parametrize("method", ["cg", "cholesky", "lu"])
def test_the_solution_is_that_of_a_solve_alone_to_the_last_bit(method: str) -> None:
    A, known = _second_difference(), Known()
    for seed in range(3):
        b = torch.randn(200, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        x, info = solve(A, b, method=method, known=known)
        alone, told = A.solve(b, method=method, info=True)
        assert torch.equal(x, alone)
        assert (info.residual, info.backward_error) == (told.residual, told.backward_error)


def test_values_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    look = kernels.fingerprint
    monkeypatch.setattr(kernels, "fingerprint", lambda x: (looks.append(x.shape), look(x))[1])
    A, known, b = _second_difference(), Known(), torch.ones(200, dtype=torch.float64)
    solve(A, b, method="cg", known=known)
    assert looks
    looks.clear()
    solve(A, b, method="cg", known=known)
    assert not looks


def test_another_matrix_is_refused() -> None:
    known, b = Known(), torch.ones(200, dtype=torch.float64)
    solve(_second_difference(), b, known=known)
    for _ in range(20):  # none comes to lie where the first one was
        with pytest.raises(ValueError, match="another"):
            solve(_second_difference(), b, known=known)


def test_a_matrix_that_is_not_finite_is_told_each_time() -> None:
    A, known, b = _second_difference(), Known(), torch.ones(200, dtype=torch.float64)
    A.values[3] = float("nan")
    for _ in range(2):
        with pytest.raises(SolveError, match="NaN"):
            solve(A, b, method="cg", known=known)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_load_that_is_not_finite_is_told(bad: float) -> None:
    A, b = _second_difference(), torch.ones(200, dtype=torch.float64)
    b[7] = bad
    with pytest.raises(SolveError, match="NaN or infinity"):
        A.solve(b, method="cg")


def test_forward_mode_is_followed_where_no_graph_is() -> None:
    A = _second_difference(20)
    b = torch.linspace(0.0, 1.0, 20, dtype=torch.float64)
    with torch.no_grad(), torch.autograd.forward_ad.dual_level():
        assert is_recorded()
        dual = torch.autograd.forward_ad.make_dual(b, torch.ones_like(b))
        for made, wanted in (
            (A @ dual, A @ torch.ones_like(b)),
            (A.solve(dual), A.solve(torch.ones_like(b))),
        ):
            tangent = torch.autograd.forward_ad.unpack_dual(made).tangent
            torch.testing.assert_close(tangent, wanted)
    with torch.no_grad():
        assert not is_recorded()
        found = torch.vmap(lambda x: A @ x)(torch.stack([b, 2 * b]))
    torch.testing.assert_close(found, torch.stack([A @ b, 2 * (A @ b)]))
