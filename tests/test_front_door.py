"""Names are lazy, typed in the stub, and cost nothing before they are used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import torch_sla

STUB = Path(torch_sla.__file__).with_suffix(".pyi")
HEAVY = ["yaml", "rich", "typer", "meshio", "matplotlib", "scipy"]


def test_stub_and_all_agree() -> None:
    stubbed = {"__version__"}
    for node in ast.parse(STUB.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            stubbed |= {alias.asname or alias.name for alias in node.names}
    assert stubbed == set(torch_sla.__all__)


def test_every_name_loads() -> None:
    for name in torch_sla.__all__:
        assert getattr(torch_sla, name) is not None
    assert dir(torch_sla) == torch_sla.__all__
    with pytest.raises(AttributeError, match="PoisonProblem"):
        torch_sla.PoisonProblem  # noqa: B018


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import torch_sla", [*HEAVY, "torch", "pydantic"]),
        ("from torch_sla.linalg import SparseTensor", [*HEAVY, "pydantic"]),
        (
            "from torch_sla import PoissonProblem",
            [*HEAVY, "torch_sla.assembly", "torch_sla.linalg"],
        ),
    ],
)
def test_what_an_import_loads(statement: str, absent: list[str]) -> None:
    # matplotlib has a start-up file of its own in some installations; only its package counts.
    code = f"{statement}\nimport sys\nprint([m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
