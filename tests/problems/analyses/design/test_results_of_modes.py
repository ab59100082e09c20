"""Goals made of eigenvalues by the names people give them, and data and goals that do not fit."""

from __future__ import annotations

import math

import pytest
import torch

from torch_sla import (
    MMA,
    Compliance,
    DesignProblem,
    Dirichlet,
    EigenProblem,
    ElasticityProblem,
    Entries,
    HelmholtzProblem,
    Integral,
    IntervalMesh,
    Measured,
    Neumann,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    Robin,
    SweepProblem,
    Variable,
)
from torch_sla.errors import ArgumentError, ExpressionError, SpecError


def body(**more) -> ElasticityProblem:
    return ElasticityProblem(
        mesh=RectangleMesh(cells=(6, 2), size=(3.0, 1.0), cell="quad"),
        model="plane_stress",
        young_modulus=Parameter("E", on="cells", default=1.0),
        boundary=[Dirichlet("left", 0.0), Neumann("right", traction=[-0.01, 0.0])],
        **more,
    )


def cavity(**more) -> HelmholtzProblem:
    return HelmholtzProblem(
        mesh=IntervalMesh(cells=12),
        order=2,
        wavenumber=Parameter("k", default=5.0),
        refraction=Parameter("E", on="cells", default=1.0),
        boundary=[Robin("left", "-1j*k", 0.0), Robin("right", "-0.2j*k", 0.0)],
        **more,
    )


GOALS = {
    "damped": (
        EigenProblem(of=body(), k=2, mass_damping=0.01, stiffness_damping=0.02),
        "damping_ratios[0]",
        "frequencies[0] >= 0.01",
    ),
    "buckling": (
        EigenProblem(of=body(), k=1, kind="buckling"),
        "-load_factors[0]",
        "mean(E) <= 2",
    ),
    "resonance": (EigenProblem(of=cavity(), k=1), "abs(imag(wavenumbers[0]))", "mean(E) <= 2"),
    "stiff": (
        {"at_rest": body(outputs=[Compliance("c")]), "moving": EigenProblem(of=body(), k=2)},
        "c",
        "frequencies[0] >= 0.02",
    ),
}


@pytest.mark.parametrize("name", GOALS)
def test_their_gradients(name: str) -> None:
    of, objective, constraint = GOALS[name]
    problem = DesignProblem(
        of=of,
        variables=[Variable("E", initial=1.0, bounds=(0.1, 10.0))],
        objective=objective,
        constraints=[constraint],
        optimizer=MMA(max_iterations=2),
    )
    oracle = problem.oracle()
    x, g = oracle.start, torch.Generator().manual_seed(1)
    x = x + 0.05 * torch.rand(x.shape, generator=g, dtype=x.dtype)
    way, h = torch.randn(x.shape, generator=g, dtype=x.dtype), 1e-5
    at, up, down = (oracle.value_and_grad(x + s * h * way) for s in (0, 1, -1))
    assert float(at.gradient @ way) == pytest.approx((up.value - down.value) / (2 * h), rel=1e-4)
    slopes = (up.constraints - down.constraints) / (2 * h)
    torch.testing.assert_close(at.jacobian @ way, slopes, rtol=1e-4, atol=1e-8)


def test_a_name_that_is_not_theirs() -> None:
    """A load factor is no square of a frequency."""
    of = EigenProblem(of=body(), k=1, kind="buckling")
    with pytest.raises(SpecError, match="no result or parameter 'frequencies'"):
        DesignProblem(of=of, variables=[Variable("E", initial=1.0)], objective="frequencies[0]")
    with pytest.raises(ArgumentError, match="another name: load_factors"):
        _ = of.solve().frequencies
    with pytest.raises(AttributeError, match="damping_ratios"):
        _ = of.solve().damping_ratios


