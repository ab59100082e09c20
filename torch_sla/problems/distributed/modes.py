"""Modes of a physics in parts: LOBPCG on the unknowns that are free."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, GradientError, SpecError
from torch_sla.lazy import cached_property
from torch_sla.linalg.adjoint.exchange import replicated, total
from torch_sla.linalg.distributed.eigen import EigenRequest, part_eigsh
from torch_sla.linalg.distributed.knowledge import find_out
from torch_sla.linalg.distributed.layout import Layout
from torch_sla.linalg.distributed.precond.base import make
from torch_sla.linalg.distributed.sharding import Sharding
from torch_sla.linalg.info import SolveInfo
from torch_sla.problems.analyses.analysis import inside
from torch_sla.problems.analyses.modes import Modes
from torch_sla.problems.analyses.spectrum import require_mass
from torch_sla.problems.distributed.division import Division
from torch_sla.problems.distributed.problem import Asked, DistributedProblem
from torch_sla.problems.distributed.solution import DistributedSolution
from torch_sla.problems.lowering.algebra import components
from torch_sla.problems.lowering.parameters import must_enter
from torch_sla.problems.lowering.states import refuse_start
from torch_sla.problems.report.pieces import Frame
from torch_sla.problems.spectral import Spectral, notes_on_rest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch_sla.linalg.distributed.knowledge import Knowledge
    from torch_sla.problems.distributed.model import SharedModel
    from torch_sla.problems.distributed.scene import SharedScene
    from torch_sla.problems.progress import ProgressCallback

__all__ = ["DistributedModalSolution", "DistributedModes"]


class DistributedModes(DistributedProblem):
    """An eigenproblem of a physics in parts."""

    @cached_property
    def division(self) -> Division:
        """The physics, cut."""
        with self._located(), inside():
            division = Division(self.spec.of, self.comm, self.device, steady=False)
            if division.model.timed:
                division.model.refuse_time()
            return division

    @cached_property
    def _lowered(self) -> _SharedModes:
        return _SharedModes(self.spec, self.model)

    def describe(self) -> str:
        """Return what is looked for, and how the physics was cut; all processes call it together."""
        return (
            f"{super().describe()}\n  modes       {self.spec.k} of kind {self.spec.kind}, by LOBPCG"
        )

    def found(self, values: dict[str, Any], asked: Asked) -> DistributedModalSolution:
        """Find the modes."""
        if not self._lowered.loaded:
            refuse_start(asked.start)
        start = None if asked.start is None else self._checked(asked.start)
        scene = self._lowered.scene(values, asked.points)
        w, flat, mass, report, rest = self._lowered.found(scene, start, asked.progress)
        return DistributedModalSolution(self, w, flat, mass, report, scene, rest)


class FreeParts:
    """The unknowns without a given value, in the same parts.

    Parameters
    ----------
    model
        The physics in parts.
    """

    def __init__(self, model: SharedModel) -> None:
        comm, free, layout = model.comm, model.free, model.division.layout
        sizes = torch.zeros(comm.parts, dtype=torch.int64, device=model.device)
        for part in comm.held:
            sizes[part] = free[layout.part_slice(part)].sum()
        self.index = torch.nonzero(free)[:, 0]
        # Numbers in the whole: signs and starting vectors do not depend on the cut.
        names = layout.names.index_select(0, self.index)
        self.layout = Layout(comm, comm.reduce(sizes), names, model.device)
        place = self.layout.start + torch.cumsum(free, 0) - 1
        whole, constraint = model.sharding, model.compiled.constraint
        of_columns = torch.cat([place, whole.halo.fetch(place.unsqueeze(1)).squeeze(1)])
        self._slots = torch.nonzero(constraint.kept)[:, 0]
        row = place[whole.pattern.csr_row.long()[self._slots]]
        column = of_columns[whole.pattern.ccol.long()[self._slots]]
        self._positions = Sharding(self.layout, self.layout, row, column)
        self.sharding, self._held = self._positions.slots, len(free)
        near = model.near_nullspace
        if near is not None and self._torn(free, near.shape[1]):
            near = None  # rigid motions need whole nodes
        self.near_nullspace = None if near is None else near.index_select(0, self.index)

    def _torn(self, free: Tensor, motions: int) -> bool:
        """Whether some node of some part is held in one direction and free in another."""
        nodes = free.reshape(-1, {3: 2, 6: 3}.get(motions, 1))
        torn = (nodes.any(1) != nodes.all(1)).any()
        return float(self.layout.comm.reduce(torn.double(), "max")) > 0

    def restrict(self, values: Tensor) -> Tensor:
        """Take the entries between free unknowns: slots of the whole to slots here."""
        return self._positions.pattern.coalesce(values.index_select(0, self._slots))

    def recover(self, v: Tensor) -> Tensor:
        """Return vectors of all unknowns ``[k, n_held]`` from ``[n, k]``, zero where a value is given."""
        zero = v.new_zeros(self._held, v.shape[1])
        return zero.index_copy(0, self.index, v).T


class _SharedModes(Modes):
    """Lowers an eigenproblem to a pencil in parts."""

    def __init__(self, spec: Any, model: SharedModel) -> None:
        self.spec, self.model, self.declared = spec, model, spec.declared

    @cached_property
    def _space(self) -> FreeParts:
        return FreeParts(self.model)

    def scene(self, values: Mapping[str, Any], points: Tensor | None) -> SharedScene:
        """Check what is given, and that its gradients are not zero in silence."""
        model: SharedModel = self.model
        with inside():
            buckling = self.spec.kind == "buckling"
            found = model.scene(values, points, mass=not buckling, optional=self.idle_names)
        for name, value in found.given.items():
            if must_enter(value) and name in self.idle_names:
                raise GradientError(
                    f"{name!r} requires grad, but neither stiffness nor mass depends on it, so its gradient would be "
                    "zero in silence; pass it detached"
                )
        return found

    def found(
        self,
        scene: SharedScene,
        start: Tensor | None,
        progress: ProgressCallback | None,
    ) -> tuple[Tensor, Tensor, Tensor | None, SolveInfo, Tensor | float]:
        """Return eigenvalues ``[k]``, vectors ``[k, n_held]``, the mass, how they were found, and what is rounding."""
        spec, space = self.spec, self._space
        if spec.k > space.layout.n:
            raise SpecError(
                f"there are {space.layout.n} free unknowns; received {spec.k}", path="k"
            )
        with inside():
            K, stress, _ = self._stiffness(scene, start, progress)  # type: ignore[arg-type]
        if spec.kind == "buckling":
            return *self._loads(K, stress), 0.0
        with inside():
            M = self.model.mass(scene)
        without = (space.sharding.diagonal(space.restrict(M.detach())) <= 0).sum()
        lacking = int(self.model.comm.reduce(without.reshape(1))[0])
        held = stress is None and self.model.determined
        least = held and spec.which == "SM" and spec.sigma is None
        require_mass(self.model, lacking, space.layout.n, spec if least else None)
        if lacking:
            w, V = self._finite(K, M)
            return w, space.recover(V), M, self._report(), self._rest(K, M, w, damped=False)
        K = K if stress is None else K + stress
        which, sigma, shift = spec.which, spec.sigma, 0.0
        if sigma is not None:
            which = "LM"
        elif which == "SM" and not self.model.determined:
            # Rigid motions have the eigenvalue zero, so the least in size are the least.
            which, shift = "SA", self._shift(K, M)
        opened = K if not shift else K - shift * M
        w, V = self._pairs(K, M, which=which, sigma=sigma, opened=opened)
        rest = self._rest(K, M, w, damped=False)
        return w, space.recover(V), M, self._report(), rest

    def _shift(self, K: Tensor, M: Tensor) -> float:
        """Return a number a little below zero, as one process does."""
        stiff, heavy = self._sizes(K, M)
        return float(-1e-6 * stiff / heavy)

    def _sizes(self, K: Tensor, M: Tensor) -> tuple[Tensor, Tensor]:
        """Return the largest entries of all parts ``[1]``."""
        sizes = torch.stack(
            [x.detach().abs().amax() if len(x) else x.new_zeros(()) for x in (K, M)]
        )
        stiff, heavy = self.model.comm.reduce(sizes, "max").split(1)
        return stiff, heavy

    def _finite(self, K: Tensor, M: Tensor) -> tuple[Tensor, Tensor]:
        """Find the least pairs where some unknowns have no mass: the largest μ = 1/λ of ``M φ = μ K φ``."""
        space = self._space
        k = space.restrict(K.detach())
        first = EigenRequest(1, "SA", None, self.model.spec.solver.preconditioner)
        known = self._symmetric(k)
        (lowest,), _ = part_eigsh(space.sharding, k, None, known, first, space.near_nullspace)
        if float(lowest) <= 0:
            raise SpecError(
                f"the stiffness has the eigenvalue {float(lowest):.3g}, and where some unknowns have no mass, modes in "
                "parts are those of a definite one; give mass to all, however small, or solve in one process",
                path="of",
            )
        mu, V = self._pairs(M, K, which="LA", sigma=None, opened=K)
        mu, V = mu.flip(0), V.flip(1)
        if not bool((mu.detach() > 1e-9 * mu.detach()[0]).all()):
            raise SpecError(
                "the last mode is lost in rounding of the first; ask for fewer", path="k"
            )
        # Every process scales its own part of the vectors: what reaches the numbers is summed over all.
        return 1.0 / mu, V / replicated(mu, self.model.comm).sqrt()

    def _loads(
        self, K: Tensor, stress: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None, SolveInfo]:
        """Find the least positive load factors: the largest μ = 1/λ of ``−K_stress φ = μ K φ``."""
        if stress is None:
            raise ValueError("buckling comes of stresses")
        k = self.spec.k
        mu, V = self._pairs(-stress, K, which="LA", sigma=None, opened=K)
        known = mu.detach()
        positive = known > 1e-9 * known.abs().amax().clamp_min(1e-300)
        if not bool(positive.all()):
            raise SpecError(
                f"these loads make the body buckle in {int(positive.sum())} ways, and {k} were asked for; where they "
                "pull, it does not: check their sign",
                path="k",
            )
        flat = self._space.recover(V).flip(0)
        return (1.0 / mu).flip(0), flat, None, self._report()

    def _pairs(
        self, A: Tensor, B: Tensor, *, which: str, sigma: float | None, opened: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Find pairs of ``A v = λ B v``; `opened` is definite, and what it is nearly inverted with preconditions."""
        space, asked = self._space, self.model.spec.solver
        a, b = space.restrict(A), space.restrict(B)
        known = self._symmetric(a)
        wanted: Any = asked.preconditioner
        if opened is not A and space.layout.n > _SMALL:
            kind = "multigrid" if wanted == "auto" else wanted
            made = make(kind, space.sharding, space.restrict(opened.detach()), space.near_nullspace)
            wanted = "none" if made is None else made.apply
        request = EigenRequest(self.spec.k, which, sigma, wanted)
        return part_eigsh(
            space.sharding, a, (space.sharding, b), known, request, space.near_nullspace
        )

    def _symmetric(self, values: Tensor) -> Knowledge:
        """Return what is known of a matrix of free unknowns, which must be symmetric."""
        known = find_out(self._space.sharding, values)
        if self.spec.kind != "modes":
            # By what a stress adds to a stiffness; where stresses cancel, rounding would say otherwise.
            known = replace(known, hermitian=True)
        if not known.hermitian:
            raise SpecError(
                "the operator is not symmetric (advection, or a law of the solution), and its complex modes come of "
                "factors, which one process makes",
                path="of",
            )
        return known

    def _report(self) -> SolveInfo:
        return SolveInfo(method="lobpcg", backend="eigsh")


