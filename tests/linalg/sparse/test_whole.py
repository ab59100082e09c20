from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from torch_sla import SparseTensor, load_sparse, save_sparse
from torch_sla.linalg.sparse.whole import whole

if TYPE_CHECKING:
    from typing import BinaryIO


def test_what_stops_in_the_middle_leaves_the_older_file(tmp_path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def stopped() -> None:
        with whole(path) as beside:
            beside.write_text("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with whole(path) as beside:
        beside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_a_link_stays_one_and_errors_name_the_file_asked_for(tmp_path) -> None:
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    real.write_text("old")
    link.symlink_to(real)
    with whole(link) as beside:
        beside.write_text("new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    missing = tmp_path / "a.txt"

    def gone() -> None:
        with whole(missing) as beside:
            beside.write_text("x")
            beside.unlink()

    with pytest.raises(FileNotFoundError) as caught:
        gone()
    assert caught.value.filename == str(missing)


def test_folders_are_made(tmp_path) -> None:
    path = tmp_path / "not" / "yet" / "a.txt"
    with whole(path) as beside:
        beside.write_text("x")
    assert path.read_text() == "x"
    assert list(path.parent.iterdir()) == [path]
    for under in (path / "b.txt", path / "c" / "b.txt"):
        with pytest.raises(NotADirectoryError, match=r"a\.txt"), whole(under):
            pass


def test_a_disk_that_is_full_names_the_file_asked_for(tmp_path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full() -> None:
        with whole(path) as beside:
            beside.write_text("half of the n")
            raise OSError(errno.ENOSPC, "full")  # as the system says it: without a name

    with pytest.raises(OSError, match="full") as caught:
        full()
    assert caught.value.filename == str(path)
    assert str(path) in str(caught.value)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".npz", ".mtx"])
def test_matrices_are_written_whole(tmp_path, suffix: str, monkeypatch) -> None:
    path = tmp_path / f"a{suffix}"
    index = torch.arange(3)
    A = SparseTensor(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), index, index, (3, 3))
    save_sparse(A, path)
    before = path.read_bytes()

    def stopped(file: Path | BinaryIO, *_: object, **__: object) -> None:
        if isinstance(file, Path):
            file.write_bytes(before[:10])
        else:
            file.write(before[:10])
        raise KeyboardInterrupt

    monkeypatch.setattr("numpy.savez", stopped)
    monkeypatch.setattr("scipy.io.mmwrite", stopped)
    with pytest.raises(KeyboardInterrupt):
        save_sparse(A * 2.0, path)
    assert path.read_bytes() == before
    assert torch.equal(load_sparse(path).to_dense(), A.to_dense())
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".npz", ".mtx", ".safetensors"])
@pytest.mark.parametrize("least", [0, 4000])
def test_a_matrix_that_does_not_fit_is_an_error(tmp_path, suffix: str, least: int) -> None:
    """As on a full disk; writers that do not look put an empty file into the place of the older one."""
    resource = pytest.importorskip("resource")
    path = tmp_path / f"a{suffix}"
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    index = torch.arange(1000)
    A = SparseTensor(torch.rand(1000, dtype=torch.float64), index, index, (1000, 1000))
    save_sparse(A, path)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (least, limits[1]))
    try:
        with pytest.raises(OSError, match=rf"File too large.*a\{suffix}'"):
            save_sparse(A * 2.0, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_made_is_told_by_its_own_name(tmp_path, monkeypatch) -> None:
    """Though taking away what is not there fails as well on a disk that cannot be written to."""

    def refused(file: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "read-only", str(file))

    monkeypatch.setattr("pathlib.Path.unlink", refused)
    with pytest.raises(OSError, match=r"read-only: '.*/a\.txt'"), whole(tmp_path / "a.txt") as file:
        refused(file)


def test_who_writes_the_same_file_at_the_same_time_is_not_in_the_way(tmp_path) -> None:
    path = tmp_path / "a.txt"
    with whole(path) as one, whole(path) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]
