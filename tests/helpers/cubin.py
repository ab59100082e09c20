"""Compiling Triton kernels for a card that is not here: everything but running them."""

from __future__ import annotations

import re
import struct
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.helpers.launches import Launch

__all__ = ["WIDE", "Binary", "compiled_for_hopper", "hopper"]

WIDE = 1 << 40  # an integer of more than 32 bits


@dataclass(frozen=True)
class Binary:
    """What a kernel takes of a multiprocessor.

    Parameters
    ----------
    registers
        Of a thread.
    stack
        Bytes of a thread in slow memory: registers that were spilled.
    shared
        Bytes of a program.
    narrow
        Products of 32 bits of which addresses are made, in Triton's own notation.
    """

    registers: int
    stack: int
    shared: int
    narrow: list[str]


class _Driver:
    """What Triton asks a driver in order to compile."""

    def get_current_device(self) -> int:
        return -90  # where compiled kernels are kept apart from those of a device

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)


@contextmanager
def hopper(card: Any = None) -> Iterator[None]:
    """Let Triton compile for compute capability 9.0 in a block, asking `card` where there is one."""
    from triton.runtime.driver import driver

    before = driver._active
    driver.set_active(card or _Driver())
    try:
        yield
    finally:
        driver._active = before


def compiled_for_hopper(launch: Launch, wide: bool = False) -> Binary:
    """Compile by Triton's own dispatch, which decides what is specialised on; `wide`: with integers of 64 bits."""
    from torch_sla.linalg.kernels.triton.launch import OPTIONS

    numbers = {"int": WIDE if wide else 7, "16": 48, "float": 0.5}
    args = [numbers.get(a, a) if isinstance(a, str) else a for a in launch.arguments]
    made = launch.kernel.warmup(*args, grid=(1,), num_warps=launch.warps, **OPTIONS)
    registers, stack = _resources(made.asm["cubin"])
    return Binary(registers, stack, made.metadata.shared, _narrow(made.asm["ttir"]))


def _narrow(ttir: str) -> list[str]:
    """Follow the offsets of pointers back to loads and numbers of programs."""
    lines = [line.split(" loc(")[0].strip() for line in ttir.splitlines()]
    made = {}
    for line in lines:
        names, _, work = line.partition(" = ")
        made.update(dict.fromkeys(re.findall(r"%\w+", names), work))
    left = re.findall(r"tt\.addptr %\w+(?:#\d+)?, (%\w+)", "\n".join(lines))
    seen, found = set(left), []
    while left:
        work = made.get(left.pop(), "")
        if re.match(r"arith\.(muli|shli) .*[ x]i32>?$", work):
            found.append(work)
        if not work.startswith("tt.load"):
            fresh = set(re.findall(r"%\w+", work)) - seen
            seen |= fresh
            left += fresh
    return found


def _resources(cubin: bytes) -> tuple[int, int]:
    """Registers and bytes of stack, from the notes of the linker in an ELF file."""
    (sections,) = struct.unpack_from("<Q", cubin, 40)
    size, count, names = struct.unpack_from("<HHH", cubin, 58)
    headers = [struct.unpack_from("<IIQQQQ", cubin, sections + k * size) for k in range(count)]
    strings = headers[names][4]
    found = {0x2F: 0, 0x11: 0}  # EIATTR_REGCOUNT, EIATTR_FRAME_SIZE
    for name, *_, offset, length in headers:
        start = strings + name
        if cubin[start : cubin.index(b"\0", start)] != b".nv.info":
            continue
        at = offset
        while at < offset + length:
            form, attribute, value = struct.unpack_from("<BBH", cubin, at)
            at += 4
            if form == 4:  # followed by as many bytes
                if attribute in found:
                    found[attribute] = max(
                        found[attribute], struct.unpack_from("<II", cubin, at)[1]
                    )
                at += value
    return found[0x2F], found[0x11]
