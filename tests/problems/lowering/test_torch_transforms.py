"""What torch does to functions, around a solve: the compiler steps aside, `torch.func` is refused on meshes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from torch_sla import (
    Dirichlet,
    Energy,
    Integral,
    IntervalMesh,
    LinearProblem,
    NonlinearProblem,
    Parameter,
    PoissonProblem,
    Root,
    TransientProblem,
)
from torch_sla.errors import GradientError
from torch_sla.linalg import SparseTensor

if TYPE_CHECKING:
    from collections.abc import Callable

ROD = PoissonProblem(
    mesh=IntervalMesh(cells=4),
    diffusivity=Parameter("k", on="cells"),
    source=1.0,
    boundary=[Dirichlet("left", 0.0)],
    outputs=[Integral("heat", "u**2"), Energy("energy")],
)
K = torch.linspace(1.0, 2.0, 4, dtype=torch.float64)


def heat(k: torch.Tensor) -> Any:
    return ROD.solve(k=k)["heat"]


@pytest.mark.parametrize(
    "call",
    [
        lambda: torch.func.grad(heat)(K),
        lambda: torch.func.vmap(heat)(torch.stack([K, K])),
        lambda: torch.func.jvp(heat, (K,), (K,)),
        lambda: torch.func.hessian(heat)(K),
        lambda: torch.func.grad(
            lambda k: TransientProblem(of=ROD, end=1.0, steps=1).solve(k=k)["heat"][-1]
        )(K),
    ],
    ids=["grad", "vmap", "jvp", "hessian", "march"],
)
def test_refused_with_the_remedy(call: Callable[[], Any]) -> None:
    with pytest.raises(GradientError, match=r"torch\.func does not go through a .* vjp, jvp"):
        call()
    assert heat(K).isfinite()


def test_matrices_go_through() -> None:
    A = SparseTensor.tridiagonal(-K[1:], 3.0 * K, -K[:-1])
    given = LinearProblem(matrix=Parameter("A"), rhs=Parameter("b"))
    slope = torch.func.grad(lambda b: given.solve(A=A, b=b).u.sum())(K)
    torch.testing.assert_close(slope, A.T().solve(torch.ones(4, dtype=torch.float64)))
    along = torch.func.jvp(lambda b: given.solve(A=A, b=b).u.sum(), (K,), (K,))[1]
    torch.testing.assert_close(along, slope @ K)


@pytest.mark.parametrize("of", [torch.func.grad, torch.func.vmap, torch.func.hessian])
def test_roots_are_refused(of: Callable[..., Any]) -> None:
    cubic = NonlinearProblem(
        unknowns=[Root("x", start=1.0)], residual=["x**3 - c"], parameters=[Parameter("c")]
    )
    x = K if of is torch.func.vmap else K[0]
    with pytest.raises(GradientError, match="does not go through a nonlinear problem"):
        of(lambda c: cubic.solve(c=c).x.sum())(x)


def test_what_records_operations_is_refused() -> None:
    for solve in (heat, lambda k: ROD.assemble(k=k).matrix.values):
        with pytest.raises(GradientError, match="linearize"):
            torch.func.linearize(solve, K)


@pytest.mark.filterwarnings("ignore")  # the compiler tells where it left the graph
def test_the_compiler_steps_aside() -> None:
    k, plain = K.clone().requires_grad_(), K.clone().requires_grad_()
    torch.compile(lambda k: 2.0 * heat(k), backend="eager")(k).backward()
    (2.0 * heat(plain)).backward()
    assert torch.equal(k.grad, plain.grad)
    torch._dynamo.utils.counters.clear()
    slope = torch.compile(lambda k: 2.0 * ROD.value_and_grad("heat", k=k)[1]["k"], backend="eager")
    torch.testing.assert_close(slope(K), plain.grad)
    reasons = list(torch._dynamo.utils.counters["graph_break"])
    assert not [reason for reason in reasons if "trace" in reason and "builtin" in reason]


@pytest.mark.parametrize("strategy", ["forward-mode", "reverse-mode"])
@pytest.mark.parametrize("of", ["u", "heat", "energy"])
def test_many_derivatives_by_the_old_vmap_are_refused(strategy: str, of: str) -> None:
    with pytest.raises(GradientError, match=r"vectorize=True.*Leave them out, or pull all"):
        torch.autograd.functional.jacobian(
            lambda k: ROD.solve(k=k)[of], K, vectorize=True, strategy=strategy
        )
