"""Linear equations between unknowns: what Dirichlet, periodic and multipoint conditions have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.assembly.mesh.images import images, surroundings
from torch_sla.errors import ArgumentError, MeshError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch_sla.assembly.dofs import Dofs

__all__ = ["Equations", "along", "combine", "periodic", "prescribe"]

_MATCHING = (
    "periodic sides need matching meshes, and a mapping where they are not translated copies"
)


@dataclass(frozen=True, eq=False)
class Equations:
    """Equations ``sum_j coefficient_j u[dof_j] = c``, one per row; the right-hand sides c are given with every use.

    The dof an equation names first is the one it eliminates, where coefficients are of equal size.

    Parameters
    ----------
    row, dof
        Equation and unknown of each term ``[nnz]``, integers.
    coefficient
        ``[nnz]``, real or complex; structure, so not differentiated.
    count
        Number of equations.

    Examples
    --------
    >>> tied = Equations(torch.tensor([0, 0]), torch.tensor([3, 0]), torch.tensor([1.0, -1.0]), 1)
    >>> tied.count + (tied & tied).count
    3
    """

    row: Tensor
    dof: Tensor
    coefficient: Tensor
    count: int

    def __post_init__(self) -> None:
        for name in ("row", "dof"):
            index = getattr(self, name)
            if index.ndim != 1 or index.dtype not in (torch.int32, torch.int64):
                raise ArgumentError(
                    f"{name}: got {index.dtype} of shape {tuple(index.shape)}; expected integers [nnz]"
                )
        if not (self.row.shape == self.dof.shape == self.coefficient.shape):
            raise ArgumentError(
                f"coefficient: row, dof and coefficient need one length; got {len(self.row)}, {len(self.dof)} and "
                f"{tuple(self.coefficient.shape)}"
            )
        if len(self.row) and (int(self.row.min()) < 0 or int(self.row.max()) >= self.count):
            raise ArgumentError(f"row: equations are numbered from 0 to {self.count - 1}")
        if not bool(torch.isfinite(self.coefficient.abs()).all()):
            raise ArgumentError("coefficient: holds a value that is not finite")

    def __and__(self, other: Equations) -> Equations:
        """All equations of both, these first."""
        dtype = torch.promote_types(self.coefficient.dtype, other.coefficient.dtype)
        return Equations(
            torch.cat([self.row, other.row + self.count]),
            torch.cat([self.dof, other.dof]),
            torch.cat([self.coefficient.to(dtype), other.coefficient.to(dtype)]),
            self.count + other.count,
        )

    def shifted(self, offset: int) -> Equations:
        """Return the same equations for a field whose dofs start at `offset` of a larger vector."""
        return Equations(self.row, self.dof + offset, self.coefficient, self.count)


def prescribe(dofs: Tensor) -> Equations:
    """``u[dof] = c`` for each dof ``[m]``."""
    row = torch.arange(len(dofs), device=dofs.device)
    return Equations(
        row, dofs, torch.ones(len(dofs), dtype=torch.float64, device=dofs.device), len(dofs)
    )


def along(dofs: Dofs, nodes: Tensor, direction: Tensor) -> Equations:
    """Prescribe a component of a vector field in a direction that follows no axis: ``direction . u = c``.

    Parameters
    ----------
    dofs
        Numbering of the field.
    nodes
        Nodes ``[m]``, for example ``dofs.facet_nodes(facets)``.
    direction
        ``[components]`` or ``[m, components]``; not zero. It is structure: moved points do not turn it.

    Raises
    ------
    ArgumentError
        If a direction is zero or has a wrong shape.
    """
    m, c = len(nodes), dofs.components
    if direction.shape[-1:] != (c,) or direction.ndim > 2:
        raise ArgumentError(
            f"direction: got shape {tuple(direction.shape)}; expected [{c}] or [{m}, {c}]"
        )
    vectors = direction.detach().to(nodes.device).expand(m, c)
    zero = torch.nonzero(vectors.abs().amax(1) == 0)[:, 0] if m else nodes[:0]
    if len(zero):
        raise ArgumentError(
            f"direction: is zero at node {int(nodes[zero[0]])}; give a direction there"
        )
    component = torch.arange(c, device=nodes.device)
    row = torch.arange(m, device=nodes.device).repeat_interleave(c)
    every = (nodes[:, None] * c + component).flatten()
    used = vectors.flatten() != 0
    return Equations(row[used], every[used], vectors.flatten()[used], m)


def periodic(
    dofs: Dofs,
    on: Tensor,
    to: Tensor,
    *,
    mapping: Callable[[Tensor], Tensor] | None = None,
    rotation: Tensor | None = None,
    phase: complex | None = None,
) -> Equations:
    """``u(x) = phase R u(mapping(x))`` for the nodes of facets, matched with those of other facets.

    Parameters
    ----------
    dofs
        Numbering of the field.
    on
        Facets whose unknowns are eliminated, indices into ``mesh.facets``.
    to
        Facets they repeat.
    mapping
        From points ``[m, dim]`` of `on` to points of `to`; None means the translation between their centres.
    rotation
        R, ``[components, components]``, for vector fields under a rotation; None means the identity.
    phase
        Bloch factor; None means 1.

    Returns
    -------
    Equations
        One per node and component of `on`, less those that repeat themselves (a node on the axis of a rotation stays
        where it is, and what turns there is zero); the right-hand side is a jump.

    Raises
    ------
    MeshError
        If a node of either side has no partner, naming the first.

    Examples
    --------
    >>> from torch_sla.assembly import Dofs, lagrange, rectangle_mesh
    >>> mesh = rectangle_mesh((2, 2))
    >>> left, right = mesh.facet_tags["left"], mesh.facet_tags["right"]
    >>> pairs = periodic(Dofs(mesh, lagrange("triangle")), right, left)
    >>> pairs.dof.reshape(-1, 2)
    tensor([[2, 0],
            [5, 3],
            [8, 6]])
    """
    c = dofs.components
    slaves, masters = _pairs(dofs, on, to, mapping)
    R = (
        torch.eye(c, dtype=torch.float64, device="cpu")
        if rotation is None
        else rotation.detach().cpu()
    )
    if R.shape != (c, c):
        raise ArgumentError(f"rotation: got shape {tuple(R.shape)}; expected ({c}, {c})")
    if phase is not None:
        R = R * phase
    R = R.to(slaves.device)
    identity = torch.eye(c, dtype=R.dtype, device=slaves.device)
    # A node on the axis is its own partner: u = phase R u, which fixes what turns.
    turned = (R - identity).abs().amax(1) > 1e-12
    kept = ((slaves != masters)[:, None] | turned).flatten()
    node, component = torch.meshgrid(
        torch.arange(len(slaves), device=slaves.device),
        torch.arange(c, device=slaves.device),
        indexing="ij",
    )
    node, component = node.flatten()[kept], component.flatten()[kept]
    own = (slaves[node] * c + component)[:, None]
    others = masters[node][:, None] * c + torch.arange(c, device=slaves.device)
    coefficient = torch.cat([torch.ones_like(own).to(R.dtype), -R[component]], 1)
    used = coefficient != 0
    row = torch.arange(len(own), device=slaves.device)[:, None].expand_as(used)
    return Equations(row[used], torch.cat([own, others], 1)[used], coefficient[used], len(own))


def combine(terms: Sequence[tuple[Tensor, float | Tensor]]) -> Equations:
    """Multipoint equations ``sum_k factor_k u[dofs_k] = c``, row by row.

    Parameters
    ----------
    terms
        Pairs of dofs ``[m]`` and factors, numbers or ``[m]``; the first pair is eliminated where factors are of
        equal size.

    Examples
    --------
    A hanging node between two others:

    >>> hanging = combine(
    ...     [(torch.tensor([7]), 1.0), (torch.tensor([2]), -0.5), (torch.tensor([5]), -0.5)]
    ... )
    >>> hanging.count
    1
    """
    if not terms:
        raise ArgumentError("terms: got none; give dofs and their factors")
    m = len(terms[0][0])
    factors = []
    for dofs, factor in terms:
        if dofs.shape != (m,):
            raise ArgumentError(
                f"terms: dofs have shapes ({m},) and {tuple(dofs.shape)}; give one each per row"
            )
        factors.append(torch.as_tensor(factor, device=dofs.device).detach().expand(m))
    dtype = torch.complex128 if any(f.is_complex() for f in factors) else torch.float64
    row = torch.arange(m, device=terms[0][0].device).repeat_interleave(len(terms))
    dof = torch.stack([dofs for dofs, _ in terms], 1).flatten()
    return Equations(row, dof, torch.stack([f.to(dtype) for f in factors], 1).flatten(), m)


def partners(
    dofs: Dofs, on: Tensor, to: Tensor, mapping: Callable[[Tensor], Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Return the nodes of facets `on` and their partners on `to`, less those that are their own.

    Parameters
    ----------
    dofs, on, to, mapping
        As for `periodic`.

    Raises
    ------
    MeshError
        If a node of either side has no partner, naming the first.
    """
    slaves, masters = _pairs(dofs, on, to, mapping)
    moved = slaves != masters
    return slaves[moved], masters[moved]


