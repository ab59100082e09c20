from __future__ import annotations

from torch_sla.errors import (
    SolveError as SolveError,
    SpecError as SpecError,
    TorchSlaError as TorchSlaError,
)
from torch_sla.linalg import SolveInfo as SolveInfo, SparseTensor as SparseTensor
from torch_sla.problems.lowering.cache import clear_cache as clear_cache
from torch_sla.problems.solution import Solution as Solution
from torch_sla.problems.specs.algebra import (
    EigenProblem as EigenProblem,
    Entries as Entries,
    LinearProblem as LinearProblem,
    MatrixFile as MatrixFile,
    NonlinearProblem as NonlinearProblem,
    Variable as Variable,
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
    Maximum as Maximum,
    Probe as Probe,
    Reaction as Reaction,
)
from torch_sla.problems.specs.poisson import PoissonProblem as PoissonProblem
from torch_sla.problems.specs.problem import Problem as Problem
from torch_sla.problems.specs.solver import Newton as Newton, Solver as Solver
from torch_sla.problems.specs.stokes import StokesProblem as StokesProblem
from torch_sla.problems.specs.value import Parameter as Parameter
from torch_sla.problems.specs.weakform import Unknown as Unknown, WeakFormProblem as WeakFormProblem

__all__: list[str]
__version__: str
