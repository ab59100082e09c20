"""Modes of a physics: the pencil K φ = λ M φ on the unknowns that are free, and the loads at which a body buckles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, SolveError, SpecError
from torch_sla.linalg import SolveInfo, SparseTensor
from torch_sla.problems.algebra_solution import AlgebraSolution
from torch_sla.problems.analyses.analysis import Analysis, inside
from torch_sla.problems.analyses.spectrum import (
    Found,
    FreeSpace,
    Pencil,
    require_mass,
    require_reach,
)
from torch_sla.problems.lowering.algebra import Eigen, components
from torch_sla.problems.lowering.complex_modes import general_pairs
from torch_sla.problems.lowering.damping import proportional, undeformed
from torch_sla.problems.lowering.states import refuse_start
from torch_sla.problems.results import Drawn
from torch_sla.problems.spectral import notes_on_rest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch_sla.problems.lowering.operators import Operator
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.progress import ProgressCallback
    from torch_sla.problems.specs.algebra import EigenProblem

__all__ = ["ModalSolution", "Modes", "modes"]

_ROUNDING = 64.0
"""Units of rounding that an eigenvalue of a rigid motion may have."""


def modes(spec: EigenProblem) -> Eigen | Modes:
    """Give meaning to an eigenproblem: of matrices, or of a physics."""
    return Eigen(spec) if spec.of is None else Modes(spec)


class Modes(Analysis):
    """Lowers `EigenProblem` of a physics."""

    spec: EigenProblem

    @property
    def loaded(self) -> bool:
        """Whether the pencil depends on a solution, and with it on loads and given values."""
        return self.spec.kind != "modes" or bool(self.model.nonlinear)

    @property
    def idle_names(self) -> frozenset[str]:
        """Names of the parameters that the pencil does not depend on, and that need no value."""
        if self.loaded:
            return frozenset()
        found: frozenset[str] = self.model.names_of_loads - self.own_names
        return found

    def _structure(self) -> str:
        return f"{self.spec.kind} {self.spec.k}"

    def check(self) -> Any:
        """Check everything that needs no value; return the mesh."""
        if self.model.timed:
            with inside():
                self.model.refuse_time()
        found = super().check()
        self._refuse_count(int(self.model.free.sum()))
        return found

    def _refuse_count(self, n: int) -> None:
        """Raise where more modes are asked for than there are."""
        if self.spec.k > n:
            raise SpecError(f"there are {n} free unknowns; received {self.spec.k}", path="k")

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
        del info, throw  # what is not found raises
        spec, model = self.spec, self.model
        buckling = spec.kind == "buckling"
        with inside():
            scene = model.scene(
                values,
                points,
                mass=not buckling,
                declared=self.declared,
                reaching=self.own_names,
                optional=self.idle_names,
            )
            if not self.loaded:
                refuse_start(start)
            start = None if start is None else model.given_start(start)
            K, stress, operator = self._stiffness(scene, start, progress)
            M = K if buckling else model.mass(scene)
            start_at = model.counted_from(scene)
            # Rates of what is damped or not symmetric are tested as the rest of the residual is.
            R = model.rate_matrix(scene) if not buckling and model.upwinded else M
        C = self._damping(scene, operator, R)
        require_reach(scene, K, M, stress, C)
        space = FreeSpace(model)
        self._refuse_count(space.n)
        symmetric = model.symmetric if model.nonlinear else operator.symmetric
        known = model.structure(None, symmetric).updated(coordinates=None)

        def matrix(values: Tensor, batch: tuple[int, ...]) -> SparseTensor:
            own = space.restrict(values)
            return SparseTensor.from_pattern(space.pattern, own.expand(*batch, -1), known)

        if buckling:
            if stress is None:
                raise ValueError("buckling comes of stresses")
            w, flat, found = self._critical(space, K, stress, matrix, progress)
            return ModalSolution(self, scene, None, w, flat, found)
        if stress is not None:
            K = K + stress
        batch = tuple(np.broadcast_shapes(K.shape[:-1], M.shape[:-1]))
        A = matrix(K, batch if M.ndim > 1 else tuple(K.shape[:-1]))
        B = matrix(M, tuple(M.shape[:-1]) if M.ndim == 1 else batch)
        if C is not None or not A.known_structure().hermitian:
            D = None if C is None else matrix(C, tuple(C.shape[:-1]))
            rates = B if R is M else matrix(R, tuple(R.shape[:-1]) if R.ndim == 1 else batch)
            found = self._general(A, D, rates, B, start_at)
            flat = space.recover(found.vectors.transpose(-1, -2))
            rest = self._rest(K, M, found.values, damped=D is not None)
            return ModalSolution(self, scene, M, found.values, flat, found, rest)
        light = B.values.detach().index_select(-1, B.pattern.diagonal_slots) <= 0
        without = int(light.sum(-1).amax())
        require_mass(model, without, space.n, spec)
        which, sigma = spec.which, spec.sigma
        end = {"SM": "SA", "SA": "SA"}.get(which) if sigma is None else None
        if without:
            end = None  # LOBPCG needs mass everywhere
        if sigma is None and which == "SM" and not model.determined:
            sigma = self._below(K, M)
        if sigma is not None:
            which = "LM"
        below = sigma if end is not None and sigma is not None else 0.0
        pencil = Pencil(model, space, K if not below else K - below * M, spec.k, progress)
        found = pencil.find(A, B, spec.k, which=which, sigma=sigma, end=end)
        flat = space.recover(found.vectors.transpose(-1, -2))
        rest = self._rest(K, M, found.values, damped=False)
        return ModalSolution(self, scene, M, found.values, flat, found, rest)

    def _general(
        self,
        A: SparseTensor,
        C: SparseTensor | None,
        R: SparseTensor,
        M: SparseTensor,
        start_at: Tensor | None,
    ) -> Found:
        """Find pairs of ``A v = λ R v``, scaled by M, or of damped motion; they are complex."""
        spec = self.spec
        sigma: complex | None = spec.sigma
        if sigma is None and not self.model.determined:
            why = (
                "rigid motions that are damped have the eigenvalue 0 twice, without two modes"
                if C is not None
                else "nothing fixes the level"
            )
            raise SpecError(
                f"{why}: hold the body in boundary, or give sigma, a rate to search by",
                path="sigma",
            )
        if start_at is not None:
            shift = (0.0 if sigma is None else sigma) - start_at.detach()
            if sigma is not None:
                if shift.ndim:
                    raise SpecError(
                        "a batch of wavenumbers is searched by each of them", path="sigma"
                    )
                sigma = complex(shift) if shift.is_complex() else float(shift)
        w, modes = general_pairs(A, C, R, spec.k, spec.which, sigma, halves=C is not None, weight=M)
        if start_at is not None:
            w = w + start_at[..., None]
        method = "arnoldi" if C is None else "arnoldi of the companion"
        return Found(w, modes.transpose(-1, -2), method, [])

    def _damping(self, scene: Scene, operator: Operator, R: Tensor) -> Tensor | None:
        """Return the values of α R + β K, with the K that Newmark's has; None where nothing is damped."""
        found: Tensor | None = None
        alpha = proportional(self.spec.mass_damping, scene, "mass_damping")
        beta = proportional(self.spec.stiffness_damping, scene, "stiffness_damping")
        if alpha is not None:
            found = alpha[..., None] * R
        if beta is not None:
            part = beta[..., None] * undeformed(self.model, scene, operator)
            found = part if found is None else found + part
        return found

    def _critical(
        self,
        space: FreeSpace,
        K: Tensor,
        stress: Tensor,
        matrix: Callable[[Tensor, tuple[int, ...]], SparseTensor],
        progress: ProgressCallback | None,
    ) -> tuple[Tensor, Tensor, Found]:
        """Find the least positive λ with ``(K + λ K_stress) φ = 0``: the largest μ = 1/λ of ``−K_stress φ = μ K φ``."""
        k = self.spec.k
        batch = tuple(np.broadcast_shapes(K.shape[:-1], stress.shape[:-1]))
        pencil = Pencil(self.model, space, K, k, progress)
        A, B = matrix(-stress, batch), matrix(K, tuple(K.shape[:-1]) if K.ndim == 1 else batch)
        try:
            found = pencil.find(A, B, k, which="LA", sigma=None, end="LA")
        except SolveError as error:
            raise SolveError(
                error.result,
                f"{error.detail}; where its loads pull, a body does not buckle: check their sign",
                iterations=error.iterations,
                residual=error.residual,
            ) from error
        mu = found.values.detach()
        positive = mu > 1e-9 * mu.abs().amax(-1, keepdim=True).clamp_min(1e-300)
        if not bool(positive.all()):
            count = int(positive.sum(-1).min())
            raise SpecError(
                f"these loads make the body buckle in {count} ways, and {k} were asked for; where they pull, it does "
                "not: check their sign",
                path="k",
            )
        w = (1.0 / found.values).flip(-1)
        flat = space.recover(found.vectors.transpose(-1, -2)).flip(-2)
        return w, flat, found

    def _stiffness(
        self,
        scene: Scene,
        start: Tensor | None,
        progress: ProgressCallback | None,
    ) -> tuple[Tensor, Tensor | None, Operator]:
        """Return the stiffness, what stresses add to it, and the operator it is made from.

        Modes about what is no solution mean nothing, so a state that is not found raises.
        """
        model = self.model
        if not self.loaded:
            operator = model.unloaded(scene)
            return operator.values, None, operator
        if not model.determined:
            raise SpecError(model.undetermined, path="boundary")
        u, operator, _ = model.state(scene, start, progress=progress)
        if not model.nonlinear:
            return operator.values, model.geometric(scene, u), operator
        recorded = torch.is_grad_enabled() and u.requires_grad
        K = model.tangent(scene, operator, model.terms(scene), u, recorded=recorded)
        return K, None, operator

    def _rest(self, K: Tensor, M: Tensor, w: Tensor, *, damped: bool) -> Tensor | float:
        """Return the size of eigenvalues ``[*batch, 1]`` that are those of rigid motions, rounding and no more.

        Errors of λ are of the size of eps ‖K‖ / ‖M‖; with damping that is λ², whose root 0 may be a double one.
        No more of them count than there are motions that nothing stops: those of slender bodies are as small.
        """
        count = self.model.loose_motions * (2 if damped else 1)
        if count == 0:
            return 0.0
        stiff, heavy = self._sizes(K, M)
        square: Tensor = _ROUNDING * torch.finfo(stiff.dtype).eps * stiff / heavy
        largest = w.detach().abs().sort(-1).values[..., :count].amax(-1, keepdim=True)
        return torch.minimum(square.sqrt() if damped else square, largest)

    def _sizes(self, K: Tensor, M: Tensor) -> tuple[Tensor, Tensor]:
        """Return the largest entries ``[*batch, 1]``."""
        return K.detach().abs().amax(-1, keepdim=True), M.detach().abs().amax(-1, keepdim=True)

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
        Of buckling, eigenvalues are factors on the loads, and ``φᵀ K φ = 1``. Of what is damped or not symmetric both
        are complex, by magnitude, with ``|φᴴ M φ| = 1`` and the largest entry real and positive.
    frequencies
        ``sqrt(λ) / 2π`` ``[*batch, k]`` (Hz), of damped motion ``|Im λ| / 2π``; also among the outputs. Not of
        buckling, nor of operators that are not symmetric. Rigid motions have 0, and no ratio of damping (NaN).
    """

    drawable = True

    def __init__(
        self,
        model: Modes,
        scene: Scene,
        mass: Tensor | None,
        w: Tensor,
        flat: Tensor,
        found: Found,
        rest: Tensor | float = 0.0,
    ) -> None:
        home, inner = scene.given.home, model.model
        single = len(inner.ranks) == 1
        shaped = inner.numbering.shaped(flat, next(iter(inner.ranks))) if single else flat
        self._flat, self._mass, self._scene = flat, mass, scene
        notes = [*found.notes, *notes_on_rest(w, rest)]
        report = SolveInfo(method=found.method, backend="eigsh", notes=notes)
        self.rest = rest.to(home) if isinstance(rest, torch.Tensor) else rest
        outputs = components(model.spec, w, home)
        super().__init__(
            model, {"eigenvalues": w.to(home), "modes": shaped.to(home)}, outputs, report
        )
        if not (w.is_complex() and model.spec.called == ("frequencies",)):
            self.outputs |= {name: getattr(self, name) for name in model.spec.called}
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
        inner, mass = self.model.model, self._mass
        if mass is None:
            raise ArgumentError("participation is that of masses, and buckling has none")
        name = next(iter(inner.ranks))
        dofs = inner.numbering.fields[name]
        c = dofs.components
        eye = torch.eye(c, dtype=self._flat.dtype, device=self._flat.device)
        each = eye.repeat(1, dofs.n // c)
        rigid = inner.numbering.placed(each, name)
        moved = torch.stack([inner.apply(mass.to(r), r) for r in rigid.to(self._flat)], -1)
        found: Tensor = self._flat @ moved
        return found.to(self.u.device)

    @property
    def effective_mass(self) -> Tensor:
        """Square of `participation`: over all modes it adds up to the mass that can move."""
        if self._flat.is_complex():
            raise ArgumentError("effective masses are those of real modes, and these are complex")
        return self.participation**2

    def save(self, path: str | Path) -> None:
        """Write ``.vtu`` modes for a viewer, ``.pvd`` or ``.xdmf`` to go through them, ``.npz``, ``.json``."""
        path = Path(path)
        if path.suffix in (".pvd", ".xdmf"):
            from torch_sla.problems.report.save import save_series

            save_series(self, path)
            return
        if path.suffix in (".npz", ".json"):
            super().save(path)
            return
        if path.suffix not in (".vtu", ".vtk"):
            raise ArgumentError(
                f"path ends in {path.suffix!r}; modes are saved as .vtu, .vtk (all in one file), .pvd, .xdmf (one by "
                "one), .npz (arrays) or .json (numbers)"
            )
        from torch_sla.assembly.mesh import write_mesh
        from torch_sla.problems.report.frames import real_parts

        if self._flat.ndim > 2:
            raise ArgumentError(
                f"modes have batch dimensions {list(self.batch)}, and {path.suffix} holds one member"
            )
        inner = self.model.model
        at_points: dict[str, Tensor] = {}
        for i, mode in enumerate(self._flat):
            for name in inner.ranks:
                called = f"mode_{i + 1}.{name}" if len(inner.ranks) > 1 else f"mode_{i + 1}"
                at_points |= real_parts(called, inner.at_points(mode.detach(), name, full=True))
        write_mesh(path, inner.full_mesh, at_points, {}, points=inner.filled(self.points.detach()))
