"""Processes of torch.distributed on this machine, started once and used by many tests.

A *program* is a function of a module that can be imported, ``program(group, *arguments)``; every rank of
the group runs it, and what each returns comes back. Groups of every size live on the same processes, so that
importing torch is paid for once.
"""

from __future__ import annotations

import faulthandler
import io
import os
import tempfile
import traceback
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

__all__ = ["SIZES", "Ranks"]

SIZES = (1, 2, 3, 4, 7)
_PATIENCE = timedelta(seconds=60)


def _packed(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _unpacked(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), weights_only=False)


def _work(rank: int, world: int, store: str, pipe: Connection) -> None:
    """Run programs until told to stop."""
    faulthandler.enable()
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world, timeout=_PATIENCE
    )
    groups = {size: dist.new_group(list(range(size)), timeout=_PATIENCE) for size in SIZES}
    pipe.send_bytes(b"ready")
    while True:
        try:
            job = pipe.recv_bytes()
        except EOFError:
            break
        if job == b"stop":
            break
        program, size, arguments = _unpacked(job)
        torch.manual_seed(20261)
        try:
            answer = (True, program(groups[size], *arguments))
        except Exception:  # noqa: BLE001  the parent raises it
            answer = (False, traceback.format_exc())
        pipe.send_bytes(_packed(answer))
    dist.destroy_process_group()


class Ranks:
    """The largest group of `SIZES`, started on first use and kept; after a failure it is started anew."""

    def __init__(self) -> None:
        self._processes: list[Any] = []
        self._pipes: list[Connection] = []

    def _start(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        world = max(SIZES)
        self._folder = tempfile.TemporaryDirectory()
        store = str(Path(self._folder.name) / "store")
        for rank in range(world):
            here, there = spawn.Pipe()
            process = spawn.Process(target=_work, args=(rank, world, store, there), daemon=True)
            process.start()
            there.close()
            self._processes.append(process)
            self._pipes.append(here)
        for pipe in self._pipes:
            pipe.recv_bytes()

    def run(self, size: int, program: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Return what `program` returned on each of `size` ranks."""
        if not self._processes:
            self._start()
        job = _packed((program, size, arguments))
        for pipe in self._pipes[:size]:
            pipe.send_bytes(job)
        answers = []
        for rank, pipe in enumerate(self._pipes[:size]):
            if not pipe.poll(2 * _PATIENCE.total_seconds()):
                self.stop()
                raise TimeoutError(f"rank {rank} of {size} did not answer")
            try:
                answers.append(_unpacked(pipe.recv_bytes()))
            except EOFError:
                self._processes[rank].join()
                code = self._processes[rank].exitcode
                self.stop()
                raise AssertionError(
                    f"rank {rank} of {size} died with exit code {code}; its stack is in its output"
                ) from None
        failures = [text for fine, text in answers if not fine]
        if failures:
            self.stop()
            # The first cause, not what follows from it on the others.
            raise AssertionError(min(failures, key=lambda text: "RankError" in text))
        return [value for _, value in answers]

    def stop(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()
        for pipe in self._pipes:
            pipe.close()
        if self._processes:
            self._folder.cleanup()
        self._processes, self._pipes = [], []
