from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
import torch

from torch_sla.errors import ArgumentError
from torch_sla.problems import checkpoint
from torch_sla.problems.checkpoint import Checkpoints

if TYPE_CHECKING:
    from pathlib import Path

WHO = {"spec_hash": "abc", "versions": {"torch": "2"}}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_comes_back_bit_for_bit(tmp_path) -> None:
    rng = torch.Generator().manual_seed(5)
    tensors = {
        "u": torch.randn(3, 4, generator=rng, dtype=torch.float64),
        "transposed": torch.randn(3, 4, generator=rng).T,
        "z": torch.randn(5, generator=rng, dtype=torch.complex128).conj(),
        "half": torch.randn(7, generator=rng).to(torch.bfloat16),
        "index": torch.arange(4, dtype=torch.int32),
        "mask": torch.tensor([True, False]),
        "number": torch.tensor(0.1, dtype=torch.float64),
        "none": torch.empty(0, 3),
        "odd": torch.tensor([float("nan"), -0.0, 5e-324], dtype=torch.float64),
    }
    data = {"h": 0.1 + 0.2, "done": [1, 2], "text": "é"}
    Checkpoints(tmp_path, WHO).save(7, tensors, data)
    found = Checkpoints(tmp_path, WHO).latest()
    assert found is not None
    assert (found.step, found.data) == (7, data)
    assert list(found.tensors) == list(tensors)
    for name, value in tensors.items():
        again = found.tensors[name]
        assert (again.dtype, again.shape) == (value.dtype, value.shape), name
        bits = [v.resolve_conj().contiguous().reshape(-1).view(torch.uint8) for v in (again, value)]
        assert torch.equal(*bits), name
    found.tensors["u"].add_(1)  # its own memory


def test_the_newest_stay_and_records_all(tmp_path) -> None:
    states = Checkpoints(tmp_path, WHO, keep=2)
    for step in (1, 2, 5):
        states.save(step, {}, records={"T": torch.full((2,), float(step))})
    assert names(tmp_path) == [
        *(f"records-{step:09d}.ckpt" for step in (1, 2, 5)),
        *(f"state-{step:09d}.ckpt" for step in (2, 5)),
    ]
    assert [[float(part["T"][0]) for part in states.at(n).records] for n in (2, 5)] == [
        [1.0, 2.0],
        [1.0, 2.0, 5.0],
    ]


@pytest.mark.parametrize("at", [0, 30, 120, -1])
def test_a_damaged_newest_is_skipped_and_said(tmp_path, caplog, at: int) -> None:
    states = Checkpoints(tmp_path, WHO)
    states.save(1, {"u": torch.ones(3)})
    states.save(2, {"u": torch.zeros(3)})
    newest = tmp_path / "state-000000002.ckpt"
    content = bytearray(newest.read_bytes())
    content[at] ^= 1
    newest.write_bytes(content)
    with caplog.at_level(logging.WARNING, logger="torch_sla"):
        found = states.latest()
    assert found is not None
    assert found.step == 1
    assert "state-000000002.ckpt" in caplog.text
    newest.write_bytes(content[:40])
    assert states.latest().step == 1  # cut short


@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_state_without_all_its_records_is_none(tmp_path, caplog, step: int, gone: bool) -> None:
    """Rows of a file that was gone were left out in silence."""
    states = Checkpoints(tmp_path, WHO)
    for n in (1, 2, 3):
        states.save(n, {}, records={"T": torch.full((1,), float(n))})
    path = tmp_path / f"records-00000000{step}.ckpt"
    content = path.read_bytes()
    path.unlink() if gone else path.write_bytes(content[:-1])
    with caplog.at_level(logging.WARNING, logger="torch_sla"):
        found = states.latest()
    assert (None if found is None else found.step) == (2 if step == 3 else None)
    assert path.name in caplog.text


