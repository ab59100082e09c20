"""The verbs of a problem that take derivatives; each names who does the work, and imports it when called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from torch_sla.problems.specs.given import joined

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from torch_sla.problems.derivatives.check import GradientCheck
    from torch_sla.problems.derivatives.laplace import Posterior
    from torch_sla.problems.derivatives.module import ProblemModule
    from torch_sla.problems.derivatives.prior import Gaussian
    from torch_sla.problems.derivatives.sensitivity import Sensitivities
    from torch_sla.problems.solution import Solution
    from torch_sla.problems.specs.problem import Problem

__all__ = ["Differentiable"]


class Differentiable:
    """Derivatives of what `solve` returns, with respect to everything that can be given to it."""

    def value_and_grad(
        self,
        output: str | Callable[[Solution], Tensor],
        values: Mapping[str, Any] | None = None,
        /,
        *,
        start: Tensor | None = None,
        **named: Any,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return an output and its gradient with respect to everything given.

        Parameters
        ----------
        output
            Name of a scalar output, or a function of the solution.
        values, **named
            Numbers and tensors by name; ``points`` counts.
        start
            Where iterations begin, as for `solve`.

        Returns
        -------
        value, gradients
            A scalar, and a tensor of the shape of each thing given.

        Examples
        --------
        >>> from torch_sla import Dirichlet, Integral, IntervalMesh, Parameter, PoissonProblem
        >>> problem = PoissonProblem(
        ...     mesh=IntervalMesh(cells=8),
        ...     source=Parameter("f", default=1.0),
        ...     boundary=[Dirichlet("left", 0.0), Dirichlet("right", 0.0)],
        ...     outputs=[Integral("total", "u")],
        ... )
        >>> value, gradient = problem.value_and_grad("total", f=2.0)
        >>> bool((2 * gradient["f"] - value).abs() < 1e-12)
        True
        """
        from torch_sla.problems.derivatives.gradient import value_and_grad

        return value_and_grad(_problem(self), output, joined(values, named), start)

    def jvp(
        self,
        tangents: Mapping[str, Any],
        values: Mapping[str, Any] | None = None,
        /,
        *,
        start: Tensor | None = None,
        **named: Any,
    ) -> dict[str, Tensor]:
        """Return J v: how every field and output changes along tangents, by name.

        Parameters
        ----------
        tangents
            Tensors of the shape of what is given, by name; the others do not move.
        values, **named
            Numbers and tensors by name; ``points`` counts.
        start
            Where iterations begin, as for `solve`.

        Raises
        ------
        ArgumentError
            For a tangent of something that is not given, or of another shape.
        GradientError
            Where there is no such derivative.

        Examples
        --------
        >>> from torch_sla import Dirichlet, Integral, IntervalMesh, Parameter, PoissonProblem
        >>> problem = PoissonProblem(
        ...     mesh=IntervalMesh(cells=8),
        ...     source=Parameter("f", default=1.0),
        ...     boundary=[Dirichlet("left", 0.0), Dirichlet("right", 0.0)],
        ...     outputs=[Integral("total", "u")],
        ... )
        >>> along = problem.jvp({"f": 1.0}, f=2.0)
        >>> bool((along["total"] - problem.solve(f=1.0)["total"]).abs() < 1e-12)
        True
        """
        from torch_sla.problems.derivatives.products import jvp

        return jvp(_problem(self), tangents, joined(values, named), start)

    def vjp(
        self,
        cotangents: Mapping[str, Any],
        values: Mapping[str, Any] | None = None,
        /,
        *,
        start: Tensor | None = None,
        **named: Any,
    ) -> dict[str, Tensor]:
        """Return Jᵀ w: the gradient of ⟨w, fields and outputs⟩ with respect to everything given, by name.

        Parameters
        ----------
        cotangents
            Tensors of the shape of fields and outputs, by name.
        values, **named
            Numbers and tensors by name; ``points`` counts.
        start
            Where iterations begin, as for `solve`.

        Raises
        ------
        ArgumentError
            For a cotangent of something there is not, or of another shape.
        """
        from torch_sla.problems.derivatives.products import vjp

        return vjp(_problem(self), cotangents, joined(values, named), start)

    def hvp(
        self,
        output: str | Callable[[Solution], Tensor],
        vectors: Mapping[str, Any],
        values: Mapping[str, Any] | None = None,
        /,
        *,
        start: Tensor | None = None,
        **named: Any,
    ) -> dict[str, Tensor]:
        """Return the Hessian of an output times vectors, by name; mixed derivatives count.

        Parameters
        ----------
        output
            Name of a scalar output, or a function of the solution.
        vectors
            Tensors of the shape of what is given, by name; the others are zero.
        values, **named
            Numbers and tensors by name; ``points`` counts.
        start
            Where iterations begin, as for `solve`.

        Raises
        ------
        ArgumentError
            For a vector of something that is not given, or of another shape.
        GradientError
            Where there are no second derivatives.
        """
        from torch_sla.problems.derivatives.products import hvp

        return hvp(_problem(self), output, vectors, joined(values, named), start)

    def check_gradients(
        self,
        values: Mapping[str, Any] | None = None,
        /,
        *,
        start: Tensor | None = None,
        output: str | Callable[[Solution], Tensor] | None = None,
        seed: int = 20261,
        entries: int = 1,
        second: bool = True,
        **named: Any,
    ) -> GradientCheck:
        """Test the derivatives with respect to each thing given; ``print`` the table.

        Taylor remainders of the gradient in random directions and along single entries, those of the Hessian, and
        the dot-product test of `jvp` and `vjp`.

        Parameters
        ----------
        start
            Where iterations begin, as for `solve`.
        output
            Name of a scalar output or function of the solution; a cubic functional when left out.
        seed
            Of the random directions.
        entries
            Single entries that are moved, those with the largest gradients.
        second
            Whether second derivatives are tested too.
        """
        from torch_sla.problems.derivatives.check import check_gradients

        return check_gradients(
            _problem(self),
            joined(values, named),
            start=start,
            output=output,
            seed=seed,
            entries=entries,
            second=second,
        )

    def sensitivities(
        self,
        values: Mapping[str, Any] | None = None,
        /,
        *,
        start: Tensor | None = None,
        outputs: Sequence[str] = (),
        **named: Any,
    ) -> Sensitivities:
        """Return the derivative of every output by everything given, and normalised; ``print`` the table.

        Parameters
        ----------
        values, **named
            Numbers and tensors by name; ``points`` counts.
        start
            Where iterations begin, as for `solve`.
        outputs
            Names of outputs or fields; all outputs when left out.

        Raises
        ------
        ArgumentError
            Where nothing is given: defaults are not differentiated by.
        """
        from torch_sla.problems.derivatives.sensitivity import sensitivities

        return sensitivities(_problem(self), outputs, joined(values, named), start)

    def laplace(
        self,
        noise: Mapping[str, Any],
        prior: Mapping[str, Gaussian],
        values: Mapping[str, Any] | None = None,
        /,
        *,
        start: Tensor | None = None,
        rank: int | None = None,
        **named: Any,
    ) -> Posterior:
        """Return how sure one may be of parameters that were fitted to data: a Gaussian about them.

        Parameters
        ----------
        noise
            Standard deviation of the data by output, a number or a tensor of its shape.
        prior
            `Gaussian` for everything given, by name.
        values, **named
            The fitted parameters.
        start
            Where iterations begin, as for `solve`.
        rank
            Number of eigenpairs of the Hessian; as many as count when left out.

        Raises
        ------
        ArgumentError
            For an unknown name, a shape that does not fit, or a parameter without a prior.

        Examples
        --------
        >>> import torch
        >>> from torch_sla import (
        ...     Dirichlet,
        ...     Gaussian,
        ...     IntervalMesh,
        ...     Parameter,
        ...     PoissonProblem,
        ...     Probe,
        ... )
        >>> problem = PoissonProblem(
        ...     mesh=IntervalMesh(cells=8),
        ...     source=Parameter("f", on="cells"),
        ...     boundary=[Dirichlet("left", 0.0), Dirichlet("right", 0.0)],
        ...     outputs=[Probe("sensor", at=[(0.5,)])],
        ... )
        >>> f = torch.ones(8, dtype=torch.float64)
        >>> posterior = problem.laplace({"sensor": 1e-3}, {"f": Gaussian(std=1.0)}, f=f)
        >>> round(posterior.informed, 3)  # one sensor, one direction
        1.0
        """
        from torch_sla.problems.derivatives.laplace import laplace

        return laplace(_problem(self), noise, prior, joined(values, named), start=start, rank=rank)

    def module(self, trainable: Sequence[str] = ()) -> ProblemModule:
        """Return an ``nn.Module`` whose parameters are the named ones, started at their defaults."""
        from torch_sla.problems.derivatives.module import ProblemModule

        return ProblemModule(_problem(self), trainable)


def _problem(verbs: Differentiable) -> Problem:
    return cast("Problem", verbs)
