"""Differentiable eigenpairs of a Hermitian pencil: ``A V = M V Λ``, ``Vᴴ M V = 1``.

Let ``V`` hold the k computed vectors. Differentiating and multiplying by ``v_jᴴ``, with ``F_ji = 1 /
(λ_i - λ_j)``, ``D_i = dA - λ_i dM`` and ``⁺`` the inverse on the M-orthogonal complement of ``V``,

    dλ_i = v_iᴴ D_i v_i,
    dv_i = Σ_{j≠i} v_j F_ji (v_jᴴ D_i v_i) - ½ v_i (v_iᴴ dM v_i) - (A - λ_i M)⁺ D_i v_i.

For cotangents ``g`` of λ and ``G`` of ``V`` split ``C = Vᴴ G = H + K`` into its Hermitian and
anti-Hermitian parts, put ``P = K ∘ F`` and let ``y_i`` solve ``(A - λ_i M) y_i = (1 - M V Vᴴ) G_i`` in the
complement. Perturbations being Hermitian,

    grad_A =  V (diag g + P) Vᴴ - ½ (Y Vᴴ + V Yᴴ),
    grad_M = -V (diag(g ∘ λ) + ½ H + P ∘ ½(λ_i + λ_j)) Vᴴ + ½ (Y Λ Vᴴ + V Λ Yᴴ),

each sampled on its pattern. Inside a cluster of equal eigenvalues ``F`` is infinite. A loss that does not
depend on the basis chosen in the cluster has ``K = 0`` and equal ``g`` there, and the terms drop out;
any other loss has no derivative and is refused. So is one that depends on the phase of a complex
vector (``Im C_ii ≠ 0``), and one that depends on a cluster of which only a part was computed: which part is
arbitrary, and their sum has no derivative (that of the smallest ``m`` of a group is a minimum).

Forward mode takes the formulas at the top as they stand, which makes it independent of the adjoint, and turns complex
vectors so that the entry that decides their phase stays real. It cannot know what will be made of the pairs, so it
needs distinct eigenvalues.

Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation", 2008, section 3.1; Nelson, AIAA Journal 14, 1976, pages 1201-1205.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from torch_sla.errors import GradientError
from torch_sla.linalg.adjoint.first_order import first_order, only_tangent, primals
from torch_sla.linalg.adjoint.matvec import matmul
from torch_sla.linalg.adjoint.nested import nested
from torch_sla.linalg.adjoint.sampled_product import sampled_product
from torch_sla.linalg.adjoint.saving import keep
from torch_sla.linalg.adjoint.unmapped import Unmapped, refuse_vmap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch_sla.linalg.methods.space import VectorSpace
    from torch_sla.linalg.sparse.pattern import Pattern

_SECOND = "second derivatives of eigenvectors (third of eigenvalues) are not available; those of eigenvalues are"

# Gradients of both matrices.
_Pair = tuple[Tensor | None, Tensor | None]

__all__ = ["HermitianProblem", "cluster_gap", "hermitian_eigenpairs"]


class HermitianProblem(Protocol):
    """How to find the pairs, and how to solve in the complement of the vectors found."""

    pattern: Pattern
    mass_pattern: Pattern | None
    space: VectorSpace
    beyond: Tensor
    """Eigenvalues that `solve` found beside those it returned, the next ones among them."""
    gap: float
    """Distance up to which eigenvalues that `solve` found count as equal, see `cluster_gap`."""

    def extend(self, x: Tensor) -> Tensor:
        """Return ``x`` on the columns of the pattern, see `torch_sla.linalg.adjoint.solve.Solver`."""

    def extend_mass(self, x: Tensor) -> Tensor:
        """Return ``x`` on the columns of the pattern of ``M``."""

    def solve(self, values: Tensor, mass: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return eigenvalues ``[k]`` and M-orthonormal vectors ``[n, k]``, without recording."""

    def phase_rows(self, V: Tensor) -> Tensor:
        """Return the rows ``[1, k]`` of the entries that are made real and positive."""

    def complement(
        self, values: Tensor, mass: Tensor | None, w: Tensor, V: Tensor, R: Tensor
    ) -> Tensor:
        """Solve ``(A - λ_i M) y_i = r_i`` with ``Vᴴ M Y = 0``, ``[n, j]``, without recording.

        `w` has the λ of each right-hand side, every one of them computed, and `V` all vectors.

        Raises `GradientError` when an eigenvalue that was not computed is too close.
        """


