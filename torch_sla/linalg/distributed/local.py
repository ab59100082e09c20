"""What is done with the parts of a matrix one after the other, on local vectors: methods of `DSparseTensor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from torch_sla.errors import ArgumentError
from torch_sla.linalg.adjoint.exchange import exchange
from torch_sla.linalg.distributed.vector import DVector
from torch_sla.linalg.distributed.verbs import vector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from torch_sla.linalg.distributed.tensor import DSparseTensor

__all__ = ["gather_global", "halo_exchange_local", "matvec_all", "scatter_local", "solve_all"]


def _pieces(D: DSparseTensor, owned: Tensor, halo: Tensor) -> list[Tensor]:
    """Local vectors: owned entries and halo of each part held here."""
    parts = D.sharding.halo.parts
    return [
        torch.cat([owned[here], halo[parts == p]])
        for p, here in zip(D.comm.held, D.layout.slices, strict=True)
    ]


def scatter_local(D: DSparseTensor, x: Any) -> list[Tensor]:
    """Return the local vectors ``[num_local]`` of a whole vector or `DVector`, halo included; differentiable."""
    local = vector(D, x).local
    return _pieces(D, local, exchange(local, D.sharding.halo))


def _owned(D: DSparseTensor, pieces: Sequence[Tensor]) -> Tensor:
    """Owned entries of local or owned vectors, one after the other."""
    if len(pieces) != len(D.comm.held):
        raise ArgumentError(f"{len(D.comm.held)} local vectors are needed, got {len(pieces)}")
    cut = []
    for piece, here in zip(pieces, D.layout.slices, strict=True):
        n = here.stop - here.start
        if piece.shape[0] < n:
            raise ArgumentError(
                f"a local vector must have {n} owned entries, got {list(piece.shape)}"
            )
        cut.append(piece[:n])
    return torch.cat(cut)


def gather_global(D: DSparseTensor, pieces: Sequence[Tensor]) -> Tensor:
    """Return the whole vector ``[n]`` from local ones ``[num_local]`` or ``[num_owned]``.

    Every process gets the whole; differentiable as `DVector.full_tensor`.
    """
    return DVector(_owned(D, pieces), D.layout).full_tensor()


def halo_exchange_local(D: DSparseTensor, pieces: Sequence[Tensor]) -> list[Tensor]:
    """Return local vectors ``[num_local]`` whose halo is what the owners have; differentiable."""
    owned = _owned(D, pieces)
    return _pieces(D, owned, exchange(owned, D.sharding.halo))


def matvec_all(
    D: DSparseTensor, pieces: Sequence[Tensor], exchange_halo: bool = True
) -> list[Tensor]:
    """Return the owned rows of ``A x`` of each part from local vectors.

    Parameters
    ----------
    exchange_halo
        Whether to bring the halo up to date first; without, what the vectors have there is used.
    """
    if exchange_halo:
        pieces = halo_exchange_local(D, pieces)
    return [part.matvec(piece) for part, piece in zip(D, pieces, strict=True)]


def solve_all(D: DSparseTensor, pieces: Sequence[Tensor], **options: Any) -> list[Tensor]:
    """Solve every subdomain on its own, all that it does not own taken to be zero.

    Parameters
    ----------
    pieces
        Right-hand sides ``[num_owned]``.
    options
        As for `SparseTensor.solve`.
    """
    if len(pieces) != len(D.comm.held):
        raise ArgumentError(f"{len(D.comm.held)} right-hand sides are needed, got {len(pieces)}")
    return [part.solve(b, distributed=False, **options) for part, b in zip(D, pieces, strict=True)]
