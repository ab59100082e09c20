"""The kernels' own tests in C++, compiled here with the sanitizers where the compiler has them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "csrc"
SOURCES = sorted((ROOT / "tests").glob("test_*.cpp"))
# Left out: what the address sanitizer reports itself (null), what there is none of (virtual classes), and what
# takes an optimiser (sizes of objects).
SANITIZERS = [
    *("-fsanitize=address,undefined", "-fno-sanitize=null,vptr,object-size"),
    "-fno-sanitize-recover=all",
]

COMPILER = next(
    (path for name in (os.environ.get("CXX"), "c++", "g++", "clang++") if name
     and (path := shutil.which(name))),
    None,
)  # fmt: skip
EIGEN = next(
    (
        folder
        for place in sys.path
        if (folder := Path(place) / "cmeel.prefix/include/eigen3").is_dir()
    ),
    None,
)


def _needs_eigen(source: Path) -> bool:
    """Whether a file includes Eigen, itself or through our headers."""
    waiting, seen = [source], set[Path]()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        for name in re.findall(r'#include ["<]([^">]+)', path.read_text()):
            if name.startswith("Eigen/"):
                return True
            places = (path.parent / name, ROOT / "include" / name)
            waiting += [p for p in places if p.is_file() and p not in seen]
    return False


def _compile(source: Path, target: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    includes = [f"-I{ROOT / 'include'}", *([] if EIGEN is None else [f"-isystem{EIGEN}"])]
    command = [str(COMPILER), "-std=c++17", "-g1", *flags, *includes, str(source), "-pthread"]
    return subprocess.run(
        [*command, "-o", str(target)], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def sanitizers(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The flags, or none where an empty program cannot be built and run with them."""
    folder = tmp_path_factory.mktemp("sanitizers")
    source, program = folder / "empty.cpp", folder / "empty"
    source.write_text("int main() {}\n")
    works = (
        _compile(source, program, *SANITIZERS).returncode == 0
        and subprocess.run([program], capture_output=True, check=False).returncode == 0
    )
    return SANITIZERS if works else []


@pytest.mark.skipif(not SOURCES, reason="the C++ sources are not beside these tests")
@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler on the path")
@pytest.mark.parametrize(
    "source",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * ("eigen" in path.stem))
        for path in SOURCES
    ],
)
def test_kernels(source: Path, sanitizers: list[str], tmp_path: Path) -> None:
    if EIGEN is None and _needs_eigen(source):
        pytest.skip("Eigen's headers (pip install cmeel-eigen) are not installed")
    program = tmp_path / source.stem
    built = _compile(source, program, *sanitizers)
    assert built.returncode == 0, built.stderr
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
