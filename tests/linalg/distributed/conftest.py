"""The processes that these tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.helpers.ranks import Ranks

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def ranks() -> Iterator[Ranks]:
    pool = Ranks()
    yield pool
    pool.stop()
