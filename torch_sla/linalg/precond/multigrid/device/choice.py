"""Which hierarchy a matrix on a device gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch_sla.errors import ArgumentError
from torch_sla.linalg.precond.multigrid.levels import scalar_rows
from torch_sla.linalg.precond.multigrid.nullspace import chosen_near_nullspace
from torch_sla.linalg.sparse.transforms import outside_inference

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.precond.multigrid.device.base import DeviceHierarchy
    from torch_sla.linalg.precond.multigrid.options import AMG
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["CONTRARY", "build", "suits_lattice"]

CONTRARY = (
    0.05  # share of rows whose anisotropy differs, above which a lattice is left to aggregation
)


def suits_lattice(options: AMG, vectors: Tensor | None, *, unsymmetric: bool) -> bool:
    """Whether options and structure leave the choice of a lattice open, wherever there is one."""
    if options.method == "lattice":
        return True
    settings = (options.strength, options.damping, options.smoother, options.block)
    left_alone = vectors is None and settings == (None,) * 4
    return options.method == "auto" and left_alone and options.cycle != "K" and not unsymmetric


@outside_inference  # its vectors serve later solves
def build(
    pattern: Pattern, values: Tensor, options: AMG, structure: Structure | None = None
) -> DeviceHierarchy:
    """Set a hierarchy up on the device of the values: stencils on a lattice, aggregates elsewhere.

    Parameters
    ----------
    pattern
        Square scalar pattern.
    values
        ``[nnz_csr]`` slot values, float32 or float64.
    options
        See `AMG`.
    structure
        May bring a near-nullspace or coordinates.

    Raises
    ------
    ArgumentError
        For a method, cycle or smoother that no hierarchy on a device has.
    """
    from torch_sla.linalg.precond.multigrid.device.lattice import DeviceLattice

    vectors = chosen_near_nullspace(options.near_nullspace, structure, scalar_rows(pattern))
    unsymmetric = structure is not None and structure.symmetric is False
    if options.method == "classical":
        raise ArgumentError(
            "`method` must be auto, lattice or smoothed_aggregation on a device, got 'classical', which keeps points "
            "one after the other"
        )
    asked = options.method == "lattice"
    if suits_lattice(options, vectors, unsymmetric=unsymmetric):
        if pattern.lattice is not None:
            made = DeviceLattice(pattern, values, options)
            if asked or made.contrary <= CONTRARY:
                return made
            del made
        elif asked:
            raise ArgumentError(
                "method='lattice' needs entries that join neighbours of a lattice, and this pattern "
                "has others; method='smoothed_aggregation' takes any"
            )
    from torch_sla.linalg.precond.multigrid.device.aggregation import DeviceAggregation

    return DeviceAggregation(pattern, values, options, vectors, unsymmetric=unsymmetric)
