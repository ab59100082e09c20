"""Batches of laws that are no sums: shares of the load by windows of sites, the same as each law alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import torch_sla.linalg.kernels.threads as threads
import torch_sla.problems.lowering.blocks as blocks
import torch_sla.problems.lowering.shares as shares
from torch_sla import (
    BoxMesh,
    Dirichlet,
    ElasticityProblem,
    Flux,
    HelmholtzProblem,
    Integral,
    Maximum,
    MeshArrays,
    Neumann,
    Parameter,
    Periodic,
    PoissonProblem,
    Probe,
    RectangleMesh,
    Robin,
    StokesProblem,
    clear_cache,
)
from torch_sla.errors import ArgumentError
from torch_sla.problems.lowering.mesh import build_mesh

A = torch.linspace(0.1, 0.9, 40, dtype=torch.float64)
OUTPUTS = [
    Probe("p", at=[(0.7, 0.4)]),
    Integral("i", "u"),
    Maximum("m", "u"),
    Integral("q", "u**2"),
]
HUMP = "exp(-9*((x - a)**2 + y**2))"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make everything small, and tell which laws became shares."""
    found: list[str] = []

    class Seen(shares.Share):
        def __init__(self, silent: Any, path: str, *rest: Any) -> None:
            found.append(path)
            super().__init__(silent, path, *rest)

    monkeypatch.setattr(blocks, "Share", Seen)
    monkeypatch.setattr(blocks, "_PIECE", 10_000)
    monkeypatch.setattr(blocks, "_BYTES", 20_000)
    monkeypatch.setattr(shares, "_WINDOW", 8_000)
    clear_cache()
    return found


def poisson(**more: Any) -> PoissonProblem:
    return PoissonProblem(
        **{
            "mesh": RectangleMesh(cells=(8, 7)),
            "boundary": [Dirichlet("left", "1 + y"), Robin("right", coefficient=2.0, ambient=0.5)],
            "parameters": [Parameter("a")],
            "outputs": OUTPUTS,
            "solver": {"method": "cholesky"},
            **more,
        }
    )


def same_as_alone(problem: Any, rtol: float = 1e-8, **given: Any) -> None:
    every = problem.solve(a=A, **given)
    for i in (0, 17, 39):
        alone = problem.solve(a=A[i], **given)
        torch.testing.assert_close(every.u[i], alone.u, rtol=rtol, atol=1e-11)
        for name, value in alone.outputs.items():
            torch.testing.assert_close(every[name][i], value, rtol=rtol, atol=1e-11, msg=name)


BODY = [Dirichlet("left", 0.0)]
SIDES = [
    Dirichlet("left", "1 + y"),
    Neumann("top", flux=HUMP),
    Robin("right", coefficient="1 + y", ambient="sin(4*a*y)*normal[0]"),
]
WARM = {"thermal_expansion": 0.1, "temperature": "sin(3*a*x)"}
PUSHED = [Dirichlet("left", 0.0), Neumann("right", pressure="exp(-a*y)")]
PULLED = [Dirichlet("left", 0.0), Neumann("top", traction=["exp(-a*x)", 0.3])]


def elastic(**more: Any) -> ElasticityProblem:
    return ElasticityProblem(
        **{
            "mesh": RectangleMesh(cells=(6, 5), cell="quad"),
            "model": "plane_stress",
            "young_modulus": 2.0,
            "boundary": BODY,
            "parameters": [Parameter("a")],
            "outputs": [Probe("p", at=[(0.7, 0.4)]), Integral("d", "div(u)")],
            **more,
        }
    )


@pytest.mark.parametrize(
    ("problem", "paths"),
    [
        (poisson(source=HUMP), ["source"]),
        (poisson(source=HUMP, solver={"method": "cg"}), ["source"]),
        (poisson(boundary=SIDES), ["boundary.1.flux", "boundary.2.ambient"]),
        (poisson(source=HUMP, order=2, mesh=RectangleMesh(cells=(4, 4))), ["source"]),
        (poisson(source=HUMP, advection=[20.0, "y"], stabilization="supg", solver={}), ["source"]),
        (poisson(source={"*": "x**(2*a)"}), ["source"]),
        (elastic(body_force=["sin(3*a*x)", "y"]), ["body_force"]),
        (elastic(thickness="1 + x", body_force=["sin(3*a*x)", "y"]), ["body_force"]),
        (elastic(**WARM), ["temperature"]),
        (elastic(boundary=PUSHED), ["boundary.1.pressure"]),
        (elastic(boundary=PULLED), ["boundary.1.traction"]),
    ],
)
def test_every_kind_of_law(problem: Any, paths: list[str], made: list[str]) -> None:
    same_as_alone(problem)
    assert sorted(set(made)) == paths


def test_waves_and_flows(made: list[str]) -> None:
    wave = HelmholtzProblem(
        mesh=RectangleMesh(cells=(8, 8)),
        wavenumber=5.0,
        source="exp(-9*((x - a)**2 + y**2))*(1 + 2j)",
        boundary=[Robin("right", coefficient="-5j", ambient=0.0)],
        parameters=[Parameter("a")],
    )
    same_as_alone(wave)
    flow = StokesProblem(
        mesh=RectangleMesh(cells=(5, 5)),
        viscosity=1.0,
        body_force=["exp(-a*y)", "sin(3*a*x)"],
        boundary=[Dirichlet(["left", "right", "top", "bottom"], 0.0)],
        parameters=[Parameter("a")],
    )
    same_as_alone(flow, rtol=1e-6)
    assert set(made) == {"source", "body_force"}


