"""Adam, and any optimizer of `torch.optim`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.problems.design.optimizers.base import Optimizer
from torch_sla.problems.design.optimizers.oracle import Oracle, RejectedPoint

if TYPE_CHECKING:
    from torch_sla.problems.design.optimizers.oracle import Evaluation
    from torch_sla.problems.design.optimizers.state import Memory, State

__all__ = ["Adam", "TorchOptim"]

TRIALS = 10


@dataclass(frozen=True, kw_only=True)
class _Torch(Optimizer):
    """Base: a step of a torch optimizer, projected into the bounds, its state kept as tensors and numbers."""

    def make(self, x: Tensor) -> torch.optim.Optimizer:
        """Return the torch optimizer of one parameter."""
        raise NotImplementedError

    def step(self, state: State, oracle: Oracle) -> State:
        """Return the state one iteration on; a step to a point without a value is halved until there is one."""
        if state.done:
            return state
        x = state.x.clone().requires_grad_()
        optimizer = self.make(x)
        _restore(optimizer, x, state.memory)
        failed = False

        def closure() -> float:
            nonlocal failed
            at = state.evaluation
            if not torch.equal(x.detach(), state.x):
                try:
                    at = oracle.value_and_grad(x.detach().clamp(state.lower, state.upper))
                except RejectedPoint:
                    failed = True  # a method that looks ahead sees a wall with no slope
                    at = replace(at, value=at.value + abs(at.value) + 1.0)
            x.grad = at.gradient.clone()
            return at.value

        optimizer.step(closure)
        way = x.detach() - state.x
        rejected = int(failed)
        found: Evaluation | None = None
        at = state.x
        for _ in range(TRIALS):
            at = (state.x + way).clamp(state.lower, state.upper)
            try:
                found = oracle.value_and_grad(at)
                break
            except RejectedPoint:
                rejected += 1
                way = 0.5 * way
        if found is None:
            return self.stuck(state, oracle, f"no step could be evaluated in {TRIALS} trials")
        return self.moved(state, oracle, at, found, _kept(optimizer, x), rejected=rejected)


@dataclass(frozen=True, kw_only=True)
class Adam(_Torch):
    """Adam (Kingma and Ba, ICLR 2015), projected into the bounds after each step; torch's.

    Limits and tolerances that all optimizers have are told by `Optimizer`.

    Parameters
    ----------
    learning_rate
        About the largest change of a variable in one step.
    betas
        Decay of the means of the gradient and of its square.
    epsilon
        Added to the root of the mean square.

    Examples
    --------
    >>> from torch_sla import Adam
    >>> Adam(learning_rate=0.03)  # the optimizer= of a DesignProblem
    Adam(...learning_rate=0.03, ...)
    """

    type: Literal["adam"] = "adam"
    max_iterations: int = 1000
    learning_rate: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least("learning_rate", 0.0, strict=True)
        self._at_least("epsilon", 0.0)
        if len(self.betas) != 2 or not all(0 <= b < 1 for b in self.betas):
            raise ArgumentError(f"`betas` must be two numbers in [0, 1), got {self.betas}")

    def make(self, x: Tensor) -> torch.optim.Optimizer:
        """Return torch's Adam."""
        return torch.optim.Adam([x], lr=self.learning_rate, betas=self.betas, eps=self.epsilon)


@dataclass(frozen=True, kw_only=True)
class TorchOptim(_Torch):
    """An optimizer of `torch.optim` by name, with its options; projected into the bounds after each step.

    Limits and tolerances that all optimizers have are told by `Optimizer`.

    Parameters
    ----------
    name
        Name of the optimizer, as `torch.optim` spells it, such as ``"SGD"``, ``"RMSprop"`` or ``"LBFGS"``.
    options
        Its options, passed on as they are.

    Examples
    --------
    >>> TorchOptim(name="SGD", options={"lr": 0.1, "momentum": 0.9}).name
    'SGD'
    >>> TorchOptim(name="Sdg")
    Traceback (most recent call last):
    torch_sla.errors.ArgumentError: `name` must be an optimizer of torch.optim, got 'Sdg'; one of: ASGD ...
    """

    type: Literal["torch"] = "torch"
    max_iterations: int = 1000
    name: str
    options: dict[str, float | int | str | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        known = _names()
        if self.name not in known:
            raise ArgumentError(
                f"`name` must be an optimizer of torch.optim, got {self.name!r}; one of: {' '.join(known)}"
            )
        try:
            self.make(torch.zeros(1, requires_grad=True))
        except (TypeError, ValueError) as error:
            raise ArgumentError(f"torch.optim.{self.name} refuses `options`: {error}") from error

    def make(self, x: Tensor) -> torch.optim.Optimizer:
        """Return the torch optimizer."""
        return getattr(torch.optim, self.name)([x], **self.options)


def _names() -> list[str]:
    """Return the optimizers of this torch that take one dense vector."""
    unfit = {"Optimizer", "SparseAdam", "Muon"}  # for sparse gradients; for matrices
    return sorted(
        name
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and name not in unfit
    )


def _kept(optimizer: torch.optim.Optimizer, x: Tensor) -> Memory:
    """Return what the torch optimizer remembers of x, flat."""
    memory: Memory = {}
    for name, kept in optimizer.state[x].items():
        if isinstance(kept, list | tuple):
            memory[f"torch.{name}.count"] = len(kept)
            pairs = [(f"torch.{name}.{i}", entry) for i, entry in enumerate(kept)]
        else:
            pairs = [(f"torch.{name}", kept)]
        for key, entry in pairs:
            if entry is not None:
                memory[key] = entry.detach().clone() if isinstance(entry, Tensor) else entry
    return memory


def _restore(optimizer: torch.optim.Optimizer, x: Tensor, memory: Memory) -> None:
    """Give the torch optimizer back what it remembered of x."""
    found: dict[str, Any] = {}
    lists: dict[str, list[Any]] = {}
    for key, kept in memory.items():
        if not key.startswith("torch."):
            continue
        name, _, rest = key.removeprefix("torch.").partition(".")
        entry = kept.clone() if isinstance(kept, Tensor) else kept
        if rest == "count":
            lists.setdefault(name, [None] * int(kept))
        elif rest:
            length = int(memory[f"torch.{name}.count"])
            lists.setdefault(name, [None] * length)[int(rest)] = entry
        else:
            found[name] = entry
    if found or lists:
        optimizer.state[x] = {**found, **lists}
