"""How sure one may be of parameters that were fitted: a Gaussian about the fit.

Near the minimum of ½‖W^½ (y(p) − d)‖² + ½‖p − p₀‖²_R, with R the precision of the prior, parameters are distributed
about like a Gaussian with precision H + R, where H = Jᵀ W J is the Gauss-Newton Hessian of the misfit. Data inform few
directions: with the leading eigenpairs ``H v = λ R v``, ``Vᵀ R V = 1``, the covariance is

    (H + R)⁻¹ = R⁻¹ − V diag(λ / (1 + λ)) Vᵀ,

and what is left out are directions with λ ≪ 1, about which data say nothing. Bui-Thanh, Ghattas, Martin and Stadler,
"A computational framework for infinite-dimensional Bayesian inverse problems, Part I", SIAM J. Sci. Comput. 35(6),
A2494-A2523, 2013, sections 5 and 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, GradientError
from torch_sla.problems.derivatives.prior import Gaussian, deviations
from torch_sla.problems.derivatives.products import Linearised, fitted, units
from torch_sla.problems.expression import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch_sla.problems.specs.problem import Problem

__all__ = ["Blocks", "Posterior", "about", "eigenpairs", "laplace"]

NEGLIGIBLE = 1e-2
DENSE = 64


class Blocks:
    """Parameters by name as one vector ``[n]``, with their priors; vectors are on the CPU, where SciPy takes them.

    Parameters
    ----------
    like
        Tensors by name.
    priors
        A prior for each.
    """

    def __init__(self, like: Mapping[str, Tensor], priors: Mapping[str, Gaussian]) -> None:
        missing = [n for n in like if n not in priors]
        unknown = [n for n in priors if n not in like]
        if missing or unknown:
            raise ArgumentError(
                f"each thing given needs a prior and nothing else has one; missing: {' '.join(missing) or 'none'}, "
                f"unknown: {' '.join(unknown) or 'none'}"
            )
        for name, prior in priors.items():
            if not isinstance(prior, Gaussian):
                raise ArgumentError(f"the prior of {name!r} must be a Gaussian, got {prior!r}")
        self.like, self.priors = dict(like), {n: priors[n] for n in like}
        self.sizes = [t.numel() for t in like.values()]
        self.n = sum(self.sizes)
        for name, prior in self.priors.items():
            prior.check(name, like[name].numel())

    def joined(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Return vectors ``[*m, n]`` of tensors ``[*m, *shape]``."""
        flat = [
            parts[n].detach().reshape(*parts[n].shape[: parts[n].ndim - like.ndim], like.numel())
            for n, like in self.like.items()
        ]
        return torch.cat([t.double().cpu() for t in flat], -1)

    def split(self, v: Tensor) -> dict[str, Tensor]:
        """Return tensors ``[*m, *shape]`` by name, where the parameters are, of vectors ``[*m, n]``."""
        pieces = zip(self.like.items(), v.split(self.sizes, -1), strict=True)
        return {n: piece.reshape(v.shape[:-1] + t.shape).to(t.device) for (n, t), piece in pieces}

    def each(self, what: Callable[[Gaussian, Tensor], Tensor], v: Tensor) -> Tensor:
        """Apply something of each prior to its part of a vector."""
        pieces = zip(self.priors.values(), v.split(self.sizes), strict=True)
        return torch.cat([what(prior, piece) for prior, piece in pieces])


