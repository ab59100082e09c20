"""Newton's method with Hessian-vector products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from torch_sla.problems.design.optimizers.trust_region import TrustRegion

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.problems.design.optimizers.oracle import Oracle

__all__ = ["NewtonCG"]


@dataclass(frozen=True, kw_only=True)
class NewtonCG(TrustRegion):
    """Newton's method within bounds, its systems solved by truncated conjugate gradients in a trust region.

    Only products of the Hessian with vectors are needed, each of which costs about two linear solves with the factors
    that are there. Directions of negative curvature are followed to the edge of the trust region.

    The radius is told by `TrustRegion`, the inner iterations by `SecondOrder`, limits and tolerances by `Optimizer`.

    Examples
    --------
    >>> import torch
    >>> from torch_sla.problems.design.optimizers.function import FunctionOracle, Quantities
    >>> rosenbrock = FunctionOracle(
    ...     lambda x: Quantities(100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2), second_order=True
    ... )
    >>> x, far = torch.tensor([-1.2, 1.0]).double(), torch.tensor([10.0, 10.0]).double()
    >>> newton = NewtonCG(gradient_tolerance=1e-9)
    >>> *_, last = newton.iterate(newton.start(rosenbrock, x, -far, far), rosenbrock)
    >>> last.converged, [round(float(v), 6) for v in last.x]
    (True, [1.0, 1.0])
    """

    needs_second_order: ClassVar[bool] = True

    type: Literal["newton_cg"] = "newton_cg"

    def product(self, oracle: Oracle, x: Tensor, v: Tensor) -> Tensor:
        """Return the Hessian times v."""
        return oracle.hvp(x, v)