def _pairs(
    dofs: Dofs, on: Tensor, to: Tensor, mapping: Callable[[Tensor], Tensor] | None
) -> tuple[Tensor, Tensor]:
    """Return the nodes of facets `on` and their partners on `to`."""
    slaves, masters = dofs.facet_nodes(on), dofs.facet_nodes(to)
    points = dofs.points().detach()
    x, y = points[slaves].cpu(), points[masters].cpu()
    shift = _centre(y) - _centre(x)

    def image(x: Tensor) -> Tensor:
        return x + shift if mapping is None else mapping(x)

    # On a side that a crack meets, nodes coincide, and their facets tell which is which.
    beside = [
        surroundings(dofs.nodes_of_facets(facets), points)[nodes].cpu()
        for facets, nodes in ((on, slaves), (to, masters))
    ]
    target = image(x)
    distance, index = images(target, y, image(beside[0]), beside[1])
    size = float((y.amax(0) - y.amin(0)).amax()) or 1.0
    lost = torch.nonzero(distance > 1e-6 * size)[:, 0]
    if len(lost):
        i = int(lost[0])
        raise MeshError(
            f"to: the node at {x[i].tolist()} has no partner at {target[i].tolist()} ({len(lost)} of {len(x)} nodes); "
            f"{_MATCHING}"
        )
    alone = torch.ones(len(y), dtype=torch.bool)
    alone[index] = False
    if bool(alone.any()):
        i = int(torch.nonzero(alone)[0, 0])
        raise MeshError(
            f"to: the node at {y[i].tolist()} is the partner of none ({int(alone.sum())} of {len(y)} nodes); "
            f"{_MATCHING}"
        )
    return slaves, masters[index.to(masters.device)]


def _centre(x: Tensor) -> Tensor:
    return 0.5 * (x.amin(0) + x.amax(0))