@dataclass(frozen=True, eq=False)
class Posterior:
    """A Gaussian about the parameters given.

    Parameters
    ----------
    blocks
        Order of the parameters, and priors.
    eigenvalues
        ``[r]``, descending: how many times more data say about a direction than the prior does.
    vectors
        ``[n, r]``, orthonormal in the precision of the prior.
    point
        The problem, linearised.
    complete
        Whether the eigenvalues left out are negligible.
    """

    blocks: Blocks
    eigenvalues: Tensor
    vectors: Tensor
    point: Linearised | None
    complete: bool

    @property
    def mean(self) -> dict[str, Tensor]:
        """The parameters, by name."""
        return {n: t.detach() for n, t in self.blocks.like.items()}

    @property
    def prior_std(self) -> dict[str, Tensor]:
        """Standard deviations before the data, by name."""
        return self.blocks.split(self._prior_variance().sqrt())

    @property
    def std(self) -> dict[str, Tensor]:
        """Standard deviations of the parameters, by name."""
        reduction = (self.vectors**2) @ self._shares
        return self.blocks.split((self._prior_variance() - reduction).clamp(min=0.0).sqrt())

    @property
    def informed(self) -> float:
        """Number of directions that the data determine: Σ λ / (1 + λ)."""
        return float(self._shares.sum())

    def covariance_times(self, v: Tensor) -> Tensor:
        """Return the covariance times a vector ``[n]``."""
        place, v = v.device, v.cpu()
        before = self.blocks.each(lambda prior, piece: prior.solve(piece), v)
        return (before - self.vectors @ (self._shares * (self.vectors.T @ v))).to(place)

    def output_std(self, *names: str) -> dict[str, Tensor]:
        """Return standard deviations of fields and outputs, linearised, by name.

        They take an adjoint solve per number of the outputs, or where parameters have fewer entries a linearised solve
        per entry; many of either are right-hand sides of one.

        Parameters
        ----------
        *names
            Fields and outputs; all outputs when left out.

        Raises
        ------
        ArgumentError
            For a name that is not known, or is of something complex.
        """
        if self.point is None:
            raise ArgumentError("this posterior knows no problem, so it has no outputs")
        chosen = {}
        for name in names or self.point.names:
            if name not in self.point.results:
                known = " ".join(self.point.results)
                raise ArgumentError(
                    f"there is no output {name!r}{nearest(name, self.point.results)}; there are: {known}"
                )
            chosen[name] = self.point.results[name]
            if chosen[name].is_complex():
                raise ArgumentError(
                    f"{name!r} is complex; take its real part or its size as an output"
                )
        variances = {
            n: torch.zeros(t.numel(), dtype=torch.float64, device="cpu") for n, t in chosen.items()
        }
        if sum(t.numel() for t in chosen.values()) <= self.blocks.n:
            for name, variance in variances.items():
                for some, unit in units(chosen[name]):
                    slopes = self.blocks.joined(self.point.vjps({name: unit}))
                    spread = torch.stack([v @ self.covariance_times(v) for v in slopes])
                    variance[some.cpu()] = spread
        else:
            # The covariance is S Sᵀ, so that variances are sums of squares of J S, column by column.
            for some, unit in units(torch.empty(self.blocks.n, device="cpu")):
                roots = torch.stack([self._root(one) for one in unit.double()])
                along = self.point.jvps(self.blocks.split(roots), tuple(chosen))
                for name, variance in variances.items():
                    variance += along[name].reshape(len(some), -1).double().square().sum(0).cpu()
        stds = {n: v.clamp(min=0.0).sqrt().to(chosen[n].device) for n, v in variances.items()}
        return {n: std.reshape(chosen[n].shape) for n, std in stds.items()}

    def samples(self, count: int, seed: int = 20261) -> dict[str, Tensor]:
        """Draw parameters ``[count, *shape]``, by name."""
        generator = torch.Generator().manual_seed(seed)
        mean = self.blocks.joined(self.blocks.like)
        noise = [
            torch.randn(self.blocks.n, generator=generator, dtype=torch.float64, device="cpu")
            for _ in range(count)
        ]
        return self.blocks.split(torch.stack([mean + self._root(one) for one in noise]))

    def _root(self, noise: Tensor) -> Tensor:
        """Return a square root S of the covariance, S Sᵀ, times noise ``[n]``."""
        before = self.blocks.each(lambda prior, piece: prior.root(piece), noise)
        weight = self.blocks.each(lambda prior, piece: prior.times(piece), before)
        shrink = 1 - (1 + self.eigenvalues).rsqrt()
        return before - self.vectors @ (shrink * (self.vectors.T @ weight))

    @property
    def _shares(self) -> Tensor:
        return self.eigenvalues / (1 + self.eigenvalues)

    def _prior_variance(self) -> Tensor:
        pieces = zip(self.blocks.priors.values(), self.blocks.sizes, strict=True)
        return torch.cat([prior.variance(n) for prior, n in pieces])

    def __str__(self) -> str:
        lines = [
            (
                f"{len(self.eigenvalues)} eigenvalues from {_largest(self.eigenvalues)}; data determine "
                f"{self.informed:.1f} of {self.blocks.n} directions"
            ),
            f"{'parameter':<16} {'entries':>8} {'std before':>11} {'std after':>11}",
        ]
        before, after = self.prior_std, self.std
        for name, spread in after.items():
            was, now = float(before[name].mean()), float(spread.mean())
            lines.append(f"{name:<16} {spread.numel():>8} {was:>11.4g} {now:>11.4g}")
        if not self.complete:
            lines.append("the smallest eigenvalue still counts: raise `rank`")
        return "\n".join(lines)


