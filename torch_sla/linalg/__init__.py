"""The low-level door: for people who already have a matrix.

Names are loaded on first use, so that importing one does not pay for all.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch_sla.linalg.determinant import det, logdet, slogdet
    from torch_sla.linalg.distributed.files import (
        load_distributed_as_sparse,
        load_dsparse,
        load_metadata,
        load_partition,
        load_sparse_as_partition,
        save_distributed,
        save_dsparse,
    )
    from torch_sla.linalg.distributed.part import DSparseMatrix
    from torch_sla.linalg.distributed.precond.block import PartSchur
    from torch_sla.linalg.distributed.precond.chebyshev import PartChebyshev
    from torch_sla.linalg.distributed.precond.multigrid import PartMultigrid
    from torch_sla.linalg.distributed.precond.schwarz import Schwarz
    from torch_sla.linalg.distributed.tensor import DSparseTensor
    from torch_sla.linalg.distributed.vector import DVector
    from torch_sla.linalg.eigen.general import eigs
    from torch_sla.linalg.eigen.hermitian import eigsh
    from torch_sla.linalg.eigen.lobpcg import LOBPCGOptions, lobpcg
    from torch_sla.linalg.eigen.quadratic import quadratic_eigs
    from torch_sla.linalg.eigen.singular import condition_number, svd
    from torch_sla.linalg.factor_cache import cache_counters, clear_factor_cache
    from torch_sla.linalg.factorize import (
        CholeskyFactorization,
        Factorization,
        LDLTFactorization,
        LUFactorization,
    )
    from torch_sla.linalg.functions import (
        ParallelBatchSolver,
        spsolve,
        spsolve_batch_coo_different_layout,
        spsolve_batch_coo_same_layout,
        spsolve_batch_different_layout,
        spsolve_batch_same_layout,
        spsolve_coo,
        spsolve_csr,
    )
    from torch_sla.linalg.info import SolveInfo
    from torch_sla.linalg.nonlinear.options import NonlinearInfo, NonlinearOptions
    from torch_sla.linalg.nonlinear.solve import adjoint_solve, nonlinear_solve
    from torch_sla.linalg.plan.calibrate import calibrate
    from torch_sla.linalg.plan.choices import (
        get_available_backends,
        get_backend_methods,
        is_cudss_available,
        is_cusolver_available,
        is_eigen_available,
        is_scipy_available,
        select_backend,
        select_method,
        show_backends,
    )
    from torch_sla.linalg.plan.machine import (
        MachineModel,
        load_machine,
        machine,
        save_machine,
        use_machine,
    )
    from torch_sla.linalg.plan.plan import SolvePlan
    from torch_sla.linalg.precond.block import FieldSplit, Schur
    from torch_sla.linalg.precond.multigrid.lagged import LaggedMultigrid
    from torch_sla.linalg.precond.multigrid.options import AMG
    from torch_sla.linalg.precond.of_matrix import OfMatrix, shifted_laplacian
    from torch_sla.linalg.sparse.files import (
        load_mtx,
        load_sparse,
        save_mtx,
        save_sparse,
    )
    from torch_sla.linalg.sparse.list import SparseTensorList
    from torch_sla.linalg.sparse.partition import (
        partition_coordinates,
        partition_graph_metis,
        partition_simple,
    )
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.segments import SegmentMap
    from torch_sla.linalg.sparse.structure import Structure
    from torch_sla.linalg.sparse.tensor import SparseTensor

_HOME = {
    "AMG": "precond.multigrid.options",
    "FieldSplit": "precond.block",
    "LaggedMultigrid": "precond.multigrid.lagged",
    "OfMatrix": "precond.of_matrix",
    "Schur": "precond.block",
    "shifted_laplacian": "precond.of_matrix",
    "CholeskyFactorization": "factorize",
    "DSparseMatrix": "distributed.part",
    "DSparseTensor": "distributed.tensor",
    "DVector": "distributed.vector",
    "Factorization": "factorize",
    "LDLTFactorization": "factorize",
    "LOBPCGOptions": "eigen.lobpcg",
    "LUFactorization": "factorize",
    "MachineModel": "plan.machine",
    "NonlinearInfo": "nonlinear.options",
    "NonlinearOptions": "nonlinear.options",
    "ParallelBatchSolver": "functions",
    "PartChebyshev": "distributed.precond.chebyshev",
    "PartMultigrid": "distributed.precond.multigrid",
    "PartSchur": "distributed.precond.block",
    "Schwarz": "distributed.precond.schwarz",
    "Pattern": "sparse.pattern",
    "SegmentMap": "sparse.segments",
    "SolveInfo": "info",
    "SolvePlan": "plan.plan",
    "SparseTensor": "sparse.tensor",
    "SparseTensorList": "sparse.list",
    "Structure": "sparse.structure",
    "adjoint_solve": "nonlinear.solve",
    "cache_counters": "factor_cache",
    "calibrate": "plan.calibrate",
    "clear_factor_cache": "factor_cache",
    "condition_number": "eigen.singular",
    "det": "determinant",
    "eigs": "eigen.general",
    "eigsh": "eigen.hermitian",
    "get_available_backends": "plan.choices",
    "get_backend_methods": "plan.choices",
    "is_cudss_available": "plan.choices",
    "is_cusolver_available": "plan.choices",
    "is_eigen_available": "plan.choices",
    "is_scipy_available": "plan.choices",
    "load_machine": "plan.machine",
    "load_distributed_as_sparse": "distributed.files",
    "load_dsparse": "distributed.files",
    "load_metadata": "distributed.files",
    "load_mtx": "sparse.files",
    "load_partition": "distributed.files",
    "load_sparse": "sparse.files",
    "load_sparse_as_partition": "distributed.files",
    "lobpcg": "eigen.lobpcg",
    "logdet": "determinant",
    "machine": "plan.machine",
    "nonlinear_solve": "nonlinear.solve",
    "partition_coordinates": "sparse.partition",
    "partition_graph_metis": "sparse.partition",
    "partition_simple": "sparse.partition",
    "save_machine": "plan.machine",
    "quadratic_eigs": "eigen.quadratic",
    "save_distributed": "distributed.files",
    "save_dsparse": "distributed.files",
    "save_mtx": "sparse.files",
    "save_sparse": "sparse.files",
    "select_backend": "plan.choices",
    "select_method": "plan.choices",
    "show_backends": "plan.choices",
    "slogdet": "determinant",
    "spsolve": "functions",
    "spsolve_batch_coo_different_layout": "functions",
    "spsolve_batch_coo_same_layout": "functions",
    "spsolve_batch_different_layout": "functions",
    "spsolve_batch_same_layout": "functions",
    "spsolve_coo": "functions",
    "spsolve_csr": "functions",
    "svd": "eigen.singular",
    "use_machine": "plan.machine",
}

__all__ = [
    "AMG",
    "CholeskyFactorization",
    "DSparseMatrix",
    "DSparseTensor",
    "DVector",
    "Factorization",
    "FieldSplit",
    "LDLTFactorization",
    "LOBPCGOptions",
    "LUFactorization",
    "LaggedMultigrid",
    "MachineModel",
    "NonlinearInfo",
    "NonlinearOptions",
    "OfMatrix",
    "ParallelBatchSolver",
    "PartChebyshev",
    "PartMultigrid",
    "PartSchur",
    "Pattern",
    "Schur",
    "Schwarz",
    "SegmentMap",
    "SolveInfo",
    "SolvePlan",
    "SparseTensor",
    "SparseTensorList",
    "Structure",
    "adjoint_solve",
    "cache_counters",
    "calibrate",
    "clear_factor_cache",
    "condition_number",
    "det",
    "eigs",
    "eigsh",
    "get_available_backends",
    "get_backend_methods",
    "is_cudss_available",
    "is_cusolver_available",
    "is_eigen_available",
    "is_scipy_available",
    "load_distributed_as_sparse",
    "load_dsparse",
    "load_machine",
    "load_metadata",
    "load_mtx",
    "load_partition",
    "load_sparse",
    "load_sparse_as_partition",
    "lobpcg",
    "logdet",
    "machine",
    "nonlinear_solve",
    "partition_coordinates",
    "partition_graph_metis",
    "partition_simple",
    "quadratic_eigs",
    "save_distributed",
    "save_dsparse",
    "save_machine",
    "save_mtx",
    "save_sparse",
    "select_backend",
    "select_method",
    "shifted_laplacian",
    "show_backends",
    "slogdet",
    "spsolve",
    "spsolve_batch_coo_different_layout",
    "spsolve_batch_coo_same_layout",
    "spsolve_batch_different_layout",
    "spsolve_batch_same_layout",
    "spsolve_coo",
    "spsolve_csr",
    "svd",
    "use_machine",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