_SMALL = 150  # unknowns up to which the whole space is the basis


class DistributedModalSolution(Spectral, DistributedSolution):
    """Modes in parts, on every process its own part of the vectors; everything in it is differentiable.

    Attributes
    ----------
    eigenvalues
        ``[k]``, ascending, the same everywhere; of buckling, factors on the loads.
    u, modes
        ``[k, n(, dim)]`` at the nodes that belong to this process, with ``φᵀ M φ = 1``; of buckling ``φᵀ K φ = 1``.
    outputs
        Components, and ``frequencies`` (Hz) or ``load_factors``.
    """

    def __init__(
        self,
        problem: DistributedModes,
        w: Tensor,
        flat: Tensor,
        mass: Tensor | None,
        info: SolveInfo,
        scene: SharedScene,
        rest: Tensor | float,
    ) -> None:
        home = scene.home
        self.eigenvalues, self._mass = w.to(home), mass
        self.rest = rest.to(home) if isinstance(rest, Tensor) else rest
        info.notes += notes_on_rest(w, rest)
        outputs = components(problem.spec, w, home)
        super().__init__(problem, flat, outputs, info, home, scene.points)
        self.outputs |= {name: getattr(self, name) for name in self.spec.called}
        self.modes = self.u
        self.numbers = {"modes": self.numbers["u"], "u": self.numbers["u"]}
        self.sizes = dict.fromkeys(self.numbers, self.sizes["u"])

    def __getitem__(self, name: str) -> Tensor:
        own = {"eigenvalues": self.eigenvalues, "modes": self.modes}
        return own[name] if name in own else super().__getitem__(name)

    def dim_of(self, name: str) -> int:
        """Return which dimension counts nodes."""
        del name
        return 1

    @property
    def participation(self) -> Tensor:
        """How much of each mode a rigid translation holds, ``φᵀ M r``: ``[k, dim]``; the same everywhere."""
        if self._mass is None:
            raise ArgumentError("participation is that of masses, and buckling has none")
        model = self.problem.model
        c = model.whole.dofs.components
        eye = torch.eye(c, dtype=self.flat.dtype, device=self.flat.device)
        rigid = eye.repeat(self.flat.shape[1] // c, 1)
        moved = model.sharding.apply(self._mass, rigid)
        return total(self.flat @ moved, self.problem.comm).to(self.home)

    @property
    def effective_mass(self) -> Tensor:
        """Square of `participation`."""
        return self.participation**2

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Return the least and the largest eigenvalue."""
        w = self.eigenvalues.detach()
        return {"eigenvalues": (float(w.min()), float(w.max()))}

    def frames(self) -> list[Frame]:
        """Return all modes at once."""
        return [Frame(0.0, {f"mode_{i + 1}": v for i, v in enumerate(self.flat)}, {})]
