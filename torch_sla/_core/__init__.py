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
from typing import TYPE_CHECKING

import torch  # noqa: F401  (one OpenMP runtime: torch's)

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["extension", "reason"]


def _load() -> tuple[ModuleType | None, str | None]:
    try:
        return importlib.import_module("torch_sla._core._ext"), None
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
