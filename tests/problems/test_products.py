"""Expressions as sums of products of functions of one coordinate: the same numbers, and nothing that costs digits."""

from __future__ import annotations

import pytest
import torch

from torch_sla.problems.expression import Expression, Product, Ranked, products_of

NAMES = ("x", "y", "z", "a", "b", "k", "w")


def found(text: str) -> list[Product] | None:
    return products_of(Expression.parse(text), {"a", "b"}, {"k"}, "xyz")


@pytest.mark.parametrize(
    ("text", "count", "axes"),
    [
        ("exp(-50*((x - a)**2 + (y - 0.5)**2))", 1, ["x"]),
        ("exp(-50*((x - a)**2 + (y - b)**2))", 1, ["x", "y"]),
        ("exp(-(x - a)**2/k - (y - b)**2 - z**2*a)*k*w", 1, ["x", "y", "z"]),
        ("exp(-3*x**2 + 4*a*x - a**2 - y*b + w)", 1, ["x", "y"]),
        ("exp(w + a)*y", 1, [""]),
        ("exp(y - z + a - w*x)", 1, [""]),
        ("sin(a*x)*cos(a*y)", 1, ["x", "y"]),
        ("sin(a*x + b*y)", 2, ["x", "y"]),
        ("cos(a*x - b*y + z)", 4, ["x", "y"]),
        ("-w*sin(a*x) + 3*y*a - z", 3, ["x", "y"]),
        ("(x - a)*(y - b)*2/(1 + z*a)", 1, ["x", "y", "z"]),
        ("((x - a)*(y + b))**3", 1, ["x", "y"]),
        ("a*x*y/w - (a - x)", 2, ["x"]),
        ("where(x < a, 1, 0)*tanh(b*y)", 1, ["x", "y"]),
        ("w/(exp(a*x)*y)", 1, ["x"]),
        ("sin(a*x + w)", 2, ["x"]),
    ],
)
def test_products_add_up(text: str, count: int, axes: list[str]) -> None:
    made = torch.Generator().manual_seed(1)
    given = 0.5 + torch.rand(len(NAMES), 40, generator=made, dtype=torch.float64)
    values = {name: Ranked(value) for name, value in zip(NAMES, given, strict=True)}
    products = found(text)
    assert products is not None
    total = torch.zeros(40, dtype=torch.float64)
    for product in products:
        one = torch.ones(40, dtype=torch.float64)
        for axis, factor in product.along.items():
            assert factor.names <= {axis, "a", "b", "k"}
            one = one * factor.evaluate(values).tensor
        if product.still is not None:
            assert not product.still.names & {"a", "b"}
            one = one * product.still.evaluate(values).tensor
        total += one
    torch.testing.assert_close(total, Expression.parse(text).evaluate(values).tensor)
    assert len(products) == count
    assert sorted({axis for product in products for axis in product.along}) == axes


@pytest.mark.parametrize(
    "text",
    [
        "(x + y - a)**2",  # digits would be lost where it is small
        "(x - y*a)*(y - x*b)",
        "exp(-a*x*y)",
        "exp(a*w)",
        "tanh(a*x*y)",
        "sqrt((x - a)**2 + y**2)",
        "abs(x - y*a)",
        "(a*x*y)**0.5",
        "1/(x + y*a)",
        "where(x < a*y, 1, 0)",
        "max(x - a, y)",
        "sin(x*a + y*b + z*a + w + a)*cos(x*a + y)",
    ],
)
def test_others_stay_whole(text: str) -> None:
    assert found(text) is None


def test_exponents_are_told() -> None:
    (product,) = found("exp(-a*x - y)*exp(x)") or []
    (parts,) = product.exponents
    assert {axis: part.canonical for axis, part in parts.items()} == {
        "x": "((-a) * x)",
        "y": "(-y)",
    }
