"""Triton kernels compiled for a card that is not here, which the interpreter says nothing about.

Launches are those of the package itself (`tests.helpers.launches`); by default each kernel is compiled as it is
launched first, and with integers of 64 bits; ``-m slow`` compiles every combination of dtypes and constants.
"""

from __future__ import annotations

import os
import pkgutil
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.helpers.cubin import Binary, compiled_for_hopper, hopper
from tests.helpers.fake_cuda import FakeCuda
from tests.helpers.launches import PROGRAMS, Launch, files, recorded
from torch_sla.linalg.kernels import triton as device

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("triton", "3.3", reason="needs triton 3.3, whose launchers these are")
pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"
)

SHARED = 227 * 1024  # bytes that a program may have on the card
# Most bytes of a thread that go to slow memory, with Triton 3.6 and 3.9. The large ones are stencils of boxes, levels
# in double precision and, of `_first_kernel` and `_relax_kernel`, vectors in single precision on such levels.
SPILLED = {
    "batched_cg._cg_kernel": 400,
    "csr._long_rows": 16,
    "csr._several": 16,
    "csr._vector": 16,
    "dense._invert_kernel": 16,
    "lattice_cycle._correct_kernel": 600,
    "lattice_cycle._first_kernel": 3200,
    "lattice_cycle._matvec_kernel": 100,
    "lattice_cycle._relax_kernel": 2400,
    "lattice_cycle._restrict_kernel": 400,
    "lattice_levels._contrary_kernel": 500,
    "lattice_levels._galerkin_kernel": 100,
    "lattice_levels._weights_kernel": 300,
    "patterns._pair_kernel": 16,
    "spgemm._masked": 16,
    "strength._choose": 16,
}
# Lattices and vectors of hierarchies have fewer points than 32 bits can number.
NUMBERED = {"dense", "krylov", "lattice_cycle", "lattice_levels"}
NUMBERED |= {"patterns._fit_kernel", "patterns._sample_kernel"}
FILES = sorted(found.name for found in pkgutil.iter_modules(device.__path__))


@pytest.fixture(scope="module")
def launches() -> list[Launch]:
    with pytest.MonkeyPatch.context() as monkeypatch, recorded(monkeypatch) as found:
        for program in PROGRAMS:
            program()
    return list(found)


def kernels_of(module: Any) -> dict[str, Any]:
    """Jitted functions of a file that are launched, not called by others."""
    from triton.runtime.jit import JITFunction

    every = [v for m in files() for v in vars(m).values() if isinstance(v, JITFunction)]
    own = {n: v for n, v in vars(module).items() if v in every and v.__module__ == module.__name__}
    return {n: v for n, v in own.items() if not any(f"{n}(" in o.src for o in every if o is not v)}


def name_of(launch: Launch) -> str:
    return f"{launch.kernel.__module__.rpartition('.')[2]}.{launch.kernel.__name__}"


def check(launch: Launch, binary: Binary) -> None:
    assert binary.shared <= SHARED, (launch, binary)
    assert binary.stack <= SPILLED.get(name_of(launch), 0), (launch, binary)


def test_every_kernel_is_launched(launches: list[Launch]) -> None:
    wanted = {f"{m.__name__.rpartition('.')[2]}.{n}" for m in files() for n in kernels_of(m)}
    assert {name_of(launch) for launch in launches} == wanted


@pytest.mark.parametrize("file", FILES)
def test_each_kernel_compiles(file: str, launches: list[Launch]) -> None:
    first = {name_of(launch): launch for launch in reversed(launches)}
    with hopper():
        for name, launch in first.items():
            if name.startswith(f"{file}."):
                made = compiled_for_hopper(launch)
                check(launch, made)
                check(launch, compiled_for_hopper(launch, wide=True))
                assert not made.narrow or {file, name} & NUMBERED, (name, made.narrow)


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_every_combination_compiles(file: str, launches: list[Launch]) -> None:
    with hopper():
        for launch in launches:
            if name_of(launch).startswith(f"{file}."):
                check(launch, compiled_for_hopper(launch))


@pytest.mark.skipif(torch.cuda.is_available(), reason="the library of a card is there")
def test_both_ways_pass_the_same_to_the_card(
    launches: list[Launch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton's dispatch and the way past it, to the functions of CUDA's library."""
    from torch_sla.linalg.kernels.triton import launch as module

    cuda = FakeCuda(tmp_path, monkeypatch)
    monkeypatch.setattr(module, "_stream", lambda _: 77)
    monkeypatch.setattr(module, "_device", lambda: -1)  # what CPU tensors say
    monkeypatch.setattr(module, "_known", {})
    monkeypatch.setattr(module, "_runtime", {})
    with hopper(cuda):
        for launch in {launch.kernel: launch for launch in reversed(launches)}.values():
            told = []
            for turn in range(3):
                args = [given(a, 16 * k + turn) for k, a in enumerate(launch.arguments)]
                numbers = [
                    a for a, p in zip(args, launch.kernel.params, strict=True) if not p.is_constexpr
                ]
                expected = cuda.expect(numbers)
                module.launch(launch.kernel, (5 + turn, 2), *args, num_warps=launch.warps)
                (*grid, threads, shared), passed, stream = cuda.told(len(numbers))
                assert passed == expected, launch
                assert grid == [5 + turn, 2, 1]
                told.append((threads, shared, stream))
            assert told == [(32 * launch.warps, told[0][1], 77)] * 3
            assert len(module._known) == 1
            module._known.clear()


def given(argument: Any, number: int) -> Any:
    """An argument as it was told, numbers apart from each other."""
    if isinstance(argument, torch.dtype):
        return torch.zeros(8, dtype=argument)
    numbers = {"int": number, "16": 16 * number, "float": number + 0.5}
    return numbers.get(argument, argument) if isinstance(argument, str) else argument
