"""Differentiable exchange between processes, and the sum over them.

An exchange copies entries ``h = E x`` from where they are owned to where they are wanted, with a matrix ``E``
of zeros and ones that no process holds whole. Its adjoint ``Eᵀ`` sends what arrived back and adds it up, so each is
the derivative of the other.

A sum over processes has two derivatives, depending on what a loss is taken to be. Here the cotangent of a
vector always is the derivative of the whole loss, wherever it is computed: a sum that every process holds has the
same cotangent everywhere, and passes it on as it is. What every process holds a copy of and puts to use
receives a share of its derivative from each, and the shares are added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torch_sla.linalg.adjoint.linear import Linear, LinearMap

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor

__all__ = ["Gathering", "Sharing", "Swap", "exchange", "gathered", "replicated", "summed", "total"]


class Swap(Protocol):
    """A planned exchange."""

    def fetch(self, x: Tensor) -> Tensor:
        """Return ``E x``: ``[n_source, *] -> [n_target, *]``, not recorded."""

    def give_back(self, h: Tensor) -> Tensor:
        """Return ``Eᵀ h``."""


class Sharing(Protocol):
    """Sums over processes."""

    def reduce(self, x: Tensor) -> Tensor:
        """Add up the shares of all processes, not recorded; every process gets the sum."""


class Gathering(Sharing, Protocol):
    """Pieces of every process, and sums over them."""

    def gather(self, x: Tensor) -> list[Tensor]:
        """Return the `x` of every process, not recorded."""


@dataclass(eq=False)
class _Exchange(LinearMap):
    """``[n_source, *] -> [n_target, *]``, or back."""

    swap: Swap
    back: bool

    def run(self, x: Tensor) -> Tensor:
        return self.swap.give_back(x) if self.back else self.swap.fetch(x)

    def adjoint(self, shape: torch.Size) -> _Exchange:
        del shape
        return _Exchange(self.swap, not self.back)


class _OneByOne(Linear):
    """A map that is pulled back for one cotangent after the other."""

    pulls_many = False


@dataclass(eq=False)
class _Summed(LinearMap):
    """Share of this process -> sum over all, of which each process makes its own use; it is its own adjoint."""

    sharing: Sharing
    function = _OneByOne

    def run(self, x: Tensor) -> Tensor:
        return self.sharing.reduce(x)

    def adjoint(self, shape: torch.Size) -> LinearMap:
        del shape
        return self


class _Total(_Summed):
    """Share of this process -> sum over all."""

    def adjoint(self, shape: torch.Size) -> LinearMap:
        # The same number on every process, of which each takes its own copy: that is what is differentiated again.
        del shape
        return _Replicated(self.sharing)


@dataclass(eq=False)
class _Replicated(LinearMap):
    """A copy that every process holds -> the same; the shares of its derivative are added up."""

    sharing: Sharing
    function = _OneByOne

    def run(self, x: Tensor) -> Tensor:
        return x.view_as(x)

    def adjoint(self, shape: torch.Size) -> LinearMap:
        del shape
        return _Total(self.sharing)


@dataclass(eq=False)
class _Gathered(LinearMap):
    """Entries held here -> the whole, a copy for every process."""

    places: Tensor
    n: int
    gathering: Gathering
    function = _OneByOne

    def run(self, x: Tensor) -> Tensor:
        whole = x.new_zeros((self.n, *x.shape[1:]))
        pieces = self.gathering.gather(self.places), self.gathering.gather(x)
        for there, piece in zip(*pieces, strict=True):
            whole[there] = piece
        return whole

    def adjoint(self, shape: torch.Size) -> Callable[[Tensor], Tensor]:
        del shape
        return lambda grad: replicated(grad, self.gathering).index_select(0, self.places)


def exchange(x: Tensor, swap: Swap, *, back: bool = False) -> Tensor:
    """Return ``E x``, or ``Eᵀ x`` with `back`; differentiable to any order."""
    return _Exchange(swap, back)(x)


def total(x: Tensor, sharing: Sharing) -> Tensor:
    """Return the sum of `x` over processes, the same on each; differentiable to any order."""
    return _Total(sharing)(x)


def summed(x: Tensor, sharing: Sharing) -> Tensor:
    """Return the sum over processes, where cotangents are shares: what each makes of its use of the sum."""
    return _Summed(sharing)(x)


def replicated(x: Tensor, sharing: Sharing) -> Tensor:
    """Return `x`, of which every process holds the same copy, with a gradient that is complete on each."""
    return _Replicated(sharing)(x)


def gathered(x: Tensor, places: Tensor, n: int, gathering: Gathering) -> Tensor:
    """Return the whole ``[n, *]``, of which `x` are the entries at `places`, on every process; differentiable."""
    return _Gathered(places, n, gathering)(x)
