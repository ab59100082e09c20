"""What a problem in parts consists of: bodies that no cell joins, each of which its conditions must hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from torch_sla.linalg.precond.multigrid import rigid_body_modes
from torch_sla.problems.lowering.motions import braced_cells

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg.distributed.communicator import Communicator
    from torch_sla.problems.distributed.window import Window
    from torch_sla.problems.lowering.model import Model

__all__ = ["motions_left"]

_ENOUGH = 6  # unknowns that stop all motions which others of the same body stop


def motions_left(model: Model, window: Window, comm: Communicator, device: torch.device) -> int:
    """Return how many motions nothing stops, of all bodies of the whole; all processes call it together.

    Parameters
    ----------
    model, window
        The problem on what this process sees. Of each body a few of the given unknowns that stop as many motions as
        all of them stand for these.
    """
    dofs, x = model.dofs, model.dof_points().detach()
    c = dofs.components
    body_of = torch.zeros(dofs.n_nodes, dtype=torch.int64)
    body_of[dofs.cell_nodes] = window.body[:, None]
    held = model.compiled.constrained
    held = held[held < dofs.n]
    body = body_of[held // c]
    rows = [x.new_zeros(0, x.shape[1] + 2)]
    for k in body.unique().tolist():
        few = _few(x, held[body == k], c)
        rows.append(torch.column_stack([x[few // c], few % c, torch.full_like(few, k)]).to(x))
    found = torch.cat(comm.gather(torch.cat(rows).to(device))).cpu()
    braced = torch.zeros(window.bodies, device=device)
    for cells in braced_cells(model):
        braced[window.body[cells].to(device)] = 1.0
    holding = comm.reduce(braced, "max").tolist()
    total = 0
    for k, some in enumerate(holding):
        mine = found[found[:, -1] == k]
        index = torch.arange(len(mine)) * c + mine[:, -2].long()
        total += model.loose(mine[:, :-2], index, braced=bool(some))
    return total


def _few(x: Tensor, held: Tensor, components: int) -> Tensor:
    """Take a few of given unknowns that stop as many motions as all of them."""
    if components == x.shape[1] > 1:
        from scipy.linalg import qr

        _, _, order = qr(rigid_body_modes(x)[held].T.numpy(), mode="economic", pivoting=True)
        held = held[torch.from_numpy(order[: x.shape[1] * 3].astype(np.int64))]
    return held[:_ENOUGH]
