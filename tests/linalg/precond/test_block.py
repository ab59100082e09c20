from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from tests.helpers.grids import second_difference
from torch_sla.errors import ArgumentError
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.kernels import unavailable
from torch_sla.linalg.precond.block import FieldSplit, Schur

needs_multigrid = pytest.mark.skipif(unavailable() is not None, reason="needs the extension")


def stokes(n: int, stabilised: float = 0.0) -> tuple[sp.csr_array, int]:
    """Staggered-grid Stokes on n x n cells, velocities first; the diagonal of the pressure is stored."""
    D = sp.diags_array([np.ones(n - 1), -np.ones(n - 1)], offsets=[0, -1], shape=(n, n - 1))
    eye, ends = sp.eye_array(n), np.zeros(n)
    ends[[0, -1]] = 1.0
    normal, along = D.T @ D, second_difference(n) + sp.diags_array(ends)
    small = sp.eye_array(n - 1)
    A = sp.block_diag(
        [sp.kron(eye, normal) + sp.kron(along, small), sp.kron(normal, eye) + sp.kron(small, along)]
    )
    B = sp.hstack([sp.kron(eye, D), sp.kron(D, eye)])
    C = sp.csr_array((np.full(n * n, -stabilised), (np.arange(n * n),) * 2))
    K = sp.csr_array(sp.block_array([[A, -B.T], [-B, C]]))
    K.sort_indices()
    return K, A.shape[0]


def problem(n: int) -> tuple[SparseTensor, torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...]]:
    K, velocities = stokes(n)
    x = np.random.default_rng(1).standard_normal(K.shape[0])
    x[velocities:] -= x[velocities:].mean()
    constant = torch.zeros(K.shape[0], 1, dtype=torch.float64)
    constant[velocities:] = 1.0
    fields = (torch.arange(velocities), torch.arange(velocities, K.shape[0]))
    row, col = (torch.from_numpy(i.astype(np.int64)) for i in K.tocoo().coords)
    every = torch.arange(velocities, K.shape[0])
    A = SparseTensor(
        torch.cat([torch.from_numpy(K.tocoo().data), torch.zeros(len(every))]),
        torch.cat([row, every]),
        torch.cat([col, every]),
        K.shape,
    )
    return A, torch.from_numpy(K @ x), constant, fields


@needs_multigrid
@pytest.mark.parametrize("n", [16, 40])
@pytest.mark.parametrize(
    ("method", "coupling", "most"), [("minres", "diagonal", 55), ("gmres", "lower", 34)]
)
def test_stokes_with_a_pressure_mass_matrix(n: int, method: str, coupling: str, most: int) -> None:
    A, b, constant, fields = problem(n)
    mass = SparseTensor.eye(n * n, dtype=torch.float64)
    schur = Schur(fields, complement=mass, dual="jacobi", coupling=coupling)
    x, info = A.solve(
        b, method=method, preconditioner=schur, rtol=1e-8, nullspace=constant, info=True
    )
    assert info.iterations <= most
    assert float((A @ x - b).norm() / b.norm()) <= 1e-7


@needs_multigrid
def test_the_complement_that_is_made() -> None:
    """Darcy flow in mixed form: its Schur complement is the one of the diagonal, exactly."""
    n = 24
    K, velocities = stokes(n)
    B = K[velocities:, :velocities]
    k = np.exp(np.random.default_rng(7).standard_normal(velocities))
    C = sp.eye_array(n * n) * -1e-3
    K = sp.csr_array(sp.block_array([[sp.diags_array(k), B.T], [B, C]]))
    A = SparseTensor.from_scipy(K)
    b = torch.from_numpy(np.random.default_rng(2).standard_normal(K.shape[0]))
    for method, coupling, most in (("minres", "diagonal", 50), ("gmres", "lower", 40)):
        schur = Schur(primal="jacobi", coupling=coupling)
        x, info = A.solve(b, method=method, preconditioner=schur, rtol=1e-9, info=True)
        assert info.iterations <= most
        np.testing.assert_allclose(K @ x.numpy(), b.numpy(), atol=1e-6)


def blocks() -> tuple[SparseTensor, np.ndarray, tuple[torch.Tensor, ...]]:
    rng = np.random.default_rng(4)
    dense = np.eye(12) * 6 + rng.standard_normal((12, 12))
    order = torch.from_numpy(rng.permutation(12))
    return (
        SparseTensor.from_dense(torch.from_numpy(dense)),
        dense,
        (order[:5], order[5:9], order[9:]),
    )


