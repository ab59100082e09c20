"""A driver of a card that is not here: Triton's own launchers run, and what they pass on is written down."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch

__all__ = ["FakeCuda"]

MOST = 64
_SOURCE = r"""
#include "cuda.h"
#include <string.h>
unsigned recorded_grid[8];
unsigned long long recorded_stream, recorded[64];
int sizes[64];
#define STUB(name, ...) CUresult name(__VA_ARGS__) { return CUDA_SUCCESS; }
CUresult cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction f, void **given, void **extra) {
  unsigned grid[] = {c->gridDimX, c->gridDimY, c->gridDimZ, c->blockDimX, c->sharedMemBytes};
  memcpy(recorded_grid, grid, sizeof grid);
  recorded_stream = (unsigned long long)c->hStream;
  memset(recorded, 0, sizeof recorded);
  for (int k = 0; sizes[k]; ++k) memcpy(recorded + k, given[k], sizes[k]);
  return CUDA_SUCCESS;
}
CUresult cuPointerGetAttribute(void *out, CUpointer_attribute a, CUdeviceptr p) {
  *(CUdeviceptr *)out = p;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int *out, CUdevice_attribute a, CUdevice d) {
  *out = a == CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN ? 227 * 1024 : 1024;
  return CUDA_SUCCESS;
}
CUresult cuFuncGetAttribute(int *out, CUfunction_attribute a, CUfunction f) {
  *out = a == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024 : 0;
  return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext *out) { *out = (CUcontext)1; return CUDA_SUCCESS; }
CUresult cuModuleLoadData(CUmodule *out, const void *image) { *out = (CUmodule)1; return CUDA_SUCCESS; }
CUresult cuModuleGetFunction(CUfunction *out, CUmodule m, const char *n) { *out = (CUfunction)1; return CUDA_SUCCESS; }
CUresult cuGetErrorString(CUresult e, const char **out) { *out = "none"; return CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice *out, int k) { *out = k; return CUDA_SUCCESS; }
CUresult cuDriverGetVersion(int *out) { *out = 13000; return CUDA_SUCCESS; }
STUB(cuCtxSetCurrent, CUcontext c)
STUB(cuDevicePrimaryCtxRetain, CUcontext *c, CUdevice d)
STUB(cuCtxGetDevice, CUdevice *d)
STUB(cuCtxGetLimit, size_t *v, CUlimit l)
STUB(cuCtxSetLimit, CUlimit l, size_t v)
STUB(cuFuncSetAttribute, CUfunction f, CUfunction_attribute a, int v)
STUB(cuFuncSetCacheConfig, CUfunction f, CUfunc_cache c)
STUB(cuModuleUnload, CUmodule m)
STUB(cuStreamIsCapturing, CUstream s, CUstreamCaptureStatus *out)
STUB(cuOccupancyMaxActiveClusters, int *n, CUfunction f, const CUlaunchConfig *c)
"""


class FakeCuda:
    """Triton's driver for Hopper over a library of the name and the functions of CUDA's.

    Parameters
    ----------
    folder
        Where the library is built, by the C compiler that Triton needs anyhow.
    monkeypatch
        Takes the library's folder back from the environment.
    """

    def __init__(self, folder: Path, monkeypatch: Any) -> None:
        from triton.backends.nvidia import driver

        headers = Path(driver.__file__).parent / "include"
        source, library = folder / "cuda.c", folder / "libcuda.so.1"
        source.write_text(_SOURCE)
        command = [
            shutil.which("gcc") or "cc",
            "-shared",
            "-fPIC",
            "-w",
            f"-I{headers}",
            str(source),
        ]
        subprocess.run([*command, "-Wl,-soname,libcuda.so.1", "-o", str(library)], check=True)
        (folder / "libcuda.so").symlink_to(library)
        monkeypatch.setenv("TRITON_LIBCUDA_PATH", str(folder))
        self._library = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        self.utils, self.launcher_cls = driver.CudaUtils(), driver.CudaLauncher

    def get_current_device(self) -> int:
        """The card has a number of its own, under which Triton keeps its binaries."""
        return -91

    def get_current_stream(self, device: int) -> int:
        """The one that `torch` would tell."""
        return 77

    def get_current_target(self) -> Any:
        """Hopper."""
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)

    def expect(self, args: list[Any]) -> list[int]:
        """Prepare for a launch with these arguments; return their bits."""
        sizes = [0] * MOST
        bits = []
        for k, a in enumerate(args):
            sizes[k] = 8 if isinstance(a, torch.Tensor) else 4
            if isinstance(a, torch.Tensor):
                bits.append(a.data_ptr())
            elif isinstance(a, float):
                bits.append(int(torch.tensor(a, dtype=torch.float32).view(torch.int32)))
            else:
                bits.append(a)
        self._array("sizes", ctypes.c_int)[:] = sizes
        return bits

    def told(self, count: int) -> tuple[list[int], list[int], int]:
        """Return grid, threads and shared memory of the last launch, its first arguments and its stream."""
        stream = ctypes.c_ulonglong.in_dll(self._library, "recorded_stream").value
        return (
            list(self._array("recorded_grid", ctypes.c_uint)[:5]),
            list(self._array("recorded", ctypes.c_ulonglong)[:count]),
            stream,
        )

    def _array(self, name: str, kind: Any) -> Any:
        return (kind * (8 if name == "recorded_grid" else MOST)).in_dll(self._library, name)
