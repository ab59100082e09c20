from __future__ import annotations

import contextlib
import math
import time

import pytest
import torch
from hypothesis import given, settings, strategies as st

from torch_sla.errors import ExpressionError
from torch_sla.problems.expression import Expression, Ranked, degree, separated

X = torch.linspace(-1.0, 2.0, 7, dtype=torch.float64)


def value(text: str, **names: torch.Tensor) -> torch.Tensor:
    return Expression(text).evaluate({k: Ranked(v) for k, v in names.items()}).tensor


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2*x + 1", 2 * X + 1),
        ("-x**2", -(X**2)),
        ("2**-1 * x", 0.5 * X),
        ("2**3**0.5 + 0*x", 2 ** (3**0.5) + 0 * X),
        ("x/2/2", X / 4),
        ("1 - x - 1", -X),
        ("sin(pi*x)", torch.sin(math.pi * X)),
        ("where(x > 0 and not x > 1, x, -1)", torch.where((X > 0) & (X <= 1), X, -1.0)),
        ("where(0 < x <= 1 or x == 2, 1, 0)", ((X > 0) & (X <= 1) | (X == 2)).double()),
        ("(x > 0) + (x > 1)", (X > 0).double() + (X > 1).double()),
        ("atan2(x, 2)", torch.atan2(X, torch.tensor(2.0, dtype=torch.float64))),
        ("max(x, 0, 1)", X.clamp(min=1)),
        ("exp(log(x + 3))", X + 3),
        ("3.5e0 + 0*x", 3.5 + 0 * X),
        (".5*x", 0.5 * X),
    ],
)
def test_values(text: str, expected: torch.Tensor) -> None:
    torch.testing.assert_close(value(text, x=X), expected, rtol=1e-14, atol=1e-14)


def test_complex_numbers_and_float32() -> None:
    torch.testing.assert_close(value("exp(1j*x)", x=X), torch.exp(1j * X))
    assert value("2*x + 1", x=X.float()).dtype == torch.float32
    assert value("min(x, 0.5)", x=X.float()).dtype == torch.float32
    assert Expression("1j*x").is_complex


def test_gradients_flow_to_every_name() -> None:
    k = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    x = X.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda k, x: value("k*exp(-x**2)*where(x<0.6, k, x)", k=k, x=x), (k, x)
    )


def test_vectors() -> None:
    g = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(71))
    k = torch.rand(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(72))
    names = {"grad(u)": Ranked(g, 1), "k": Ranked(k)}
    e = Expression("-k*grad(u)")
    assert e.names == {"k"}
    assert e.derivatives == {"grad(u)"}
    assert e.check({"grad(u)": 1, "k": 0}) == 1
    result = e.evaluate(names)
    assert result.rank == 1
    torch.testing.assert_close(result.tensor, -k[..., None] * g)
    dot = Expression("k*dot(grad(u), grad(u)) - norm(grad(u))*grad(u)[1]/2").evaluate(names)
    torch.testing.assert_close(dot.tensor, k * (g * g).sum(-1) - g.norm(dim=-1) * g[:, 1] / 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("sin(x", "never closed"),
        ("x +", "ends too early"),
        ("x y", "unexpected 'y'"),
        ("2x", "not a number"),
        ("__import__('os')", "not allowed"),
        ("import os", "imports nothing"),
        ("x.real", "attributes are not allowed"),
        ("open(x)", "not a function"),
        ("sinn(x)", "did you mean 'sinh?'"),
        ("x(1)", "not a function"),
        ("(x)(1)", "listed function"),
        ("lambda: 1", "defines nothing"),
        ("x if x else 1", "use where"),
        ("x & x", "use 'and'"),
        ("x ^ 2", r"written \*\*"),
        ("x = 1", "=="),
        ("'a'", "no strings"),
        ("sin(x, x)", "takes 1 arguments, not 2"),
        ("9**9**9", "exponents beyond"),
        ("x**1000000", "exponents beyond"),
        ("1e400", "too large"),
        ("1e300*1e300", "too large"),
        ("1/0", "divides by zero"),
        ("x + (pi - pi)**-1", "divides by zero"),
        ("where(x > 0, 1/-(pi - pi), 1)", "divides by zero"),
        ("(pi - pi)**1j", "divides by zero"),
        ("2**(1000*pi)", "too large"),
        ("1e300*(pi*1e300)", "too large"),
        ("(2 - pi)**0.5", "not real"),
        ("(0-2)**0.5", "not real"),
        ("grad(u*u)", "name of a field"),
        ("x[0.5]", "whole number"),
        ("[1, 2]", "expected a number"),
        ("1 + not x", "brackets"),
        ("x" * 5000, "characters"),
        ("(" * 2000, "nested"),
        ("-" * 2000 + "x", "nested"),
        ("not " * 900 + "x", "nested"),
        ("+".join("x" * 1500), "nested"),
        ("x**" * 1000 + "x", "nested"),
        ("9" * 3999, "too large"),
    ],
)
def test_refused(text: str, message: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ExpressionError, match=message):
        Expression(text)
    assert time.perf_counter() - start < 2.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kapa*x", "did you mean 'kappa'"),
        ("grad(u) + 1", "between a vector and a scalar"),
        ("grad(u)*grad(u)", "use dot"),
        ("sin(grad(u))", "takes a scalar"),
        ("grad(u) < 1", "only scalars"),
        ("grad(u)[0, 1]", "has 1 indices"),
        ("where(x, 1, 2)", "condition is needed"),
        ("x and x", "condition is needed"),
        ("where(x < 1, x, grad(u))", "same shape"),
        ("norm(x)", "takes a vector"),
        ("u", "see the solution"),
    ],
)
def test_checked(text: str, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        Expression(text).check(
            {"x": 0, "kappa": 0, "grad(u)": 1}, {"u": "a law may not see the solution here"}
        )


def test_error_points_at_the_column() -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression("1 + sinn(x)")
    lines = str(caught.value).splitlines()
    assert lines[1].index("sinn") == lines[2].index("^")


def test_canonical_text_ignores_spelling() -> None:
    assert Expression(" 2 * ( x+1.0 ) ").canonical == Expression("2.0*(x + 1)").canonical
    assert Expression("x**2").canonical != Expression("x*2").canonical


_leaf = st.sampled_from(["x", "k", "pi", "2", "0.25", "1e-3"])
_tree = st.recursive(
    _leaf,
    lambda s: st.one_of(
        st.tuples(s, st.sampled_from("+-*"), s).map(lambda t: f"({t[0]}{t[1]} {t[2]})"),
        s.map(lambda t: f"sin({t})"),
        s.map(lambda t: f"-{t}"),
        st.tuples(s, s).map(lambda t: f"where({t[0]} < {t[1]}, {t[0]}, 1)"),
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(_tree)
def test_canonical_text_means_the_same(text: str) -> None:
    k = torch.tensor(0.7, dtype=torch.float64)
    canonical = Expression(text).canonical
    assert Expression(canonical).canonical == canonical
    a, b = value(text, x=X, k=k), value(canonical, x=X, k=k)
    torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_any_text_parses_or_is_refused(text: str) -> None:
    with contextlib.suppress(ExpressionError):
        Expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "where(x > 0, sqrt(x), 0)*k",
        "where(x > 0, k*log(x), where(x < -0.9, 1/(x + 0.5), x))",
        "where(x > 5, sqrt(x - 5), k*x)",
        "where(x > -5, k*x, sqrt(x - 5))",
    ],
)
def test_a_branch_that_does_not_count_leaves_no_nan(text: str) -> None:
    x = X.clone().requires_grad_()
    k = torch.tensor([[1.0], [2.0]], dtype=torch.float64, requires_grad=True)
    result = value(text, x=x, k=k)
    gradients = torch.autograd.grad(result.sum(), (x, k), allow_unused=True)
    assert all(bool(g.isfinite().all()) for g in gradients)
    inner = (x.detach() + 0.05).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, k: value(text, x=x, k=k), (inner, k))


