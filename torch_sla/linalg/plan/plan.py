"""From facts to a plan that can be read, tested, saved and forced."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from torch_sla.errors import PlanError
from torch_sla.linalg.backends.registry import backend as get_backend, backend_names, backends
from torch_sla.linalg.plan.common_costs import Estimate
from torch_sla.linalg.plan.costs import estimate
from torch_sla.linalg.plan.facts import Facts
from torch_sla.linalg.plan.machine import MachineModel, machine as machine_in_force, read_json
from torch_sla.linalg.plan.report import explain
from torch_sla.linalg.plan.rules import RULES, Candidate, check_request
from torch_sla.linalg.precond.base import kind
from torch_sla.linalg.sparse.whole import whole

if TYPE_CHECKING:
    import os

    from torch_sla.linalg.backends.base import Backend, Method

__all__ = ["SolvePlan", "Verdict", "forget_choices", "make_plan"]

# Estimates closer than this are a tie: direct methods first, in the order of the registry.
_TIE = 1.15
# Differences below this many seconds are not worth an iteration's tolerance: direct methods then win.
_TRIFLE = 1e-3
# How likely a Hermitian matrix of unknown definiteness is indefinite: what depends on definiteness then
# has been in vain.
_RISK = 0.35
# Part of the memory that a plan may take.
_SHARE = 0.85
_NAN = float("nan")


@dataclass(frozen=True)
class Verdict:
    """What became of one candidate.

    Parameters
    ----------
    candidate
        Backend, method, preconditioner.
    reason
        Why it was chosen or lost.
    cost
        Predicted cost; None where a rule refused before costs were counted.
    possible
        Whether it could have been chosen.
    """

    candidate: Candidate
    reason: str
    cost: Estimate | None = None
    possible: bool = False

    @property
    def seconds(self) -> float:
        """Predicted seconds, NaN where nothing was counted."""
        return _NAN if self.cost is None else self.cost.seconds

    @property
    def nbytes(self) -> float:
        """Predicted bytes at the peak, NaN where nothing was counted."""
        return _NAN if self.cost is None else self.cost.nbytes

    @property
    def iterations(self) -> float:
        """Predicted iterations, 0 for a direct method."""
        return 0.0 if self.cost is None else self.cost.iterations


@dataclass(frozen=True)
class SolvePlan:
    """The choice, what to fall back to, and why everything else lost.

    Parameters
    ----------
    facts
        What it was made from.
    choice
        What is carried out.
    fallbacks
        What takes over, in turn, when that fails.
    lean
        What takes over when memory runs out; None where there is nothing.
    verdicts
        One for each candidate, the choice first.
    machine
        Name of the machine model that costs were counted with.

    Examples
    --------
    >>> from torch_sla.linalg.plan.facts import Facts
    >>> plan = make_plan(
    ...     Facts(rows=100, columns=100, nnz=460, hermitian=True, positive_definite=True)
    ... )
    >>> plan.choice.method in ("cholesky", "superlu")
    True
    >>> SolvePlan.from_dict(plan.to_dict()) == plan
    True
    """

    facts: Facts
    choice: Candidate
    fallbacks: tuple[Candidate, ...]
    verdicts: tuple[Verdict, ...]
    lean: Candidate | None = None
    machine: str = ""

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
        """Predicted bytes at the peak, beyond the matrix itself."""
        return self.verdicts[0].nbytes

    @property
    def iterations(self) -> float:
        """Predicted iterations, 0 for a direct method."""
        return self.verdicts[0].iterations

    def explain(self, *, full: bool = False) -> str:
        """Return the facts, the choice, and a table of what it cost and why others lost.

        Parameters
        ----------
        full
            Whether to give every candidate a row of its own.
        """
        return explain(self, full=full)

    def to_dict(self) -> dict[str, Any]:
        """Return the whole plan as plain data for JSON; `from_dict` reads it."""
        return {
            "facts": self.facts.to_dict(),
            "choice": asdict(self.choice),
            "fallbacks": [asdict(c) for c in self.fallbacks],
            "lean": None if self.lean is None else asdict(self.lean),
            "machine": self.machine,
            "verdicts": [
                {
                    "candidate": asdict(v.candidate),
                    "reason": v.reason,
                    "cost": None if v.cost is None else asdict(v.cost),
                    "possible": v.possible,
                }
                for v in self.verdicts
            ],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SolvePlan:
        """Read what `to_dict` wrote.

        Raises
        ------
        PlanError
            When it is no plan.
        """
        try:
            verdicts = tuple(
                Verdict(
                    Candidate(**v["candidate"]),
                    str(v["reason"]),
                    None if v["cost"] is None else Estimate(**v["cost"]),
                    bool(v["possible"]),
                )
                for v in data["verdicts"]
            )
            return cls(
                Facts.from_dict(data["facts"]),
                Candidate(**data["choice"]),
                tuple(Candidate(**c) for c in data["fallbacks"]),
                verdicts,
                None if data["lean"] is None else Candidate(**data["lean"]),
                str(data["machine"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise PlanError(f"this is no saved plan: {type(error).__name__} {error}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON."""
        with whole(path) as file:
            file.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SolvePlan:
        """Read a plan that `save` wrote.

        Raises
        ------
        PlanError
            When the file cannot be read or holds no plan.
        """
        try:
            data = read_json(path)
        except (OSError, ValueError, RecursionError) as error:
            raise PlanError(f"the plan {str(path)!r} cannot be read: {error}") from None
        if not isinstance(data, dict):
            raise PlanError(f"{str(path)!r} holds no saved plan")
        return cls.from_dict(data)

    def __str__(self) -> str:
        return self.explain()


