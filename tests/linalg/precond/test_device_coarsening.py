"""Levels that are made ahead of what is known of them: the same as those that waited."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.devices import SIMULATION
from tests.helpers.grids import split
from tests.helpers.lattices import checkerboard, laplacian, neumann
from tests.helpers.simulated import counted
from torch_sla.errors import Result, SolveError
from torch_sla.linalg.precond.multigrid import AMG
from torch_sla.linalg.precond.multigrid.device import coarsening
from torch_sla.linalg.precond.multigrid.device.lattice import DeviceLattice

SYSTEMS = {
    "even": lambda: split(laplacian(60, 50)),
    "jumps": lambda: split(checkerboard(64, 1e5, 8)),
    "nearly singular": lambda: split(neumann(40, 30)),
    "solid": lambda: split(laplacian(15, 14, 13)),
    # Strong along the first axis until it has been halved a few times.
    "turning": lambda: turning(200, 40, 30.0),
    "flat": lambda: turning(40, 40, 1e-3),
}


def turning(m: int, k: int, strength: float):
    pattern, values = split(laplacian(m, k))
    offset = (pattern.ccol - pattern.csr_row).abs()
    values = torch.where(offset == 1, strength * values, values)
    return pattern, torch.where(offset == 0, 2 + 2 * strength + 0 * values, values)


def made(name: str, **options: object) -> DeviceLattice:
    pattern, values = SYSTEMS[name]()
    return DeviceLattice(pattern, values, AMG(method="lattice", **options))


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_same_levels_as_with_a_wait_for_each(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    guessed = made(name)
    monkeypatch.setattr(coarsening, "_GUESSED", 0)
    waited = made(name)
    assert guessed._axes == waited._axes
    assert guessed.dtype == waited.dtype
    assert guessed.contrary == waited.contrary
    assert [str(l) for l in guessed.levels] == [str(l) for l in waited.levels]
    for one, other in zip(guessed._levels, waited._levels, strict=True):
        n = one.A.n
        assert torch.equal(one.A.planes[:, :n], other.A.planes[:, :n])
        assert torch.equal(one.M, other.M)
        assert [w.axis for w in one.weights] == [w.axis for w in other.weights]
    assert torch.equal(guessed._coarse.inverse, waited._coarse.inverse)


def test_guesses_were_wrong_somewhere() -> None:
    axes = made("turning")._axes
    assert len(set(axes)) > 1
    assert axes[0] != (0, 1)


@pytest.mark.parametrize(("name", "most"), [("even", 1), ("solid", 1), ("turning", 3)])
@SIMULATION[0]
@SIMULATION[1]
def test_one_wait_and_one_more_for_each_wrong_guess(name: str, most: int) -> None:
    pattern, values = SYSTEMS[name]()
    pattern, values = pattern.to("cuda"), values.cuda()
    assert pattern.lattice is not None
    # Kernels in torch wait where those of Triton do not.
    with counted("linalg/kernels/") as seen:
        DeviceLattice(pattern, values, AMG(method="lattice"))
    assert 1 <= seen.total() <= most, seen


def test_known_axes_are_taken_without_a_guess() -> None:
    pattern, values = SYSTEMS["turning"]()
    hierarchy = DeviceLattice(pattern, values, AMG(method="lattice"))
    axes = list(hierarchy._axes)
    _, other = turning(200, 40, 1.0)
    hierarchy.update(other)
    assert hierarchy._axes == axes
    assert [[w.axis for w in l.weights] for l in hierarchy._levels[:-1]] == [list(a) for a in axes]


@pytest.mark.parametrize("early", [True, False])
def test_faults_are_found_on_every_level(early: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if early:
        monkeypatch.setattr(coarsening, "_GUESSED", 0)
    pattern, values = SYSTEMS["even"]()
    broken = values.clone()
    broken[pattern.diagonal_slots[700].long()] = 0.0
    with pytest.raises(SolveError) as caught:
        DeviceLattice(pattern, broken, AMG(method="lattice"))
    assert caught.value.result is Result.BREAKDOWN
    for bad in (float("nan"), float("inf")):
        broken[pattern.diagonal_slots[700].long()] = bad
        with pytest.raises(SolveError) as caught:
            DeviceLattice(pattern, broken, AMG(method="lattice"))
        assert caught.value.result is Result.NONFINITE


def test_small_numbers_of_levels_are_kept_to() -> None:
    short = made("even", max_levels=2)
    assert len(short.levels) == 2
    assert short.coarse_nullity == 0  # 750 unknowns are inverted on the host
    assert made("even", max_levels=1).coarse_nullity == -1  # 3000 are not
