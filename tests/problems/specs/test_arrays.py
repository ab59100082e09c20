"""Numbers in files."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from torch_sla.errors import SpecError
from torch_sla.problems.specs.arrays import numbers

if TYPE_CHECKING:
    from pathlib import Path


class Broken:
    """Fails to import matplotlib as one built for another NumPy does."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "matplotlib":
            raise AttributeError("_ARRAY_API not found")


def test_a_matplotlib_that_cannot_be_loaded_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "k.png").write_bytes(b"")
    for name in [n for n in sys.modules if n.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(SpecError, match=r"k: reading an image needs matplotlib.*_ARRAY_API"):
        numbers(str(tmp_path / "k.png"), None, "k")
