"""The compiled extension, and why it is absent when it is.

Only the ``kernels`` packages import this module. torch is imported first, so that its OpenMP
runtime is the one in the process. With ``TORCH_SLA_REQUIRE_EXTENSION=1`` a missing extension is an
error.

Attributes
----------
extension : module or None
    The module ``torch_sla._core._ext``; each of its submodules belongs to one bindings file.
reason : str or None
    Why `extension` is None.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType

import torch  # noqa: F401  (one OpenMP runtime: torch's)

__all__ = ["extension", "reason"]


def _tell_of_age(module: ModuleType) -> None:
    """Let an extension from other sources than these say so where something of it is missing."""
    within = module.__name__.partition("_ext")[2].lstrip(".")

    def missing(name: str) -> object:
        whole = f"{within}.{name}".lstrip(".")
        raise AttributeError(
            f"the compiled extension has no {whole!r}: it was built from other sources than the Python files beside "
            "it; install the package again (pip install .), which builds it"
        )

    vars(module)["__getattr__"] = missing


def _load() -> tuple[ModuleType | None, str | None]:
    try:
        found = importlib.import_module("torch_sla._core._ext")
        for module in (found, *(m for m in vars(found).values() if isinstance(m, ModuleType))):
            _tell_of_age(module)
        return found, None
    except ImportError as error:
        if os.environ.get("TORCH_SLA_REQUIRE_EXTENSION", "") not in ("", "0"):
            raise
        if any(Path(__file__).parent.glob("_ext.*")):
            return None, f"the compiled extension could not be loaded: {error}"
        return None, (
            "the compiled extension was not built; "
            "install the package where a C++17 compiler is present"
        )


extension, reason = _load()
