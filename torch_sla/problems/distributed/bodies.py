"""What a problem in parts consists of: bodies that no cell joins, each of which its conditions must hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from torch_sla.linalg.precond.multigrid import rigid_body_modes
from torch_sla.problems.lowering.motions import holds

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
    rows = [held.points.new_zeros(0, held.points.shape[1] + 2)]
    for k in held.bodies.unique().tolist():
        own = torch.nonzero(held.bodies == k)[:, 0]
        few = own[_few(held.points[own], held.components[own], dofs.components)]
        rows.append(torch.column_stack([held.points[few], held.components[few], held.bodies[few]]))
    found = torch.cat(comm.gather(torch.cat(rows).to(device))).cpu()
    total = 0
    for k in range(window.bodies):
        mine = found[found[:, -1] == k]
        total += model.loose(mine[:, :-2], mine[:, -2].long())
    return total


def _few(x: Tensor, components: Tensor, count: int) -> Tensor:
    """Choose a few holds that stop as many motions as all of them."""
    if count == x.shape[1] > 1:
        from scipy.linalg import qr

        place, index = x.unique(dim=0, return_inverse=True)
        rows = rigid_body_modes(place)[index * count + components]
        _, _, order = qr(rows.T.numpy(), mode="economic", pivoting=True)
        return torch.from_numpy(order[:_ENOUGH].astype(np.int64))
    return torch.arange(min(len(x), _ENOUGH))
