"""Products with first and second derivatives: J v, Jᵀ w, H v, and a point where many of them are wanted.

J v comes by forward mode where all that the problem does has it, which is independent of the adjoint. Elsewhere, and
where many products are wanted at one point, it is the derivative of Jᵀ w, which is linear in w, with respect to w.
H v is the gradient of ⟨∇J, v⟩: it needs two solves more than the gradient, as forward over reverse would, and
goes through every problem that has second derivatives; what has none raises instead of losing a tangent unseen.

Griewank and Walther, Evaluating Derivatives, 2nd ed., SIAM 2008, sections 3.1 to 3.3 and 5.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from torch_sla.errors import ArgumentError, GradientError
from torch_sla.linalg.adjoint.jacobian import pulled
from torch_sla.linalg.sparse.transforms import outside_compiler
from torch_sla.problems.derivatives.gradient import Output, filled, leaves_of, scalar, solved
from torch_sla.problems.expression import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch_sla.problems.results import Named
    from torch_sla.problems.specs.problem import Problem

__all__ = ["Linearised", "hvp", "jvp", "units", "vjp"]

_TOGETHER = 64
"""Vectors that are multiplied at once."""


class Linearised:
    """Results at a point with the graph that leads to them: every product costs one solve with the factors there.

    Parameters
    ----------
    leaves
        What derivatives are taken with respect to.
    results
        Tensors by name, recorded.
    names
        Results that are meant where none are named.
    """

    def __init__(
        self, leaves: dict[str, Tensor], results: dict[str, Tensor], names: tuple[str, ...]
    ) -> None:
        self.leaves, self.results, self.names = leaves, results, names

    @classmethod
    def at(
        cls, problem: Problem, values: Mapping[str, Any], start: Tensor | None = None
    ) -> Linearised:
        """Solve a problem for numbers and tensors by name; ``points`` counts, and iterations begin at `start`."""
        leaves = leaves_of(values)
        with torch.enable_grad():
            solution = solved(problem, leaves, start)
        return cls(leaves, results_of(solution), tuple(solution.outputs))

    def vjp(self, cotangents: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return Jᵀ w by parameter, for w by field or output."""
        known = fitted(cotangents, self.results, "cotangent", "field or output")
        found = self.vjps({n: w.unsqueeze(0) for n, w in known.items()})
        return {n: gradient[0] for n, gradient in found.items()}

    def vjps(self, cotangents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return Jᵀ w ``[m, *parameter]`` for many w ``[m, *result]``: right-hand sides of one adjoint solve."""
        known = {
            n: w.to(self.results[n]) for n, w in cotangents.items() if self.results[n].requires_grad
        }
        m = len(next(iter(cotangents.values()), ((),)))
        back: list[Tensor | None] = [None] * len(self.leaves)
        if known:
            outputs = [self.results[n] for n in known]
            back = pulled(outputs, list(self.leaves.values()), list(known.values()))
        return {
            n: torch.zeros(m, *leaf.shape).to(leaf) if g is None else g
            for (n, leaf), g in zip(self.leaves.items(), back, strict=True)
        }

    def jvp(self, tangents: Mapping[str, Any], names: tuple[str, ...] = ()) -> dict[str, Tensor]:
        """Return J v by field and output, for v by parameter; `names` limits what is returned."""
        known = fitted(tangents, self.leaves, "tangent", "parameter that was given")
        found = self.jvps({n: v.unsqueeze(0) for n, v in known.items()}, names)
        return {n: column[0] for n, column in found.items()}

    def jvps(
        self, tangents: Mapping[str, Tensor], names: tuple[str, ...] = ()
    ) -> dict[str, Tensor]:
        """Return J v ``[m, *result]`` for many v ``[m, *parameter]``: right-hand sides of one linearised solve."""
        chosen = {n: self.results[n] for n in names or self.results}
        ghosts = {
            n: torch.zeros_like(t).requires_grad_() for n, t in chosen.items() if t.requires_grad
        }
        m = len(next(iter(tangents.values()), ((),)))
        found = {n: torch.zeros(m, *t.shape).to(t) for n, t in chosen.items()}
        if not ghosts or not tangents:
            return found
        with torch.enable_grad(), twice():
            back: tuple[Tensor | None, ...] = torch.autograd.grad(
                [chosen[n] for n in ghosts],
                [self.leaves[n] for n in tangents],
                list(ghosts.values()),
                create_graph=True,
                allow_unused=True,
            )
            pairs = [
                (g, v.to(g))
                for g, v in zip(back, tangents.values(), strict=True)
                if g is not None and g.requires_grad
            ]
            if pairs:
                gradients, weights = zip(*pairs, strict=True)
                columns = pulled(gradients, list(ghosts.values()), weights)
                found |= {n: c for n, c in zip(ghosts, columns, strict=True) if c is not None}
        return found


@outside_compiler
def jvp(
    problem: Problem,
    tangents: Mapping[str, Any],
    values: Mapping[str, Any],
    start: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the derivative of every field and output along tangents; see `Problem.jvp`."""
    leaves = leaves_of(values)
    known = fitted(tangents, leaves, "tangent", "parameter that was given")
    # A tangent that is lost on the way would be a silent zero: only what moves requires grad, to see who depends.
    given = {n: leaf if n in known else leaf.detach() for n, leaf in leaves.items()}
    try:
        return _forward(problem, given, known, start)
    except NotImplementedError:  # something on the way has no forward mode, says torch
        return Linearised.at(problem, values, start).jvp(known)


def _forward(
    problem: Problem,
    given: dict[str, Tensor],
    tangents: dict[str, Tensor],
    start: Tensor | None = None,
) -> dict[str, Tensor]:
    found = {}
    with forward_ad.dual_level():
        moved = {
            n: forward_ad.make_dual(leaf, tangents[n]) if n in tangents else leaf
            for n, leaf in given.items()
        }
        with torch.enable_grad():
            solution = solved(problem, moved, start)
        for name, result in results_of(solution).items():
            tangent = forward_ad.unpack_dual(result).tangent
            if tangent is None and result.requires_grad:
                raise NotImplementedError(f"the tangent of {name} is lost on the way")
            found[name] = torch.zeros_like(result) if tangent is None else tangent.detach()
    return {name: tangent.clone() for name, tangent in found.items()}


@outside_compiler
def vjp(
    problem: Problem,
    cotangents: Mapping[str, Any],
    values: Mapping[str, Any],
    start: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the gradient of ⟨cotangents, results⟩; see `Problem.vjp`."""
    return Linearised.at(problem, values, start).vjp(cotangents)


@outside_compiler
def hvp(
    problem: Problem,
    output: Output,
    vectors: Mapping[str, Any],
    values: Mapping[str, Any],
    start: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the Hessian of an output times vectors; see `Problem.hvp`."""
    leaves = leaves_of(values)
    known = fitted(vectors, leaves, "vector", "parameter that was given")
    with torch.enable_grad(), twice():
        value = scalar(solved(problem, leaves, start), output)
        if not value.requires_grad:
            raise GradientError("the output does not depend on anything that was given")
        wanted = list(leaves.values())
        first = torch.autograd.grad(value, wanted, create_graph=True, allow_unused=True)
        slopes = [
            (gradient * known[name]).sum()
            for name, gradient in zip(leaves, first, strict=True)
            if name in known and gradient is not None and gradient.requires_grad
        ]
        if not slopes:
            return filled(leaves, [None] * len(leaves))
        second = torch.autograd.grad(torch.stack(slopes).sum(), wanted, allow_unused=True)
    return filled(leaves, [None if g is None else g.detach() for g in second])


def results_of(solution: Named) -> dict[str, Tensor]:
    """Return fields and outputs by name."""
    return {**solution.fields, **solution.outputs}


def fitted(
    vectors: Mapping[str, Any], like: Mapping[str, Tensor], word: str, kind: str
) -> dict[str, Tensor]:
    """Return vectors by name with the dtype of what they belong to; raise where name or shape do not fit."""
    found = {}
    for name, vector in vectors.items():
        if name not in like:
            known = " ".join(like) or "none"
            raise ArgumentError(
                f"the {word} {name!r} belongs to no {kind}{nearest(name, like)}; there are: {known}"
            )
        target = like[name]
        tensor = torch.as_tensor(vector, device=target.device)
        if tensor.is_complex() and not target.is_complex():
            raise ArgumentError(f"the {word} of {name!r} is complex, and {name!r} is real")
        if tensor.shape != target.shape:
            raise ArgumentError(
                f"the {word} of {name!r} has shape {list(tensor.shape)}; expected {list(target.shape)}"
            )
        found[name] = tensor.detach().to(target.dtype)
    return found


def units(like: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield places ``[m]`` of entries and their unit vectors ``[m, *like]``, a few at a time."""
    n = like.numel()
    for start in range(0, n, _TOGETHER):
        places = torch.arange(start, min(start + _TOGETHER, n), device=like.device)
        yield places, torch.nn.functional.one_hot(places, n).reshape(places.shape + like.shape)


@contextlib.contextmanager
def twice() -> Iterator[None]:
    """Say in one way that something on the way cannot be differentiated twice."""
    try:
        yield
    except RuntimeError as error:
        if "once_differentiable" not in str(error):
            raise
        raise GradientError(
            "something on the way has first derivatives only, so this product does not exist"
        ) from error
