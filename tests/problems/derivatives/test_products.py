"""J v, Jᵀ w and H v of every kind of problem, against finite differences and each other."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad

from torch_sla import (
    Dirichlet,
    EigenProblem,
    ElasticityProblem,
    HelmholtzProblem,
    HyperelasticityProblem,
    Integral,
    IntervalMesh,
    LinearProblem,
    Maximum,
    Neumann,
    NonlinearProblem,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    Root,
    SweepProblem,
    TransientProblem,
    Unknown,
    WeakFormProblem,
)
from torch_sla.errors import ArgumentError, GradientError
from torch_sla.problems.derivatives.products import Linearised, _forward
from torch_sla.problems.design.aggregates import p_norm

PLATE = RectangleMesh(cells=(4, 3))
HELD = [Dirichlet("left", 0.0)]
SENSORS = Probe("s", at=[(0.3, 0.4), (0.7, 0.2)])


def field(n=24, seed=5):
    return 1 + torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def heat(**more):
    return PoissonProblem(
        mesh=PLATE,
        diffusivity=Parameter("k", on="cells", default=1.0),
        source=Parameter("f", default=1.0),
        boundary=HELD,
        outputs=[SENSORS, Integral("i", "u**2")],
        **more,
    )


def nonlinear():
    return PoissonProblem(
        mesh=PLATE,
        parameters=[Parameter("k")],
        diffusivity="k*(1 + u**2)",
        source=Parameter("f"),
        boundary=HELD,
        outputs=[SENSORS, Integral("i", "u**2")],
    )


def elastic():
    return ElasticityProblem(
        mesh=PLATE,
        model="plane_stress",
        young_modulus=Parameter("k", on="cells"),
        body_force=[0.0, Parameter("f")],
        boundary=HELD,
        outputs=[Integral("i", "u[1]")],
    )


def rubber():
    return HyperelasticityProblem(
        mesh=PLATE,
        model="plane_strain",
        law="neo_hookean",
        constants={"mu": Parameter("k"), "lam": 10.0},
        body_force=[0.0, Parameter("f")],
        boundary=HELD,
        outputs=[Integral("i", "u[1]**2")],
    )


def waves():
    return HelmholtzProblem(
        mesh=PLATE,
        wavenumber=3.0,
        refraction=Parameter("k", on="cells"),
        source=Parameter("f"),
        boundary=HELD,
        outputs=[SENSORS],
    )


def cooling():
    capacity = Parameter("c", default=1.0)
    return TransientProblem(of=heat(capacity=capacity), initial="x", end=0.2, steps=4)


def roots():
    return NonlinearProblem(
        parameters=[Parameter("k"), Parameter("f")],
        unknowns=[Root("x", start=1.0)],
        residual=["x**3 + k*x - f"],
    )


PROBLEMS = {
    "heat": (heat, {"k": field(), "f": 1.3}, True),
    "nonlinear": (nonlinear, {"k": 1.5, "f": 1.2}, True),
    "elastic": (elastic, {"k": field(), "f": 0.8}, True),
    "rubber": (rubber, {"k": 1.5, "f": 0.05}, True),
    "waves": (waves, {"k": field(), "f": 1.1}, True),
    "cooling": (cooling, {"k": field(), "f": 1.3, "c": 1.1}, True),
    "roots": (roots, {"k": 1.5, "f": 4.0}, True),
    "sweep": (
        lambda: SweepProblem(of=heat(), cases=[{"f": 1.0}, {"f": 2.0}]),
        {"k": field()},
        True,
    ),
}


# Modes have first derivatives only, but those in both modes.
FIRST = {
    **PROBLEMS,
    "modes": (
        lambda: EigenProblem(of=heat(capacity=Parameter("c", default=1.0)), k=3),
        {"k": field(), "c": 1.2},
        True,
    ),
}


def directions(values, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return {
        n: torch.randn(torch.as_tensor(v).shape, generator=generator, dtype=torch.float64)
        for n, v in values.items()
    }


def moved(values, way, h):
    return {n: v + h * way[n] for n, v in values.items()}


def results(problem, values):
    solution = problem.solve(values)
    return {**solution.fields, **solution.outputs}


@pytest.mark.parametrize("name", FIRST)
def test_jvp_is_the_slope(name):
    make, values, _ = FIRST[name]
    problem, way = make(), directions(values)
    along = problem.jvp(way, values)
    h = 1e-4
    up, down = (results(problem, moved(values, way, s * h)) for s in (1, -1))
    assert along.keys() == up.keys()
    for key, tangent in along.items():
        slope = (up[key] - down[key]) / (2 * h)
        assert float((tangent - slope).abs().max()) < 1e-6 * float(1 + slope.abs().max()), key


@pytest.mark.parametrize("name", PROBLEMS)
def test_forward_mode_where_there_is_one_and_the_adjoint_of_the_adjoint_agree(name):
    make, values, forward = PROBLEMS[name]
    problem, way = make(), directions(values)
    point = Linearised.at(problem, values)
    back = point.jvp(way)
    given = {n: leaf.detach().requires_grad_() for n, leaf in point.leaves.items()}
    if not forward:
        with pytest.raises(NotImplementedError):
            _forward(problem, given, way)
        return
    for key, tangent in _forward(problem, given, way).items():
        assert float((tangent - back[key]).abs().max()) < 1e-10 * float(1 + tangent.abs().max())


@pytest.mark.parametrize("name", PROBLEMS)
def test_many_products_at_once_are_those_one_by_one(name):
    make, values, _ = PROBLEMS[name]
    point = Linearised.at(make(), values)
    for many, one, like in (
        (point.jvps, point.jvp, point.leaves),
        (point.vjps, point.vjp, point.results),
    ):
        generator = torch.Generator().manual_seed(3)
        weights = {
            n: torch.randn(3, *t.shape, generator=generator, dtype=t.dtype) for n, t in like.items()
        }
        found = many(weights)
        for i in range(3):
            for key, alone in one({n: w[i] for n, w in weights.items()}).items():
                assert found[key].shape == (3, *alone.shape)
                torch.testing.assert_close(found[key][i], alone, rtol=1e-7, atol=1e-10)
        assert all(len(rows) == 1 for rows in many({}).values())


def damped():
    body = rubber().updated(outputs=[Integral("i", "von_mises(stress)")])
    damping = {"stiffness_damping": Parameter("d", default=0.1)}
    return TransientProblem(of=body, initial_velocity=["x", 0.0], end=0.1, steps=2, **damping)


def written():
    return WeakFormProblem(
        mesh=PLATE,
        unknowns=[Unknown("u", test="v")],
        residual="k*dot(grad(u), grad(v)) - f*v",
        parameters=[Parameter("k", on="cells"), Parameter("f")],
        boundary=HELD,
        outputs=[SENSORS],
    )


BARE = {
    name: FIRST[name] for name in ("nonlinear", "rubber", "waves", "cooling", "sweep", "modes")
} | {
    "damped": (damped, {"k": 1.5, "f": 0.05, "d": 0.1}, True),
    "written": (written, {"k": field(), "f": 1.1}, True),
}


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("name", BARE)
def test_tangents_alone_are_not_lost_on_the_way(name: str, recorded: bool) -> None:
    """Forward mode of torch on tensors that require no gradient, under `no_grad` too."""
    make, values, _ = BARE[name]
    problem, way = make(), directions(values)
    along = problem.jvp(way, values)
    with torch.set_grad_enabled(recorded), forward_ad.dual_level():
        primal = {n: torch.as_tensor(v, dtype=torch.float64) for n, v in values.items()}
        found = results(problem, {n: forward_ad.make_dual(v, way[n]) for n, v in primal.items()})
        for key, expected in along.items():
            tangent = forward_ad.unpack_dual(found[key]).tangent
            tangent = torch.zeros_like(expected) if tangent is None else tangent.detach()
            assert float((tangent - expected).abs().max()) <= 1e-9 * float(expected.abs().max()), (
                key
            )


@pytest.mark.parametrize("name", FIRST)
def test_dot_products_agree(name):
    make, values, _ = FIRST[name]
    problem, way = make(), directions(values)
    along = problem.jvp(way, values)
    generator = torch.Generator().manual_seed(8)
    w = {n: torch.randn(t.shape, generator=generator, dtype=t.dtype) for n, t in along.items()}
    back = problem.vjp(w, values)
    left = sum(float((w[n].conj() * along[n]).real.sum()) for n in w)
    right = sum(float((back[n] * way[n]).sum()) for n in way)
    assert abs(left - right) < 1e-9 * (abs(left) + 1)


@pytest.mark.parametrize("name", PROBLEMS)
def test_hvp_is_the_slope_of_the_gradient(name):
    make, values, _ = PROBLEMS[name]
    problem, way = make(), directions(values)

    def output(solution):
        u = solution.u
        return (u.real**3).sum() + u.abs().square().sum()

    curved = problem.hvp(output, way, values)
    h = 1e-4
    up, down = (problem.value_and_grad(output, moved(values, way, s * h))[1] for s in (1, -1))
    for key, product in curved.items():
        slope = (up[key] - down[key]) / (2 * h)
        assert float((product - slope).abs().max()) < 1e-5 * float(1 + slope.abs().max()), key


def test_hvp_of_moving_points_and_parameters_is_symmetric():
    problem = heat()
    values = {"k": field(), "points": problem.mesh_data().points}
    a, b = directions(values, 1), directions(values, 2)
    ha, hb = problem.hvp("i", a, values), problem.hvp("i", b, values)
    left = sum(float((ha[n] * b[n]).sum()) for n in values)
    right = sum(float((hb[n] * a[n]).sum()) for n in values)
    assert abs(left - right) < 1e-10 * abs(left)


def test_eigenvalues_have_second_derivatives_and_modes_have_not():
    problem = EigenProblem(of=heat(capacity=Parameter("c", default=1.0)), k=2)
    values = {"k": field(), "c": 1.2}
    check = problem.check_gradients(values, output=lambda s: s.eigenvalues[0].sqrt())
    assert check.passed
    assert set(check.second_orders) == {"k", "c"}
    with pytest.raises(GradientError, match="second derivatives of eigenvectors"):
        problem.hvp(lambda s: s.modes[0, 3] ** 2, {"c": 1.0}, values)
    check = problem.check_gradients(values, output=lambda s: s.modes[0, 3] ** 2)
    assert check.passed
    assert not check.second_orders
    assert "no second derivative with respect to k" in str(check)


def test_complex_modes_have_vjp_and_no_jvp():
    problem = EigenProblem(of=heat(advection=[Parameter("a", default=1.0), 0.5]), k=2)
    values = {"k": field(), "a": 1.2}
    with pytest.raises(GradientError, match="derivatives of the eigenvectors of a general matrix"):
        problem.jvp({"a": 1.0}, values)
    slope = problem.vjp({"eigenvalues": torch.tensor([1.0, 0.0], dtype=torch.complex128)}, values)
    h = 1e-4
    more, less = (problem.solve({**values, "a": 1.2 + s * h}).eigenvalues[0] for s in (1, -1))
    change = float((more - less).real) / (2 * h)
    assert abs(float(slope["a"]) - change) < 1e-6 * abs(change)


def test_linear_problem():
    from torch_sla import SparseTensor

    n = 6
    ones = torch.ones(n, dtype=torch.float64)
    A = SparseTensor.tridiagonal(-ones[1:], 2.5 * ones, -ones[1:])
    problem = LinearProblem(matrix=A.to_dense().numpy(), rhs=Parameter("b", shape=(n,)))
    b, v = torch.rand(n, dtype=torch.float64), torch.rand(n, dtype=torch.float64)
    along = problem.jvp({"b": v}, b=b)
    torch.testing.assert_close(A @ along["x"], v)


def test_the_table_tells_a_wrong_hessian():
    class Cubed(torch.autograd.Function):
        """Right first derivative, half of the second."""

        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * 1.5 * (x * x + (x * x).detach())

    problem = heat()
    check = problem.check_gradients({"f": 1.2}, output=lambda s: Cubed.apply(s.u).sum())
    assert not check.passed
    assert check.orders["f"] > 1.95
    assert 1.9 < check.second_orders["f"] < 2.1
    assert "Hessian" in str(check)
    assert "<- wrong" in str(check)


def test_entries_are_tested_and_the_dot_product():
    check = heat().check_gradients(k=field(), f=1.3, entries=2)
    kinds = {(t.parameter, t.derivative, t.direction.split()[0]) for t in check.tests}
    assert ("k", "gradient", "entry") in kinds
    assert len([t for t in check.tests if t.direction.startswith("entry")]) == 2
    assert check.mismatch < 1e-12
    assert "<w, J v> = <J^T w, v>" in str(check)
    assert check.passed


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.jvp({"kk": 1.0}, f=1.0), "the tangent 'kk' belongs to no parameter"),
        (lambda p: p.jvp({"f": torch.ones(2)}, f=1.0), r"'f' has shape \[2\]; expected \[\]"),
        (lambda p: p.vjp({"t": 1.0}, f=1.0), "the cotangent 't' belongs to no field or output"),
        (lambda p: p.vjp({"i": 1j}, f=1.0), "complex, and 'i' is real"),
        (lambda p: p.hvp("s", {"f": 1.0}, f=1.0), "needs one number"),
        (lambda p: p.hvp("i", {"k": 1.0}, f=1.0), "the vector 'k' belongs to no parameter"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(ArgumentError, match=message):
        call(heat())


def test_nothing_to_differentiate_is_said():
    with pytest.raises(ArgumentError, match=r"give values of parameters \(there are: .*f.*\)"):
        heat().check_gradients()
    fixed = PoissonProblem(mesh=IntervalMesh(cells=2), boundary=[Dirichlet("left", 0.0)])
    with pytest.raises(ArgumentError, match="declares no parameter"):
        fixed.check_gradients()


def test_lengths_that_are_zero_bend_nothing() -> None:
    """A bar at rest, which has no stress and no displacement at the start."""
    bar = ElasticityProblem(
        mesh=RectangleMesh(cells=(2, 1), cell="quad"),
        model="plane_strain",
        young_modulus=Parameter("E", default=1.0),
        density=1.0,
        boundary=[Dirichlet("left", 0.0), Neumann("right", traction=[Parameter("f"), 0.1])],
        outputs=[Maximum("worst", "von_mises(stress)", p=4.0), Integral("far", "norm(u)")],
    )
    motion, values = TransientProblem(of=bar, end=0.5, steps=2), {"E": 1.0, "f": 0.3}

    def both(solution):
        return (solution["worst"] ** 2 + solution["far"]).sum() + p_norm(solution["far"])

    found = motion.hvp(both, {"E": 1.0, "f": 0.5}, values)
    ends = [{"E": 1.0 + h, "f": 0.3 + 0.5 * h} for h in (1e-4, -1e-4)]
    above, below = (motion.value_and_grad(both, v)[1] for v in ends)
    for name in values:
        expected = (above[name] - below[name]) / 2e-4
        torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-8)
    value = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.functional.hessian(p_norm, value)
    assert torch.equal(slope, torch.zeros(3, 3, dtype=torch.float64))
