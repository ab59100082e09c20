"""What a physics says about itself: its matrix, load, mass, and what is known of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch

from torch_sla.errors import SpecError
from torch_sla.lazy import cached_property
from torch_sla.problems.lowering.frame import Frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

    from torch_sla.problems.expression import Ranked
    from torch_sla.problems.lowering.geometry import Geometry
    from torch_sla.problems.lowering.motions import Holds
    from torch_sla.problems.lowering.operators import Matrix, Operator
    from torch_sla.problems.lowering.scene import Scene
    from torch_sla.problems.lowering.sites import BasisSites, Sites
    from torch_sla.problems.lowering.terms import Term

__all__ = ["Physics"]


class Physics(Frame, ABC):
    """A lowered declaration, as far as one physics differs from another; `Model` makes solutions of it."""

    @abstractmethod
    def matrix(self, scene: Scene) -> Matrix:
        """Assemble the matrix of what is linear."""

    @abstractmethod
    def load(self, scene: Scene) -> Tensor:
        """Assemble the load of what is linear ``[*batch, n]``, without forces at points."""

    definite: bool | None = True
    """Whether the constrained matrix of sensible values is symmetric positive definite."""
    symmetric: bool | None = True
    """Whether the matrix or tangent of sensible values is symmetric."""
    nonlinear: bool = False
    """Whether there are `terms`, by structure."""

    def terms(self, scene: Scene) -> list[Term]:
        """Return the integrals that depend on the solution in another way than linearly."""
        del scene
        return []

    load_steps: int = 1
    """In how many steps the loads of a nonlinear problem are applied."""
    may_step: bool = False
    """Whether load steps that fail are cut."""
    unsound: str = "a state that makes no sense"
    """What roots are whose forces are NaN once the scene says that the iteration has `ended`."""
    arc_length: bool = False
    """Whether the path of equilibria is followed, over limit points."""
    definite_tangent: bool | None = None
    """Whether the constrained tangent is known to be symmetric positive definite."""

    multipliers: ClassVar[str | None] = None
    """Name of the field that makes the matrix a saddle point."""

    def complement(self, scene: Scene) -> Tensor:
        """Assemble what stands for the Schur complement of `multipliers` in a preconditioner ``[nnz]``."""
        del scene
        raise SpecError(f"{self.spec.type} has no saddle point")

    surrounded: bool = False
    """Whether what is given all around leaves a level of `multipliers` open, unless `levelled`."""
    levelled: bool = False
    """Whether conditions give that level."""

    @cached_property
    def level(self) -> Tensor:
        """The level of `multipliers`: one where they are, zero elsewhere ``[n]``."""
        one = torch.zeros(self.numbering.n, dtype=self.dtype, device=self.device)
        if self.multipliers is not None:
            one[self.numbering.ranges[self.multipliers]] = 1.0
        return one

    def weights(self, scene: Scene) -> Tensor:
        """Return the integral of every multiplier ``[*batch, n]``: where a level is open, their sum is zero."""
        del scene
        raise SpecError(f"{self.spec.type} leaves no level open")

    def through(self, scene: Scene, u: Tensor) -> Tensor:
        """Return what leaves the body and what moves at its boundary ``[*batch, 2]``, where it is `surrounded`."""
        del scene, u
        raise SpecError(f"nothing flows in {self.spec.type}")

    def refuse_unbalanced(self, through: Tensor) -> None:
        """Raise where what enters a surrounded body does not leave it."""

    def encloses(self, geometry: Geometry) -> bool:
        """Tell whether these cells are `surrounded` on other coordinates than the declared ones."""
        del geometry
        return self.surrounded

    def refuse_levels(self, surrounded: bool, n_bodies: int) -> None:
        """Raise where levels are given that are none, on a whole of so many bodies."""

    def refuse_moved(self, before: bool, after: bool) -> None:
        """Raise where the whole body is `surrounded` on the declared coordinates or on others, not on both."""

    def finished(self, scene: Scene, u: Tensor) -> Tensor:
        """Fix what a linear problem leaves open: the level of a pressure."""
        if not self.surrounded:
            return u
        self.refuse_unbalanced(self.through(scene, u))
        if self.levelled:
            return u
        weights = self.weights(scene)
        mean = (weights * u).sum(-1) / (weights * self.level).sum(-1)
        return u - mean[..., None] * self.level

    def derived(self, name: str, scene: Scene, sites: Sites) -> Ranked:
        """Evaluate a quantity of the physics, such as a stress, where the solution is seen."""
        del scene, sites
        raise SpecError(f"{name!r} is not known here")

    def measure(self, scene: Scene, sites: Sites) -> Tensor | None:
        """Return what a length or area element stands for (a thickness); None for 1."""
        del scene, sites
        return None

    def check_extent(self, ends: Tensor) -> None:
        """Check that a mesh with these ends (`ends_of`) has room for what is declared."""
        del ends

    @abstractmethod
    def mass(self, scene: Scene) -> Tensor:
        """Assemble the values of the mass matrix ``[*batch, nnz]``."""

    upwinded: bool = False
    """Whether `rate_matrix` is another matrix than `mass`."""

    def rate_matrix(self, scene: Scene) -> Tensor:
        """Assemble what multiplies rates of u: the mass, tested as the rest of the residual is ``[*batch, nnz]``."""
        return self.mass(scene)

    def caution(self, seen: Iterable[tuple[Scene, Tensor]], notes: list[str]) -> None:
        """Add to the notes of a report if a solution is what was asked for, and may be far from the truth.

        Parameters
        ----------
        seen
            The values and the solution ``[*batch, n]`` on each mesh.
        notes
            Lengthened once numbers of a device have been read, with others (`ask`).
        """
        del seen, notes

    def counted_from(self, scene: Scene) -> Tensor | None:
        """Return the eigenvalue that `matrix` holds already, times the mass ``[*batch]``; None for 0."""
        del scene
        return None

    def rest(self, scene: Scene) -> float:
        """Return the norm of what the unknowns are added to before anything is made of them; 0 for nothing."""
        del scene
        return 0.0

    fluxes: ClassVar[tuple[type, ...]] = ()
    """Conditions that give an inflow."""

    def inflow(self, scene: Scene, i: int, sites: BasisSites) -> Tensor:
        """Return what condition ``i``, one of the `fluxes`, lets in where the solution is seen."""
        del scene, i, sites
        raise SpecError("a flux has no meaning here")

    def work(self, scene: Scene, operator: Operator, u: Tensor) -> Tensor:
        """Return the work of all loads ``[*batch]``; loads that are terms add theirs."""
        del scene
        return (operator.load * u).sum(-1)

    @abstractmethod
    def energy(self, scene: Scene, u: Tensor) -> Tensor:
        """Integrate the energy stored in the cells ``[*batch]``."""

    def geometric(self, scene: Scene, u: Tensor) -> Tensor:
        """Assemble what the state ``u`` adds to the stiffness of a linear problem ``[*batch, nnz]``."""
        del scene, u
        raise SpecError(f"{self.spec.type} has no stress that stiffens or softens it", path="kind")

    bracing: ClassVar[Mapping[type, str]] = {}
    """Conditions that hold the body they act on without a given value (exchanges, springs), and their strengths."""

    def loose(self, held: Holds) -> int:
        """Return how many motions of a body nothing stops: above 0, its matrix is singular.

        Parameters
        ----------
        held
            What holds its first unknown.
        """
        del held
        return 0

    undetermined: ClassVar[str] = ""
    """What to say, with the remedy, when it does not."""

    coordinates: Tensor | None = None
    """Where the nodes of a vector field are, for multigrid: its rigid-body modes are nearly free."""

    @property
    def moving(self) -> Tensor | None:
        """The same of the first field, others may follow it."""
        return self.coordinates
