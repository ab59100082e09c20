"""Programs of expressions give what the expression gives, in memory that they keep."""

from __future__ import annotations

import pytest
import torch

from torch_sla.problems.expression import Expression, Program, Ranked

SHAPES = {"x": (5, 1), "a": (1, 3), "normal[0]": (5, 1)}


def values(seed: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: 0.1 + 0.8 * torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)
        for name, shape in SHAPES.items()
    }


def expected(text: str, given: dict[str, torch.Tensor]) -> torch.Tensor:
    names = {name: Ranked(x) for name, x in given.items()}
    names["normal"] = Ranked(given["normal[0]"][..., None], 1)
    found = Expression.parse(text).evaluate(names).tensor
    return found.to(given["x"].dtype).expand(5, 3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    "text",
    [
        "exp(-50*((x - a)**2 + (a - 0.5)**2))",
        "2 - x/a + 3/(x*a) - -x",
        "where(x < a, sin(a*x), 1 - x)",
        "where(x >= 0.5, 1, 2) + a",
        "x**a + 2**x*a + (x*a)**2.5 + x**3 + a**-1",
        "tanh(x*a) + (x*a)*(x*a)",
        "max(x*a, 0.3, a) - min(x, a)",
        "atan2(x, a) + pi*normal[0]",
        "asin(x)*acos(a) + atan(x*a) + asinh(x) + log(a) + log1p(x) + log2(x*a) + log10(a)",
        "tan(x)*sinh(a)*cosh(x) + expm1(x*a) + sqrt(x) + abs(x - a) + sign(x - a)",
        "(2/3 - 1)*2**3*x",
        "x",
        "a",
        "1.5",
    ],
)
def test_same_as_the_expression(text: str, dtype: torch.dtype) -> None:
    law = Expression.parse(text)
    program = Program.of(law, SHAPES, dtype)
    assert program is not None
    assert set(program.names) == set(Program.inputs(law))
    rtol = 1e-13 if dtype == torch.float64 else 1e-5
    for seed in range(3):  # nothing of one evaluation is left in the next
        given = values(seed, dtype)
        before = {name: x.clone() for name, x in given.items()}
        out = torch.full((5, 3), torch.nan, dtype=dtype)
        program.run(given, out)
        torch.testing.assert_close(out, expected(text, given), rtol=rtol, atol=rtol)
        assert all(torch.equal(given[name], before[name]) for name in given)


def test_writes_into_every_second_row() -> None:
    program = Program.of(Expression.parse("exp(x*a)"), SHAPES, torch.float64)
    assert program is not None
    both, given = torch.zeros(5, 2, 3, dtype=torch.float64), values(0, torch.float64)
    program.run(given, both[:, 1])
    torch.testing.assert_close(both[:, 1], expected("exp(x*a)", given))
    assert not both[:, 0].any()


@pytest.mark.parametrize(
    "text",
    ["(x < a)*2", "x*1j", "norm(x)", "where(x < a and a < 1, x, a)", "x*unknown", "not x < a"],
)
def test_what_is_no_program(text: str) -> None:
    assert Program.of(Expression.parse(text), SHAPES, torch.float64) is None


def test_what_occurs_twice_is_evaluated_once_and_memory_is_used_again() -> None:
    program = Program.of(
        Expression.parse("sin(x*a) + sin(x*a)*cos(x*a) - exp(sin(x*a))"), SHAPES, torch.float64
    )
    assert program is not None
    assert len(program._steps) == 7
    whole = {x.data_ptr() for x in program._held if x is not None and x.shape == (5, 3)}
    assert len(whole) <= 3


def test_what_is_not_finite_stays_so_without_a_warning() -> None:
    program = Program.of(Expression.parse("log(x - 1)*exp(1000*a)"), SHAPES, torch.float64)
    assert program is not None
    program.run(values(0, torch.float64), out := torch.zeros(5, 3, dtype=torch.float64))
    assert bool(out.isnan().all())
