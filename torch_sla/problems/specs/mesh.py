"""Meshes as declarations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, TypeVar

from pydantic import AfterValidator, Field

from torch_sla.problems.specs.arrays import Array
from torch_sla.problems.specs.base import Spec
from torch_sla.problems.specs.written import FilePath, Listed, Text

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AnnulusMesh",
    "BoxMesh",
    "DiskMesh",
    "IntervalMesh",
    "LShapeMesh",
    "MeshArrays",
    "MeshFile",
    "MeshSpec",
    "RectangleMesh",
]

Count: TypeAlias = Annotated[int, Field(ge=1, le=1_000_000)]
Length: TypeAlias = Annotated[float, Field(gt=0)]
MOST_CELLS = 1_000_000_000
"""More than that are a mistake, or an attack on the memory of whoever reads the file."""


def _countable(counts: Sequence[int]) -> Sequence[int]:
    if math.prod(counts) > MOST_CELLS:
        raise ValueError(f"{math.prod(counts)} cells; at most {MOST_CELLS} are possible")
    return counts


Ratio: TypeAlias = Annotated[float, Field(ge=1e-6, le=1e6)]
CellType: TypeAlias = Literal[
    "line",
    "triangle",
    "quad",
    "tetra",
    "hexahedron",
    "line3",
    "triangle6",
    "quad9",
    "tetra10",
    "hexahedron27",
]
Choice: TypeAlias = Literal["refuse", "allow"]
T = TypeVar("T")
Two: TypeAlias = Annotated[Listed[T], Field(min_length=2, max_length=2)]
Three: TypeAlias = Annotated[Listed[T], Field(min_length=3, max_length=3)]
Place: TypeAlias = Two[float]

_GRADING = (
    "Size of the last cell over that of the first, per direction; sizes grow by a constant factor."
)
_SCALE = "What the coordinates in the file are multiplied by; 1e-3 takes millimetres as metres."
_DUPLICATE = "Whether two points at one place are refused, or allowed as the two lips of a crack."
_HANGING = (
    "Whether a point inside a facet of another cell is refused, or allowed where bodies only touch."
)
_CURVED = (
    "Whether cells are of second order, with edges that follow the circle; use it with order 2."
)


class IntervalMesh(Spec):
    """An interval cut into lines; facet tags ``left right``.

    Examples
    --------
    >>> IntervalMesh(cells=10, size=2.0)
    IntervalMesh(cells=10, size=2.0)
    """

    type: Literal["interval"] = "interval"
    cells: Count = Field(description="Number of cells.")
    size: Length = Field(default=1.0, description="Length.")
    origin: float = Field(default=0.0, description="Left end.")
    grading: Ratio = Field(default=1.0, description=_GRADING)


class RectangleMesh(Spec):
    """A rectangle cut into a grid; facet tags ``left right bottom top``.

    Examples
    --------
    >>> RectangleMesh(cells=(64, 64), size=(1.0, 1.0), cell="triangle").cells
    (64, 64)
    """

    type: Literal["rectangle"] = "rectangle"
    cells: Annotated[Two[Count], AfterValidator(_countable)] = Field(
        description="Divisions along x and y."
    )
    size: Two[Length] = Field(default=(1.0, 1.0), description="Side lengths.")
    origin: Two[float] = Field(default=(0.0, 0.0), description="Lower left corner.")
    cell: Literal["triangle", "quad"] = Field(default="triangle", description="Type of the cells.")
    grading: Two[Ratio] = Field(default=(1.0, 1.0), description=_GRADING)


class BoxMesh(Spec):
    """A box cut into a grid; facet tags ``left right`` (x), ``front back`` (y), ``bottom top`` (z).

    Examples
    --------
    >>> BoxMesh(cells=(8, 4, 2), size=(2.0, 1.0, 0.5))
    BoxMesh(cells=(8, 4, 2), size=(2.0, 1.0, 0.5))
    """

    type: Literal["box"] = "box"
    cells: Annotated[Three[Count], AfterValidator(_countable)] = Field(
        description="Divisions along x, y and z."
    )
    size: Three[Length] = Field(default=(1.0, 1.0, 1.0), description="Side lengths.")
    origin: Three[float] = Field(
        default=(0.0, 0.0, 0.0), description="Corner of least coordinates."
    )
    cell: Literal["tetra", "hexahedron"] = Field(default="tetra", description="Type of the cells.")
    grading: Three[Ratio] = Field(default=(1.0, 1.0, 1.0), description=_GRADING)


class LShapeMesh(Spec):
    """A square without its lower right quarter; facet tags ``left right bottom top notch``.

    Examples
    --------
    >>> LShapeMesh(cells=8).size
    1.0
    """

    type: Literal["lshape"] = "lshape"
    cells: Count = Field(description="Divisions along each quarter.")
    size: Length = Field(default=1.0, description="Side of a quarter.")
    origin: Place = Field(default=(0.0, 0.0), description="The re-entrant corner.")
    cell: Literal["triangle", "quad"] = Field(default="triangle", description="Type of the cells.")


class DiskMesh(Spec):
    """A disk; facet tag ``rim``.

    Examples
    --------
    >>> DiskMesh(cells=6, radius=2.0, curved=True).cell
    'triangle'
    """

    type: Literal["disk"] = "disk"
    cells: Count = Field(
        description="Rings of triangles; or divisions of a quarter of the rim for quads."
    )
    radius: Length = Field(default=1.0, description="Radius.")
    origin: Place = Field(default=(0.0, 0.0), description="Centre.")
    cell: Literal["triangle", "quad"] = Field(default="triangle", description="Type of the cells.")
    curved: bool = Field(default=False, description=_CURVED)


class AnnulusMesh(Spec):
    """The region between two circles; facet tags ``inner outer``.

    Examples
    --------
    >>> AnnulusMesh(cells=(4, 32), inner=0.5, outer=1.0).origin
    (0.0, 0.0)
    """

    type: Literal["annulus"] = "annulus"
    cells: Annotated[Two[Count], AfterValidator(_countable)] = Field(
        description="Divisions along the radius and around."
    )
    inner: Length = Field(default=0.5, description="Inner radius.")
    outer: Length = Field(default=1.0, description="Outer radius.")
    origin: Place = Field(default=(0.0, 0.0), description="Centre.")
    cell: Literal["triangle", "quad"] = Field(default="triangle", description="Type of the cells.")
    curved: bool = Field(default=False, description=_CURVED)


class MeshFile(Spec):
    """A mesh read from a file by meshio; physical groups and cell sets become tags."""

    type: Literal["file"] = "file"
    path: FilePath = Field(kw_only=False, description="Path, relative to the declaration's file.")
    cell: CellType | None = Field(
        default=None, description="Cells to take where the file mixes types."
    )
    scale: Length = Field(default=1.0, description=_SCALE)
    duplicate_nodes: Choice = Field(default="refuse", description=_DUPLICATE)
    hanging_nodes: Choice = Field(default="refuse", description=_HANGING)


class MeshArrays(Spec):
    """A mesh given as arrays.

    Examples
    --------
    >>> mesh = MeshArrays(
    ...     points=[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], cells=[[0, 1, 2]], cell="triangle"
    ... )
    >>> mesh.points.array.shape
    (3, 2)
    """

    type: Literal["arrays"] = "arrays"
    points: Array = Field(description="Coordinates [n_points, dim].")
    cells: Array = Field(description="Point indices [n_cells, nodes per cell], in VTK order.")
    cell: CellType = Field(description="Type of the cells; second-order names mean curved cells.")
    cell_tags: dict[Text, Array] = Field(
        default={}, description="By name, indices of cells or a mask over them."
    )
    facet_tags: dict[Text, Array] = Field(
        default={}, description="By name, the vertices [m, k] of facets."
    )
    duplicate_nodes: Choice = Field(default="refuse", description=_DUPLICATE)
    hanging_nodes: Choice = Field(default="refuse", description=_HANGING)


MeshSpec: TypeAlias = Annotated[
    IntervalMesh
    | RectangleMesh
    | BoxMesh
    | LShapeMesh
    | DiskMesh
    | AnnulusMesh
    | MeshFile
    | MeshArrays,
    Field(discriminator="type"),
]
