"""What every test shares."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(20261)


@pytest.fixture(autouse=True)
def _default_dtype_kept() -> object:
    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)
