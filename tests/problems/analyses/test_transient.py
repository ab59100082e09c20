"""Problems in time."""

from __future__ import annotations

import ctypes
import gc
import math

import numpy as np
import pytest
import torch

from torch_sla import (
    Dirichlet,
    ElasticityProblem,
    Energy,
    Flux,
    HelmholtzProblem,
    HyperelasticityProblem,
    Integral,
    IntervalMesh,
    Neumann,
    Parameter,
    PoissonProblem,
    Probe,
    Reaction,
    RectangleMesh,
    StokesProblem,
    Table,
    TransientProblem,
    WeakFormProblem,
    clear_cache,
)
from torch_sla.errors import ArgumentError, GradientError, SpecError
from torch_sla.linalg import cache_counters

ENDS = [Dirichlet(["left", "right"], 0.0)]


def rod(order: int = 2, cells: int = 32) -> PoissonProblem:
    return PoissonProblem(
        mesh=IntervalMesh(cells=cells),
        order=order,
        boundary=ENDS,
        outputs=[Probe("m", at=[(0.5,)])],
    )


def bar() -> ElasticityProblem:
    return ElasticityProblem(
        mesh=RectangleMesh(cells=(5, 2), size=(3.0, 1.0)),
        model="plane_stress",
        young_modulus=Parameter("E", default=2.0),
        density=Parameter("rho", default=1.0),
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Energy("e"), Reaction("r", "left")],
    )


@pytest.mark.parametrize(
    ("scheme", "order"), [("backward_euler", 1), ("crank_nicolson", 2), ("bdf2", 2)]
)
def test_rates_of_cooling(scheme: str, order: int) -> None:
    errors = []
    for steps in (20, 40):
        problem = TransientProblem(
            of=rod(), initial="sin(pi*x)", end=0.1, steps=steps, scheme=scheme
        )
        errors.append(abs(float(problem.solve()["m"][-1, 0]) - math.exp(-0.1 * math.pi**2)))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.06)


@pytest.mark.parametrize("scheme", ["newmark", "generalized_alpha", "explicit"])
def test_rates_of_a_string(scheme: str) -> None:
    """Against the motion of the string in space as it is divided, so that only time is left."""
    order = 1 if scheme == "explicit" else 2
    frequency = math.pi
    if scheme == "explicit":  # linear elements, lumped
        frequency = 2 * 16 * math.sin(math.pi / 32)
    errors = []
    for steps in (60, 120):
        problem = TransientProblem(
            of=rod(order, 16), initial="sin(pi*x)", end=1.3, steps=steps, scheme=scheme
        )
        errors.append(abs(float(problem.solve()["m"][-1, 0]) - math.cos(1.3 * frequency)))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)


def test_newmark_keeps_the_energy_and_factorises_once() -> None:
    problem = TransientProblem(
        of=bar(),
        initial=["0.1*x", "0.05*x**2"],
        initial_velocity=["0*x", "0.1*x"],
        end=20.0,
        steps=100,
        save=["velocity"],
    )
    clear_cache()
    before = cache_counters()
    s = problem.solve()
    counts = {name: cache_counters()[name] - before[name] for name in before}
    # One factor for the first acceleration, one for all steps.
    assert counts == {"analyze": 1, "factorize": 2, "solve": 101}
    v = s.history["velocity"].flatten(-2)
    kinetic = 0.5 * (v * (bar().assemble().mass @ v.T).T).sum(-1)
    total = s["e"] + kinetic
    assert float((total / total[0] - 1).abs().max()) < 1e-10
    assert float(s["e"].min()) < 0.5 * float(s["e"].max())


def test_a_suddenly_loaded_bar() -> None:
    """A step of traction on a bar held at one end: twice the static reaction, and its period 4 L / c."""
    problem = ElasticityProblem(
        mesh=RectangleMesh(cells=(40, 1), size=(10.0, 0.25), cell="quad"),
        model="plane_stress",
        poisson_ratio=0.0,
        boundary=[Dirichlet("left", 0.0), Neumann("right", traction=[0.01, 0.0])],
        outputs=[Probe("tip", at=[(10.0, 0.125)], quantity="u[0]")],
    )
    s = TransientProblem(of=problem, end=40.0, steps=400).solve()
    tip = s["tip"][:, 0]
    # Timoshenko and Goodier, Theory of Elasticity, 3rd ed. 1970, 169: the end moves by 2 F L / E at t = 2 L / c.
    assert float(tip.max()) == pytest.approx(0.2, rel=0.02)
    assert float(s.times[tip.argmax()]) == pytest.approx(20.0, abs=0.6)
    assert abs(float(tip[-1])) < 0.01


