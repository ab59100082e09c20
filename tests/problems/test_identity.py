from __future__ import annotations

import numpy as np
import torch

from torch_sla import LinearProblem, Parameter, SparseTensor
from torch_sla.problems.identity import fingerprint


def test_fingerprints_tell_values_apart() -> None:
    k = torch.ones(3)
    same = fingerprint({"k": k.numpy(), "h": 1.0})
    assert same == fingerprint({"h": 1.0, "k": k})
    assert (
        len({*fingerprint({"a": k, "b": k.double(), "c": np.ones((1, 3)), "d": 1.0}).values()}) == 4
    )
    layer = torch.nn.Linear(2, 1)
    before = fingerprint({"f": layer})
    with torch.no_grad():
        layer.weight.add_(1)
    assert fingerprint({"f": layer}) != before


class Scaled(torch.nn.Module):
    def __init__(self, scale: float, law: torch.nn.Module) -> None:
        super().__init__()
        self.scale, self.law = scale, law

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * self.law(x)


def test_values_that_print_alike_are_told_apart() -> None:
    def matrix(value: float, last: int = 3) -> SparseTensor:
        row, col = torch.tensor([0, 1, 2, 3]), torch.tensor([0, 1, 2, last])
        return SparseTensor(torch.full((4,), value, dtype=torch.float64), row, col, (4, 4))

    long = torch.arange(5000.0)
    other = long.clone()
    other[2500] = 0.0
    for one, same, different in (
        (matrix(1.0), matrix(1.0), matrix(2.0)),
        (matrix(1.0), matrix(1.0), matrix(1.0, last=0)),
        ([long], [long.clone()], [other]),
        ({"a": long}, {"a": long.clone()}, {"a": other}),
        (Scaled(1.0, torch.nn.Tanh()), Scaled(1.0, torch.nn.Tanh()), Scaled(2.0, torch.nn.Tanh())),
        (Scaled(1.0, torch.nn.Tanh()), Scaled(1.0, torch.nn.Tanh()), Scaled(1.0, torch.nn.ReLU())),
    ):
        assert fingerprint({"v": one}) == fingerprint({"v": same})
        assert fingerprint({"v": one}) != fingerprint({"v": different})


def test_one_number_has_a_fingerprint_whatever_its_strides() -> None:
    one = torch.tensor(2.0, dtype=torch.float64)
    for few in (one.expand(1), one.expand(1, 1), torch.ones(4)[::4], torch.ones(3)[:0]):
        assert fingerprint({"k": few}) == fingerprint({"k": few.clone().contiguous()})
    assert fingerprint({"k": np.zeros(0)}) == fingerprint({"k": torch.zeros(0).double()})
    told = []
    declared = {"matrix": [[2.0]], "rhs": Parameter("b", shape=(1,))}
    found = LinearProblem(**declared).solve(b=one.expand(1), progress=told.append).u
    torch.testing.assert_close(found, one.new_ones(1))
