"""Any method of `scipy.optimize.minimize`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch

from torch_sla.errors import ArgumentError
from torch_sla.problems.design.optimizers.optimality import ranges
from torch_sla.problems.design.optimizers.replay import Client, Replayed
from torch_sla.problems.design.optimizers.state import NOTHING

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.problems.design.optimizers.oracle import Oracle

__all__ = ["Scipy"]

BOUNDED = ("Nelder-Mead", "Powell", "L-BFGS-B", "TNC", "COBYLA", "COBYQA", "SLSQP", "trust-constr")
CONSTRAINED = ("COBYLA", "COBYQA", "SLSQP", "trust-constr")
GRADIENTS = ("CG", "BFGS", "Newton-CG", "L-BFGS-B", "TNC", "SLSQP", "trust-constr")
PRODUCTS = ("Newton-CG", "trust-ncg", "trust-krylov", "trust-constr")
ONLY_PRODUCTS = ("trust-ncg", "trust-krylov")
LIMITS = ("maxiter", "maxfev", "maxfun")
"""Options that end a routine before it has found anything."""
METHODS = (
    "Nelder-Mead",
    "Powell",
    "CG",
    "BFGS",
    "Newton-CG",
    "L-BFGS-B",
    "TNC",
    "COBYLA",
    "COBYQA",
    "SLSQP",
    "trust-constr",
    "trust-ncg",
    "trust-krylov",
)


@dataclass(frozen=True, kw_only=True)
class Scipy(Replayed):
    """A method of `scipy.optimize.minimize` by name, with its options.

    The tolerances given here (see `Optimizer`) are judged after each iteration; the method's own, in `options`, hold as
    well (but for the `xtol` of TNC, which is 0 where it is left out, since it means a length near 1). What the method
    sees of an objective that begins below 1 is the ratio to this first size, so that a compliance of 1e-9 J is no zero
    to it. Variables whose range is below 1/128 or from 128 on are seen over a power of two near it, so that lengths in
    `options` (`rhobeg`, `xtol`) are shares of it. Where its own tolerances end the search, `reason` tells what the
    slope leaves to gain, to first order; the search has converged if that is at most 1 % of the objective or of what it
    was at the start. Methods that take Hessian-vector products get them where the problem offers them.

    Parameters
    ----------
    method
        Name of the method, as SciPy spells it.
    options
        The method's options, passed on as they are.
    restart
        Evaluations after which the routine begins anew at the next iterate, 0 for never: less to keep for a run that is
        resumed, and a slower search.

    Examples
    --------
    >>> Scipy(method="SLSQP").method
    'SLSQP'
    >>> Scipy(method="slsqp")
    Traceback (most recent call last):
    torch_sla.errors.ArgumentError: `method` must be one of Nelder-Mead Powell ..., got 'slsqp'
    """

    absolute: ClassVar[bool] = True

    type: Literal["scipy"] = "scipy"
    method: str
    options: dict[str, float | int | str | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method not in METHODS:
            raise ArgumentError(f"`method` must be one of {' '.join(METHODS)}, got {self.method!r}")

    def check(self, oracle: Oracle, lower: Tensor, upper: Tensor) -> None:
        """Raise where the method cannot do what the problem asks for."""
        if oracle.equalities.numel() and self.method not in CONSTRAINED:
            raise ArgumentError(
                f"SciPy's {self.method} cannot impose constraints; one of {' '.join(CONSTRAINED)} can"
            )
        if self.method not in BOUNDED and _bounded(lower, upper):
            raise ArgumentError(
                f"SciPy's {self.method} knows no bounds; one of {' '.join(BOUNDED)} does, or use a transform"
            )
        if self.method in ONLY_PRODUCTS and not oracle.second_order:
            raise ArgumentError(
                f"SciPy's {self.method} needs Hessian-vector products, which this problem does not offer"
            )

    def run(self, client: Client, lower: Tensor, upper: Tensor, oracle: Oracle) -> tuple[str, bool]:
        """Run SciPy's routine."""
        from scipy.optimize import Bounds, minimize

        size = _size(client, lower, upper)
        settings: dict[str, Any] = {}
        if _bounded(lower, upper):
            settings["bounds"] = Bounds(lower.numpy(), upper.numpy())
        if oracle.equalities.numel():
            settings["constraints"] = self._constraints(client, oracle.equalities)
        if self.method in GRADIENTS + ONLY_PRODUCTS:
            settings["jac"] = lambda x: client.at(x).gradient.numpy() / size
        if self.method in PRODUCTS and oracle.second_order:
            settings["hessp"] = lambda x, v: client.hvp(x, v) / size
        elif self.method == "trust-constr":
            settings["hess"] = _curvature()
        callback: Any = client.iterate
        if self.method == "SLSQP":
            # Its callback may come with a trial point; gradients are asked for at iterates only.
            settings["jac"], callback = _told(client, size), None
        found = minimize(
            lambda x: client.at(x).value / size,
            client.start.numpy(),
            method=self.method,
            callback=callback,
            options=self._options(),
            **settings,
        )
        return str(found.message), bool(found.success)

    @property
    def remedy(self) -> str:
        """What to do where the routine failed, or reached a limit among its options."""
        told = [f"{name} = {self.options[name]}" for name in LIMITS if name in self.options]
        first = f"raise {', '.join(told)} where that ended it, else " if told else ""
        return first + super().remedy

    def _options(self) -> dict[str, Any]:
        """Return the options given; the limit on iterations is the loop's."""
        if self.method == "TNC":
            # Its least step is one of variables near 1, and steps are the loop's to judge.
            return {"maxfun": 10**9, "xtol": 0.0, **self.options}
        return {"maxiter": 10**9, **self.options}

    def _constraints(self, client: Client, equalities: Tensor) -> list[Any]:
        """Return the constraints in the words of each method."""
        from scipy.optimize import NonlinearConstraint

        if self.method != "SLSQP":
            least = torch.where(equalities, 0.0, -torch.inf).to(torch.float64)
            return [
                NonlinearConstraint(
                    lambda x: client.at(x).constraints.numpy(),
                    least.numpy(),
                    torch.zeros_like(least).numpy(),
                    jac=lambda x: client.at(x).jacobian.numpy(),
                    hess=_curvature(),
                )
            ]
        found = []
        for kind, mask, sign in (("eq", equalities, 1.0), ("ineq", ~equalities, -1.0)):
            if bool(mask.any()):
                found.append(
                    {
                        "type": kind,
                        "fun": lambda x, mask=mask, sign=sign: (
                            sign * client.at(x).constraints[mask].numpy()
                        ),
                        "jac": lambda x, mask=mask, sign=sign: (
                            sign * client.at(x).jacobian[mask].numpy()
                        ),
                    }
                )
        return found


def _bounded(lower: Tensor, upper: Tensor) -> bool:
    return bool(torch.isfinite(lower).any() or torch.isfinite(upper).any())


def _size(client: Client, lower: Tensor, upper: Tensor) -> float:
    """Return what the objective is measured in, at most 1."""
    at = client.at(client.start.numpy())
    slope = float((at.gradient * ranges(client.start, lower, upper)).abs().sum())
    return min(1.0, max(abs(at.value), NOTHING * slope)) or 1.0


def _curvature() -> Any:
    """Return SciPy's estimate of second derivatives, to which a gradient that does not change is no news.

    SciPy's leaves its matrix as it is then, too, but warns that the function may be linear: a volume is.
    """
    from scipy.optimize import BFGS

    class Curvature(BFGS):  # type: ignore[misc]
        def update(self, delta_x: Any, delta_grad: Any) -> None:
            if delta_grad.any():
                super().update(delta_x, delta_grad)

    return Curvature()


def _told(client: Client, size: float) -> Any:
    """Return a gradient over `size` that reports each point after the first as an iterate."""
    first = True

    def gradient(x: Any) -> Any:
        nonlocal first
        found = client.at(x).gradient.numpy()
        if not first:
            client.iterate(x)
        first = False
        return found / size

    return gradient
