"""From facts to a plan that can be read, tested and saved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from torch_sla.errors import BackendUnavailableError, PlanError
from torch_sla.linalg.backends.registry import backend as get_backend, backend_names, backends
from torch_sla.linalg.plan.costs import estimate
from torch_sla.linalg.plan.machine import DEFAULT_MACHINE, MachineModel
from torch_sla.linalg.plan.rules import RULES, Candidate
from torch_sla.linalg.precond.base import kind

if TYPE_CHECKING:
    from torch_sla.linalg.backends.base import Backend, Method
    from torch_sla.linalg.plan.facts import Facts

__all__ = ["SolvePlan", "Verdict", "make_plan"]

# Estimates closer than this are a tie, which the order of the registry decides.
_TIE = 1.15
# Differences below this many seconds are not worth an iteration's tolerance: direct methods then win.
_TRIFLE = 2e-3


@dataclass(frozen=True)
class Verdict:
    """What became of one candidate.

    Parameters
    ----------
    candidate
        Backend, method, preconditioner.
    reason
        Why it was chosen or lost.
    seconds, nbytes
        Predicted cost; NaN where a rule refused before costs were counted.
    possible
        Whether it could have been chosen.
    iterations
        Predicted iterations, 0 for a direct method.
    """

    candidate: Candidate
    reason: str
    seconds: float = float("nan")
    nbytes: float = float("nan")
    possible: bool = False
    iterations: float = 0.0


@dataclass(frozen=True)
class SolvePlan:
    """The choice, what to fall back to, and why everything else lost.

    Examples
    --------
    >>> from torch_sla.linalg.plan.facts import Facts
    >>> plan = make_plan(
    ...     Facts(rows=100, columns=100, nnz=460, hermitian=True, positive_definite=True)
    ... )
    >>> plan.choice.method in ("cholesky", "superlu")
    True
    """

    facts: Facts
    choice: Candidate
    fallbacks: tuple[Candidate, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def backend(self) -> str:
        """Chosen backend."""
        return self.choice.backend

    @property
    def method(self) -> str:
        """Chosen method."""
        return self.choice.method

    @property
    def preconditioner(self) -> str | None:
        """Chosen preconditioner, None for a direct method."""
        return self.choice.preconditioner

    @property
    def seconds(self) -> float:
        """Predicted seconds on the machine model."""
        return self.verdicts[0].seconds

    @property
    def nbytes(self) -> float:
        """Predicted bytes of the solver's own data."""
        return self.verdicts[0].nbytes

    @property
    def iterations(self) -> float:
        """Predicted iterations, 0 for a direct method."""
        return self.verdicts[0].iterations

    def explain(self) -> str:
        """Return the facts, the choice and a table of all candidates with reasons."""
        rows = [("candidate", "seconds", "MB", "verdict")]
        for v in self.verdicts:
            counted = v.seconds == v.seconds
            time, size = (f"{v.seconds:.2g}", f"{v.nbytes / 1e6:.2g}") if counted else ("-", "-")
            rows.append((str(v.candidate), time, size, v.reason))
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [f"matrix: {self.facts.describe()}", f"choice: {self.choice}"]
        if self.fallbacks:
            lines.append("falls back to: " + ", ".join(str(c) for c in self.fallbacks))
        lines += [
            "  ".join([*(cell.ljust(w) for cell, w in zip(row[:3], widths, strict=True)), row[3]])
            for row in rows
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the choice and the verdicts as plain data for JSON."""
        return {
            "backend": self.backend,
            "method": self.method,
            "preconditioner": self.preconditioner,
            "fallbacks": [str(c) for c in self.fallbacks],
            "predicted_seconds": self.seconds,
            "predicted_bytes": self.nbytes,
            "facts": self.facts.describe(),
            "verdicts": [
                {"candidate": str(v.candidate), "reason": v.reason, "possible": v.possible}
                for v in self.verdicts
            ],
        }

    def __str__(self) -> str:
        return self.explain()


@lru_cache(maxsize=512)
def make_plan(facts: Facts, machine: MachineModel = DEFAULT_MACHINE) -> SolvePlan:
    """Choose the cheapest candidate that the rules let pass.

    Parameters
    ----------
    facts
        What is known; includes what was asked for.
    machine
        Speeds to count with.

    Raises
    ------
    PlanError
        When nothing passes; the message has the reasons of those that came closest.
    BackendUnavailableError
        When the backend that was asked for cannot be used here.
    """
    _check_request(facts)
    passed: list[tuple[float, int, Verdict]] = []
    refused: list[tuple[int, Verdict]] = []
    for order, (b, m, p) in enumerate(_candidates(facts)):
        candidate = Candidate(b.name, m.name, p)
        for depth, rule in enumerate(RULES):
            reason = rule.refuse(facts, b, m, p, machine)
            if reason is not None:
                refused.append((depth, Verdict(candidate, f"{rule.name}: {reason}")))
                break
        else:
            cost = estimate(facts, b.name, m, p or "none", machine)
            if cost.nbytes > machine.memory and facts.method == "auto":
                reason = f"memory: {cost.nbytes / 1e9:.1f} GB predicted, {machine.memory / 1e9:.1f} GB allowed"
                refused.append((len(RULES), Verdict(candidate, reason, cost.seconds, cost.nbytes)))
                continue
            verdict = Verdict(
                candidate, cost.detail, cost.seconds, cost.nbytes, True, cost.iterations
            )
            passed.append((_rank(m, cost.seconds), order, verdict))
    if not passed:
        _refuse(facts, refused)
    best = min(passed)[0]
    winner = min((item for item in passed if item[0] <= best * _TIE), key=lambda item: item[1])
    others = sorted(item for item in passed if item is not winner)
    first = winner[2]
    verdicts = [replace(first, reason=f"chosen: {first.reason}")]
    for _, _, v in others:
        times = v.seconds / first.seconds if first.seconds else 1.0
        verdicts.append(replace(v, reason=f"{times:.1f}x the time: {v.reason}"))
    verdicts += [v for _, v in sorted(refused, key=lambda item: -item[0])]
    return SolvePlan(facts, first.candidate, _fallbacks(facts, first, others), tuple(verdicts))


def _rank(method: Method, seconds: float) -> float:
    """Return the time that counts in the choice: all quick direct solves are equal, and first."""
    if method.kind == "direct":
        return max(seconds, _TRIFLE)
    return seconds + _TRIFLE


def _candidates(facts: Facts) -> list[tuple[Backend, Method, str | None]]:
    out: list[tuple[Backend, Method, str | None]] = []
    for b in backends():
        for m in b.capabilities.methods:
            if m.kind == "direct":
                out.append((b, m, None))
            elif facts.preconditioner in m.preconditioners:
                out.append((b, m, facts.preconditioner))
            else:
                # Each method's usual one, and the one that keeps iterations bounded.
                usual = m.preconditioners[0]
                if not facts.diagonal and _divides(usual) and "none" in m.preconditioners:
                    usual = "none"
                out.append((b, m, usual))
                if facts.diagonal and "multigrid" in m.preconditioners and usual != "multigrid":
                    out.append((b, m, "multigrid"))
    return out


def _divides(preconditioner: str) -> bool:
    """Whether a preconditioner divides by the diagonal entries."""
    entry = kind(preconditioner)
    return entry is not None and entry.diagonal


def _check_request(facts: Facts) -> None:
    if facts.backend != "auto":
        chosen = get_backend(facts.backend)
        names = [m.name for m in chosen.capabilities.methods]
        if facts.method != "auto" and chosen.capabilities.method(facts.method) is None:
            raise PlanError(
                f"backend {facts.backend!r} has no method {facts.method!r}; it has {', '.join(names)}"
            )
        why = chosen.unavailable()
        if why is not None:
            raise BackendUnavailableError(f"backend {facts.backend!r} cannot be used here: {why}")
    elif facts.method != "auto" and not any(
        b.capabilities.method(facts.method) for b in backends()
    ):
        names = sorted({m.name for b in backends() for m in b.capabilities.methods})
        raise PlanError(
            f"`method` must be 'auto' or one of {', '.join(names)}, got {facts.method!r}"
        )


def _refuse(facts: Facts, refused: list[tuple[int, Verdict]]) -> None:
    deepest = max((depth for depth, _ in refused), default=0)
    near = [f"{v.candidate} ({v.reason})" for depth, v in refused if depth == deepest]
    raise PlanError(
        f"no solver of {', '.join(backend_names())} can solve this system ({facts.describe()}); "
        f"closest: {'; '.join(near)}"
    )


def _fallbacks(
    facts: Facts, winner: Verdict, others: list[tuple[float, int, Verdict]]
) -> tuple[Candidate, ...]:
    """More robust candidates, cheapest first: only where the choice was left to the plan."""
    if facts.method != "auto":
        return ()
    if facts.rows != facts.columns:
        # A rank-deficient matrix stops a factorisation, not an iteration.
        return tuple(v.candidate for _, _, v in others if v.candidate.preconditioner is not None)
    ladder = {"cholesky": 0, "ldlt": 1, "superlu": 2, "lu": 2}
    start = ladder.get(winner.candidate.method, -1)
    chain: list[Candidate] = []
    for _, _, v in sorted(others, key=lambda o: (ladder.get(o[2].candidate.method, -1), o[0])):
        rank = ladder.get(v.candidate.method, -1)
        if rank > start and all(rank > ladder[c.method] for c in chain):
            chain.append(v.candidate)
    return tuple(chain)