def test_nafems_t3_one_dimensional_transient() -> None:
    """NAFEMS, The Standard NAFEMS Benchmarks, rev. 3, 1990, test T3: 36.6 C at x = 0.08 m after 32 s."""
    problem = PoissonProblem(
        mesh=IntervalMesh(cells=20, size=0.1),
        order=2,
        diffusivity=35.0,
        capacity=440.5 * 7200.0,
        boundary=[Dirichlet("left", 0.0), Dirichlet("right", "100*sin(pi*t/40)")],
        outputs=[Probe("T", at=[(0.08,)])],
    )
    s = TransientProblem(of=problem, end=32.0, steps=64, scheme="crank_nicolson").solve()
    assert float(s["T"][-1, 0]) == pytest.approx(36.6, rel=3e-3)


@pytest.mark.parametrize("checkpoints", [2, 3, 16])
def test_gradients_through_ten_steps(checkpoints: int) -> None:
    problem = TransientProblem(
        of=bar(),
        initial=[Parameter("stretch", default=0.1), 0.0],
        initial_velocity=[0.0, "v0*x"],
        parameters=[Parameter("v0", default=0.1)],
        end=3.0,
        steps=10,
        checkpoints=checkpoints,
    )
    values = {"E": 2.0, "rho": 1.1, "stretch": 0.1, "v0": 0.2}
    check = problem.check_gradients(
        values,
        output=lambda s: (s["e"] ** 2).sum() + (s["r"] ** 3).sum() + s.velocity.square().sum(),
    )
    assert check.passed, str(check)


def test_memory_of_a_thousand_steps_is_less_than_twice_that_of_ten() -> None:
    """Bytes that the graph holds after the forward run, by the allocator's own count."""

    class Info(ctypes.Structure):
        _fields_ = [
            (name, ctypes.c_size_t)
            for name in ["a", "b", "c", "d", "mapped", "f", "g", "used", "i", "j"]
        ]

    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        pytest.skip("this C library does not count its bytes")
    libc.mallinfo2.restype = Info

    def held(steps: int) -> float:
        k = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
        plate = PoissonProblem(
            mesh=RectangleMesh(cells=(60, 60)),
            diffusivity=Parameter("k"),
            boundary=[Dirichlet("left", 0.0)],
            outputs=[Probe("p", at=[(0.7, 0.4)])],
        )
        problem = TransientProblem(of=plate, initial="x", end=1.0, steps=steps)
        problem.solve(k=k)  # factors stay in the cache, whoever made them
        gc.collect()
        before = libc.mallinfo2()
        kept = problem.solve(k=k)
        gc.collect()
        after = libc.mallinfo2()
        assert kept["p"].requires_grad
        return float(after.used + after.mapped) - float(before.used + before.mapped)

    assert held(1000) < 2.0 * held(10)


def test_time_enters_by_laws_tables_and_values() -> None:
    def answer(source, **values):
        problem = PoissonProblem(
            mesh=IntervalMesh(cells=6),
            source=source,
            boundary=[Dirichlet("left", 0.0)],
            outputs=[Probe("end", at=[(1.0,)]), Flux("out", "left")],
        )
        return TransientProblem(of=problem, end=2.0, steps=8).solve(values)

    law = answer("min(t, 1)")
    table = answer(Table(of="t", at=[0.0, 1.0], values=[0.0, 1.0]))
    series = torch.linspace(0.0, 2.0, 9, dtype=torch.float64).clamp(max=1.0)
    given = answer(Parameter("f", time="steps"), f=series)
    for other in (table, given):
        assert torch.allclose(other["end"], law["end"], atol=1e-14)
    batch = answer(Parameter("f", time="steps"), f=torch.stack([series, 2 * series]))
    assert batch["end"].shape == (2, 9, 1)
    assert torch.allclose(batch["end"][1], 2 * law["end"], atol=1e-13)
    with pytest.raises(ArgumentError, match=r"'f' has shape \(7,\); expected \[\*batch, 9\]"):
        answer(Parameter("f", time="steps"), f=series[:7])