def test_data_and_goals_that_do_not_fit() -> None:
    of = cavity(source=1.0, outputs=[Probe("p", at=[0.3, 0.6])])
    vary = [Variable("E", initial=1.0)]
    for given in ([1.0, 2.0], torch.ones(2)):
        with pytest.raises(SpecError, match=r"data.p: numbers alone are no data: Measured"):
            DesignProblem(of=of, variables=vary, objective="misfit(p)", data={"p": given})
    with pytest.raises(SpecError, match="finite numbers"):
        DesignProblem(
            of=of,
            variables=vary,
            objective="misfit(p)",
            data={"p": {"values": [1.0, float("nan")]}},
        )
    with pytest.raises(ExpressionError, match="this is complex; use abs, real or imag"):
        DesignProblem(of=of, variables=vary, objective="p[0]").solve()


@pytest.mark.parametrize("name", ["damped", "resonance"])
def test_complex_modes_are_shown(name: str, tmp_path) -> None:
    s = GOALS[name][0].solve()
    s.report(tmp_path / "r.html")
    said = {"damped": "Hz", "resonance": "wavenumbers"}[name]
    assert said in (tmp_path / "r.html").read_text("utf-8")


def test_outputs_of_the_physics_are_no_results_of_its_modes() -> None:
    """They were accepted, and ended in a KeyError when solved."""
    of = EigenProblem(of=body(outputs=[Integral("v", "E")]), k=2)
    with pytest.raises(SpecError, match=r"no result or parameter 'v'.*frequencies"):
        DesignProblem(of=of, variables=[Variable("E")], objective="-frequencies[0] + v")


@pytest.mark.parametrize("meshed", [True, False])
def test_a_sweep_of_modes_knows_frequencies(meshed: bool) -> None:
    if meshed:
        of = EigenProblem(
            of=PoissonProblem(
                mesh=IntervalMesh(cells=12),
                diffusivity=Parameter("E"),
                capacity=Parameter("m"),
                boundary=[Dirichlet("left", 0.0), Dirichlet("right", 0.0)],
            ),
            k=2,
        )
    else:
        springs = Entries(rows=[0, 1], cols=[0, 1], values=Parameter("E", shape=(2,)), shape=[2, 2])
        masses = Entries(rows=[0, 1], cols=[0, 1], values=Parameter("m", shape=(2,)), shape=[2, 2])
        of = EigenProblem(matrix=springs, mass=masses, k=2)
    cases = [{"m": m if meshed else [m, m]} for m in (1.0, 2.0)]
    sweep = SweepProblem(of=of, cases=cases)
    start = torch.tensor(1.0 if meshed else [1.0, 2.0], dtype=torch.float64)
    wanted = sweep.solve(E=1.5 * start)["eigenvalues"].sqrt() / (2 * math.pi)
    design = DesignProblem(
        of=sweep,
        variables=[Variable("E", initial=start.tolist())],
        objective="misfit(frequencies)",
        data={"frequencies": Measured(wanted.tolist())},
    )
    torch.testing.assert_close(design.solve().design["E"], 1.5 * start, rtol=1e-4, atol=0.0)


def test_a_load_that_varies_need_not_reach_the_modes() -> None:
    """The same body, loaded and swinging: each variable enters what it enters."""
    loaded = body(
        density=Parameter("rho", default=1.0),
        parameters=[Parameter("f", default=1.0)],
        outputs=[Compliance("work")],
    ).updated(boundary=[Dirichlet("left", 0.0), Neumann("right", traction=["0.1*f", 0.0])])

    def search(objective: str) -> DesignProblem:
        return DesignProblem(
            of={"held": loaded, "swinging": EigenProblem(of=loaded, k=1)},
            variables=[Variable("f", bounds=(0.5, 2.0)), Variable("rho", bounds=(0.5, 2.0))],
            objective=objective,
        )

    assert search("work - eigenvalues[0]").check_gradients().passed
    found = search("work - eigenvalues[0]").solve()
    assert float(found.design["f"]) == pytest.approx(0.5)
    assert float(found.design["rho"]) == pytest.approx(0.5)
    with pytest.raises(SpecError, match="neither the objective nor a constraint depends on 'f'"):
        search("-eigenvalues[0]").solve()
