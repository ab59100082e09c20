"""Putting the simulated device into a process."""

from __future__ import annotations

import ctypes
import os
import subprocess
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from tests.helpers.simulated.runtime import Event, Graph, Stream, recorded, state, wait
from tests.helpers.simulated.tensors import Mode, faces, on_host

__all__ = ["SIMULATED", "install"]

SIMULATED = os.environ.get("TORCH_SLA_SIMULATED_CUDA") == "1"
MEMORY = 141 * 10**9


@cache
def install() -> None:
    """Put the device into this process, for good."""
    if torch.cuda.is_available():
        raise RuntimeError("there is a real device; unset TORCH_SLA_SIMULATED_CUDA")
    properties = SimpleNamespace(
        name="simulated", total_memory=MEMORY, major=9, minor=0, multi_processor_count=132
    )
    stream = Stream()
    put: dict[str, Any] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_lazy_init": lambda: None,
        "init": lambda: None,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda _: None,
        "device": lambda _=None: nullcontext(),
        "get_device_properties": lambda _=None: properties,
        "get_device_capability": lambda _=None: (9, 0),
        "get_device_name": lambda _=None: properties.name,
        "mem_get_info": lambda _=None: (MEMORY, MEMORY),
        "memory_allocated": lambda _=None: 0,
        "memory_reserved": lambda _=None: 0,
        "max_memory_allocated": lambda _=None: 0,
        "reset_peak_memory_stats": lambda _=None: None,
        "empty_cache": lambda: None,
        "synchronize": lambda _=None: wait(),
        "current_stream": lambda _=None: stream,
        "default_stream": lambda _=None: stream,
        "stream": lambda _=None: nullcontext(),
        "is_current_stream_capturing": lambda: state.recording is not None,
        "Stream": Stream,
        "Event": Event,
        "CUDAGraph": Graph,
        "graph": recorded,
        "manual_seed": lambda _: None,
        "manual_seed_all": lambda _: None,
    }
    for name, value in put.items():
        setattr(torch.cuda, name, value)
    faces()
    _kernels()
    _guard()
    torch.utils.backend_registration.rename_privateuse1_backend("simulated")
    torch._register_device_module("simulated", torch.cuda)
    torch._C._set_only_lift_cpu_tensors(True)
    torch.autograd.set_multithreading_enabled(False)
    Mode().__enter__()


def _guard() -> None:
    """Compile and load what autograd asks about streams."""
    root = Path(torch.__file__).parent
    with TemporaryDirectory() as folder:
        library = Path(folder) / "guard.so"
        command = [
            os.environ.get("CXX", "c++"),
            "-std=c++20",
            "-shared",
            "-fPIC",
            f"-I{root / 'include'}",
        ]
        abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
        source = str(Path(__file__).with_name("guard.cpp"))
        subprocess.run(
            [
                *command,
                abi,
                source,
                f"-L{root / 'lib'}",
                "-lc10",
                "-ltorch_cpu",
                "-o",
                str(library),
            ],
            check=True,
        )
        ctypes.CDLL(str(library))


def _kernels() -> None:
    """Give Triton's interpreter the host's memory, and let graphs record its launches."""
    from torch_sla.linalg.kernels import triton as folder

    if not (folder._interpreted() and folder.installed()):
        return
    from triton.runtime.interpreter import GridExecutor

    real = GridExecutor.__call__

    def call(self: Any, *args: Any, **kwargs: Any) -> None:
        args, kwargs = tree_map(on_host, (args, kwargs))

        def kernel() -> None:
            with _disable_current_modes():
                real(self, *args, **kwargs)

        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        if state.recording is not None:
            state.recording.launched(tensors, kernel)
        kernel()

    GridExecutor.__call__ = call
