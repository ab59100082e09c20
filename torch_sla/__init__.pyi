from __future__ import annotations

from torch_sla.errors import (
    SolveError as SolveError,
    SpecError as SpecError,
    TorchSlaError as TorchSlaError,
)
from torch_sla.linalg import (
    AMG as AMG,
    CholeskyFactorization as CholeskyFactorization,
    DSparseMatrix as DSparseMatrix,
    DSparseTensor as DSparseTensor,
    DVector as DVector,
    LDLTFactorization as LDLTFactorization,
    LUFactorization as LUFactorization,
    ParallelBatchSolver as ParallelBatchSolver,
    SolveInfo as SolveInfo,
    SparseTensor as SparseTensor,
    SparseTensorList as SparseTensorList,
    adjoint_solve as adjoint_solve,
    get_available_backends as get_available_backends,
    get_backend_methods as get_backend_methods,
    is_cudss_available as is_cudss_available,
    is_cusolver_available as is_cusolver_available,
    is_eigen_available as is_eigen_available,
    is_scipy_available as is_scipy_available,
    load_distributed_as_sparse as load_distributed_as_sparse,
    load_dsparse as load_dsparse,
    load_metadata as load_metadata,
    load_mtx as load_mtx,
    load_partition as load_partition,
    load_sparse as load_sparse,
    load_sparse_as_partition as load_sparse_as_partition,
    nonlinear_solve as nonlinear_solve,
    partition_coordinates as partition_coordinates,
    partition_graph_metis as partition_graph_metis,
    partition_simple as partition_simple,
    save_distributed as save_distributed,
    save_dsparse as save_dsparse,
    save_mtx as save_mtx,
    save_sparse as save_sparse,
    select_backend as select_backend,
    select_method as select_method,
    show_backends as show_backends,
    spsolve as spsolve,
    spsolve_batch_coo_different_layout as spsolve_batch_coo_different_layout,
    spsolve_batch_coo_same_layout as spsolve_batch_coo_same_layout,
    spsolve_batch_different_layout as spsolve_batch_different_layout,
    spsolve_batch_same_layout as spsolve_batch_same_layout,
    spsolve_coo as spsolve_coo,
    spsolve_csr as spsolve_csr,
)
from torch_sla.problems.derivatives.prior import Gaussian as Gaussian
from torch_sla.problems.design.optimizers import (
    LBFGS as LBFGS,
    MMA as MMA,
    Adam as Adam,
    GaussNewton as GaussNewton,
    LevenbergMarquardt as LevenbergMarquardt,
    NewtonCG as NewtonCG,
    OptimalityCriteria as OptimalityCriteria,
    Scipy as Scipy,
    TorchOptim as TorchOptim,
)
from torch_sla.problems.design.transforms import (
    RAMP as RAMP,
    SIMP as SIMP,
    BoundaryMotion as BoundaryMotion,
    ConeFilter as ConeFilter,
    Fixed as Fixed,
    HelmholtzFilter as HelmholtzFilter,
    Log as Log,
    Logit as Logit,
    NeuralField as NeuralField,
    Projection as Projection,
    SensitivityFilter as SensitivityFilter,
    Softplus as Softplus,
    Symmetry as Symmetry,
)
from torch_sla.problems.distributed.problem import distribute as distribute
from torch_sla.problems.lowering.cache import clear_cache as clear_cache
from torch_sla.problems.solution import Solution as Solution
from torch_sla.problems.specs.algebra import (
    EigenProblem as EigenProblem,
    Entries as Entries,
    LinearProblem as LinearProblem,
    MatrixFile as MatrixFile,
    NonlinearProblem as NonlinearProblem,
    Root as Root,
)
from torch_sla.problems.specs.boundary import (
    Dirichlet as Dirichlet,
    Neumann as Neumann,
    Periodic as Periodic,
    PointLoad as PointLoad,
    Radiation as Radiation,
    Robin as Robin,
    Spring as Spring,
)
from torch_sla.problems.specs.design import DesignProblem as DesignProblem
from torch_sla.problems.specs.elasticity import ElasticityProblem as ElasticityProblem
from torch_sla.problems.specs.files import load_problem as load_problem
from torch_sla.problems.specs.helmholtz import PML as PML, HelmholtzProblem as HelmholtzProblem
from torch_sla.problems.specs.hyperelasticity import (
    HyperelasticityProblem as HyperelasticityProblem,
)
from torch_sla.problems.specs.mesh import (
    AnnulusMesh as AnnulusMesh,
    BoxMesh as BoxMesh,
    DiskMesh as DiskMesh,
    IntervalMesh as IntervalMesh,
    LShapeMesh as LShapeMesh,
    MeshArrays as MeshArrays,
    MeshFile as MeshFile,
    RectangleMesh as RectangleMesh,
)
from torch_sla.problems.specs.outputs import (
    Compliance as Compliance,
    Component as Component,
    Energy as Energy,
    Field as Field,
    Flux as Flux,
    Integral as Integral,
    Line as Line,
    Maximum as Maximum,
    Minimum as Minimum,
    Probe as Probe,
    Reaction as Reaction,
)
from torch_sla.problems.specs.poisson import PoissonProblem as PoissonProblem
from torch_sla.problems.specs.problem import Problem as Problem
from torch_sla.problems.specs.samples import (
    LogNormal as LogNormal,
    Normal as Normal,
    Samples as Samples,
    Uniform as Uniform,
)
from torch_sla.problems.specs.solver import Newton as Newton, Solver as Solver
from torch_sla.problems.specs.stokes import StokesProblem as StokesProblem
from torch_sla.problems.specs.sweep import SweepProblem as SweepProblem
from torch_sla.problems.specs.transient import (
    Adaptive as Adaptive,
    Event as Event,
    TransientProblem as TransientProblem,
)
from torch_sla.problems.specs.value import (
    Grid as Grid,
    Parameter as Parameter,
    Table as Table,
)
from torch_sla.problems.specs.variable import (
    Effort as Effort,
    Measured as Measured,
    Variable as Variable,
)
from torch_sla.problems.specs.weakform import Unknown as Unknown, WeakFormProblem as WeakFormProblem

__all__: list[str]
__version__: str
