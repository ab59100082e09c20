"""Rows of arrays in archives, against NumPy's own reading of the whole."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

from torch_sla.linalg.sparse import archive as module
from torch_sla.linalg.sparse.archive import BROKEN, Archive

if TYPE_CHECKING:
    from pathlib import Path

ARRAYS = {
    "points": np.arange(60.0).reshape(12, 5) ** 2,
    "blocks": np.arange(84, dtype=np.int32).reshape(7, 4, 3),
    "turned": np.arange(9, dtype=">f4"),
    "column": np.asfortranarray(np.arange(6.0)),
    "bytes": np.arange(11, dtype=np.uint8),
}


@pytest.fixture(params=["stored", "compressed", "padded"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "arrays.npz"
    if request.param == "padded":  # what a tool that aligns members writes before them
        np.savez(tmp_path / "plain.npz", **ARRAYS)
        with zipfile.ZipFile(tmp_path / "plain.npz") as plain, zipfile.ZipFile(path, "w") as out:
            for k, name in enumerate(plain.namelist()):
                info = zipfile.ZipInfo(name)
                info.extra = b"\xfe\xca" + bytes([k + 1, 0]) + bytes(k + 1)
                out.writestr(info, plain.read(name))
    else:
        (np.savez if request.param == "stored" else np.savez_compressed)(path, **ARRAYS)
    return path


@pytest.mark.parametrize("block", [8, 1 << 22])
def test_any_rows(path: Path, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    archive = Archive(path)
    assert archive.names == set(ARRAYS)
    for name, whole in ARRAYS.items():
        n = len(whole)
        assert archive.shape(name) == whole.shape
        np.testing.assert_array_equal(archive.small(name), whole)
        for begin, end in [(0, n), (0, 1), (n - 1, n), (2, 5), (3, 3), (n, n)]:
            found = archive.read(name, begin, end).numpy()
            assert found.dtype == whole.dtype.newbyteorder("=")
            np.testing.assert_array_equal(found, whole[begin:end])
        for begin, end in [(0, n + 1), (-1, 2), (3, 2)]:
            with pytest.raises(ValueError, match=rf"no \[{begin}:{end}\]"):
                archive.read(name, begin, end)


def test_what_cannot_be_read_in_rows_is_said(tmp_path: Path) -> None:
    path = tmp_path / "arrays.npz"
    np.savez(path, columns=np.asfortranarray(np.ones((3, 2))), one=np.array(2.0))
    archive = Archive(path)
    with pytest.raises(ValueError, match="by columns: True"):
        archive.read("columns", 0, 1)
    with pytest.raises(ValueError, match=r"no \[0:1\]"):
        archive.read("one", 0, 1)
    with pytest.raises(BROKEN):
        archive.read("absent", 0, 1)
