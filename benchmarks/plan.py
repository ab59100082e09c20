"""Is the plan's choice the best there is, and does it say truly what it will take?

    python benchmarks/plan.py [--largest 1000000] [--repeats 1 10 100] [--rhs 1 32] [--only 2d 3d]
                              [--budget 30] [--reach 8] [--clock wall|cpu] [--machine machine.json] [--memory]
                              [--budget-minutes 20] [--rows rows.jsonl]

Matrices in two and three dimensions, definite, indefinite and unsymmetric, of a thousand to a
million unknowns. For each question (so many new values, so many right-hand sides) the plan's
candidates are carried out, those predicted to take up to `--reach` times as long as the choice,
everything included but the detection of structure. The ratio is the choice's time over the best time
found: 1 is perfect. With --memory one solve is made in a child process, and its peak compared with
what was predicted.

A run that stops after --budget-minutes goes on where it was when it is started again with the same --rows. All
kinds and sizes up to 320,000 unknowns in ten minutes:

    python benchmarks/plan.py --largest 320000 --repeats 1 10 --reach 3 --budget 5 --budget-minutes 10

Later values take as long as the quickest of the second to the eighth (third, of large matrices) did: those
are run, and counted as often as asked for; all numbers of repeats are answered by the same runs.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import time
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import scipy.sparse as sp
import torch
from harness import grid, machine
from zoo import zoo

from torch_sla.errors import PlanError
from torch_sla.linalg import SparseTensor, clear_factor_cache, use_machine
from torch_sla.linalg.solve import plan as plan_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg import SolvePlan
    from torch_sla.linalg.plan.plan import Verdict


@dataclass
class Row:
    name: str
    repeats: int
    rhs: int
    choice: str
    predicted: float
    taken: float
    best: str
    ratio: float
    passed_over: int
    # Predicted and measured seconds of every candidate that was carried out.
    tried: dict[str, tuple[float, float]] = field(default_factory=dict)

    def __str__(self) -> str:
        asked = (self.name, str(self.repeats), str(self.rhs), self.choice)
        times = (f"{self.predicted:.3g}", f"{self.taken:.3g}", self.best, f"{self.ratio:.2f}")
        cells = (*asked, *times, str(self.passed_over) if self.passed_over else "")
        return "| " + " | ".join(cells) + " |"


def forced(plan: SolvePlan, verdict: Verdict) -> SolvePlan:
    """The same question with another candidate put in the place of the choice, which may fall back."""
    if verdict is plan.verdicts[0]:
        return plan
    others = tuple(v for v in plan.verdicts if v is not verdict)
    return replace(
        plan, choice=verdict.candidate, fallbacks=(), lean=None, verdicts=(verdict, *others)
    )


# A candidate that has taken so many times as long as the best is not run to its end.
_LOST = 2.0


def _values(unknowns: int) -> int:
    """How many new values are solved with: later ones take the place of older ones."""
    return 8 if unknowns <= 50_000 else 3


class Question:
    """One matrix; new values are multiples of it, changed a little at random."""

    def __init__(self, A: sp.csr_array | SparseTensor, clock: Callable[[], float]) -> None:
        if not isinstance(A, SparseTensor):
            A = sp.csr_array(A)
            A.sort_indices()
            A = SparseTensor.from_scipy(A)
        self.first = A
        self.clock = clock
        known = self.first.structure
        pattern = self.first.pattern
        # Known to whoever asks twice; costs no candidate anything.
        pattern.key, pattern.dimension, pattern.lattice, pattern.symmetric, pattern.transposed  # noqa: B018
        self.matrices = [
            SparseTensor.from_pattern(pattern, self.first.csr_values * (1 + 0.1 * k), known)
            for k in range(_values(A.shape[0]))
        ]
        self.random = torch.Generator().manual_seed(31)

    def rhs(self, columns: int) -> torch.Tensor:
        n = self.first.shape[0]
        return torch.randn(n, columns, dtype=torch.float64, generator=self.random)

    def run(self, plan: SolvePlan, values: int, columns: int, budget: float) -> list[float]:
        """Seconds of solves with so many new values; infinite where one fails or the budget is spent."""
        b = self.rhs(columns)
        clear_factor_cache()
        gc.collect()
        times: list[float] = []
        for A in self.matrices[:values]:
            start = self.clock()
            _, info = A.solve(b, plan=plan, info=True, throw=False)
            times.append(self.clock() - start)
            if not info.converged or sum(times) > budget:
                return [float("inf")] * values
        return times

    def peak(self, plan: SolvePlan) -> float:
        """Bytes that one solve adds to a child process at its peak.

        The child has solved a small system in the same way before: what libraries load and keep on their
        first use is not the solve's.
        """
        b, A = self.rhs(1), self.matrices[0]
        clear_factor_cache()
        gc.collect()
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            few = SparseTensor.from_scipy(grid((8, 8)))
            choice = plan.choice
            few.solve(
                torch.ones(64, dtype=torch.float64),
                backend=choice.backend,
                method=choice.method,
                preconditioner=choice.preconditioner or "auto",
                throw=False,
            )
            clear_factor_cache()
            gc.collect()
            _trim()
            # The kernel keeps count on each processor and adds up roughly: there shall be one.
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            status = Path("/proc/self/clear_refs")
            status.write_text("5")  # the peak starts from here
            before = _status("VmRSS")
            A.solve(b, plan=plan, throw=False)
            os.write(write, str(_status("VmHWM") - before).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as answer:
            text = answer.read()
        os.waitpid(child, 0)
        return float(text or "nan")


def _trim() -> None:
    """Give free memory back to the system, where the C library can."""
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def _total(times: list[float], repeats: int) -> float:
    """Seconds of `repeats` solves, of which the first ones were timed."""
    later = min(times[1:], default=0.0) if repeats > 1 else 0.0
    return times[0] + (repeats - 1) * later


def ask(
    name: str, question: Question, asked: list[int], columns: int, budget: float, reach: float
) -> list[Row]:
    """One row for each number of repeats; a candidate is timed once for all of them."""
    A = question.matrices[0]
    plans = {}
    for repeats in asked:
        clear_factor_cache()
        plans[repeats] = plan_of(A, (A.shape[0], columns), repeats=repeats)
    values = 1 if max(asked) == 1 else len(question.matrices)
    near: dict[str, SolvePlan] = {}
    for plan in plans.values():
        for verdict in [
            v for v in plan.verdicts if v.possible and v.seconds <= reach * plan.seconds
        ][:7]:
            near.setdefault(str(verdict.candidate), forced(plan, verdict))
    times: dict[str, list[float]] = {}
    for candidate, plan in near.items():
        least = min((sum(t) for t in times.values()), default=float("inf"))
        # What has taken that much longer than the best by now is not it: the choice is the first to be timed.
        left = min(budget, _LOST * least + 0.1)
        times[candidate] = question.run(plan, values, columns, left)
    # Once more those that may be it: the first of all pays for imports and cold caches, and any may
    # have been disturbed.
    start = time.perf_counter()
    for _ in range(2):
        least = min(sum(t) for t in times.values())
        for candidate, plan in near.items():
            spent = time.perf_counter() - start
            if sum(times[candidate]) > 2 * least or spent > budget:
                continue
            again = question.run(plan, values, columns, budget)
            times[candidate] = [min(pair) for pair in zip(times[candidate], again, strict=True)]
    rows = []
    for repeats, plan in plans.items():
        taken = {candidate: _total(t, repeats) for candidate, t in times.items()}
        predicted = {str(v.candidate): v.seconds for v in plan.verdicts if v.possible}
        best, choice = min(taken, key=lambda k: taken[k]), str(plan.choice)
        rows.append(
            Row(
                name,
                repeats,
                columns,
                choice,
                plan.seconds,
                taken[choice],
                best,
                taken[choice] / taken[best],
                len(predicted) - len(near),
                {c: (predicted[c], t) for c, t in taken.items() if c in predicted},
            )
        )
    return rows


def memory_of(
    name: str, make: Callable[[], sp.csr_array | SparseTensor], budget: float
) -> list[tuple[str, str, float, float]]:
    """Name, plan, predicted and measured bytes: of the choice, of our own factors, and of SuperLU's."""
    question = Question(make(), time.perf_counter)
    A, found, seen = question.matrices[0], [], set()
    for wanted in ({}, {"backend": "native"}, {"backend": "scipy", "method": "superlu"}):
        try:
            plan = plan_of(A, (A.shape[0],), **wanted)  # type: ignore[arg-type]
        except PlanError:
            continue
        if plan.choice not in seen and plan.seconds < budget:
            seen.add(plan.choice)
            measured = question.peak(forced(plan, plan.verdicts[0]))
            found.append((name, str(plan.choice), plan.nbytes, measured))
    return found


