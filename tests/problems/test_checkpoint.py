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
from torch_sla.problems.checkpoint import Checkpoints, forget, opened

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
    assert [float(part["T"][0]) for part in states.records(2)] == [1.0, 2.0]
    assert not (tmp_path / "records-000000005.ckpt").exists()  # of a future that is gone


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


def test_damaged_records_are_an_error(tmp_path) -> None:
    states = Checkpoints(tmp_path, WHO)
    states.save(1, {}, records={"T": torch.ones(3)})
    path = tmp_path / "records-000000001.ckpt"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArgumentError, match="start again in another folder"):
        states.records(1)


def test_another_run_is_an_error_that_says_what_differs(tmp_path) -> None:
    Checkpoints(tmp_path, WHO).save(1, {})
    other = {"spec_hash": "abc", "versions": {"torch": "3"}}
    with pytest.raises(ArgumentError, match=r"versions\.torch was '2', and is '3'"):
        Checkpoints(tmp_path, other).latest()


def test_a_write_that_fails_leaves_the_older_state(tmp_path, monkeypatch) -> None:
    states = Checkpoints(tmp_path, WHO)
    states.save(1, {"u": torch.ones(3)})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
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


def test_start_and_go_on(tmp_path) -> None:
    assert opened(None, None, WHO) == (None, None)
    run = tmp_path / "run"
    states, found = opened(run, None, WHO)
    assert found is None
    states.save(3, {})
    with pytest.raises(ArgumentError, match="holds a run already"):
        opened(run, None, WHO)
    with pytest.raises(ArgumentError, match="give one of them"):
        opened(run, run, WHO)
    with pytest.raises(ArgumentError, match="no folder"):
        opened(None, tmp_path / "missing", WHO)
    assert opened(None, run, WHO)[1].step == 3
    with pytest.raises(ArgumentError, match="at least 1"):
        Checkpoints(run, WHO, keep=0)


def test_a_run_at_its_end_takes_nothing_along(tmp_path) -> None:
    folder = tmp_path / "plate.run"
    for place in (folder, folder / "ranks-2" / "0", folder / "ranks-2" / "1"):
        Checkpoints(place, {}).save(1, {"u": torch.ones(2)}, records={"p": torch.ones(1)})
        (place / "state-000000002.123.part").write_bytes(b"half")
    (folder / "thesis.txt").write_text("mine")
    forget(folder)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
    (folder / "thesis.txt").unlink()
    forget(folder)
    assert not folder.exists()
    forget(folder)


def test_a_run_of_which_nothing_is_whole_does_not_begin_again_in_silence(tmp_path) -> None:
    states = Checkpoints(tmp_path, {})
    for step in (1, 2):
        states.save(step, {"u": torch.ones(2)})
    for path in tmp_path.glob("state-*"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArgumentError, match=r"every state in .* is damaged"):
        opened(None, tmp_path, {})
