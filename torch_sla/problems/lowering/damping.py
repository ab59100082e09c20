"""Proportional damping, α M + β K: the numbers, and the stiffness that is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from torch_sla.errors import SpecError
from torch_sla.problems.lowering.bounds import require_within
from torch_sla.problems.specs.place import NONNEGATIVE

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.operators import Operator
    from torch_sla.problems.lowering.scene import Scene

__all__ = ["proportional", "undeformed"]


def proportional(law: Any, scene: Scene, path: str) -> Tensor | None:
    """Evaluate a damping, one number for the whole body ``[*batch]``; None where there is none."""
    if law == 0.0:
        return None
    found = scene.evaluate(law, scene.cells(), path)
    if found.rank or found.tensor.shape[-2:] != (1, 1):
        raise SpecError("one number holds for the whole body", path=path)
    require_within(found, NONNEGATIVE, path)
    return found.tensor[..., 0, 0]


def undeformed(model: Model, scene: Scene, operator: Operator) -> Tensor:
    """Return the stiffness that damping is proportional to, the tangent at rest ``[*batch, nnz]``."""
    still = torch.zeros(model.numbering.n, dtype=model.field_dtype, device=model.device)
    recorded, terms = torch.is_grad_enabled() and scene.requires_grad, model.terms(scene)
    with torch.no_grad():  # for its shape: laws may have batches that loads have not
        at = still.expand(model.unconstrained(scene, operator, terms, still).shape)
    return model.tangent(scene, operator, terms, at, recorded=recorded)
