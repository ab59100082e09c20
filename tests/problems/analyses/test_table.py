"""The table of the documentation: which physics goes with which analysis."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.helpers.samples import SAMPLES
from torch_sla import EigenProblem, SweepProblem, TransientProblem, load_problem
from torch_sla.errors import SpecError
from torch_sla.problems.registry import PHYSICS

if TYPE_CHECKING:
    from torch_sla.problems.specs.problem import FieldProblem

PAGE = Path(__file__).parents[3] / "docs" / "analyses.md"
FIELDS = [kind for kind, entry in PHYSICS.items() if entry.kind == "field"]
ANALYSES = (
    lambda of: EigenProblem(of=of, k=1),
    lambda of: TransientProblem(of=of, end=0.1, steps=2, scheme="backward_euler"),
    lambda of: TransientProblem(of=of, end=0.1, steps=2, scheme="newmark"),
    lambda of: SweepProblem(of=of, cases={next(iter(of.declared)): [1.0, 1.1]}),
)


def written() -> dict[str, list[bool]]:
    rows = [line.split("|")[1:-1] for line in PAGE.read_text("utf-8").splitlines() if "| `" in line]
    return {
        row[0].strip(" `"): [cell.strip() == "yes" for cell in row[1:]]
        for row in rows[-len(FIELDS) :]
    }


def physics(kind: str, number: int) -> FieldProblem:
    """A sample; for modes one whose operator is symmetric."""
    samples = SAMPLES[kind]
    if kind == "hyperelasticity" and number == 0:
        return samples["energy"].make()
    of = next(iter(samples.values())).make()
    return of.updated(advection=None) if kind == "poisson" and number == 0 else of


@pytest.mark.parametrize("kind", FIELDS)
def test_the_table_is_what_runs(kind: str, tmp_path) -> None:
    for number, expected in enumerate(written()[kind]):
        of = physics(kind, number)
        if not expected:
            with pytest.raises(SpecError, match=r"has no (modes|time): .{20}|schemes here: "):
                ANALYSES[number](of)
            continue
        problem = ANALYSES[number](of)
        problem.to_yaml(tmp_path / "p.yaml")
        again = load_problem(tmp_path / "p.yaml")
        assert again.spec_hash == problem.spec_hash
        assert again.solve().info.converged
