"""Detection of symmetry and definiteness: never claimed falsely."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from tests.helpers.devices import ON_CUDA
from tests.helpers.grids import poisson
from tests.helpers.simulated import SIMULATED, fetched
from torch_sla.errors import ArgumentError
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.sparse import structure


def from_dense(a: torch.Tensor) -> SparseTensor:
    row, col = a.abs().nonzero(as_tuple=True)
    return SparseTensor(a[row, col], row, col, tuple(a.shape))


def laplacian(n: int, *, ends: float) -> torch.Tensor:
    a = 2 * torch.eye(n, dtype=torch.float64)
    a -= torch.diag(torch.ones(n - 1, dtype=torch.float64), 1)
    a -= torch.diag(torch.ones(n - 1, dtype=torch.float64), -1)
    a[0, 0] = a[-1, -1] = ends
    return a


def test_dirichlet_laplacian_is_proved_definite() -> None:
    s = from_dense(laplacian(30, ends=2.0)).structure
    assert (s.symmetric, s.hermitian, s.positive_definite) == (True, True, True)


def test_neumann_laplacian_is_not() -> None:
    assert from_dense(laplacian(30, ends=1.0)).structure.positive_definite is None


def test_waves_are_proved_indefinite() -> None:
    for cells, shift in (((20, 20), -0.1), ((10, 11, 9), -0.6)):
        A = poisson(*cells)
        waves = SparseTensor.from_scipy(A + shift * sp.eye_array(A.shape[0]))
        assert waves.structure.positive_definite is False
        # The lowest eigenvalue itself: nothing may be claimed of a singular or definite matrix.
        lowest = sum(2 - 2 * np.cos(np.pi / (n + 1)) for n in cells)
        for least in (1.0, 1 - 1e-9):
            border = SparseTensor.from_scipy(A - least * lowest * sp.eye_array(A.shape[0]))
            assert border.structure.positive_definite is None


def test_one_singular_component_is_enough_to_stay_unsure() -> None:
    a = torch.block_diag(laplacian(5, ends=2.0), laplacian(5, ends=1.0))
    assert from_dense(a).structure.positive_definite is None


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        ON_CUDA,
    ],
)
@pytest.mark.parametrize(("ends", "definite"), [(2.0, True), (1.0, None)])
def test_rows_in_any_order(ends: float, definite: bool | None, device: str) -> None:
    order = torch.randperm(700)
    a = torch.block_diag(laplacian(400, ends=2.0), laplacian(300, ends=ends))[order][:, order]
    A = from_dense(a).to(device)
    fetched.clear()
    assert A.structure.positive_definite is definite
    if SIMULATED and device == "cuda":
        assert 0 < fetched.total() < 200  # the matrix stays where it is


@pytest.mark.parametrize("device", ["cpu", ON_CUDA])
@pytest.mark.parametrize("compiled", [True, False])
def test_all_of_a_batch_have_what_is_claimed(
    device: str, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a kernel, in parts."""
    if not compiled:
        monkeypatch.setattr(structure, "matrix_flags", lambda *_: None)
    n, members = 500, 100
    sound = laplacian(n, ends=2.0)
    A = from_dense(sound)
    values = A.values.repeat(members, 1)

    def found(changed: torch.Tensor | None = None) -> tuple[bool | None, ...]:
        batch = values.clone()
        if changed is not None:
            batch[members // 2] = changed
        s = SparseTensor.from_pattern(A.pattern.to(device), batch.to(device)).structure
        return s.symmetric, s.hermitian, s.positive_definite

    assert found() == (True, True, True)
    assert found(from_dense(laplacian(n, ends=1.0)).values) == (True, True, None)
    assert found(-A.values) == (True, True, False)
    assert found(A.values * torch.linspace(1, 2, len(A.values))) == (False, False, False)


def test_stored_zeros_connect_nothing() -> None:
    a = torch.block_diag(laplacian(5, ends=2.0), laplacian(5, ends=1.0))
    row, col = a.abs().nonzero(as_tuple=True)
    row, col = torch.cat([row, torch.tensor([4, 5])]), torch.cat([col, torch.tensor([5, 4])])
    values = a[row, col]
    assert SparseTensor(values, row, col, (10, 10)).structure.positive_definite is None


def test_indefinite_and_unsymmetric() -> None:
    a = laplacian(6, ends=2.0)
    b = a.clone()
    b[3, 3] = -2.0
    assert from_dense(b).structure.positive_definite is False
    c = a.clone()
    c[0, 1] = -0.5
    assert from_dense(c).structure.hermitian is False


def test_complex_symmetric_is_not_hermitian() -> None:
    a = laplacian(6, ends=2.0).to(torch.complex128)
    a[0, 1] = a[1, 0] = -0.5 + 0.25j
    s = from_dense(a).structure
    assert (s.symmetric, s.hermitian, s.positive_definite) == (True, False, False)
    a[1, 0] = a[0, 1].conj()
    s = from_dense(a).structure
    assert (s.symmetric, s.hermitian, s.positive_definite) == (False, True, True)


def test_detection_follows_an_edit_in_place() -> None:
    a = laplacian(6, ends=2.0)
    row, col = a.nonzero(as_tuple=True)
    values = a[row, col]
    A = SparseTensor(values, row, col, (6, 6))
    assert A.structure.positive_definite is True
    values[1] = -3.0
    assert A.structure.hermitian is False


@pytest.mark.parametrize("known", ["ordering", "near_nullspace", "coordinates"])
def test_declared_tensors_within_transforms(known: str) -> None:
    n = 12
    g = torch.Generator().manual_seed(1)
    vectors = torch.linspace(0, 1, n, dtype=torch.float64)[:, None]
    declared = {known: torch.randperm(n, generator=g) if known == "ordering" else vectors}
    off = torch.tensor(-1.0, dtype=torch.float64)

    def loss(d: torch.Tensor, declared: dict[str, torch.Tensor]) -> torch.Tensor:
        A = SparseTensor.tridiagonal(off, d, off).declare(**declared)
        return (A.solve(torch.ones_like(d)) ** 3).sum()

    d = torch.full((2, n), 2.5, dtype=torch.float64)
    d[1] += 0.1
    found = torch.func.vmap(torch.func.grad(lambda d: loss(d, declared)))(d)
    expected = torch.stack([torch.func.grad(lambda d: loss(d, {}))(one) for one in d])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"ordering": [1, 0, 2]}, "`ordering` must be a name or a tensor .*, got list"),
        ({"ordering": np.arange(3)}, "`ordering` must be a name or a tensor .*, got ndarray"),
        ({"ordering": torch.tensor([0.2, 1.7, 2.0])}, r"integers, got \[3\] of torch.float32"),
        ({"ordering": torch.arange(3)[:, None]}, r"must be \[M\] and of integers, got \[3, 1\]"),
        ({"ordering": torch.ones(3, dtype=torch.bool)}, "of torch.bool"),
        ({"symmetric": "no"}, "`symmetric` must be True, False or None, got 'no'"),
        ({"positive_definite": 0}, "`positive_definite` must be True, False or None, got 0"),
        ({"dominance": 1.5}, "`dominance` must be a number from 0 to 1, got 1.5"),
        ({"nullspace": np.ones(3)}, "`nullspace` must be a tensor, got ndarray"),
        ({"near_nullspace": [[1.0]] * 3}, "`near_nullspace` must be a tensor, got list"),
        ({"coordinates": np.ones((3, 2))}, "`coordinates` must be a tensor, got ndarray"),
    ],
)
def test_what_declares_nothing_is_refused(known: dict[str, object], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        SparseTensor.eye(3).declare(**known)


def test_flags_of_numpy_are_flags() -> None:
    A = SparseTensor.eye(3).declare(hermitian=np.bool_(False))
    assert A.structure.hermitian is False
