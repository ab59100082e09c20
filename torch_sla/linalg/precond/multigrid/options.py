"""What can be chosen about a multigrid hierarchy."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torch_sla.errors import ArgumentError
from torch_sla.linalg.kernels.multigrid import MAX_BLOCK

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.precond.multigrid.device import DeviceHierarchy
    from torch_sla.linalg.precond.multigrid.hierarchy import Hierarchy, Skeleton
    from torch_sla.linalg.precond.multigrid.rotated import RotatedHierarchy
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

__all__ = ["AMG"]

_CHOICES = {
    "smoother": ("spai0", "jacobi", "l1_jacobi", "chebyshev", "gauss_seidel", "line"),
    "cycle": ("V", "W", "K"),
    "dtype": ("float32", "float64"),
    "method": ("auto", "smoothed_aggregation", "classical", "lattice"),
}
_OPTIONAL = ("smoother", "cycle", "dtype")


@dataclass(frozen=True, eq=False)
class AMG:
    """Options of an algebraic multigrid preconditioner.

    Parameters
    ----------
    strength
        A coupling is strong when its square is at least ``strength²`` times the product of the
        largest couplings of its two rows. None means 0.25 for scalars and 0.08 for blocks.
    damping
        Of the step that smooths the transfer, over the spectral radius; 0 leaves it piecewise
        constant. None means 4/3, and 0 for matrices known to be unsymmetric.
    smoother
        ``"spai0"``, ``"jacobi"``, ``"l1_jacobi"``, ``"chebyshev"`` or ``"gauss_seidel"`` (forward
        before, backward after the coarse correction; one thread); on a lattice ``"line"``, which
        solves along the lines of each axis in turn, for spacings stretched along different axes in
        different places. None means spai0 for scalars, chebyshev for blocks and gauss_seidel for
        matrices known to be unsymmetric.
    sweeps
        Smoothing steps before and as many after; Chebyshev uses degree ``sweeps + 1``.
    cycle
        ``"V"``; ``"W"``, which visits a level twice where it is much smaller than the one above; or
        ``"K"`` (two conjugate gradient steps there), not linear and so only for flexible methods.
        None means W for aggregates and V on a lattice; on a device V, two small levels twice beside
        jumps of the coefficient.
    coarse_size
        Unknowns below which a level is inverted; on lattices on a device 64 at most.
    max_levels
        Limit on the number of levels.
    near_nullspace
        ``[n, k]`` vectors with small ``‖A v‖ / ‖v‖``. None: what travels with the matrix, else
        constants.
    block
        Edge of the blocks unknowns are grouped into. None: 2 and 3 where there are three and six
        near-nullspace vectors (rigid-body modes), else 1.
    dtype
        Of the levels; the Krylov method around them stays in the dtype of the matrix. float32 halves
        memory and traffic, but rounds away the small couplings beside a jump of the coefficient.
        None means float32, and float64 where the diagonal spans more than four orders of magnitude or
        the coarsest matrix is nearly singular.
    method
        ``"smoothed_aggregation"`` (Vaněk, Mandel and Brezina, Computing 56, 1996), or
        ``"lattice"``: stencils instead of indices, for scalar matrices whose entries join neighbours
        of a lattice in two or three dimensions, three points or more along the fastest edge.
        Transfers take their weights from the matrix and only strongly coupled axes are halved; or
        ``"classical"`` (Ruge and Stüben, 1987), which keeps a subset of the points and interpolates
        the others: for scalar M-matrices whose coefficients jump from point to point.
        ``"auto"`` takes the lattice where there is one, where `strength`, `damping`, `smoother`,
        `near_nullspace` and `block` are left alone, where the axis of strong coupling is the same
        nearly everywhere, and where the matrix is not known to be unsymmetric.
    threads
        Number of threads; None chooses.

    Examples
    --------
    >>> AMG(cycle="V").cycle
    'V'
    >>> AMG(cycle="U")
    Traceback (most recent call last):
    torch_sla.errors.ArgumentError: `cycle` must be one of V, W, K, got 'U'
    """

    name: ClassVar[str] = "multigrid"

    strength: float | None = None
    damping: float | None = None
    smoother: (
        Literal["spai0", "jacobi", "l1_jacobi", "chebyshev", "gauss_seidel", "line"] | None
    ) = None
    sweeps: int = 1
    cycle: Literal["V", "W", "K"] | None = None
    coarse_size: int = 200
    max_levels: int = 20
    near_nullspace: Tensor | None = None
    block: int | None = None
    dtype: Literal["float32", "float64"] | None = None
    method: Literal["auto", "smoothed_aggregation", "classical", "lattice"] = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value not in allowed and not (value is None and name in _OPTIONAL):
                raise ArgumentError(f"`{name}` must be one of {', '.join(allowed)}, got {value!r}")
        if self.strength is not None and not 0 <= self.strength <= 1:
            raise ArgumentError(f"`strength` must be between 0 and 1, got {self.strength!r}")
        if self.damping is not None and not 0 <= self.damping < 2:
            raise ArgumentError(f"`damping` must be at least 0 and below 2, got {self.damping!r}")
        for name, low, high in (
            ("sweeps", 1, 100),
            ("coarse_size", 1, 2000),
            ("max_levels", 1, 100),
            ("block", 1, MAX_BLOCK),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ArgumentError(f"`{name}` must be from {low} to {high}, got {value!r}")

        self._check_method()

    def _check_method(self) -> None:
        """Refuse settings that the method would ignore."""
        meaningless: tuple[str, ...] = ()
        if self.method == "lattice":
            meaningless = ("strength", "damping", "near_nullspace", "block")
            if self.smoother not in (None, "spai0", "line"):
                raise ArgumentError(
                    f"`smoother` must be spai0 or line with method='lattice', got {self.smoother!r}"
                )
        elif self.smoother == "line":
            raise ArgumentError("smoother='line' needs method='lattice'")
        elif self.method == "classical":
            meaningless = ("damping", "near_nullspace")
            if self.block not in (None, 1):
                raise ArgumentError(f"`block` must be 1 with method='classical', got {self.block}")
        for name in meaningless:
            if getattr(self, name) is not None:
                raise ArgumentError(
                    f"`{name}` has no meaning with method={self.method!r}; leave it None"
                )

    def _key(self) -> tuple[Any, ...]:
        """Compare settings, a near-nullspace by identity."""
        named = ((f.name, getattr(self, f.name)) for f in fields(self))
        return tuple(id(value) if name == "near_nullspace" else value for name, value in named)

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, AMG) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def build(
        self,
        pattern: Pattern,
        values: Tensor,
        structure: Structure | None = None,
        *,
        like: Skeleton | None = None,
    ) -> Hierarchy | RotatedHierarchy | DeviceHierarchy:
        """Set a hierarchy up, on the device of the values.

        Parameters
        ----------
        pattern
            Square scalar pattern.
        values
            ``[nnz_csr]`` slot values; complex ones see `RotatedHierarchy`.
        structure
            May bring a near-nullspace or coordinates.
        like
            `Hierarchy.skeleton` of one for other values on this pattern and with these options. What it
            has is used where it is what a new set-up would find; the result is the same to the last bit.

        Raises
        ------
        SolveError
            ``BREAKDOWN`` when a row has a zero diagonal, ``NONFINITE`` for NaN or infinity.
        """
        if values.is_complex():
            from torch_sla.linalg.precond.multigrid.rotated import RotatedHierarchy

            return RotatedHierarchy(pattern, values, self, structure=structure, like=like)
        if values.device.type != "cpu":
            from torch_sla.linalg.precond.multigrid.device import build

            return build(pattern, values, self, structure)
        from torch_sla.linalg.precond.multigrid.hierarchy import Hierarchy

        return Hierarchy(pattern, values, self, structure=structure, like=like)
