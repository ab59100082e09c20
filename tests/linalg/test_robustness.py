"""Hard matrices: a small residual or a refusal, from every solver; the figures are in docs/linalg/robustness.md."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from torch_sla.linalg import SparseTensor

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("robustness", ROOT / "benchmarks" / "robustness.py")
figures = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(figures)
MATRICES = figures.matrices(quick=True)


@pytest.mark.parametrize("name", MATRICES)
def test_a_small_residual_or_a_refusal(name: str) -> None:
    if name.startswith("pyamg"):
        pytest.importorskip("pyamg", reason="pyamg, which ships this matrix, is not installed")
    A = MATRICES[name]()
    S = SparseTensor.from_scipy(A)
    cells = {way: figures.residual(A, S, options) for way, options in figures.WAYS}
    for way, cell in cells.items():
        assert cell == "-" or cell.startswith("[") or float(cell) <= 2e-10, way
    if name != "Hilbert 12":  # singular to working precision
        assert float(cells["auto"]) <= 1e-14
        assert float(cells["scipy superlu"]) <= 1e-14


def test_the_page_has_every_matrix() -> None:
    page = (ROOT / "docs" / "linalg" / "robustness.md").read_text(encoding="utf-8")
    for name in figures.matrices(quick=False):
        assert f"| {name} |" in page