@pytest.mark.parametrize("coupling", ["diagonal", "lower"])
def test_what_it_is(coupling: str) -> None:
    A, dense, fields = blocks()
    pattern, values = A.flat_slots()
    inverses = FieldSplit(fields, by="jacobi", coupling=coupling)
    B = inverses.build(pattern, values, A.known_structure())
    eye = torch.eye(12, dtype=torch.float64)
    owner = np.empty(12, dtype=int)
    for i, f in enumerate(fields):
        owner[f.numpy()] = i
    M = np.where(owner[:, None] > owner[None], dense, 0.0) if coupling == "lower" else 0.0
    M = M + np.diag(np.diag(dense))
    np.testing.assert_allclose(B.apply(eye).numpy(), np.linalg.inv(M), atol=1e-12)
    torch.testing.assert_close(B.apply_adjoint(eye), B.apply(eye).T)
    assert B.nbytes > 0


def test_gradients_go_through() -> None:
    A, dense, fields = blocks()
    values = A.values.clone().requires_grad_()
    b = torch.ones(12, dtype=torch.float64)
    split = FieldSplit(fields, by="jacobi", coupling="lower")
    made = SparseTensor.from_pattern(A.pattern, values)
    made.solve(b, method="gmres", preconditioner=split, rtol=1e-12).square().sum().backward()
    full = torch.from_numpy(dense).requires_grad_()
    torch.linalg.solve(full, b).square().sum().backward()
    wanted = full.grad[A.pattern.csr_row.long(), A.pattern.ccol.long()]
    torch.testing.assert_close(values.grad, wanted, rtol=1e-8, atol=1e-10)


def test_bad_fields_are_named() -> None:
    A, _, fields = blocks()
    b = torch.ones(12, dtype=torch.float64)

    def solve(options: object) -> None:
        A.solve(b, method="gmres", preconditioner=options)

    with pytest.raises(ArgumentError, match="each of the 12 unknowns once"):
        solve(FieldSplit((fields[0], fields[1])))
    with pytest.raises(ArgumentError, match="does not tell the fields apart"):
        solve(FieldSplit())
    with pytest.raises(ArgumentError, match="2 entries for 3 fields"):
        solve(FieldSplit(fields, by=("jacobi", "jacobi")))
    with pytest.raises(ArgumentError, match="field 0 needs a preconditioner"):
        solve(FieldSplit(fields, by="none"))
    with pytest.raises(ArgumentError, match="2 fields, got 3"):
        solve(Schur(fields))
    two, wrong = (torch.arange(5), torch.arange(5, 12)), SparseTensor.eye(3, dtype=torch.float64)
    with pytest.raises(ArgumentError, match="`complement` must have 7 rows"):
        solve(Schur(two, primal="jacobi", complement=wrong))
    for kind in (FieldSplit, Schur):
        with pytest.raises(ArgumentError, match="`coupling` must be"):
            kind(coupling="full")


@pytest.mark.parametrize(
    ("fields", "got"),
    [
        (([0, 1], [2]), "got list"),
        ((np.arange(2), np.arange(2, 3)), "got ndarray"),
        ((torch.tensor([0.3, 1.0]), torch.tensor([2.0])), r"got \[2\] of torch.float32"),
        ((torch.tensor([[0, 1]]), torch.tensor([[2]])), r"got \[1, 2\] of torch.int64"),
        ((torch.tensor([1, 1, 0]).bool(), torch.tensor([0, 0, 1]).bool()), "of torch.bool"),
    ],
)
def test_what_holds_no_indices_is_no_field(fields: tuple[object, ...], got: str) -> None:
    A = SparseTensor.from_dense(torch.tensor([[2.0, 0, 1], [0, 2, 1], [1, 1, -1]]))
    for made in (FieldSplit(fields, by="jacobi"), Schur(fields, primal="jacobi", dual="jacobi")):
        with pytest.raises(ArgumentError, match=f"`fields` must be tensors of indices.* {got}"):
            A.solve(torch.ones(3), method="gmres", preconditioner=made)


@pytest.mark.parametrize(
    ("complement", "said"),
    [
        (torch.eye(2), "as a SparseTensor, got Tensor"),
        (
            SparseTensor.from_dense(torch.ones(2, 3)),
            r"must have 2 rows and columns .* got \[2, 3\]",
        ),
        (SparseTensor.eye(2, dtype=torch.complex64), "complex, and the system is real"),
        (SparseTensor.from_dense(torch.eye(2).repeat(4, 1, 1)), r"got \[4, 2, 2\]"),
    ],
)
def test_a_complement_has_the_size_of_its_field(complement: object, said: str) -> None:
    A = SparseTensor.from_dense(torch.diag(torch.tensor([2.0, 2.0, -1.0, -1.0])))
    fields = (torch.arange(2), torch.arange(2, 4))
    made = Schur(fields, primal="jacobi", dual="jacobi", complement=complement)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=said):
        A.solve(torch.ones(4), method="gmres", preconditioner=made)
