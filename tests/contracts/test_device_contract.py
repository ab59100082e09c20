"""Everything gives on a device what it gives on the CPU, gradients included, and the same bits every time."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.helpers.devices import ON_CUDA
from tests.helpers.everywhere import ENTRIES, NEEDS_FACTORS
from tests.helpers.simulated import SIMULATED
from torch_sla.linalg.backends.registry import backends


def factors_on(device: str) -> bool:
    """Whether a plan finds a direct solver there, as factorisations and determinants need."""
    return any(
        device in b.capabilities.devices
        and b.capabilities.recommended
        and b.unavailable() is None
        and any(m.kind == "direct" for m in b.capabilities.methods)
        for b in backends()
    )


def tolerance(name: str, value: torch.Tensor) -> float:
    return 1e-4 if "32" in name or "complex64" in name or value.dtype == torch.float32 else 1e-8


@pytest.fixture
def unrepeatable(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of backends that took part and declare that their last bits may change."""
    used: list[str] = []
    for b in backends():
        if b.capabilities.repeatable:
            continue
        for verb in ("solve", "solve_batch"):
            real = getattr(b, verb)

            def watched(*args: object, real: Any = real, name: str = b.name, **rest: Any) -> Any:
                used.append(name)
                return real(*args, **rest)

            monkeypatch.setattr(b, verb, watched)
    return used


@pytest.mark.parametrize("device", ["cpu", ON_CUDA])
@pytest.mark.parametrize("name", ENTRIES)
def test_same_numbers_everywhere(name: str, device: str, unrepeatable: list[str]) -> None:
    if name in NEEDS_FACTORS and not factors_on(device):
        pytest.skip(f"no direct solver is installed for {device}")
    if name == "conversions" and SIMULATED:
        pytest.skip("the simulated device holds no sparse tensors of torch's own")
    expected = ENTRIES[name](torch.device("cpu"))
    found = ENTRIES[name](torch.device(device))
    again = ENTRIES[name](torch.device(device))
    assert expected.keys() == found.keys()
    for key, value in ((key, value.detach()) for key, value in found.items()):
        assert value.device.type == device, key
        reference = expected[key].detach()
        assert value.dtype == reference.dtype, key
        if not (value.is_floating_point() or value.is_complex()):
            assert torch.equal(value.cpu(), reference), key
            continue
        scale = reference.abs().max().clamp(min=1e-300)
        error = float((value.cpu() - reference).abs().max() / scale)
        assert error <= tolerance(key, value), (key, error)
        if unrepeatable:
            change = float((value - again[key].detach()).abs().max()) / float(scale)
            assert change <= 1e-3 * tolerance(key, value), f"{key} differs from run to run"
        else:
            assert torch.equal(value, again[key]), f"{key} differs from run to run"
