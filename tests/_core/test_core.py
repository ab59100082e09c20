"""The extension is here, or its absence has a reason; the switch makes absence an error."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import torch_sla._core as core

# Hides the extension from the import system of a fresh process.
HIDE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name == "torch_sla._core._ext":
            raise ImportError("hidden for the test")
sys.meta_path.insert(0, Hidden())
"""

USE = """
import torch
import torch_sla._core as core
from torch_sla.linalg.kernels import sparse
assert core.extension is None, core.extension
crow, ccol, slot = sparse.coo_to_csr(torch.tensor([1, 0, 1]), torch.tensor([0, 1, 0]), 2, 2)
print(core.reason, slot.tolist())
"""


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "TORCH_SLA_REQUIRE_EXTENSION": "", **environment}
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )


def test_either_the_extension_or_the_reason() -> None:
    assert (core.extension is None) != (core.reason is None)


def test_without_the_extension_the_kernels_fall_back() -> None:
    done = _python(HIDE + USE)
    assert done.returncode == 0, done.stderr
    assert "[1, 0, 1]" in done.stdout
    assert done.stdout.startswith("the compiled extension ")


def test_the_switch_makes_a_missing_extension_an_error() -> None:
    done = _python(HIDE + USE, TORCH_SLA_REQUIRE_EXTENSION="1")
    assert done.returncode != 0
    assert "hidden for the test" in done.stderr


@pytest.mark.skipif(core.extension is None, reason="the extension was not built")
def test_an_extension_from_other_sources_says_so() -> None:
    for module in (core.extension, core.extension.cholesky):
        assert not hasattr(module, "not_yet_there")
        with pytest.raises(AttributeError, match=r"not_yet_there.*other sources.*install"):
            _ = module.not_yet_there
