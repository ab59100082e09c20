"""What a problem in parts consists of: bodies that no cell joins, each of which its conditions must hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from torch_sla.problems.lowering.motions import Holds, holds, stopped_motions

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.distributed.communicator import Communicator
    from torch_sla.problems.distributed.window import Window
    from torch_sla.problems.lowering.model import Model

__all__ = ["motions_left"]

_ENOUGH = 6  # holds that stop all motions which others of the same body stop


def motions_left(model: Model, window: Window, comm: Communicator, device: torch.device) -> int:
    """Return how many motions nothing stops, of all bodies of the whole; all processes call it together.

    Parameters
    ----------
    model, window
        The problem on what this process sees. Of each body a few holds that stop as many motions as all of them
        stand for these.
    """
    dofs = model.dofs
    body_of = torch.zeros(dofs.n_nodes, dtype=torch.int64)
    body_of[dofs.cell_nodes] = window.body[:, None]
    held = holds(model, body_of, window.body)
    rows = [torch.zeros(0, 2 * held.points.shape[1] + 2, dtype=held.points.dtype)]
    for k in held.bodies.unique().tolist():
        some = held.some(held.bodies == k)
        rows.append(torch.column_stack(some.some(_few(some, dofs.components))))
    found = torch.cat(comm.gather(torch.cat(rows).to(device))).cpu()
    dim, total = held.points.shape[1], 0
    for k in range(window.bodies):
        mine = found[found[:, -1] == k]
        points, partners, numbers = mine.split([dim, dim, 2], 1)
        total += model.loose(Holds(points, partners, *numbers.long().unbind(1)))
    return total


def _few(held: Holds, components: int) -> Tensor:
    """Choose a few holds that stop as many motions as all of them."""
    if components == held.points.shape[1] > 1:
        from scipy.linalg import qr

        _, _, order = qr(stopped_motions(held).T.numpy(), mode="economic", pivoting=True)
        return torch.from_numpy(order[:_ENOUGH].astype(np.int64))
    # Those on the ground stop what others stop, and more.
    return held.partners.isnan().any(1).sort(descending=True, stable=True).indices[:_ENOUGH]
