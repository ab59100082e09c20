"""A rank that ends, fails, hangs or disagrees ends all of them, with one error that names it. Real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from torch.distributed import HashStore

from torch_sla.errors import ArgumentError
from torch_sla.linalg.distributed.failures import agree
from torch_sla.linalg.distributed.launch import launched, together
from torch_sla.linalg.distributed.watch import NO_STORE, Watch, _Silence

pytestmark = pytest.mark.distributed
WATCH = "torch_sla.linalg.distributed.watch"

PROGRAM = """
import sys, time
import torch, torch.distributed as dist
from torch_sla.linalg.distributed.failures import agree, guarded
from torch_sla.linalg.distributed.launch import launched

def total():
    with guarded("sum"):
        dist.all_reduce(torch.ones(1))

try:
    with launched("cpu", timeout=float(sys.argv[2])) as ranks:
        total()
        print("ready", flush=True)
        %s
        total()
    print("done")
except Exception as error:
    print(type(error).__name__, error, flush=True)
    sys.exit(3)
"""


class Ended(NamedTuple):
    code: int
    said: str


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def run(
    action: str, *, timeout: float = 60.0, kill: int | None = None
) -> tuple[list[Ended], float]:
    """Run three ranks that do `action`; end one by its pid once it is ready. Also the seconds after that."""
    port = free_port()
    processes = []
    for rank in range(3):
        environment = {
            **os.environ,
            "RANK": str(rank),
            "WORLD_SIZE": "3",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        command = [sys.executable, "-c", PROGRAM % action, action, str(timeout)]
        processes.append(
            subprocess.Popen(
                command,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        )
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        start = time.monotonic()
        if kill is not None:
            os.kill(processes[kill].pid, signal.SIGKILL)
        said = [process.communicate(timeout=60)[0] for process in processes]
        return [
            Ended(process.returncode, text) for process, text in zip(processes, said, strict=True)
        ], time.monotonic() - start
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def test_ranks_that_disagree_all_say_who_says_what() -> None:
    ended, _ = run(
        "agree({'dtype': 'float64'}); agree({'dtype': 'float64', 'shape': (3, 4 + (ranks.rank == 1))})"
    )
    assert [e.code for e in ended] == [3, 3, 3]
    for e in ended:
        assert (
            "RankError the ranks disagree on shape: ranks 0, 2 have (3, 4); rank 1 has (3, 5)"
            in e.said
        )


@pytest.mark.parametrize("failing", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_the_failure_of_one_is_what_all_report(failing: int) -> None:
    ended, seconds = run(f"if ranks.rank == {failing}: raise ValueError('kappa is negative')")
    assert [e.code for e in ended] == [3, 3, 3]
    for rank, e in enumerate(ended):
        if rank == failing:
            assert e.said == "ValueError kappa is negative\n"
        else:
            assert f"RankError sum: rank {failing} failed: kappa is negative" in e.said
    # Long before the timeout: what wakes the others is the closed connection.
    assert seconds < 15


def test_a_killed_rank_is_named_by_one_that_waits_and_ends_one_that_works() -> None:
    ended, seconds = run("if ranks.rank: time.sleep(90)", kill=1)
    assert [e.code for e in ended] == [3, -signal.SIGKILL, 1]
    assert "RankError sum: rank 1 does not answer any more" in ended[0].said
    assert ended[2].said == ""
    assert seconds < 45


@pytest.mark.slow
def test_a_rank_that_hangs_is_given_up_after_the_timeout() -> None:
    ended, seconds = run("if ranks.rank == 2: time.sleep(60)", timeout=3.0)
    assert [e.code for e in ended] == [3, 3, 1]
    for e in ended[:2]:
        assert "RankError sum: the ranks waited for different things or too long" in e.said
    assert seconds < 30


def lonely(monkeypatch: pytest.MonkeyPatch, timeout: float, *, beating: float) -> list[int]:
    """Watch a rank that beats for some seconds; how this process was ended."""
    codes: list[int] = []
    monkeypatch.setattr(f"{WATCH}.os._exit", codes.append)
    monkeypatch.setattr(f"{WATCH}._LEAST", 0.0)
    store = HashStore()
    first, second = Watch(store, 0, 2, timeout), Watch(store, 1, 2, 2.5 * timeout)
    second.start()
    first.start()
    time.sleep(beating)
    assert not codes
    second.stop()
    end = time.monotonic() + 30.0
    while not codes and time.monotonic() < end:
        time.sleep(0.05)
    first.stop()
    return codes


def test_a_rank_that_nobody_waits_for_is_missed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert lonely(monkeypatch, 1.0, beating=1.5) == [1]
    assert caplog.messages[0].startswith("rank 1 does not answer any more")


class _DeadStore(HashStore):
    """Nothing that is asked of it comes back, as where its machine is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.gone = threading.Event()
        self.dead = False

    def check(self, keys: list[str]) -> bool:
        if self.dead:
            self.gone.wait(30.0)
        return bool(super().check(keys))


def test_a_store_that_is_gone_is_missed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(f"{WATCH}.os._exit", lambda code: ended.set() if code == 1 else None)
    monkeypatch.setattr(f"{WATCH}._LEAST", 0.0)
    store = _DeadStore()
    watch = Watch(store, 0, 1, 1.5)
    watch.start()
    assert not ended.wait(0.5)
    store.dead = True
    assert ended.wait(10.0)
    store.gone.set()
    watch.stop()
    assert caplog.messages == [NO_STORE]


def test_silence_that_the_listener_slept_through_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([0.0, 1.0, 2.0, 100.0, 101.0, 102.0])
    monkeypatch.setattr(f"{WATCH}.time", SimpleNamespace(monotonic=lambda: next(clock)))
    silence = _Silence(3.0)
    assert [silence.of(state) for state in "aaaab"] == [0.0, 1.0, 4.0, 5.0, 0.0]


def test_one_process_needs_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert not together()
    with launched("cpu") as ranks:
        assert (ranks.rank, ranks.size, ranks.first) == (0, 1, True)
        agree({"anything": 1})


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK='x' is no whole number"),
        ({"RANK": "5", "WORLD_SIZE": "2"}, "RANK=5 is not one of WORLD_SIZE=2"),
    ],
)
def test_an_impossible_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", **environment}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ArgumentError, match=message), launched("cpu"):
        pass


def test_a_timeout_is_a_positive_number() -> None:
    with pytest.raises(ArgumentError, match="timeout"), launched("cpu", timeout=0.0):
        pass