def make_plan(facts: Facts, machine: MachineModel | None = None) -> SolvePlan:
    """Choose the cheapest candidate that the rules let pass and that fits in memory.

    Parameters
    ----------
    facts
        What is known; includes what was asked for.
    machine
        Speeds to count with; None for those in force, see `plan.machine`.

    Raises
    ------
    PlanError
        When nothing passes; the message has the reasons of those that came closest.
    BackendUnavailableError
        When the backend that was asked for cannot be used here.
    """
    return _planned(facts, machine_in_force(facts.device) if machine is None else machine)


def forget_choices() -> None:
    """Forget the plans made from facts; see `plan.stages.forget_plans`."""
    _planned.cache_clear()


@lru_cache(maxsize=512)
def _planned(facts: Facts, machine: MachineModel) -> SolvePlan:
    check_request(facts)
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
            limit = _SHARE * (machine.memory if facts.memory is None else facts.memory)
            if cost.nbytes > limit and facts.method == "auto":
                reason = f"memory: {cost.nbytes / 1e9:.1f} GB needed, {limit / 1e9:.1f} GB allowed"
                refused.append((len(RULES), Verdict(candidate, reason, cost)))
                continue
            verdict = Verdict(candidate, cost.detail, cost, possible=True)
            passed.append((_rank(facts, m, cost.seconds), order, verdict))
    if not passed:
        _refuse(facts, refused)
    passed = _with_risk(facts, passed)
    best = min(passed, key=lambda item: item[:2])[0]
    near = [item for item in passed if item[0] <= best * _TIE]
    direct = [item for item in near if item[2].candidate.preconditioner is None]
    winner = (
        min(direct, key=lambda item: item[1]) if direct else min(near, key=lambda item: item[:2])
    )
    others = sorted((item for item in passed if item is not winner), key=lambda item: item[:2])
    first = winner[2]
    verdicts = [replace(first, reason=f"chosen: {first.reason}")]
    for _, _, v in others:
        times = v.seconds / first.seconds if first.seconds else 1.0
        verdicts.append(replace(v, reason=f"{times:.1f}x the time: {v.reason}"))
    verdicts += [v for _, v in sorted(refused, key=lambda item: -item[0])]
    return SolvePlan(
        facts,
        first.candidate,
        _fallbacks(facts, first, others),
        tuple(verdicts),
        _lean(facts, first, others),
        machine.name,
    )


def _with_risk(
    facts: Facts, passed: list[tuple[float, int, Verdict]]
) -> list[tuple[float, int, Verdict]]:
    """Let candidates that only definite matrices allow pay for the chance that another must follow."""
    if facts.positive_definite is not None or facts.hermitian is False:
        return passed

    def needs_definite(c: Candidate) -> bool:
        method = get_backend(c.backend).capabilities.method(c.method)
        return method is not None and method.needs == "positive_definite"

    sure = [
        v.seconds
        for _, _, v in passed
        if v.candidate.preconditioner is None and not needs_definite(v.candidate)
    ]
    extra = _RISK * min(sure, default=0.0)
    return [
        (rank + extra if needs_definite(v.candidate) else rank, order, v)
        for rank, order, v in passed
    ]


def _rank(facts: Facts, method: Method, seconds: float) -> float:
    """Return the time that counts in the choice: all quick direct solves are equal, and first.

    On the CPU the members of a batch are factorised together, and iterated on one by one.
    """
    trifle = _TRIFLE * (facts.batch if facts.device == "cpu" else 1)
    return max(seconds, trifle) if method.kind == "direct" else seconds + trifle


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
    ladder = {"cholesky": 0, "ldlt": 1, "static_lu": 1, "superlu": 2, "lu": 2}
    start = ladder.get(winner.candidate.method, -1)
    others = [other for other in others if other[2].candidate.method != "static_lu"]
    chain: list[Candidate] = []
    for _, _, v in sorted(others, key=lambda o: (ladder.get(o[2].candidate.method, -1), o[0])):
        rank = ladder.get(v.candidate.method, -1)
        if rank > start and all(rank > ladder[c.method] for c in chain):
            chain.append(v.candidate)
    return tuple(chain)


def _lean(
    facts: Facts, winner: Verdict, others: list[tuple[float, int, Verdict]]
) -> Candidate | None:
    """Return the cheapest iterative candidate: what is left when factors do not fit."""
    if facts.method != "auto" or winner.candidate.preconditioner is not None:
        return None
    return next((v.candidate for _, _, v in others if v.candidate.preconditioner is not None), None)
