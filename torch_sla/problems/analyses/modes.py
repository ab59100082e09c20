"""Modes of a physics: the pencil K φ = λ M φ on the unknowns that are free."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, GradientError, SpecError
from torch_sla.linalg import Pattern, SolveInfo, SparseTensor
from torch_sla.problems.algebra_solution import AlgebraSolution
from torch_sla.problems.analyses.analysis import Analysis, inside
from torch_sla.problems.lowering.algebra import Eigen, components
from torch_sla.problems.lowering.newton import solve_nonlinear
from torch_sla.problems.results import Drawn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.progress import ProgressCallback
    from torch_sla.problems.specs.algebra import EigenProblem

__all__ = ["FreeSpace", "ModalSolution", "Modes", "modes"]


def modes(spec: EigenProblem) -> Eigen | Modes:
    """Give meaning to an eigenproblem: of matrices, or of a physics."""
    return Eigen(spec) if spec.of is None else Modes(spec)


class FreeSpace:
    """The unknowns without a given value: where spectra live.

    Parameters
    ----------
    model
        The lowered physics, with its constraint ``u = T û + g``.
    """

    def __init__(self, model: Model) -> None:
        self._constraint = constraint = model.compiled.constraint
        whole, free = constraint.pattern, model.free
        row, column = whole.csr_row.long(), whole.ccol.long()
        self._slots = torch.nonzero(free[row] & free[column])[:, 0]
        self.index = torch.nonzero(free)[:, 0]
        self.n, self._n_all = len(self.index), len(free)
        self._given = len(model.compiled.sides(free.new_zeros(len(model.compiled.constrained))))
        number = torch.cumsum(free, 0) - 1
        counts = torch.bincount(number[row[self._slots]], minlength=self.n)
        crow = torch.nn.functional.pad(torch.cumsum(counts, 0), (1, 0))
        self.pattern = Pattern.from_csr(crow, number[column[self._slots]], (self.n, self.n))

    def restrict(self, values: Tensor) -> Tensor:
        """Return ``Tᴴ A T`` on `pattern`: ``[*batch, nnz]`` of the whole to ``[*batch, nnz]``."""
        zero, none = values.new_zeros(self._n_all), values.new_zeros(self._given)
        constrained, _ = self._constraint.apply(values, zero, none)
        return constrained.index_select(-1, self._slots)

    def recover(self, v: Tensor) -> Tensor:
        """Return vectors of all unknowns ``[*batch, n]``, zero where a value is given."""
        zero = v.new_zeros(*v.shape[:-1], self._n_all)
        return self._constraint.recover(
            zero.index_copy(-1, self.index, v), v.new_zeros(self._given)
        )


class Modes(Analysis):
    """Lowers `EigenProblem` of a physics."""

    spec: EigenProblem

    def _structure(self) -> str:
        return str(self.spec.k)

    def check(self) -> Any:
        """Check everything that needs no value; return the mesh."""
        if self.model.timed:
            with inside():
                self.model.refuse_time()
        return super().check()

    def solve(
        self,
        values: Mapping[str, Any],
        *,
        points: Tensor | None = None,
        start: Tensor | None = None,
        info: bool = False,
        throw: bool = True,
        progress: ProgressCallback | None = None,
    ) -> ModalSolution:
        """Find the modes; of a nonlinear physics, those of small motions about its solution."""
        del info
        spec, model = self.spec, self.model
        with inside():
            scene = model.scene(values, points, mass=True)
            K, symmetric = self._stiffness(scene, start, throw=throw, progress=progress)
            M = model.mass(scene)
        _require_reach(scene, K, M)
        space = FreeSpace(model)
        if spec.k > space.n:
            raise SpecError(f"there are {space.n} free unknowns; received {spec.k}", path="k")
        stiffness, inertia = space.restrict(K), space.restrict(M)
        if inertia.ndim > 1:
            batch = np.broadcast_shapes(stiffness.shape[:-1], inertia.shape[:-1])
            stiffness = stiffness.expand(*batch, -1)
        known = model.structure(None, symmetric)
        A = SparseTensor.from_pattern(space.pattern, stiffness, known.updated(coordinates=None))
        if not A.known_structure().hermitian:
            raise SpecError(
                "the operator is not symmetric (advection, or a law of the solution), and modes are those of "
                "symmetric operators",
                path="of",
            )
        B = SparseTensor.from_pattern(space.pattern, inertia, known.updated(coordinates=None))
        which, sigma = spec.which, spec.sigma
        if sigma is None and which == "SM" and not model.determined:
            sigma = self._below(stiffness, inertia)
        if sigma is not None:
            which = "LM"
        w, V = A.eigsh(k=spec.k, which=which, sigma=sigma, M=B)
        flat = space.recover(V.transpose(-1, -2))
        return ModalSolution(self, scene, M, w, flat)

    def _stiffness(
        self,
        scene: Scene,
        start: Tensor | None,
        *,
        throw: bool,
        progress: ProgressCallback | None,
    ) -> tuple[Tensor, Any]:
        model = self.model
        operator = model.loaded(scene)
        if not model.nonlinear:
            return operator.values, operator.symmetric
        if not model.determined:
            raise SpecError(model.undetermined, path="boundary")
        u, _ = solve_nonlinear(model, scene, start, throw=throw, progress=progress)
        recorded = torch.is_grad_enabled() and u.requires_grad
        K = model.tangent(scene, operator, model.terms(scene), u, recorded=recorded)
        return K, model.symmetric

    @staticmethod
    def _below(A: Tensor, M: Tensor) -> float:
        """Return a shift a little below zero, where a body that can move freely has no eigenvalue."""
        largest = float(A.detach().abs().max()) / float(M.detach().abs().max())
        return -1e-6 * largest


class ModalSolution(Drawn, AlgebraSolution):
    """Modes of a physics; everything in it is differentiable.

    Attributes
    ----------
    eigenvalues
        ``[*batch, k]``, ascending.
    modes
        ``[*batch, k, n_nodes]`` or ``[*batch, k, n_nodes, dim]``, with ``φᵀ M φ = 1``; of several fields flat.
    frequencies
        ``sqrt(λ) / 2π`` ``[*batch, k]`` (Hz), also among the outputs.
    """

    drawable = True

    def __init__(self, model: Modes, scene: Scene, mass: Tensor, w: Tensor, flat: Tensor) -> None:
        home, inner = scene.given.home, model.model
        single = len(inner.ranks) == 1
        shaped = inner.numbering.shaped(flat, next(iter(inner.ranks))) if single else flat
        self._flat, self._mass, self._scene = flat, mass, scene
        report = SolveInfo(method=f"eigsh {model.spec.which}", backend="eigsh")
        outputs = components(model.spec, w, home)
        super().__init__(
            model, {"eigenvalues": w.to(home), "modes": shaped.to(home)}, outputs, report
        )
        self.outputs["frequencies"] = self.frequencies
        if not self.batch:
            self.endings = (".vtu", ".npz", ".json")

    @property
    def points(self) -> Tensor:
        """The mesh points it was solved on ``[n_points, dim]``."""
        return self._scene.geometry.points

    @property
    def flat(self) -> Tensor:
        """The modes over all unknowns ``[*batch, k, n]``, on the device of the problem."""
        return self._flat

    @property
    def participation(self) -> Tensor:
        """How much of each mode a rigid translation holds, ``φᵀ M r``: ``[*batch, k, dim]``, or 1 for a scalar."""
        inner = self.model.model
        name = next(iter(inner.ranks))
        dofs = inner.numbering.fields[name]
        c = dofs.components
        eye = torch.eye(c, dtype=self._flat.dtype, device=self._flat.device)
        each = eye.repeat(1, dofs.n // c)
        rigid = inner.numbering.placed(each, name)
        moved = torch.stack([inner.apply(self._mass, r) for r in rigid], -1)
        found: Tensor = self._flat @ moved
        return found.to(self.u.device)

    @property
    def effective_mass(self) -> Tensor:
        """Square of `participation`: over all modes it adds up to the mass that can move."""
        return self.participation**2

    def save(self, path: str | Path) -> None:
        """Write ``.vtu`` modes for a viewer, ``.pvd`` or ``.xdmf`` to go through them, ``.npz``, ``.json``."""
        path = Path(path)
        if path.suffix in (".pvd", ".xdmf"):
            from torch_sla.problems.report.save import save_series

            save_series(self, path)
            return
        if path.suffix not in (".vtu", ".vtk"):
            super().save(path)
            return
        from torch_sla.assembly.mesh import write_mesh

        if self._flat.ndim > 2:
            raise ArgumentError(
                f"modes have batch dimensions {list(self.batch)}, and {path.suffix} holds one member"
            )
        inner = self.model.model
        at_points = {
            f"mode_{i + 1}.{name}" if len(inner.ranks) > 1 else f"mode_{i + 1}": inner.at_points(
                mode.detach(), name
            )
            for i, mode in enumerate(self._flat)
            for name in inner.ranks
        }
        write_mesh(path, inner.mesh, at_points, {}, points=self.points)


def _require_reach(scene: Scene, K: Tensor, M: Tensor) -> None:
    """Refuse a value that requires grad and enters neither matrix, such as a load of a linear physics."""
    wanted = {name: value for name, value in scene.given.items() if value.requires_grad}
    if not wanted or not torch.is_grad_enabled():
        return
    total = K.sum() + M.sum()
    found: tuple[Tensor | None, ...] = (None,) * len(wanted)
    if total.requires_grad:
        found = torch.autograd.grad(
            total, list(wanted.values()), retain_graph=True, allow_unused=True
        )
    for name, gradient in zip(wanted, found, strict=True):
        if gradient is None:
            raise GradientError(
                f"{name!r} requires grad, but neither stiffness nor mass depends on it, so its gradient would be zero "
                "in silence; pass it detached"
            )
