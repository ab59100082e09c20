from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from typing import Any

import pytest
import torch

from torch_sla.errors import ArgumentError
from torch_sla.problems import folder as folders
from torch_sla.problems.checkpoint import Checkpoints
from torch_sla.problems.folder import claimed, forget, opened

WHO = {"spec_hash": "abc", "versions": {"torch": "2"}}


def begun(*where: Any, who: Any = WHO) -> Any:
    with opened(*where, who) as found:
        return found


def test_start_and_go_on(tmp_path) -> None:
    assert begun(None, None) == (None, None)
    run = tmp_path / "run"
    states, found = begun(run, None)
    assert found is None
    states.save(3, {})
    with pytest.raises(ArgumentError, match="holds a run already"):
        begun(run, None)
    with pytest.raises(ArgumentError, match="give one of them"):
        begun(run, run)
    with pytest.raises(ArgumentError, match="no folder"):
        begun(None, tmp_path / "missing")
    assert begun(None, run)[1].step == 3
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


HALVES = ("state-000000002.123.part", "records-000000002.123.part", ".history.123-4.csv")


def test_halves_that_a_killed_run_left_go_when_it_goes_on(tmp_path) -> None:
    places = (tmp_path, tmp_path / "ranks-2" / "1")
    mine = ("notes.part", "state-of-the-art.part", ".history.old.csv", ".thesis.123-4.csv")
    for place in places:
        Checkpoints(place, WHO).save(1, {"u": torch.ones(2)})
        for name in (*HALVES, *mine):
            (place / name).write_bytes(b"half")
    with opened(None, tmp_path, WHO):
        for place in places:
            names = {path.name for path in place.iterdir()} - {"run.lock", "ranks-2"}
            assert names == {"state-000000001.ckpt", *mine}


def test_halves_stay_where_another_run_may_be_writing_them(tmp_path, monkeypatch) -> None:
    Checkpoints(tmp_path, WHO).save(1, {"u": torch.ones(2)})
    half = tmp_path / HALVES[0]
    with opened(None, tmp_path, WHO):
        half.write_bytes(b"half")
        with pytest.raises(ArgumentError, match="is at work in"), opened(None, tmp_path, WHO):
            pass
        assert half.exists()
    monkeypatch.setattr(folders, "_LOCKS", False)
    with opened(None, tmp_path, WHO):
        assert half.exists()


def test_a_run_of_which_nothing_is_whole_does_not_begin_again_in_silence(tmp_path) -> None:
    states = Checkpoints(tmp_path, {})
    for step in (1, 2):
        states.save(step, {"u": torch.ones(2)})
    for path in tmp_path.glob("state-*"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArgumentError, match=r"every state in .* is damaged"):
        begun(None, tmp_path, who={})


def test_one_at_a_time_is_at_work_in_a_folder(tmp_path) -> None:
    """Two that began together took each other's states away."""
    run = tmp_path / "run"
    with opened(run, None, WHO) as (states, _):
        for where in ((run, None), (None, run)):
            with pytest.raises(ArgumentError, match=rf"process {os.getpid()} on .* is at work"):
                begun(*where)
        states.save(1, {})
        script = """
        import sys
        from torch_sla.errors import ArgumentError
        from torch_sla.problems.folder import opened
        try:
            with opened(None, sys.argv[1], {"spec_hash": "abc", "versions": {"torch": "2"}}):
                sys.exit("nobody said anything")
        except ArgumentError as error:
            print(error)
        """
        command = [sys.executable, "-c", textwrap.dedent(script), str(run)]
        other = subprocess.run(command, check=True, capture_output=True, text=True)
        assert f"process {os.getpid()} on " in other.stdout
    assert begun(None, run)[1].step == 1
    assert [path.name for path in run.iterdir()] == ["state-000000001.ckpt"]


def test_a_lock_ends_with_its_process_and_nothing_empty_stays(tmp_path) -> None:
    run = tmp_path / "a" / "run"
    script = """
    import os, signal, sys
    from torch_sla.problems.folder import claimed
    with claimed(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(run)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert [path.name for path in run.iterdir()] == ["run.lock"]
    with opened(run, None, WHO):
        pass
    assert list(run.iterdir()) == []
    run.rmdir()
    run.parent.rmdir()
    with pytest.raises(KeyboardInterrupt), opened(run, None, WHO):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with claimed(run):
        forget(run)


def test_a_system_without_locks_does_without(tmp_path, monkeypatch) -> None:
    def none(*_: object) -> None:
        raise OSError(37, "no locks available")

    monkeypatch.setattr(folders.fcntl, "flock", none)
    with claimed(tmp_path), claimed(tmp_path):
        pass
    monkeypatch.setattr(folders, "_LOCKS", False)
    with claimed(tmp_path), claimed(tmp_path):
        pass
