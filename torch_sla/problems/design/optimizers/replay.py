"""Optimizers that hold their own loop: run in a thread, asked one question at a time, resumed by replay.

A library routine such as `scipy.optimize.minimize` keeps its state to itself. It is deterministic, though, so its
state *is* the answers it was given. These are written down, and a resumed run hears them again without anything being
solved: the routine then stands where it stood. The routine runs in a thread that waits for each answer, which turns
its loop into steps; the answers are given in the caller's thread.

What is written down so grows by one answer for each evaluation. With ``restart`` the routine is let go after so many
and begins anew at the iterate, as part of the method and not only where a run is resumed: it forgets what it had
learned of the curvature, and nothing before that iterate is needed any more.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from abc import abstractmethod
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.problems.design.optimizers.base import Optimizer
from torch_sla.problems.design.optimizers.oracle import Evaluation, Oracle, RejectedPoint
from torch_sla.problems.design.optimizers.state import GROWING, SINCE, State

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from torch_sla.problems.design.optimizers.state import Memory

__all__ = ["Client", "Replayed"]


DOUBTFUL = 1e-2
"""Share of the objective, and of its first slopes, that no routine leaves at a minimum of a smooth function."""


MODERATE = 7
"""Variables between 2^-7 and 2^7 are given as they are."""


class _Stopped(BaseException):
    """Ends the routine from within one of its calls; no ``except Exception`` of a library stops it."""


@dataclass(frozen=True)
class _Ended:
    message: str
    success: bool


class Client:
    """What the routine in the thread sees: questions, each answered before it goes on.

    Parameters
    ----------
    x
        Where it starts ``[n]``.
    unit
        What it measures variables in ``[n]``: powers of two, so that a point there and back is the same point.
    """

    def __init__(self, x: Tensor, unit: Tensor) -> None:
        self.questions: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.start, self.unit = x / unit, unit
        self._latest: tuple[Tensor, Evaluation] | None = None

    def ask(self, kind: str, *arguments: Tensor) -> Any:
        """Wait for the answer to a question."""
        self.questions.put((kind, arguments))
        answer = self.answers.get()
        if answer is _Stopped:
            raise _Stopped
        return answer

    def at(self, x: Any) -> Evaluation:
        """Evaluate at a NumPy point; the same point asked again at once is not asked twice."""
        point = torch.tensor(x, dtype=torch.float64)
        if self._latest is None or not torch.equal(self._latest[0], point):
            at: Evaluation = self.ask("evaluate", point * self.unit)
            own = replace(at, gradient=at.gradient * self.unit, jacobian=at.jacobian * self.unit)
            self._latest = (point, own)
        return self._latest[1]

    def hvp(self, x: Any, v: Any) -> Any:
        """Return the Hessian at ``x`` times ``v``."""
        point, vector = (torch.tensor(a, dtype=torch.float64) * self.unit for a in (x, v))
        return (self.ask("hvp", point, vector) * self.unit).numpy()

    def iterate(self, x: Any, *_: Any) -> None:
        """Report an iterate."""
        self.ask("iterate", torch.tensor(x, dtype=torch.float64) * self.unit)


@dataclass(frozen=True, kw_only=True)
class Replayed(Optimizer):
    """Base of optimizers whose loop belongs to a library.

    Parameters
    ----------
    restart
        Evaluations after which the routine begins anew at the next iterate, 0 for never.
    """

    absolute: ClassVar[bool] = False
    """Whether the routine judges steps by numbers of its own, so that variables are given to it over their sizes."""

    restart: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._whole("restart", 0)

    @abstractmethod
    def run(self, client: Client, lower: Tensor, upper: Tensor, oracle: Oracle) -> tuple[str, bool]:
        """Run the routine, in a thread; return how it ended, and whether well. Only the client is asked."""

    @property
    def remedy(self) -> str:
        """What to do where the routine failed."""
        return "see whether check_gradients passes, or go on from this design by another method"

    def start(self, oracle: Oracle, x: Tensor, lower: Tensor, upper: Tensor) -> State:
        """Return the state at the first point; see `Optimizer.start`. The log of answers is empty."""
        state = super().start(oracle, x, lower, upper)
        return replace(state, memory={**state.memory, **self._begun(state, 0, 0)})

    def _begun(self, state: State, asked: int, rejected: int) -> Memory:
        """Return the memory of a routine that begins at a state; answers and rejections of those before it."""
        power = torch.floor(torch.log2(state.tensor("lengths")))
        unit = torch.exp2(torch.where(power.abs() < MODERATE, 0.0, power))
        return {
            "start": state.x,
            "unit": unit if self.absolute else torch.ones_like(unit),
            "first": _packed(state.evaluation),
            "asked": asked,
            "before": asked,
            "rejected": rejected,
            SINCE: state.iteration,
        }

    def step(self, state: State, oracle: Oracle) -> State:
        """Return the state one iteration on, replaying from the first; `iterate` does that once."""
        with closing(self.iterate(state, oracle)) as states:
            return next(states, state)

    def iterate(self, state: State, oracle: Oracle) -> Generator[State, None, None]:
        """Yield the states that follow, until one is done."""
        self.check(oracle, state.lower, state.upper)
        while not state.done:
            with closing(self._begin(state, oracle)) as states:
                for state in states:
                    yield state

    def _begin(self, state: State, oracle: Oracle) -> Generator[State, None, None]:
        """Yield the states of one routine, until one is done or it is time for another."""
        log = _Log(state, oracle)
        unit = state.tensor("unit")
        client = Client(log.start, unit)

        def work() -> None:
            try:
                ended = _Ended(*self.run(client, state.lower / unit, state.upper / unit, oracle))
            except _Stopped:
                return
            except Exception as error:  # noqa: BLE001  (raised again in the caller's thread)
                client.questions.put(error)
                return
            client.questions.put(ended)

        worker = threading.Thread(target=work, name="torch_sla optimizer", daemon=True)
        worker.start()
        try:
            yield from self._served(client, log, state, oracle)
        finally:
            client.answers.put(_Stopped)
            worker.join()

    def _served(self, client: Client, log: _Log, state: State, oracle: Oracle) -> Iterator[State]:
        seen = int(state.memory[SINCE])
        while True:
            question = client.questions.get()
            if isinstance(question, Exception):
                raise question
            if isinstance(question, _Ended):
                memory = {**state.memory, **log.memory}
                ended = replace(
                    state,
                    reason=f"the routine ended: {question.message.rstrip(': ')}",
                    converged=question.success,
                    memory=memory,
                )
                yield self._believed(self.judged(ended, None, oracle), question.success)
                return
            kind, arguments = question
            if kind != "iterate":
                client.answers.put(log.answer(kind, *arguments))
                continue
            if not log.accept(arguments[0]):  # a rejected point is no iterate
                client.answers.put(None)
                continue
            seen += 1
            if seen > state.iteration:
                before, state = state, log.state(state, arguments[0], seen)
                state = self.judged(state, before, oracle)
                worn = 0 < self.restart <= log.count - int(state.memory["before"])
                # Where variables go farther than was supposed, their units are others as well.
                worn |= not torch.equal(state.tensor("lengths"), before.tensor("lengths"))
                if worn:
                    kept = {n: m for n, m in state.memory.items() if not n.startswith(GROWING)}
                    anew = self._begun(state, log.count, log.rejected)
                    state = replace(state, memory={**kept, **anew})
                yield state
                if worn or state.done:
                    return
            client.answers.put(None)

    def _believed(self, state: State, ended: bool) -> State:
        """Return the state, not converged where only the routine says so and slopes say the contrary.

        Where the routine failed, the reason tells what to do.
        """
        if state.share <= self.gradient_tolerance:
            return state
        good = state.converged and min(state.share, state.figures["optimality"]) <= DOUBTFUL
        why = state.reason if ended else f"{state.reason}; {self.remedy}"
        return replace(state, converged=good, reason=why)


class _Log:
    """The answers given so far, in order, and which of them the routine has heard again."""

    def __init__(self, state: State, oracle: Oracle) -> None:
        memory = state.memory
        start, first = state.tensor("start"), state.tensor("first")
        self.oracle, self.start = oracle, start
        self.n, self.m = start.numel(), oracle.equalities.numel()
        self.count, self.heard = int(memory["asked"]), int(memory["before"])
        names = {f"{GROWING}{i}" for i in range(self.heard, self.count)}
        self.memory: Memory = {name: kept for name, kept in memory.items() if name in names}
        self.memory["asked"] = self.count
        self.refused: set[str] = set()
        self._rejected = int(memory["rejected"])
        first_evaluation = _unpacked(first, self.n, self.m)
        self.known = {_key(start): first_evaluation}
        self.base = (start, first_evaluation)

    def answer(self, kind: str, x: Tensor, v: Tensor | None = None) -> Evaluation | Tensor:
        """Answer from the log while there is one, else ask the oracle and write it down."""
        key = _key(x) if v is None else _key(x) + _key(v)
        if v is None and key in self.known:
            return self.known[key]
        name, stamp = f"{GROWING}{self.heard}", _stamp(key)
        if self.heard < self.count:
            entry = self.memory.get(name)
            if not isinstance(entry, Tensor) or entry.numel() < len(stamp):
                raise ArgumentError(f"entry {self.heard} of the log is damaged")
            if not torch.equal(entry[: len(stamp)], stamp):
                raise ArgumentError(
                    "the routine asks other questions than when the state was saved: another version, other "
                    "options, or another number of threads"
                )
            kept = entry[len(stamp) :]
        else:
            kept = self._asked(kind, x, v)
            self.memory[name] = torch.cat([stamp, kept])
            self.count += 1
            self.memory["asked"] = self.count
        self.heard += 1
        if kind == "hvp":
            return kept
        found = _unpacked(kept, self.n, self.m)
        if kept[-1] == 0:
            self.known[key] = found
        else:
            self.refused.add(key)
        return found

    @property
    def rejected(self) -> int:
        """Points without a value so far."""
        return self._rejected + len(self.refused)

    def accept(self, x: Tensor) -> bool:
        """Take note of an iterate, unless it was rejected; what is known elsewhere is not needed any more."""
        key = _key(x)
        if key in self.refused:
            return False
        if key in self.known:
            self.base = (x, self.known[key])
            self.known = {key: self.known[key]}
        return True

    def state(self, before: State, x: Tensor, iteration: int) -> State:
        """Return the state at an iterate."""
        at = self.known.get(_key(x)) or self.oracle.value_and_grad(x)
        figures = {"evaluations": float(self.count + 1), "rejected": float(self.rejected)}
        memory = {n: kept for n, kept in before.memory.items() if not n.startswith(GROWING)}
        memory |= self.memory
        return replace(
            before, x=x, evaluation=at, iteration=iteration, figures=figures, memory=memory
        )

    def _asked(self, kind: str, x: Tensor, v: Tensor | None) -> Tensor:
        if v is not None and kind == "hvp":
            return self.oracle.hvp(x, v)
        try:
            return _packed(self.oracle.value_and_grad(x))
        except RejectedPoint:
            return _packed(self._instead(x), rejected=True)

    def _instead(self, x: Tensor) -> Evaluation:
        """Return what sends a line search back: a parabola through the last iterate that rises to x.

        With slope −s there it is ``f − s t + 2 s t²`` on the way: its least value is a quarter of the way, and at x
        it lies above the iterate, so that neither a line search nor a trust region takes x.
        """
        base, at = self.base
        way = x - base
        square = float(way @ way)
        slope = max(abs(float(at.gradient @ way)), 1e-8 * max(1.0, abs(at.value)))
        gradient = 3 * slope * way / square if square > 0 else torch.zeros_like(way)
        return Evaluation(at.value + slope, gradient, at.constraints, at.jacobian)


def _key(x: Tensor) -> str:
    return hashlib.blake2b(x.numpy().tobytes(), digest_size=12).hexdigest()


def _stamp(key: str) -> Tensor:
    """Return a question as numbers that hold it exactly, to stand before its answer ``[2]``."""
    digest = hashlib.blake2b(key.encode(), digest_size=12).digest()
    halves = [float(int.from_bytes(digest[i : i + 6], "big")) for i in (0, 6)]
    return torch.tensor(halves, dtype=torch.float64)


def _packed(at: Evaluation, *, rejected: bool = False) -> Tensor:
    head = at.gradient.new_tensor([at.value])
    tail = at.gradient.new_tensor([float(rejected)])
    return torch.cat([head, at.gradient, at.constraints, at.jacobian.reshape(-1), tail])


def _unpacked(packed: Tensor, n: int, m: int) -> Evaluation:
    gradient, constraints, jacobian = packed[1:-1].split([n, m, m * n])
    return Evaluation(float(packed[0]), gradient, constraints, jacobian.reshape(m, n))
