"""Why cuDSS cannot be used, where its library is, and whether the stand-in for its bindings is faithful."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
import torch

from tests.helpers import fake_cudss
from tests.helpers.fake_cudss import FakeCuDSS
from tests.helpers.zoo import case
from torch_sla.errors import BackendUnavailableError
from torch_sla.linalg.backends import cudss_library as library

if TYPE_CHECKING:
    from pathlib import Path


def reason(monkeypatch: pytest.MonkeyPatch, *, nvmath: bool, device: bool, lib: object) -> str:
    monkeypatch.setattr(
        library.importlib.util, "find_spec", lambda name: object() if nvmath else None
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: device)

    def load() -> object:
        if isinstance(lib, Exception):
            raise lib
        return lib

    monkeypatch.setattr(library, "bindings", load)
    return library.unavailable.__wrapped__() or ""


def test_the_reason_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    good = FakeCuDSS()
    assert "nvmath-python is not installed" in reason(
        monkeypatch, nvmath=False, device=True, lib=good
    )
    assert "no CUDA device" in reason(monkeypatch, nvmath=True, device=False, lib=good)
    error = RuntimeError("no libcudss.so.0\n  a long list of folders")
    missing = reason(monkeypatch, nvmath=True, device=True, lib=error)
    assert "libcudss does not load (no libcudss.so.0);" in missing
    wrong = reason(monkeypatch, nvmath=True, device=True, lib=FakeCuDSS(version=(1, 0, 0)))
    assert "cuDSS 1.0.0 is installed and nvmath-python 1.0 drives 0.8" in wrong
    assert reason(monkeypatch, nvmath=True, device=True, lib=good) == ""


def test_libraries_are_found_beside_any_entry_of_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "libcudss_of_a_test.so.0"
    assert library._installed(name) is None
    file = tmp_path / "nvidia" / "cu13" / "lib" / name
    file.parent.mkdir(parents=True)
    file.touch()
    monkeypatch.syspath_prepend(tmp_path)
    for loaded in [m for m in sys.modules if m == "nvidia" or m.startswith("nvidia.cu")]:
        monkeypatch.delitem(sys.modules, loaded)
    assert library._installed(name) == str(file)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_asking_for_it_without_a_device_is_refused() -> None:
    A = case("poisson").sparse(torch.float64)
    with pytest.raises(BackendUnavailableError, match="'cudss' cannot be used here: "):
        A.solve(torch.ones(12, dtype=torch.float64), backend="cudss")


def test_the_stand_in_has_the_constants_and_calls_of_the_bindings() -> None:
    real = pytest.importorskip("nvmath.bindings.cudss", reason="nvmath-python is not installed")
    for name in (
        "DataType",
        "MatrixType",
        "MatrixViewType",
        "IndexBase",
        "Layout",
        "Phase",
        "ConfigParam",
        "DataParam",
    ):
        for member in getattr(fake_cudss, name):
            assert int(getattr(real, name)[member.name]) == int(member), (name, member)
    for call in (
        n for n in vars(FakeCuDSS) if not n.startswith("_") and callable(vars(FakeCuDSS)[n])
    ):
        if isinstance(vars(FakeCuDSS)[call], type):
            continue
        text = getattr(real, call).__doc__.split(")")[0].split("(")[1]
        theirs = [part.split()[-1] for part in text.split(",") if part.strip()]
        code = vars(FakeCuDSS)[call].__code__
        assert code.co_argcount - 1 == len(theirs), (call, theirs)
