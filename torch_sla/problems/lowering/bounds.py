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
    """Refuse values outside a bound, of matrices their eigenvalues, naming the worst place and a remedy.

    Parameters
    ----------
    found
        ``[*batch, n|1, q|1, *shape]``.
    bound
        What numbers have to be.
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
    if found.rank == 2:
        values = torch.linalg.eigvalsh(0.5 * (values + values.mT))[..., 0]
    require(
        bound.holds(values).all(), lambda: _outside(found, values, bound, what, sites, remedy())
    )


def _outside(
    found: Ranked, values: Tensor, bound: Bound, what: str, sites: Sites | None, remedy: str
) -> ArgumentError:
    """Say what the worst value is and where."""
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
    most = f"{float(values.flatten()[worst]):.6g}"
    said = (
        f"{bound.words} definite; the least eigenvalue is"
        if found.rank == 2
        else f"{bound.words}; it is"
    )
    return ArgumentError(f"{what} must {said} {most}{place}{member}{remedy}")
