"""BLAS and LAPACK routines of SciPy, lent to the compiled kernels as bare addresses.

`scipy.linalg.cython_blas` and `cython_lapack` publish the C functions behind their names as capsules
whose name is the C signature, so the extension links no BLAS and still runs on a tuned one.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

from torch_sla._core import extension

__all__ = ["lend_blas"]

_RANK_UPDATE = {"s": "syrk", "d": "syrk", "c": "herk", "z": "herk"}


def _address(module: Any, name: str) -> int:
    """Address of a routine with 32-bit integers; 0 where there is none."""
    capsule = getattr(module, "__pyx_capi__", {}).get(name)
    if capsule is None:
        return 0
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype = ctypes.c_char_p
    api.PyCapsule_GetName.argtypes = [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    signature = api.PyCapsule_GetName(capsule)
    if signature is None or b"int *" not in signature:
        return 0
    return int(api.PyCapsule_GetPointer(capsule, signature) or 0)


def _symbol(library: ctypes.CDLL, name: str) -> int:
    """Address of an exported function; 0 where there is none."""
    function = getattr(library, name, None)
    return 0 if function is None else ctypes.cast(function, ctypes.c_void_p).value or 0


def _thread_control() -> tuple[int, int]:
    """Addresses of the functions that read and set the size of OpenBLAS's thread pool, or zeros."""
    import scipy

    package = Path(scipy.__file__).parent
    for folder in (package.parent / "scipy.libs", package / ".dylibs"):
        for path in sorted(folder.glob("*openblas*")):
            try:
                library = ctypes.CDLL(str(path))
            except OSError:
                continue
            for prefix in ("scipy_openblas", "openblas"):
                get, set_ = (_symbol(library, f"{prefix}_{v}_num_threads") for v in ("get", "set"))
                if get and set_:
                    return get, set_
    return 0, 0


@cache
def lend_blas() -> bool:
    """Lend SciPy's routines to the extension, once per process.

    Returns
    -------
    bool
        Whether all routines were found for all four types; where one is missing the extension uses
        its own kernels for that type.
    """
    from scipy.linalg import cython_blas, cython_lapack

    if extension is None:
        return False
    complete = True
    for letter, rank in _RANK_UPDATE.items():
        lent = [_address(cython_blas, letter + name) for name in ("gemm", "trsm", rank)]
        lent.append(_address(cython_lapack, letter + "potrf"))
        complete = complete and all(lent)
        getattr(extension.cholesky, f"lend_{letter}")(*lent)
    extension.cholesky.lend_threads(*_thread_control())
    return complete