def test_defaults_hold_at_all_times_or_have_one_value_for_each(tmp_path) -> None:
    each = torch.linspace(0.0, 1.0, 5, dtype=torch.float64)
    np.savez(tmp_path / "each.npz", f=each.numpy())
    problem = PoissonProblem(
        mesh=IntervalMesh(cells=3),
        source="f*(v[0] + v[1]*x)",
        parameters=[
            Parameter("f", time="steps", default={"file": str(tmp_path / "each.npz"), "key": "f"}),
            Parameter("v", time="steps", shape=(2,), default=[1.0, 2.0]),
        ],
        boundary=[Dirichlet("left", 0.0)],
    )
    march = TransientProblem(of=problem, end=2.0, steps=4)
    v = torch.tensor([1.0, 2.0], dtype=torch.float64)
    found = march.solve().u
    assert torch.equal(found, march.solve(f=each, v=v.expand(5, 2)).u)
    assert torch.equal(found, march.solve(v=v).u)
    module = march.module(trainable=["f", "v"])
    assert {n: tuple(p.shape) for n, p in module.named_parameters()} == {
        "trained.f": (5,),
        "trained.v": (5, 2),
    }
    assert torch.equal(found, module().u)


def test_supports_bear_the_inertia() -> None:
    """What flows out is what was put in less what is kept."""
    problem = PoissonProblem(
        mesh=IntervalMesh(cells=6),
        source=1.0,
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Flux("out", "left")],
    )
    s = TransientProblem(of=problem, end=1.0, steps=5, scheme="backward_euler", save=["u"]).solve()
    M = problem.assemble().mass
    heat = (M @ s.history["u"].T).sum(0)
    kept = heat.diff() / 0.2
    assert torch.allclose(s["out"][1:], 1.0 - kept, atol=1e-12)


def test_histories_only_where_asked() -> None:
    s = TransientProblem(of=bar(), end=1.0, steps=4).solve()
    assert s.history == {}
    assert s.velocity.shape == s.acceleration.shape == s.u.shape
    s = TransientProblem(of=bar(), end=1.0, steps=4, save=["u", "acceleration"]).solve()
    assert s.history["u"].shape == (5, 18, 2)
    assert torch.equal(s.history["acceleration"][-1], s.acceleration)


def test_nonlinear_physics_in_time() -> None:
    rubber = HyperelasticityProblem(
        mesh=RectangleMesh(cells=(2, 1), size=(2.0, 1.0)),
        law="neo_hookean",
        constants={"young_modulus": Parameter("E", default=1.0), "poisson_ratio": 0.3},
        boundary=[Dirichlet("left", 0.0), Neumann("right", traction=[0.0, "-0.02*t"])],
        outputs=[Energy("e")],
    )
    check = TransientProblem(of=rubber, end=2.0, steps=3).check_gradients(
        {"E": 1.0}, output=lambda s: s["e"].sum() + s.u.square().sum()
    )
    assert check.passed, str(check)


def test_an_enclosed_flow_starts_to_turn() -> None:
    lid = [Dirichlet(["left", "right", "bottom"], 0.0), Dirichlet("top", ["x*(1 - x)", 0.0])]
    flow = StokesProblem(mesh=RectangleMesh(cells=(3, 3)), boundary=lid, outputs=[Energy("e")])
    s = TransientProblem(of=flow, end=2.0, steps=20, scheme="backward_euler").solve()
    assert torch.allclose(s.u, flow.solve().u, atol=1e-8)


def test_a_weak_form_is_followed_like_the_physics_it_writes_out() -> None:
    written = WeakFormProblem(
        mesh=IntervalMesh(cells=32),
        order=2,
        residual="dot(grad(u), grad(v))",
        boundary=ENDS,
        outputs=[Probe("m", at=[(0.5,)])],
    )
    here, there = (
        TransientProblem(of=of, initial="sin(pi*x)", end=0.1, steps=5).solve()["m"]
        for of in (written, rod())
    )
    assert torch.allclose(here, there, atol=1e-11)


