"""The cuDSS library: where it is, how it is loaded, which one it is, and why it cannot be used."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch

__all__ = ["SERIES", "bindings", "threading_layer", "unavailable", "version"]

SERIES = (0, 8)
_EXTRA = "pip install 'torch-sla-physics[cuda13]' (or [cuda12])"


def _installed(name: str) -> str | None:
    """Path of a library of the cuDSS wheel, wherever on `sys.path` that is."""
    major = (torch.version.cuda or "").split(".", maxsplit=1)[0]
    for toolkit in dict.fromkeys((f"cu{major}", "cu13", "cu12")):
        for entry in sys.path:
            path = Path(entry) / "nvidia" / toolkit / "lib" / name
            if path.is_file():
                return str(path)
    return None


@cache
def bindings() -> Any:
    """Return the module of bindings, imported on first use.

    It looks for its library in fewer places than Python does for its packages, so the library is
    loaded first.
    """
    from nvmath.bindings import cudss

    found = _installed("libcudss.so.0")
    if found is not None:
        ctypes.CDLL(found, mode=ctypes.RTLD_GLOBAL)
    return cudss


def version() -> tuple[int, int, int]:
    """Return the version of the cuDSS library that is loaded."""
    major, minor, patch = (int(bindings().get_property(i)) for i in range(3))
    return major, minor, patch


@cache
def unavailable() -> str | None:
    """Why cuDSS cannot be used here, or None when it can."""
    if not torch.cuda.is_available():
        built = "" if torch.version.cuda else ", and this torch was built without CUDA"
        return f"torch sees no CUDA device{built}"
    if importlib.util.find_spec("nvmath") is None:
        return f"nvmath-python is not installed; {_EXTRA}"
    try:
        found = version()
    except ImportError as error:
        return f"the bindings of nvmath-python do not load ({error}); {_EXTRA}"
    except (RuntimeError, OSError) as error:
        said = str(error).partition("\n")[0]
        return f"libcudss does not load ({said}); {_EXTRA}"
    if found[:2] != SERIES:
        return (
            f"cuDSS {'.'.join(map(str, found))} is installed and nvmath-python 1.0 drives "
            f"{SERIES[0]}.{SERIES[1]}; {_EXTRA}"
        )
    return None


@cache
def threading_layer() -> str | None:
    """Path of the library that lets cuDSS use host threads, None where there is none.

    ``CUDSS_THREADING_LIB`` goes before what the wheel brings.
    """
    return os.environ.get("CUDSS_THREADING_LIB") or _installed("libcudss_mtlayer_gomp.so.0")