@pytest.mark.parametrize(
    "changed", [{"source": HUMP}, {"boundary": [Neumann("right", flux="exp(a*y)")]}]
)
def test_real_laws_of_waves(changed: dict[str, Any], made: list[str]) -> None:
    wave = {"mesh": RectangleMesh(cells=(8, 8)), "wavenumber": "5 + 0.5j"}
    same_as_alone(HelmholtzProblem(**wave, parameters=[Parameter("a")], **changed))
    assert made


def test_beside_a_law_of_the_same_cells_that_is_no_share(
    made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # 84 unknowns, and 9 members in each block: as many as a share has points, and one.
    monkeypatch.setattr(blocks, "_BYTES", 9 * 84 * 8)
    warm = {"thermal_expansion": 0.1, "temperature": "c"}
    parameters = [Parameter("a"), Parameter("c", on="cells")]
    problem = elastic(body_force=["sin(3*a*x)", "y"], parameters=parameters, **warm)
    c = torch.rand(18, 30, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    every = problem.solve(a=A[:18], c=c)
    assert made == ["body_force"]
    for i in (0, 8, 17):
        alone = problem.solve(a=A[i], c=c[i])
        torch.testing.assert_close(every.u[i], alone.u, rtol=1e-8, atol=1e-11)


def test_parameters_of_sites_that_all_members_share(made: list[str]) -> None:
    problem = poisson(
        source="c*exp(-a*x)*n",
        parameters=[Parameter("a"), Parameter("c", on="cells"), Parameter("n", on="nodes")],
    )
    counts = problem.compile().counts
    c, n = (1.0 + torch.rand(counts[k]).double() for k in ("cells", "nodes"))
    same_as_alone(problem, c=c, n=n)
    assert set(made) == {"source"}


@pytest.mark.parametrize(
    "problem",
    [
        poisson(source=HUMP, outputs=[Flux("f", "left")]),
        poisson(source=HUMP, boundary=[Dirichlet("left", 0.0), Periodic("bottom", to="top")]),
        poisson(boundary=[Dirichlet("left", "sin(3*a*y)")]),
        elastic(thermal_expansion="1/(1 + a*x)", temperature="sin(3*a*x)"),
    ],
)
def test_what_is_no_share_is_solved_piece_by_piece(problem: Any, made: list[str]) -> None:
    same_as_alone(problem)
    assert not made


def test_several_dimensions_and_threads(made: list[str]) -> None:
    problem = poisson(
        source="exp(-b*((x - a)**2 + y**2))", parameters=[Parameter("a"), Parameter("b")]
    )
    b = torch.tensor([[4.0], [9.0]], dtype=torch.float64)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        every = problem.solve(a=A, b=b)
        assert torch.get_num_threads() == 2
        assert torch.equal(every.u, problem.solve(a=A, b=b).u)
        torch.set_num_threads(1)
        torch.testing.assert_close(problem.solve(a=A, b=b).u, every.u, rtol=1e-11, atol=1e-13)
    finally:
        torch.set_num_threads(threads)
    for i, j in ((0, 3), (1, 39)):
        alone = problem.solve(a=A[j], b=b[i, 0])
        torch.testing.assert_close(every.u[i, j], alone.u, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(every["m"][i, j], alone["m"], rtol=1e-9, atol=1e-11)
    assert set(made) == {"source"}


def test_parts_that_run_beside_each_other_load_no_unknown_in_common(
    made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh = build_mesh(RectangleMesh(cells=(8, 30)))
    noise = torch.rand(mesh.n_cells, generator=torch.Generator().manual_seed(3))
    order = (torch.arange(mesh.n_cells) + 60 * noise).argsort()
    cells = mesh.cells[order].tolist()
    shuffled = MeshArrays(points=mesh.points.tolist(), cells=cells, cell="triangle")
    problem = poisson(mesh=shuffled, source=HUMP, boundary=[Dirichlet("x < 1e-9", "1 + y")])
    made_of: list[Any] = []
    add = shares.Share.add

    def seen(self: Any, *rest: Any) -> None:
        made_of.append(self)
        add(self, *rest)

    monkeypatch.setattr(shares.Share, "add", seen)
    monkeypatch.setattr(shares, "_WINDOW", 1_500)
    monkeypatch.setattr(threads, "SMALL_WORK", 1)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        same_as_alone(problem)
    finally:
        torch.set_num_threads(before)
    share = made_of[0]
    rows = [{int(r) for w in part for r in w.rows} for part in share._parts]
    assert [len(some) > 0 for some in rows] == [True] * 3
    assert share._late
    assert len(set().union(*rows)) == sum(map(len, rows))
    every = [w.sites for part in (*share._parts, share._late) for w in part]
    assert sorted(k for w in every for k in range(w.start, w.stop)) == list(range(mesh.n_cells))


def test_a_law_that_is_not_finite_is_named_with_the_place(made: list[str]) -> None:
    problem = poisson(source="log(x - a + 0.5)")
    with pytest.raises(ArgumentError, match=r"source: the law is NaN or infinite at \(0\."):
        problem.solve(a=A)
    assert made == ["source"]


def test_nothing_is_recorded_where_recording_is_off(made: list[str]) -> None:
    problem = poisson(source=HUMP, mesh=BoxMesh(cells=(3, 3, 3)), outputs=[Integral("i", "u")])
    a = A.clone().requires_grad_()
    with torch.no_grad():
        assert not problem.solve(a=a)["i"].requires_grad
    assert made == ["source"]
    (grad,) = torch.autograd.grad(problem.solve(a=a)["i"].sum(), a)
    assert bool((grad != 0).all())
