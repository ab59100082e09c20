"""What every test shares."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
import torch

from tests.helpers import races
from tests.helpers.ranks import Ranks
from tests.helpers.simulated import SIMULATED, install

if TYPE_CHECKING:
    from collections.abc import Iterator


INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton") is not None

if INTERPRETED:
    races.install()  # beneath what delays kernels
if SIMULATED:
    install()  # before test files ask whether there is a device


def pytest_configure(config: pytest.Config) -> None:
    """Give the workers of pytest-xdist, and what they start, one thread each; tests of threads ask for more."""
    if hasattr(config, "workerinput"):
        torch.set_num_threads(1)
        os.environ |= dict.fromkeys(
            ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"
        )
    if INTERPRETED:
        # NumPy warns of what a card does in silence, and of how the interpreter reads scalars.
        for told in ("invalid value encountered", "divide by zero", "overflow encountered"):
            config.addinivalue_line("filterwarnings", f"ignore:{told}:RuntimeWarning")
        config.addinivalue_line(
            "filterwarnings", "ignore:Conversion of an array:DeprecationWarning"
        )


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(20261)


@pytest.fixture(autouse=True)
def _default_dtype_kept() -> object:
    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)


@pytest.fixture(autouse=True)
def _no_races() -> Iterator[None]:
    yield
    assert not list(races.found())


@pytest.fixture(scope="session")
def ranks() -> Iterator[Ranks]:
    """The processes that distributed tests share, started on first use."""
    pool = Ranks()
    yield pool
    pool.stop()