def test_records_of_a_run_that_did_not_get_as_far_as_its_state_are_nobodys(tmp_path) -> None:
    """They stood before those of the run that began anew, or went on from before."""
    for first in (None, 3):
        folder = tmp_path / str(first)
        states = Checkpoints(folder, WHO)
        if first is not None:
            states.save(first, {}, records={"T": torch.tensor([3.0])})
        states.save(5, {}, records={"T": torch.tensor([4.0, 5.0])})
        (folder / "state-000000005.ckpt").unlink()  # killed before this was written
        states = Checkpoints(folder, WHO)
        found = states.latest()
        assert (None if found is None else found.step) == first
        states.save(7, {}, records={"T": torch.tensor([6.0, 7.0])})
        rows = [part["T"].tolist() for part in Checkpoints(folder, WHO).latest().records]
        assert rows == [*([[3.0]] if first else []), [6.0, 7.0]]


def test_a_step_that_is_saved_again_has_its_last_records(tmp_path) -> None:
    states = Checkpoints(tmp_path, WHO)
    for step, value in ((1, 1.0), (2, 2.0), (2, 3.0), (4, 4.0)):
        states.save(step, {}, records={"T": torch.tensor(value)})
    assert [float(part["T"]) for part in states.latest().records] == [1.0, 3.0, 4.0]


def test_records_that_no_state_needs_go(tmp_path) -> None:
    states = Checkpoints(tmp_path, WHO)
    for step in range(1, 7):
        since = 3 if step > 3 else 0
        states.save(step, {}, records={"T": torch.tensor(float(step))}, since=since)
    assert [float(part["T"]) for part in states.latest().records] == [4.0, 5.0, 6.0]
    assert [n for n in names(tmp_path) if n.startswith("records")] == [
        f"records-{step:09d}.ckpt" for step in (4, 5, 6)
    ]


def test_what_only_begins_like_a_state_is_none(tmp_path) -> None:
    states = Checkpoints(tmp_path, WHO)
    states.save(1, {"u": torch.ones(1)})
    (tmp_path / "state-000000001 (copy).ckpt").write_bytes(b"")
    (tmp_path / "state-000000002.ckpt").write_bytes(b"")
    assert states.latest().step == 1


def test_another_run_is_an_error_that_says_what_differs(tmp_path) -> None:
    Checkpoints(tmp_path, WHO).save(1, {})
    other = {"spec_hash": "abc", "versions": {"torch": "3"}}
    with pytest.raises(ArgumentError, match=r"versions\.torch was '2', and is '3'"):
        Checkpoints(tmp_path, other).latest()


@pytest.mark.parametrize("form", [b"1", b"2", b"17"])
def test_a_state_of_another_version_is_an_error_that_says_what_to_do(tmp_path, form) -> None:
    """It is not damaged, and what it holds may mean something else, so that no older one takes its place."""
    states = Checkpoints(tmp_path, WHO)
    for step in (1, 2):
        states.save(step, {"u": torch.ones(3)})
    path = tmp_path / "state-000000002.ckpt"
    content = path.read_bytes()
    path.write_bytes(b"torch-sla checkpoint " + form + content[content.index(b"\n") :])
    with pytest.raises(ArgumentError, match=rf"000002.ckpt has form {int(form)}, .* start again"):
        states.latest()


def test_a_write_that_fails_leaves_the_older_state(tmp_path, monkeypatch) -> None:
    states = Checkpoints(tmp_path, WHO)
    states.save(1, {"u": torch.ones(3)})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match=r"no space.*state-000000002\.ckpt"):
        states.save(2, {"u": torch.zeros(3)})
    assert names(tmp_path) == ["state-000000001.ckpt"]
    assert states.latest().step == 1


def test_a_kill_while_writing_leaves_whole_states(tmp_path) -> None:
    script = """
    import os, signal, sys, torch
    from torch_sla.problems import checkpoint
    states = checkpoint.Checkpoints(sys.argv[1], {"spec_hash": "abc", "versions": {"torch": "2"}})
    states.save(1, {"u": torch.ones(3)})
    checkpoint.os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
    states.save(2, {"u": torch.zeros(3)})
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    assert subprocess.run(command, check=False, env=os.environ).returncode == -signal.SIGKILL
    states = Checkpoints(tmp_path, WHO)
    assert states.latest().step == 1
    states.save(2, {})
    assert states.latest().step == 2