def cluster_gap(w: Tensor, size: float) -> float:
    """Distance up to which two eigenvalues count as equal.

    It is ``eps^(2/3)`` of the largest, and no less than what rounding makes of those of matrices of that `size`, a
    bound on ``‖A - λ M‖ ‖v‖²``.
    """
    eps: float = torch.finfo(w.dtype).eps
    return max(float(eps ** (2 / 3) * w.abs().max()), 10 * eps * size) if w.numel() else 0.0


class HermitianEigenpairs(Unmapped):
    """Values ``[nnz]`` of ``A``, ``[nnz']`` of ``M`` or None -> ``λ`` ``[k]``, ``V`` ``[n, k]``."""

    mapped = "eigenvalues and singular values"
    pulls_many = True

    @staticmethod
    def forward(
        values: Tensor, mass: Tensor | None, problem: HermitianProblem
    ) -> tuple[Tensor, Tensor]:
        return problem.solve(values, mass)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        values, mass, ctx.problem = inputs
        ctx.nbytes = values.nbytes + output[1].nbytes
        keep(ctx, values, mass, *output)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(
        ctx: Any, g: Tensor | None, G: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, None]:
        problem: HermitianProblem = ctx.problem
        if g is None and G is None:
            return None, None, None
        if not torch.is_grad_enabled():
            return *EigenpairsAdjoint.apply(problem, g, G, *ctx.saved_tensors), None
        for cotangent in (g, G):
            if cotangent is not None:
                refuse_vmap(cotangent, "derivatives of eigenvalues and singular values")
        values, mass, w, V = ctx.saved_tensors
        of_values = (None, None) if g is None else _of_values(problem, mass, w, V, g)
        of_vectors: _Pair = (None, None)
        if G is not None:
            with torch.no_grad():
                ((of_a, of_m),) = _of_vectors(problem, values, mass, w, V, [G])
            links = (values, mass, V, G)
            of_vectors = (
                None if of_a is None else first_order(of_a, _SECOND, *links),
                None if of_m is None else first_order(of_m, _SECOND, *links),
            )
        return *_plus(of_values, of_vectors), None

    @staticmethod
    @nested
    def jvp(ctx: Any, values_t: Tensor | None, mass_t: Tensor | None, _: None) -> tuple[Any, Any]:
        links, moved = primals(ctx.saved_tensors), [values_t, mass_t]
        for tangent in moved:
            if tangent is not None:
                refuse_vmap(tangent, "derivatives of eigenvalues and singular values")
        with torch.no_grad():
            plain: list[Any] = [None if x is None else x.detach() for x in (*links, *moved)]
            found = _tangents(ctx.problem, *plain)
        of, wanted = "eigenpairs", (*links, *moved)
        return only_tangent(found[0], of, *wanted), only_tangent(found[1], of, *wanted)


