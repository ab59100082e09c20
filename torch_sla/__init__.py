"""Declare a physics problem, get back a solution you can differentiate.

Names are loaded on first use: ``import torch_sla`` alone costs nothing.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

_HOMES = {
    "torch_sla.errors": ("SolveError", "SpecError", "TorchSlaError"),
    "torch_sla.linalg": (
        *("AMG", "CholeskyFactorization", "DSparseMatrix", "DSparseTensor", "DVector"),
        *("LDLTFactorization", "LUFactorization"),
        *("ParallelBatchSolver", "SolveInfo", "SparseTensor", "SparseTensorList"),
        *("adjoint_solve", "get_available_backends", "get_backend_methods"),
        *("is_cudss_available", "is_cusolver_available", "is_eigen_available"),
        *("is_scipy_available", "load_distributed_as_sparse", "load_dsparse", "load_metadata"),
        *("load_mtx", "load_partition", "load_sparse", "load_sparse_as_partition"),
        *("nonlinear_solve", "partition_coordinates", "partition_graph_metis"),
        *("save_distributed", "save_dsparse"),
        *("partition_simple", "save_mtx", "save_sparse", "select_backend", "select_method"),
        *("show_backends", "spsolve", "spsolve_batch_coo_different_layout"),
        *("spsolve_batch_coo_same_layout", "spsolve_batch_different_layout"),
        *("spsolve_batch_same_layout", "spsolve_coo", "spsolve_csr"),
    ),
    "torch_sla.problems.design.optimizers": (
        *("LBFGS", "MMA", "Adam", "GaussNewton", "LevenbergMarquardt", "NewtonCG"),
        *("OptimalityCriteria", "Scipy", "TorchOptim"),
    ),
    "torch_sla.problems.design.transforms": (
        *("RAMP", "SIMP", "BoundaryMotion", "ConeFilter", "Fixed", "HelmholtzFilter"),
        *("Log", "Logit"),
        *("NeuralField", "Projection", "SensitivityFilter", "Softplus", "Symmetry"),
    ),
    "torch_sla.problems.derivatives.prior": ("Gaussian",),
    "torch_sla.problems.distributed.problem": ("distribute",),
    "torch_sla.problems.lowering.cache": ("clear_cache",),
    "torch_sla.problems.solution": ("Solution",),
    "torch_sla.problems.specs.algebra": (
        *("EigenProblem", "Entries", "LinearProblem", "MatrixFile", "NonlinearProblem", "Root"),
    ),
    "torch_sla.problems.specs.boundary": (
        *("Dirichlet", "Neumann", "Periodic", "PointLoad", "Radiation", "Robin", "Spring"),
    ),
    "torch_sla.problems.specs.design": ("DesignProblem",),
    "torch_sla.problems.specs.elasticity": ("ElasticityProblem",),
    "torch_sla.problems.specs.files": ("load_problem",),
    "torch_sla.problems.specs.helmholtz": ("PML", "HelmholtzProblem"),
    "torch_sla.problems.specs.hyperelasticity": ("HyperelasticityProblem",),
    "torch_sla.problems.specs.mesh": (
        *("AnnulusMesh", "BoxMesh", "DiskMesh", "IntervalMesh", "LShapeMesh"),
        *("MeshArrays", "MeshFile", "RectangleMesh"),
    ),
    "torch_sla.problems.specs.outputs": (
        *(
            "Compliance",
            "Component",
            "Energy",
            "Field",
            "Flux",
            "Integral",
            "Line",
            "Maximum",
            "Minimum",
            "Probe",
            "Reaction",
        ),
    ),
    "torch_sla.problems.specs.poisson": ("PoissonProblem",),
    "torch_sla.problems.specs.problem": ("Problem",),
    "torch_sla.problems.specs.solver": ("Newton", "Solver"),
    "torch_sla.problems.specs.stokes": ("StokesProblem",),
    "torch_sla.problems.specs.samples": ("LogNormal", "Normal", "Samples", "Uniform"),
    "torch_sla.problems.specs.sweep": ("SweepProblem",),
    "torch_sla.problems.specs.transient": ("Adaptive", "Event", "TransientProblem"),
    "torch_sla.problems.specs.value": ("Grid", "Parameter", "Table"),
    "torch_sla.problems.specs.variable": ("Effort", "Measured", "Variable"),
    "torch_sla.problems.specs.weakform": ("Unknown", "WeakFormProblem"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted([*_HOME, "__version__"])  # noqa: PLE0605


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'torch_sla' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