def apart(
    work: Callable[[], list[tuple[str, str, float, float]]],
) -> list[tuple[str, str, float, float]]:
    """Do it in a child process: what one matrix leaves with the allocator is not the next one's to find."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, json.dumps(work()).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return [tuple(row) for row in json.loads(text or "[]")]


def _read(path: Path | None) -> dict[tuple[str, int, int], Row]:
    """Answers of an earlier run, by question."""
    if path is None or not path.exists():
        return {}
    found = [Row(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    return {(row.name, row.repeats, row.rhs): row for row in found}


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--largest", type=int, default=1_000_000)
    arguments.add_argument("--smallest", type=int, default=0)
    arguments.add_argument("--repeats", type=int, nargs="*", default=[1, 10, 100])
    arguments.add_argument("--rhs", type=int, nargs="+", default=[1, 32])
    arguments.add_argument("--only", nargs="+", default=[""], help="parts of names")
    arguments.add_argument(
        "--budget", type=float, default=30.0, help="seconds a candidate may take for a question"
    )
    arguments.add_argument(
        "--reach",
        type=float,
        default=8.0,
        help="candidates up to so many times the choice are timed",
    )
    arguments.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    arguments.add_argument("--machine", help="a table from `torch-sla calibrate`")
    arguments.add_argument(
        "--memory", action="store_true", help="compare peaks in child processes (Linux)"
    )
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument(
        "--budget-minutes", type=float, default=float("inf"), help="no new question after that"
    )
    arguments.add_argument(
        "--rows", type=Path, help="keeps answers, one a line, and skips those it has"
    )
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    end = time.perf_counter() + 60 * options.budget_minutes
    kept = _read(options.rows)
    use_machine(options.machine)
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    print(f"### Plans\n\n{machine()}, {options.clock} time\n")
    print("| matrix | repeats | rhs | choice | predicted s | taken s | best | ratio | not run |")
    print("|" + " --- |" * 9)
    rows, peaks = [], []
    for name, unknowns, make in zoo():
        if not options.smallest <= unknowns <= options.largest or not any(
            part in name for part in options.only
        ):
            continue
        asked = [(repeats, columns) for columns in options.rhs for repeats in options.repeats]
        rows += [kept[name, *one] for one in asked if (name, *one) in kept]
        asked = [one for one in asked if (name, *one) not in kept]
        if time.perf_counter() > end or not (asked or options.memory):
            continue
        question = Question(make(), clock) if asked else None
        for columns in sorted({columns for _, columns in asked}):
            if time.perf_counter() > end:
                break
            repeats = [r for r, c in asked if c == columns]
            found = ask(name, question, repeats, columns, options.budget, options.reach)
            rows += found
            print(*found, sep="\n", flush=True)
            if options.rows is not None:
                with options.rows.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(asdict(row)) + "\n" for row in found)
        if options.memory and unknowns >= 10_000:
            peaks += apart(partial(memory_of, name, make, options.budget))
    within = sum(row.ratio <= 1.3 for row in rows)
    if rows:
        share, worst = 100 * within / len(rows), max(row.ratio for row in rows)
        print(
            f"\nwithin 1.3 of the best: {within} of {len(rows)} ({share:.0f} %); worst {worst:.2f}"
        )
    if peaks:
        print("\n| matrix | plan | predicted MB | measured MB | predicted / measured |")
        print("|" + " --- |" * 5)
        near = sum(abs(predicted / measured - 1) <= 0.2 for _, _, predicted, measured in peaks)
        for name, choice, predicted, measured in peaks:
            print(
                f"| {name} | {choice} | {predicted / 1e6:.1f} | {measured / 1e6:.1f} | {predicted / measured:.2f} |"
            )
        print(
            f"\nwithin 20 % of the measured: {near} of {len(peaks)} ({100 * near / len(peaks):.0f} %)"
        )


if __name__ == "__main__":
    main()
