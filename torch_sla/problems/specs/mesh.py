"""Meshes as declarations."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from torch_sla.problems.specs.arrays import Array
from torch_sla.problems.specs.base import Spec
from torch_sla.problems.specs.value import FilePath, Listed, Text

__all__ = ["BoxMesh", "IntervalMesh", "MeshArrays", "MeshFile", "MeshSpec", "RectangleMesh"]

Count: TypeAlias = Annotated[int, Field(ge=1, le=1_000_000)]
Length: TypeAlias = Annotated[float, Field(gt=0)]


class IntervalMesh(Spec):
    """An interval cut into equal lines; facet tags ``left right``.

    Examples
    --------
    >>> IntervalMesh(cells=10, size=2.0)
    IntervalMesh(cells=10, size=2.0)
    """

    type: Literal["interval"] = "interval"
    cells: Count = Field(description="Number of cells.")
    size: Length = Field(default=1.0, description="Length.")
    origin: float = Field(default=0.0, description="Left end.")


class RectangleMesh(Spec):
    """A rectangle cut into a grid; facet tags ``left right bottom top``.

    Examples
    --------
    >>> RectangleMesh(cells=(64, 64), size=(1.0, 1.0), cell="triangle").cells
    (64, 64)
    """

    type: Literal["rectangle"] = "rectangle"
    cells: Annotated[Listed[Count], Field(min_length=2, max_length=2)] = Field(
        description="Divisions along x and y."
    )
    size: Annotated[Listed[Length], Field(min_length=2, max_length=2)] = Field(
        default=(1.0, 1.0), description="Side lengths."
    )
    origin: Annotated[Listed[float], Field(min_length=2, max_length=2)] = Field(
        default=(0.0, 0.0), description="Lower left corner."
    )
    cell: Literal["triangle", "quad"] = Field(default="triangle", description="Type of the cells.")


class BoxMesh(Spec):
    """A box cut into a grid; facet tags ``left right`` (x), ``front back`` (y), ``bottom top`` (z)."""

    type: Literal["box"] = "box"
    cells: Annotated[Listed[Count], Field(min_length=3, max_length=3)] = Field(
        description="Divisions along x, y and z."
    )
    size: Annotated[Listed[Length], Field(min_length=3, max_length=3)] = Field(
        default=(1.0, 1.0, 1.0), description="Side lengths."
    )
    origin: Annotated[Listed[float], Field(min_length=3, max_length=3)] = Field(
        default=(0.0, 0.0, 0.0), description="Corner of least coordinates."
    )
    cell: Literal["tetra", "hexahedron"] = Field(default="tetra", description="Type of the cells.")


class MeshFile(Spec):
    """A mesh read from a file by meshio; physical groups and cell sets become tags."""

    type: Literal["file"] = "file"
    path: FilePath = Field(kw_only=False, description="Path, relative to the declaration's file.")
    cell: Literal["line", "triangle", "quad", "tetra", "hexahedron"] | None = Field(
        default=None, description="Cells to take where the file mixes types."
    )


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
    cell: Literal["line", "triangle", "quad", "tetra", "hexahedron"] = Field(
        description="Type of the cells."
    )
    cell_tags: dict[Text, Array] = Field(
        default={}, description="By name, indices of cells or a mask over them."
    )
    facet_tags: dict[Text, Array] = Field(
        default={}, description="By name, the vertices [m, k] of facets."
    )


MeshSpec: TypeAlias = Annotated[
    IntervalMesh | RectangleMesh | BoxMesh | MeshFile | MeshArrays, Field(discriminator="type")
]