class EigenpairsAdjoint(torch.autograd.Function):
    """Cotangents of the pairs -> those of both matrices, without derivatives of their own.

    Under ``vmap`` many cotangents of the vectors are right-hand sides of the same solves.
    """

    @staticmethod
    def forward(
        problem: HermitianProblem, g: Tensor | None, G: Tensor | None, *state: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        one = (None if x is None else x.unsqueeze(0) for x in (g, G))
        of_a, of_m = _rows(problem, next(one), next(one), state)
        return None if of_a is None else of_a[0], None if of_m is None else of_m[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        del ctx, inputs, output

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        problem: HermitianProblem,
        g: Tensor | None,
        G: Tensor | None,
        *state: Tensor | None,
    ) -> Any:
        many = (
            None if x is None else x.expand(m, *x.shape) if d is None else x.movedim(d, 0)
            for m, x, d in zip([info.batch_size] * 2, (g, G), in_dims[1:3], strict=True)
        )
        rows = _rows(problem, next(many), next(many), state)
        return rows, tuple(None if row is None else 0 for row in rows)


def _rows(
    problem: HermitianProblem, g: Tensor | None, G: Tensor | None, state: Sequence[Tensor | None]
) -> tuple[Tensor | None, Tensor | None]:
    """Pull cotangents ``[m, k]`` and ``[m, n, k]`` back to the values of both matrices, ``[m, nnz]``."""
    values, mass, w, V = (None if x is None else x.detach() for x in state)
    if values is None or w is None or V is None:
        raise ValueError("a matrix and its pairs are needed")
    m, none = len(g if G is None else G), (None, None)  # type: ignore[arg-type]
    first = [none] * m if g is None else [_of_values(problem, mass, w, V, one) for one in g]
    then = [none] * m if G is None else _of_vectors(problem, values, mass, w, V, list(G))
    of_a, of_m = zip(*map(_plus, first, then), strict=True)
    return torch.stack(of_a), None if of_m[0] is None else torch.stack(of_m)


def _tangents(
    problem: HermitianProblem,
    values: Tensor,
    mass: Tensor | None,
    w: Tensor,
    V: Tensor,
    values_t: Tensor | None,
    mass_t: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return ``dλ, dV``."""
    space, k = problem.space, len(w)
    apart = (w.unsqueeze(1) - w).abs() + torch.diag(w.new_full((k,), torch.inf))
    _refuse_cut(problem, w, torch.ones_like(w))
    if bool((apart <= problem.gap).any()):
        i, j = (int(k) for k in (apart <= problem.gap).nonzero()[0])
        raise GradientError(
            f"eigenvalues {i} and {j} coincide, and the pairs have no tangents of their own; differentiate a function "
            "that treats them alike in reverse mode"
        )
    mass_v, turn = V, torch.zeros_like(w)
    change = torch.zeros_like(V)
    if values_t is not None:
        change = matmul(values_t, problem.extend(V), problem.pattern)
    if mass is not None and problem.mass_pattern is not None:
        across = problem.extend_mass(V)
        mass_v = matmul(mass, across, problem.mass_pattern)
        if mass_t is not None:
            moved = matmul(mass_t, across, problem.mass_pattern)
            turn = space.dot(V, moved).real / 2
            change = change - moved * w
    C = space.gram(V, change)
    P = torch.where(torch.isinf(apart), 0.0, C / (w - w.unsqueeze(1) + torch.eye(k).to(w)))
    R = change - mass_v @ C
    # What is left of a column that lies in the span is rounding.
    R = torch.where(space.norm(R) > 100 * torch.finfo(w.dtype).eps * space.norm(change), R, 0.0)
    Y = torch.zeros_like(V)
    if float(space.norm(R).max()) > 0:
        Y = problem.complement(values, mass, w, V, R)
    X = V @ P - V * turn - Y
    if V.is_complex():
        rows = problem.phase_rows(V)
        entry, moving = (x.gather(0, rows).squeeze(0) for x in (V, X))
        X = X - V * (1j * moving.imag / entry.real)
    return C.diagonal().real, X


def _same_in_clusters(g: Tensor, close: Tensor) -> None:
    apart = (g.unsqueeze(1) - g).abs() > _tolerance(g) * g.abs().max()
    bad = (close & apart).nonzero()
    if bad.numel():
        i, j = bad[0].tolist()
        raise GradientError(
            f"eigenvalues {i} and {j} coincide, so they have no derivatives of their own; only losses that treat "
            "them alike (their sum, a symmetric function) have a gradient"
        )


def _refuse_cut(problem: HermitianProblem, w: Tensor, g: Tensor) -> None:
    """Refuse a cotangent of eigenvalues whose equals were not all asked for."""
    cut = ((w.unsqueeze(1) - problem.beyond).abs() <= problem.gap).any(1)
    bad = (cut & (g.abs() > _tolerance(g) * g.abs().max())).nonzero()
    if bad.numel():
        i = int(bad[0])
        raise GradientError(
            f"value {i} of {w.numel()} coincides with one that was not asked for, so it has no derivative of its own; "
            "ask for the whole group (a larger `k`) and use its members alike, or leave its members out of the loss"
        )


def _tolerance(x: Tensor) -> float:
    return float(torch.finfo(x.dtype).eps ** 0.5)


def _of_values(
    problem: HermitianProblem, mass: Tensor | None, w: Tensor, V: Tensor, g: Tensor
) -> _Pair:
    """Contribution of the cotangent of the values."""
    _refuse_cut(problem, w.detach(), g.detach())
    _same_in_clusters(g.detach(), _close(problem, w))
    of_a = sampled_product(V * g, problem.extend(V.conj()), problem.pattern)
    if mass is None or problem.mass_pattern is None:
        return of_a, None
    across = problem.extend_mass(V.conj())
    return of_a, -sampled_product(V * (g * w), across, problem.mass_pattern)


def _of_vectors(
    problem: HermitianProblem,
    values: Tensor,
    mass: Tensor | None,
    w: Tensor,
    V: Tensor,
    many: Sequence[Tensor],
) -> list[_Pair]:
    """Contributions of cotangents of the vectors; those that reach out of their span share their solves."""
    mass_v, space, close = V, problem.space, _close(problem, w)
    if mass is not None and problem.mass_pattern is not None:
        mass_v = matmul(mass, problem.extend_mass(V), problem.mass_pattern)
    inside, outside = [], {}
    for i, G in enumerate(many):
        size = torch.linalg.vector_norm(space.norm(G))
        C = space.gram(V, G)
        inside.append(C)
        K = (C - C.mH) / 2
        _free_of_the_basis(K, close, _tolerance(G) * size * max(1.0, float(space.norm(V).max())))
        R = G - mass_v @ C
        floor = 100 * torch.finfo(w.dtype).eps * size
        if float(torch.linalg.vector_norm(space.norm(R))) > float(floor):
            outside[i] = R
    solved: dict[int, Tensor] = {}
    if outside:
        Y = problem.complement(
            values, mass, w.repeat(len(outside)), V, torch.cat(list(outside.values()), 1)
        )
        solved = dict(zip(outside, Y.split(len(w), 1), strict=True))
    zero = torch.zeros_like(V)
    return [_on_patterns(problem, w, V, C, solved.get(i, zero)) for i, C in enumerate(inside)]


def _on_patterns(problem: HermitianProblem, w: Tensor, V: Tensor, C: Tensor, Y: Tensor) -> _Pair:
    """Contribution of a cotangent with the part ``C [k, k]`` in the span of the vectors, and the solution ``Y``."""
    H, K, close = (C + C.mH) / 2, (C - C.mH) / 2, _close(problem, w)
    P = torch.where(close, torch.zeros_like(K), K / torch.where(close, 1.0, w - w.unsqueeze(1)))
    right = torch.cat([V, Y], 1).conj()
    left = torch.cat([V @ P - Y / 2, -V / 2], 1)
    of_a = sampled_product(left, problem.extend(right), problem.pattern)
    if problem.mass_pattern is None:
        return of_a, None
    N = -H / 2 - P * (w.unsqueeze(0) + w.unsqueeze(1)) / 2
    left = torch.cat([V @ N + Y * w / 2, V * w / 2], 1)
    return of_a, sampled_product(left, problem.extend_mass(right), problem.mass_pattern)


def _free_of_the_basis(K: Tensor, close: Tensor, least: Tensor) -> None:
    """Refuse a cotangent that depends on phases, or on the basis of an eigenspace."""
    bad = (close & (K.abs() > least)).nonzero()
    if not bad.numel():
        return
    i, j = bad[0].tolist()
    if i == j:
        raise GradientError(
            f"the loss depends on the phase of eigenvector {i}, which is arbitrary; use |v|² or products v vᴴ"
        )
    raise GradientError(
        f"eigenvalues {i} and {j} coincide and the loss depends on which basis of their eigenspace was "
        "returned; only losses of the whole eigenspace (such as V Vᴴ) have a gradient"
    )


def _close(problem: HermitianProblem, w: Tensor) -> Tensor:
    w = w.detach()
    return (w.unsqueeze(1) - w).abs() <= problem.gap


def _plus(a: _Pair, b: _Pair) -> _Pair:
    """Add the gradients of both matrices; None is nothing."""
    both = [[x for x in pair if x is not None] for pair in zip(a, b, strict=True)]
    of_a, of_m = (sum(some[1:], some[0]) if some else None for some in both)
    return of_a, of_m


def hermitian_eigenpairs(
    values: Tensor, mass: Tensor | None, problem: HermitianProblem
) -> tuple[Tensor, Tensor]:
    """Return ``λ, V``; differentiable once in both, twice in λ."""
    return HermitianEigenpairs.apply(values, mass, problem)
