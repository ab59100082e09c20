"""L-BFGS-B."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch_sla.problems.design.optimizers.replay import Client, Replayed

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.problems.design.optimizers.oracle import Oracle

__all__ = ["LBFGS"]

_ROUNDING = 1e-13  # of values of an objective


@dataclass(frozen=True, kw_only=True)
class LBFGS(Replayed):
    """Limited-memory quasi-Newton within bounds (Byrd, Lu, Nocedal and Zhu, SIAM J. Sci. Comput. 16, 1995); SciPy's.

    Limits and tolerances that all optimizers have are told by `Optimizer`.

    Parameters
    ----------
    memory
        Pairs of steps and gradient differences kept.
    line_search
        Limit on the evaluations of one step.
    restart
        Evaluations after which the routine begins anew at the next iterate, 0 for never: less to keep for a run that is
        resumed, and a slower search.

    Examples
    --------
    >>> from torch_sla import LBFGS
    >>> LBFGS(max_iterations=50, memory=20)  # the optimizer= of a DesignProblem
    LBFGS(max_iterations=50, ...memory=20, ...)
    """

    type: Literal["lbfgs"] = "lbfgs"
    memory: int = 10
    line_search: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        self._whole("memory", 1)
        self._whole("line_search", 1)

    def run(self, client: Client, lower: Tensor, upper: Tensor, oracle: Oracle) -> tuple[str, bool]:  # noqa: ARG002
        """Run SciPy's routine with its own tolerances off: the loop judges each iterate."""
        from scipy.optimize import Bounds, minimize

        values: list[float] = []  # of the last iterate, and of what was tried since
        steepest = float(client.at(client.start.numpy()).gradient.abs().max())
        # Its first step is no longer than 1e10 gradients. A power of 4, and its root, round nothing.
        size = 4.0 ** math.floor(math.log(steepest, 4.0)) if steepest > 0 else 1.0

        def evaluate(x: Any) -> tuple[float, Any]:
            at = client.at(x)
            values.append(at.value)
            return at.value / size, at.gradient.numpy() / size

        def iterate(x: Any) -> None:
            client.iterate(x)
            del values[:-1]

        found = minimize(
            evaluate,
            client.start.numpy(),
            jac=True,
            method="L-BFGS-B",
            bounds=Bounds(lower.numpy(), upper.numpy()),
            callback=iterate,
            options={
                "maxcor": self.memory,
                "maxls": self.line_search,
                "ftol": 0.0,
                "gtol": 0.0,
                "maxiter": 2**31 - 1,
                "maxfun": 2**31 - 1,
            },
        )
        # Where the line search fails, its first trial is a whole step of the quadratic model.
        if len(values) > 1 and abs(values[1] - values[0]) <= _ROUNDING * abs(values[0]):
            return "a whole step changes the objective by rounding only", True
        return str(found.message), bool(found.success)
