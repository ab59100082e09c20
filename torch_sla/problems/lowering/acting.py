"""Which laws of a declaration count on a mesh, and which parameters they use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch

from torch_sla.assembly.kernels.contents import contents
from torch_sla.errors import SpecError
from torch_sla.lazy import cached_property
from torch_sla.problems.lowering.once import Once
from torch_sla.problems.lowering.selection import tag_entries
from torch_sla.problems.lowering.sites import BasisSites, Sites
from torch_sla.problems.lowering.timing import in_load, timed_laws
from torch_sla.problems.specs.boundary import Dirichlet
from torch_sla.problems.specs.faults import dotted
from torch_sla.problems.specs.laws import check_rank, laws
from torch_sla.problems.specs.value import Parameter, leaves, names_of
from torch_sla.problems.specs.written import FrozenMap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from torch_sla.assembly import Mesh
    from torch_sla.problems.files.loader import DataPath
    from torch_sla.problems.lowering.compiled import Compiled
    from torch_sla.problems.specs.field_problem import FieldProblem
    from torch_sla.problems.specs.place import Bound, Place

__all__ = ["ActingLaws"]


class ActingLaws(Once):
    """A declaration on a mesh, as far as it concerns which of its laws count and what they depend on.

    A law counts unless another replaces it everywhere; of a map over cell tags those entries count that some
    cell takes. What no law that counts uses cannot have a gradient.
    """

    spec: FieldProblem
    declared: Mapping[str, Parameter]
    mesh: Mesh
    compiled: Compiled

    inertial: ClassVar[frozenset[str]] = frozenset({"capacity"})
    """Laws that only the mass uses."""
    measuring: ClassVar[frozenset[str]] = frozenset()
    """Laws that `measure` uses."""
    loading: ClassVar[frozenset[str]] = frozenset({"source", "body_force"})
    multiplied: ClassVar[tuple[frozenset[str], ...]] = ()
    """Laws of the cells that only the load uses."""
    idle_names: ClassVar[frozenset[str]] = frozenset()
    """Names of the parameters that need no value: none, of a solve."""
    acting: frozenset[tuple[DataPath, int]] | None = None
    """`acting_entries` of the whole, where this is a part; None for those of this mesh."""

    @cached_property
    def reaching(self) -> frozenset[str]:
        """Names of the parameters that a steady solve or an output uses, in some cell at least."""
        return self.names_in(lambda path: path[0] not in self.inertial)

    @cached_property
    def reaching_mass(self) -> frozenset[str]:
        """Names of the parameters that the mass matrix uses."""
        return self.names_in(lambda path: path[0] in self.inertial or path[0] in self.measuring)

    @cached_property
    def names_of_measure(self) -> frozenset[str]:
        """Names of the parameters that a length or area element depends on."""
        return self.names_in(lambda path: path[0] in self.measuring)

    @cached_property
    def names_of_loads(self) -> frozenset[str]:
        """Names of the parameters that no matrix of a linear problem uses: of loads, given values and outputs."""
        used = self.names_in(lambda path: not in_load(path, self.loading))
        return frozenset(self.declared) - used

    @cached_property
    def timed(self) -> tuple[str, ...]:
        """Paths of the laws that depend on time."""
        paths = timed_laws(self.spec, self.declared)
        return tuple(".".join(str(part) for part in path) for path in paths)

    @cached_property
    def timed_matrix(self) -> bool:
        """Whether a law that depends on time reaches the matrix, the tangent or the mass."""
        paths = timed_laws(self.spec, self.declared)
        return any(not in_load(path, self.loading) for path in paths)

    @cached_property
    def timed_mass(self) -> str | None:
        """Path of a law of the mass that depends on time."""
        inertial = self.inertial | self.measuring
        paths = timed_laws(self.spec, self.declared)
        return next((str(path[0]) for path in paths if path[0] in inertial), None)

    @cached_property
    def _places_of_laws(self) -> dict[str, Place]:
        return {dotted(law.path): law.place for law in laws(self.spec)}

    def check_shape(self, path: str, rank: int, shape: Sequence[int]) -> None:
        """Check the rank of what the law at a path has turned out to be: of a file nothing is known before.

        Raises
        ------
        SpecError
            If that law has no such rank, or another size.
        """
        place = self._places_of_laws.get(path)
        if place is None:
            return
        check_rank(rank, place.ranks, path, shape)
        size = self.mesh.dim if place.size == "space" else place.size
        if size is not None and any(n != size for n in shape):
            other = ", or a number" if 0 in place.ranks else ""
            noun = "vector" if rank == 1 else "matrix"
            parts, received = (
                ("components", shape[0]) if rank == 1 else ("rows and columns", list(shape))
            )
            raise SpecError(
                f"a {noun} of {size} {parts} is needed{other}; received {received}", path=path
            )

    def bound_of(self, path: str) -> Bound | None:
        """Return what numbers of the law at a path have to be; None for any."""
        place = self._places_of_laws.get(path)
        return None if place is None else place.within

    def needed_shape(self, path: str) -> tuple[int, ...]:
        """Return the shape that values of the law at a path have, the smallest where it may have several."""
        place = self._places_of_laws.get(path)
        return () if place is None else (self.mesh.dim,) * min(place.ranks)

    def acting_laws(self) -> Iterator[tuple[DataPath, Any]]:
        """Yield paths and values of the laws that count: nothing overridden, of a map what some cell uses."""
        acting = frozenset(self.acting_entries()) if self.acting is None else self.acting
        for (path, i), value in self.entries_of_laws():
            if (path, i) in acting:
                yield path, value

    def entries_of_laws(self) -> Iterator[tuple[tuple[DataPath, int], Any]]:
        """Yield every law, of a map each entry, by its path and the number of the entry."""
        for law in laws(self.spec):
            items = law.value.values() if isinstance(law.value, FrozenMap) else (law.value,)
            for i, item in enumerate(items):
                yield (law.path, i), item

    def acting_entries(self) -> Iterator[tuple[DataPath, int]]:
        """Yield which of `entries_of_laws` count on this mesh."""
        for law in laws(self.spec):
            if self.overridden(law.path):
                continue
            used = [0]
            if isinstance(law.value, FrozenMap):
                path = ".".join(str(part) for part in law.path)
                used = self.tag_entries(tuple(law.value), path).unique().tolist()
            yield from ((law.path, i) for i in used)

    def names_in(self, wanted: Callable[[DataPath], bool]) -> frozenset[str]:
        """Return the names of the parameters in the laws at some paths."""
        found = (value for path, value in self.acting_laws() if wanted(path))
        names = (names_of(leaf) for value in found for _, leaf in leaves(value))
        return frozenset().union(*names) & self.declared.keys()

    def overridden(self, path: DataPath) -> bool:
        """Whether a law is the value of a Dirichlet condition that others replace everywhere."""
        if len(path) < 2 or path[0] != "boundary" or not isinstance(path[1], int):
            return False
        if not isinstance(self.spec.boundary[path[1]], Dirichlet):
            return False
        return not len(self.compiled.owned[path[1]])

    def tag_entries(self, tags: tuple[str, ...], path: str) -> Tensor:
        """Return which entry of a map over cell tags each cell takes."""
        return self.once(("tags", tags, path), lambda: tag_entries(self.mesh, tags, path))

    def tag_places(self, tags: tuple[str, ...], sites: Sites, path: str) -> list[Tensor]:
        """Return for each entry of a map over cell tags the sites that take it."""

        def make() -> list[Tensor]:
            if sites.owners is None:
                raise SpecError("a map over cell tags has no meaning at a node", path=path)
            entry = self.tag_entries(tags, path).to(sites.owners.device)[sites.owners]
            return [torch.nonzero(entry == i)[:, 0] for i in range(len(tags))]

        if not isinstance(sites, BasisSites):
            return make()
        facets = sites.basis.facets
        where = sites.n if facets is None else contents(facets)
        return self.once(("places of tags", tags, path, where), make)
