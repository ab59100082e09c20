"""L-BFGS-B."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch_sla.problems.design.optimizers.replay import Client, Replayed

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.problems.design.optimizers.oracle import Oracle

__all__ = ["LBFGS"]


@dataclass(frozen=True, kw_only=True)
class LBFGS(Replayed):
    """Limited-memory quasi-Newton within bounds (Byrd, Lu, Nocedal and Zhu, SIAM J. Sci. Comput. 16, 1995); SciPy's.

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

        found = minimize(
            lambda x: ((at := client.at(x)).value, at.gradient.numpy()),
            client.start.numpy(),
            jac=True,
            method="L-BFGS-B",
            bounds=Bounds(lower.numpy(), upper.numpy()),
            callback=client.iterate,
            options={
                "maxcor": self.memory,
                "maxls": self.line_search,
                "ftol": 0.0,
                "gtol": 0.0,
                "maxiter": 2**31 - 1,
                "maxfun": 2**31 - 1,
            },
        )
        return str(found.message), bool(found.success)
