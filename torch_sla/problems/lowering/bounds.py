"""Whether evaluated numbers lie within the bounds that their declaration has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from torch_sla.errors import ArgumentError
from torch_sla.linalg.checks import require

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from torch_sla.problems.expression import Ranked
    from torch_sla.problems.lowering.sites import Sites
    from torch_sla.problems.specs.place import Bound

__all__ = ["require_within"]


def require_within(
    found: Ranked,
    bound: Bound,
    what: str,
    sites: Sites | None = None,
    remedy: Callable[[], str] = str,
) -> None:
    """Refuse values outside a bound, naming the worst place and a remedy; matrices have to be positive definite.

    Parameters
    ----------
    found
        ``[*batch, n|1, q|1, *shape]``.
    bound
        What numbers have to be; of matrices the eigenvalues of the symmetric part, and then it is `POSITIVE`.
    what
        What they are, for messages.
    sites
        Where they are.
    remedy
        What to add to a message.

    Raises
    ------
    ArgumentError
        If one lies outside.
    """
    values = found.tensor.detach()
    judged = _pivots(values) if found.rank == 2 else values
    require(bound.holds(judged).all(), lambda: _outside(found, bound, what, sites, remedy()))


def _pivots(matrices: Tensor) -> Tensor:
    """Return the pivots of elimination of the symmetric parts ``[..., d]``: all are positive where these are definite.

    They cost a fraction of eigenvalues, for which a device would be waited for as well.
    """
    rest, found = 0.5 * (matrices + matrices.mT), []
    while rest.shape[-1]:
        pivot, row = rest[..., :1, :1], rest[..., :1, 1:]
        found.append(pivot[..., 0, 0])
        rest = rest[..., 1:, 1:] - row.mT / pivot * row
    return torch.stack(found, -1)


def _outside(
    found: Ranked, bound: Bound, what: str, sites: Sites | None, remedy: str
) -> ArgumentError:
    """Say what the worst value is and where."""
    values = found.tensor.detach()
    if found.rank == 2:
        values = torch.linalg.eigvalsh(0.5 * (values + values.mT))[..., 0]
    beyond = bound.least - values
    if bound.most is not None:
        beyond = torch.maximum(beyond, values - bound.most)
    worst = int(beyond.argmax())
    index = [int(i) for i in torch.unravel_index(torch.tensor(worst), values.shape)]
    site = max(values.ndim - 2 - found.rank % 2, 0)
    place = ""
    if values.ndim > site and values.shape[site] > 1:
        n = index[site]
        owners = None if sites is None else sites.owners
        place = f" at place {n}" if owners is None else f" in cell {int(owners[n])}"
    member = f" of batch member {tuple(index[:site])}" if site else ""
    seen = f"{float(values.flatten()[worst]):.6g}"
    matrix = found.rank == 2
    said = f"{bound.words} definite; the least eigenvalue is" if matrix else f"{bound.words}; it is"
    return ArgumentError(f"{what} must {said} {seen}{place}{member}{remedy}")
