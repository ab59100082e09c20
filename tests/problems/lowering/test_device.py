"""``device: auto`` as a rule on facts: no GPU is needed to see what it would choose."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from torch_sla import (
    Dirichlet,
    ElasticityProblem,
    LinearProblem,
    PoissonProblem,
    RectangleMesh,
    Solver,
)
from torch_sla.problems.lowering.device import DeviceFacts, about, place

BIG = DeviceFacts(300_000, 10_000_000, definite=True, memory=80 << 30, direct=True)


@pytest.mark.parametrize(
    ("unknowns", "cpu", "cuda"), [(4_225, 9, 15), (66_049, 79, 15), (263_169, 220, 15)]
)
def test_the_measured_cases_are_placed_where_they_were_faster(
    unknowns: int, cpu: float, cuda: float
) -> None:
    chosen = place(replace(BIG, unknowns=unknowns, travelling=32 * unknowns))
    assert chosen.device == ("cpu" if cpu < cuda else "cuda")
    assert str(unknowns) in chosen.reason
    assert "transfer" in chosen.reason


def test_transfer_counts() -> None:
    facts = replace(BIG, unknowns=60_000)
    assert place(facts).device == "cuda"
    assert place(replace(facts, travelling=1 << 30)).device == "cpu"


def test_size_decides_once() -> None:
    sizes = [10**k for k in range(1, 7)]
    chosen = [place(replace(BIG, unknowns=n)).device for n in sizes]
    assert chosen == sorted(chosen)
    assert set(chosen) == {"cpu", "cuda"}


@pytest.mark.parametrize(
    ("changes", "device", "words"),
    [
        ({"unusable": "no CUDA device can be used here"}, "cpu", "no CUDA device"),
        ({"backend": "native"}, "cpu", "native works there"),
        ({"backend": "cudss", "unknowns": 10}, "cuda", "cudss works there"),
        ({"unknowns": None}, "cpu", "without a mesh"),
        ({"definite": False, "direct": False}, "cpu", "cuDSS"),
        ({"definite": True, "direct": False}, "cuda", "transfer"),
        ({"memory": 1 << 30}, "cpu", "may not fit"),
    ],
)
def test_what_else_decides(changes: dict[str, object], device: str, words: str) -> None:
    chosen = place(replace(BIG, **changes))
    assert chosen.device == device
    assert words in chosen.reason


def square(**changes: object) -> PoissonProblem:
    values = {"mesh": RectangleMesh(cells=(4, 4)), "boundary": [Dirichlet("left", 0.0)]}
    return PoissonProblem(**{**values, **changes})


def test_explain_shows_it() -> None:
    assert "device      cpu (as asked)" in square(solver=Solver(device="cpu")).explain()
    assert "device      cpu (auto: " in square().explain()
    linear = LinearProblem(matrix=[[2.0]], rhs=[1.0])
    assert "device      cpu (auto: " in linear.explain()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_without_a_gpu_the_reason_is_given() -> None:
    assert "no CUDA device can be used here" in square().explain()


def test_the_estimate_of_the_size_is_near() -> None:
    for order in (1, 2):
        for cell in ("triangle", "quad"):
            mesh = RectangleMesh(cells=(12, 12), cell=cell)
            flat = square(mesh=mesh, order=order).compile()
            plate = ElasticityProblem(
                mesh=mesh,
                order=order,
                model="plane_stress",
                young_modulus=1.0,
                poisson_ratio=0.3,
                boundary=[Dirichlet("left", 0.0)],
            ).compile()
            for model in (flat, plate):
                size = about(model.mesh, model.unknowns)
                assert size == pytest.approx(model.numbering.n, rel=0.2)
