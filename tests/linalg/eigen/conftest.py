"""Small matrices, by dense methods and by those for large ones."""

from __future__ import annotations

import pytest

from torch_sla.linalg.eigen import complement, general, hermitian, singular


@pytest.fixture(params=["dense", "iterative"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of them."""
    if request.param == "iterative":
        for module in (complement, general, hermitian, singular):
            monkeypatch.setattr(module, "_DENSE", 0)
        for module in (general, hermitian, singular):
            monkeypatch.setattr(module, "_DENSE_LIMIT", 0)
    return str(request.param)