def laplace(
    problem: Problem,
    noise: Mapping[str, Any],
    prior: Mapping[str, Gaussian],
    values: Mapping[str, Any],
    *,
    start: Tensor | None = None,
    rank: int | None = None,
) -> Posterior:
    """Return the Gaussian about fitted parameters; see `Problem.laplace`."""
    point = Linearised.at(problem, values, start)
    if not noise:
        raise ArgumentError("`noise` names no output: without data nothing is learned")
    sizes: dict[str, Tensor] = {}
    for name, spread in noise.items():
        given = deviations(f"the noise of {name!r}", spread)
        like = point.results.get(name)
        if like is not None and given.ndim == 0:
            given = given.expand(like.shape)
        sizes |= fitted({name: given}, point.results, "noise", "field or output")
    return about(point, sizes, prior, rank)


def about(
    point: Linearised, sizes: Mapping[str, Tensor], prior: Mapping[str, Gaussian], rank: int | None
) -> Posterior:
    """Return the Gaussian about a point, with results whose noise has some sizes, and a prior of each leaf."""
    blocks = Blocks(point.leaves, prior)
    for name in sizes:
        if not point.results[name].requires_grad:
            raise GradientError(f"{name!r} does not depend on anything that was given")

    def product(v: Tensor) -> Tensor:
        along = point.jvp(blocks.split(v), tuple(sizes))
        return blocks.joined(point.vjp({n: along[n] / sizes[n].real ** 2 for n in sizes}))

    data = sum(t.numel() * (2 if point.results[n].is_complex() else 1) for n, t in sizes.items())
    found, vectors, complete = eigenpairs(product, blocks, min(data, blocks.n), rank)
    return Posterior(blocks, found, vectors, point, complete)


def eigenpairs(
    product: Callable[[Tensor], Tensor], blocks: Blocks, most: int, rank: int | None = None
) -> tuple[Tensor, Tensor, bool]:
    """Return the leading eigenpairs of ``H v = λ R v``, and whether the others are negligible.

    Parameters
    ----------
    product
        H times a vector ``[n]``, positive semidefinite.
    blocks
        The priors, whose precision is R.
    most
        Bound on the rank of H.
    rank
        Number of pairs; None takes twice as many until the last is below 0.01, beginning at 16.
    """
    if rank is not None and (not isinstance(rank, int) or rank < 1):
        raise ArgumentError(f"`rank` must be a whole number >= 1, got {rank!r}")
    n = blocks.n
    wanted = min(most, 16 if rank is None else rank)
    if n <= DENSE or most >= n:
        w, V = _dense(product, blocks)
        if rank is None:
            keep = max(1, int((w > 1e-14 * max(float(w[0]), 1e-300)).sum()))
            return w[:keep], V[:, :keep], True
        return w[:rank], V[:, :rank], rank >= len(w) or float(w[rank]) <= NEGLIGIBLE
    while True:
        w, V = _lanczos(product, blocks, wanted)
        complete = wanted >= most or float(w[-1]) <= NEGLIGIBLE
        if complete or rank is not None:
            return w, V, complete
        wanted = min(most, 2 * wanted)


def _dense(product: Callable[[Tensor], Tensor], blocks: Blocks) -> tuple[Tensor, Tensor]:
    from scipy.linalg import eigh

    eye = torch.eye(blocks.n, dtype=torch.float64, device="cpu")
    H = torch.stack([product(row) for row in eye])
    R = torch.stack([blocks.each(lambda prior, piece: prior.times(piece), row) for row in eye])
    w, V = eigh((0.5 * (H + H.T)).numpy(), (0.5 * (R + R.T)).numpy())
    return _ordered(w, V)


def _lanczos(
    product: Callable[[Tensor], Tensor], blocks: Blocks, count: int
) -> tuple[Tensor, Tensor]:
    from scipy.sparse.linalg import LinearOperator, eigsh

    def operator(apply: Callable[[Tensor], Tensor]) -> Any:
        def matvec(v: Any) -> Any:
            return apply(torch.tensor(v, dtype=torch.float64, device="cpu").reshape(-1)).numpy()

        return LinearOperator((blocks.n, blocks.n), matvec=matvec, dtype=np.float64)

    start = np.random.default_rng(20261).standard_normal(blocks.n)
    w, V = eigsh(
        operator(product),
        k=count,
        M=operator(lambda v: blocks.each(lambda prior, piece: prior.times(piece), v)),
        Minv=operator(lambda v: blocks.each(lambda prior, piece: prior.solve(piece), v)),
        which="LA",
        v0=start,
    )
    return _ordered(w, V)


def _ordered(w: Any, V: Any) -> tuple[Tensor, Tensor]:
    """Return eigenvalues in descending order, without what rounding made negative."""
    order = np.argsort(w)[::-1]
    w, V = w[order], V[:, order]
    return torch.tensor(w, device="cpu").clamp(min=0.0), torch.tensor(V, device="cpu")


def _largest(w: Tensor) -> str:
    return f"{float(w[0]):.3g} to {float(w[-1]):.3g}" if len(w) else "none"
