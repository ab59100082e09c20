"""The names, signatures and properties that people's scripts rely on: see `test_api_calls`, too."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

import torch_sla
from tests.helpers.api import BLOCKS, F64, PAIR, A, G, N, S, same
from torch_sla import linalg
from torch_sla.errors import ArgumentError
from torch_sla.linalg import SparseTensor

# Keywords by the names that scripts write, with their defaults; `...` where any will do.
SIGNATURES: dict[str, tuple[Any, dict[str, Any]]] = {
    "SparseTensor": (
        SparseTensor,
        {"values": ..., "row": ..., "col": ..., "shape": ..., "sparse_dim": (-2, -1)},
    ),
    "solve": (
        SparseTensor.solve,
        {
            "b": ...,
            "backend": "auto",
            "method": "auto",
            "preconditioner": "auto",
            "rtol": None,
            "atol": 0.0,
            "maxiter": None,
            "x0": None,
            "plan": None,
            "nullspace": None,
            "info": False,
            "throw": True,
            "verbose": False,
            "tol": None,
        },
    ),
    "plan": (SparseTensor.plan, {"b_shape": None, "repeats": 1, "needs_grad": False}),
    "solve_batch": (SparseTensor.solve_batch, {"values": ..., "b": ...}),
    "eigsh": (
        SparseTensor.eigsh,
        {"k": 6, "which": "LM", "sigma": None, "M": None, "return_eigenvectors": True},
    ),
    "eigs": (SparseTensor.eigs, {"k": 6, "which": "LM"}),
    "svd": (SparseTensor.svd, {"k": 6}),
    "norm": (SparseTensor.norm, {"ord": "fro"}),
    "nonlinear_solve (method)": (SparseTensor.nonlinear_solve, {"residual": ..., "u0": ...}),
    "nonlinear_solve": (
        linalg.nonlinear_solve,
        {
            "residual": ...,
            "u0": ...,
            "method": "newton",
            "jacobian_fn": None,
            "info": False,
            "throw": True,
        },
    ),
    "spsolve": (
        linalg.spsolve,
        {
            "values": ...,
            "row": ...,
            "col": ...,
            "shape": ...,
            "b": ...,
            "matrix_type": "auto",
            "is_symmetric": None,
            "is_spd": None,
        },
    ),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name: str) -> None:
    function, expected = SIGNATURES[name]
    found = inspect.signature(function).parameters
    for keyword, default in expected.items():
        assert keyword in found
        if default is not ...:
            assert found[keyword].default == default, keyword


PROPERTIES: dict[str, Any] = {
    "shape": (N, N),
    "sparse_shape": (N, N),
    "batch_shape": (),
    "block_shape": (),
    "batch_size": 1,
    "sparse_dim": (-2, -1),
    "ndim": 2,
    "nnz": int((G != 0).sum()),
    "dtype": F64,
    "device": torch.device("cpu"),
    "is_cuda": False,
    "is_batched": False,
    "is_block": False,
    "is_square": True,
    "requires_grad": False,
    "grad": None,
    "values": G[G != 0],
    "row_indices": (G != 0).nonzero()[:, 0],
    "col_indices": (G != 0).nonzero()[:, 1],
}


@pytest.mark.parametrize("name", PROPERTIES)
def test_property(name: str) -> None:
    assert same(getattr(A, name), PROPERTIES[name])


def test_properties_of_batches_and_blocks() -> None:
    assert (PAIR.batch_shape, PAIR.batch_size, PAIR.is_batched, PAIR.ndim) == ((2,), 2, True, 3)
    assert (BLOCKS.block_shape, BLOCKS.is_block, BLOCKS.sparse_shape) == ((3, 3), True, (4, 4))
    assert tuple(BLOCKS.shape) == (4, 4, 3, 3)
    assert S.structure.hermitian


def test_common_names_are_at_the_front_door() -> None:
    for name in [
        "SparseTensor",
        "SparseTensorList",
        "spsolve",
        "spsolve_coo",
        "spsolve_csr",
        "nonlinear_solve",
        "adjoint_solve",
        "LUFactorization",
        "ParallelBatchSolver",
        "save_sparse",
        "load_sparse",
        "save_mtx",
        "load_mtx",
        "load_metadata",
        "show_backends",
        "AMG",
        "SolveInfo",
        "get_available_backends",
        "get_backend_methods",
        "select_backend",
        "select_method",
        "spsolve_batch_same_layout",
        "spsolve_batch_different_layout",
        "spsolve_batch_coo_same_layout",
        "spsolve_batch_coo_different_layout",
        "is_scipy_available",
        "is_eigen_available",
        "is_cudss_available",
        "is_cusolver_available",
        "partition_simple",
        "partition_coordinates",
        "partition_graph_metis",
    ]:
        assert getattr(torch_sla, name) is getattr(linalg, name)


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's own, of sparse tensors
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
def test_dense_arguments_are_not_sparse_tensors_of_torch(layout: torch.layout) -> None:
    one = SparseTensor.eye(3, dtype=torch.float64)
    T = torch.eye(3, dtype=torch.float64).to_sparse(layout=layout)
    for call in (lambda: one.solve(T), lambda: one @ T, lambda: one.lu().solve(T)):
        with pytest.raises(ArgumentError, match="from_torch_sparse"):
            call()