def test_what_makes_no_sense_is_refused() -> None:
    steady = {"end": 1.0, "steps": 4}
    with pytest.raises(SpecError, match=r"resists acceleration.*newmark"):
        TransientProblem(of=bar(), scheme="bdf2", **steady)
    with pytest.raises(SpecError, match="time is gone already"):
        TransientProblem(
            of=HelmholtzProblem(mesh=RectangleMesh(cells=(2, 2)), wavenumber=1.0), **steady
        )
    with pytest.raises(SpecError, match="says the rate itself"):
        TransientProblem(of=rod(), initial_velocity=1.0, **steady)
    with pytest.raises(ArgumentError, match=r"critical one.*take at least"):
        TransientProblem(of=rod(order=1), scheme="explicit", **steady).solve()
    with pytest.raises(SpecError, match="order 2"):
        TransientProblem(of=rod(order=2), scheme="explicit", **steady).solve()
    with pytest.raises(SpecError, match=r"2 components; the unknown has 1|a scalar"):
        TransientProblem(of=rod(), initial=[1.0, 2.0], **steady).solve()
    with pytest.raises(SpecError, match="this solve is steady"):
        rod().updated(source="t").solve()
    with pytest.raises(SpecError, match="this solve is steady"):
        rod().updated(source=Parameter("f", time="steps", default=1.0)).check()


def test_damping_of_a_batch_of_nonlinear_laws_is_that_of_each_member() -> None:
    of = PoissonProblem(
        mesh=IntervalMesh(cells=6),
        diffusivity="k*(1+u**2)",
        parameters=[Parameter("k")],
        source=1.0,
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Probe("p", at=[(1.0,)])],
    )
    march = TransientProblem(of=of, end=1.0, steps=5, scheme="newmark", stiffness_damping=0.3)
    k = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    batch = march.solve(k=k)["p"]
    for i, one in enumerate(k):
        torch.testing.assert_close(batch[i], march.solve(k=one)["p"], rtol=1e-7, atol=1e-12)


def test_tangents_through_a_march_do_not_depend_on_the_mode_of_gradients() -> None:
    of = PoissonProblem(
        mesh=IntervalMesh(cells=6),
        source=Parameter("f"),
        parameters=[Parameter("c")],
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Integral("a", "u+c"), Flux("q", "left")],
    )
    march = TransientProblem(of=of, end=1.0, steps=100)
    forward = torch.autograd.forward_ad

    def tangents(grad: bool) -> list[float]:
        with torch.set_grad_enabled(grad), forward.dual_level():
            f, c = (
                forward.make_dual(torch.tensor(x).double(), torch.tensor(t).double())
                for x, t in ((1.0, 0.7), (2.0, 1.0))
            )
            found = march.solve(f=f, c=c)
            rows = [forward.unpack_dual(found[n]).tangent for n in ("a", "q")]
            return [float(row[-1].detach()) for row in rows]

    assert tangents(True) == pytest.approx(tangents(False), rel=1e-9)
    assert tangents(True)[0] > 1.0


def test_a_parameter_that_only_outputs_see_has_derivatives_and_second_tangents_are_refused() -> (
    None
):
    of = PoissonProblem(
        mesh=IntervalMesh(cells=6),
        source="f-u**3",
        parameters=[Parameter("f"), Parameter("c", default=2.0)],
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Integral("a", "f*u"), Integral("b", "c*u")],
    )
    c = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(of.solve(f=1.0, c=c)["b"], c)
    assert float(grad) == pytest.approx(float(of.jvp({"c": 1.0}, f=1.0, c=2.0)["b"]), rel=1e-10)
    forward = torch.autograd.forward_ad
    with forward.dual_level():
        f = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
        dual = forward.make_dual(f, torch.ones_like(f))
        tangent = forward.unpack_dual(of.solve(f=dual)["a"]).tangent
        with pytest.raises(GradientError, match="forward mode"):
            torch.autograd.grad(tangent, f)