def test_branches_of_vectors() -> None:
    g = torch.randn(5, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(73))
    x = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]
    names = {"grad(u)": Ranked(g, 1), "x": Ranked(x)}
    found = Expression("where(x > 0.4, grad(u), -grad(u)*x)").evaluate(names)
    expected = torch.where(x[..., None] > 0.4, g, -g * x[..., None])
    torch.testing.assert_close(found.tensor, expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2*u + x", 1),
        ("-grad(u)[0]/k", 1),
        ("dot(grad(u), grad(u))", 2),
        ("where(x < 1, u, 0)", 1),
        ("sin(x)*k", 0),
        ("where(u < 1, u, 0)", 1_000_000),
        ("abs(u)", 1_000_000),
        ("1/u", 1_000_000),
        ("stress[0, 0]", 1_000_000),
    ],
)
def test_degree(text: str, expected: int) -> None:
    found = degree(Expression.parse(text), {"u"}, {"x", "k"})
    assert min(found, 1_000_000) == expected


@pytest.mark.parametrize(
    ("text", "rest", "parts"),
    [
        ("x*sin(t)*t/k", "((x / k) * p1)", ["(sin(t) * t)"]),
        ("t", "p1", ["t"]),
        ("t*x + t*y", "((x * p1) + (y * p1))", ["t"]),
        ("sin(x - w*t)", "sin((x - p1))", ["(w * t)"]),
        ("2/t - x", "(p1 - x)", ["(2 / t)"]),
        ("x*w", "(x * w)", []),
    ],
)
def test_separated(text: str, rest: str, parts: list[str]) -> None:
    seen: dict[str, str] = {}
    found = separated(
        Expression.parse(text),
        {"t"},
        {"w"},
        lambda part: seen.setdefault(part.canonical, f"p{len(seen) + 1}"),
    )
    assert (found.canonical, list(seen)) == (rest, parts)


@pytest.mark.parametrize("text", ["y/(1 + t)", "t*(1 + t)*y", "1/t", "y*t - (2 + t)/t"])
def test_parts_without_a_name_are_looked_into(text: str) -> None:
    asked: list[str] = []
    found = separated(
        Expression.parse(text), {"t"}, set(), lambda part: asked.append(part.canonical)
    )
    values = {"y": Ranked(torch.tensor(3.0)), "t": Ranked(torch.tensor(0.7))}
    expected = Expression.parse(text).evaluate(values).tensor
    torch.testing.assert_close(found.evaluate(values).tensor, expected)
    assert "t" in asked
