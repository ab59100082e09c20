"""Differentiable eigenpairs of a general pencil: ``A v = λ B v`` with ``‖v‖ = 1``; ``B`` may be the identity.

For a simple eigenvalue let ``w`` be the left vector, ``wᴴ A = λ wᴴ B``, scaled to ``wᴴ B v = 1``. Then

    dλ = wᴴ (dA - λ dB) v,        (A - λ B) dv = -(dA - λ dB - dλ B) v.

A loss that does not depend on the arbitrary phase of ``v`` has a cotangent ``G`` with ``Im vᴴ G = 0``, and
only ``q = (1 - v vᴴ) G`` matters. Let ``z`` solve ``(A - λ B)ᴴ z = q`` with ``(B v)ᴴ z = 0``, which exists
because ``vᴴ q = 0``. With a cotangent ``g`` of λ and torch's convention for complex gradients,

    grad_a = (g w - z) vᴴ,        grad_b = -conj(λ) (g w - z) vᴴ        on the pattern,

their real parts when the values are real. Both ``w`` and ``z`` come from the bordered matrix ``[[(A - λ B)ᴴ, v],
[(B v)ᴴ, 0]]``, which is regular exactly when λ is simple.

An eigenvalue that is multiple with as many vectors ``V`` has no derivative, but the sum of its copies has, as long as
all of them are among the pairs: with ``Wᴴ A = λ Wᴴ B`` and ``Wᴴ B V = 1`` it is ``tr Wᴴ (dA - λ dB) V``, so that the
columns of ``W`` take the places of the left vectors. Cotangents that tell copies apart are refused, and so are those
of their vectors, of groups of which not all were asked for, and of defective eigenvalues.

Second derivatives of eigenvalues are first ones of ``w vᴴ``: with ``w`` a recorded solution of that system they need
derivatives of λ and ``v`` only once; those of multiple ones are refused. A pair without cotangents gives nothing,
whatever its eigenvalue is.

Magnus, Econometric Theory 1, 1985, pages 179-191.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import torch
from torch import Tensor

from torch_sla.errors import GradientError
from torch_sla.linalg.adjoint.first_order import first_order
from torch_sla.linalg.adjoint.sampled_product import sampled_product
from torch_sla.linalg.adjoint.unmapped import Unmapped, refuse_old_vmap, refuse_vmap

if TYPE_CHECKING:
    from torch_sla.linalg.methods.space import VectorSpace
    from torch_sla.linalg.sparse.pattern import Pattern

_SECOND = "second derivatives of the eigenvectors of a general matrix (third of its eigenvalues) are not available"

__all__ = ["GeneralProblem", "general_eigenpairs"]


class GeneralProblem(Protocol):
    """How to find the pairs, and how to solve with the bordered matrix of one of them."""

    pattern: Pattern
    space: VectorSpace

    def extend(self, x: Tensor) -> Tensor:
        """Return ``x`` on the columns of the pattern, see `torch_sla.linalg.adjoint.solve.Solver`."""

    def solve(self, values: Tensor, mass: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return ``λ`` ``[k]`` and unit vectors ``[n, k]``, complex, without recording."""

    def left(
        self, values: Tensor, mass: Tensor | None, w: Tensor, V: Tensor, Q: Tensor, wanted: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return left vectors and the solutions ``z``, both ``[n, k]``, zero where not ``wanted`` ``[k]``.

        Raises `GradientError` when an eigenvalue that is wanted is multiple or defective to working precision.
        """

    def refuse_parts(self, g: Tensor | None, G: Tensor | None) -> None:
        """Raise `GradientError` where cotangents of λ and of vectors tell copies of a multiple eigenvalue apart."""

    def recorded_left(
        self, values: Tensor, mass: Tensor | None, w: Tensor, V: Tensor, wanted: Tensor
    ) -> Tensor:
        """Return left vectors ``[n, k]`` as functions of the first four, for derivatives of second order."""


class PhaseFree(Unmapped):
    """Unit vectors ``[n, k]`` used in a way that does not depend on their phases, rounding apart."""

    mapped = "eigenvalues"

    @staticmethod
    def forward(V: Tensor) -> Tensor:
        return V.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        del output
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> Tensor:
        (V,) = ctx.saved_tensors
        for _ in range(2):  # what is left may itself be rounding
            G = G - V * (1j * (V.conj() * G).sum(0).imag)
        return G


class GeneralEigenpairs(Unmapped):
    """Values and those of the mass on one pattern, ``[nnz_csr]`` -> ``λ`` ``[k]``, ``V`` ``[n, k]``."""

    mapped = "eigenvalues"

    @staticmethod
    def forward(
        values: Tensor, mass: Tensor | None, problem: GeneralProblem
    ) -> tuple[Tensor, Tensor]:
        return problem.solve(values, mass)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        values, mass, ctx.problem = inputs
        ctx.save_for_backward(values, mass, *output)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(
        ctx: Any, g: Tensor | None, G: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, None]:
        values, mass, w, V = ctx.saved_tensors
        refuse_old_vmap(*(x for x in (g, G) if x is not None))
        if g is None and G is None:
            return None, None, None
        problem, massive = ctx.problem, ctx.needs_input_grad[1]
        if torch.is_grad_enabled() and g is not None and G is None:
            V = PhaseFree.apply(V)
            left = problem.recorded_left(values, mass, w, V, _wanted(w, g)) * g
            return *_on_pattern(problem, values, mass, w, V, left, massive), None
        with torch.no_grad():
            left = _left(problem, values, mass, w, V, g, G)
            grads = _on_pattern(problem, values, mass, w, V, left, massive)
        links = (values, mass, V, g, G)
        return (
            first_order(grads[0], _SECOND, *links),
            None if grads[1] is None else first_order(grads[1], _SECOND, *links),
            None,
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> NoReturn:
        del ctx, tangents
        raise NotImplementedError(  # as torch says it, for those who try the other mode then
            "general eigenpairs have no forward mode; differentiate them by `backward`, or Hermitian ones by `eigsh`"
        )


def _on_pattern(
    problem: GeneralProblem,
    values: Tensor,
    mass: Tensor | None,
    w: Tensor,
    V: Tensor,
    left: Tensor,
    massive: bool,
) -> tuple[Tensor, Tensor | None]:
    across = problem.extend(V.conj())
    grad = sampled_product(left, across, problem.pattern)
    of_values = grad if values.is_complex() else grad.real
    if mass is None or not massive:
        return of_values, None
    of_mass = sampled_product(-w.conj() * left, across, problem.pattern)
    return of_values, of_mass if mass.is_complex() else of_mass.real


def _left(
    problem: GeneralProblem,
    values: Tensor,
    mass: Tensor | None,
    w: Tensor,
    V: Tensor,
    g: Tensor | None,
    G: Tensor | None,
) -> Tensor:
    """Return ``g w - z``."""
    Q = torch.zeros_like(V)
    problem.refuse_parts(g, G)
    if G is not None:
        refuse_vmap(G, "derivatives of eigenvectors")
        along = problem.space.dot(V, G)
        size = torch.linalg.vector_norm(problem.space.norm(G))
        if bool((along.imag.abs() > torch.finfo(w.dtype).eps ** 0.5 * size).any()):
            raise GradientError(
                "the loss depends on the phase of an eigenvector, which is arbitrary; use |v|² or v vᴴ"
            )
        Q = G - V * along
    W, Z = problem.left(values, mass, w, V, Q, _wanted(w, g, G))
    left = torch.zeros_like(V) if g is None else W * g
    return left if G is None else left - Z


def _wanted(w: Tensor, *cotangents: Tensor | None) -> Tensor:
    """Return which pairs ``[k]`` a cotangent reaches; one that is recorded may be zero and have derivatives."""
    found = torch.zeros(len(w), dtype=torch.bool, device=w.device)
    for cotangent in cotangents:
        if cotangent is not None:
            recorded = torch.is_grad_enabled() and cotangent.requires_grad
            reached = (cotangent.detach() != 0).reshape(-1, len(w)).any(0)
            found = found | reached | recorded
    return found


def general_eigenpairs(
    values: Tensor, mass: Tensor | None, problem: GeneralProblem
) -> tuple[Tensor, Tensor]:
    """Return ``λ, V``, differentiable twice and once."""
    return GeneralEigenpairs.apply(values, mass, problem)
