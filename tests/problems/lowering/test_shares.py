"""Batches of laws that are no sums: shares of the load by windows of sites, the same as each law alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import torch_sla.linalg.kernels.threads as threads
import torch_sla.problems.lowering.blocks as blocks
import torch_sla.problems.lowering.shares as shares
from tests.helpers.batches import same_as_alone
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
CASES = {"a": A}
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


BODY = [Dirichlet("left", 0.0)]
SIDES = [
    Dirichlet("left", "1 + y"),
    Neumann("top", flux=HUMP),
    Robin("right", coefficient="1 + y", ambient="sin(4*a*y)*normal[0]"),
]
FINE = RectangleMesh(cells=(14, 14), cell="quad")
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
        (poisson(source={"*": "x**(2*a)"}, mesh=FINE), ["source"]),
        (elastic(body_force=["sin(9*a*x)", "a*cos(9*a*y)"], mesh=FINE), ["body_force"]),
        (elastic(body_force=["sin(3*a*x)", "y"]), ["body_force"]),
        (elastic(thickness="1 + x", body_force=["sin(3*a*x)", "y"]), ["body_force"]),
        (elastic(**WARM), ["temperature"]),
        (elastic(boundary=PUSHED), ["boundary.1.pressure"]),
        (elastic(boundary=PULLED), ["boundary.1.traction"]),
    ],
)
def test_every_kind_of_law(problem: Any, paths: list[str], made: list[str]) -> None:
    same_as_alone(problem, CASES)
    assert sorted(set(made)) == paths


def test_waves_and_flows(made: list[str]) -> None:
    wave = HelmholtzProblem(
        mesh=RectangleMesh(cells=(8, 8)),
        wavenumber=5.0,
        source="exp(-9*((x - a)**2 + y**2))*(1 + 2j)",
        boundary=[Robin("right", coefficient="-5j", ambient=0.0)],
        parameters=[Parameter("a")],
    )
    same_as_alone(wave, CASES)
    flow = StokesProblem(
        mesh=RectangleMesh(cells=(5, 5)),
        viscosity=1.0,
        body_force=["exp(-a*y)", "sin(3*a*x)"],
        boundary=[Dirichlet(["left", "right", "top", "bottom"], 0.0)],
        parameters=[Parameter("a")],
    )
    same_as_alone(flow, CASES, rtol=1e-6)
    assert set(made) == {"source", "body_force"}


@pytest.mark.parametrize(
    "changed", [{"source": HUMP}, {"boundary": [Neumann("right", flux="exp(a*y)")]}]
)
def test_real_laws_of_waves(changed: dict[str, Any], made: list[str]) -> None:
    wave = {"mesh": RectangleMesh(cells=(8, 8)), "wavenumber": "5 + 0.5j"}
    same_as_alone(HelmholtzProblem(**wave, parameters=[Parameter("a")], **changed), CASES)
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
    same_as_alone(problem, {"a": A[:18], "c": c})
    assert made == ["body_force"]


def test_parameters_of_sites_that_all_members_share(made: list[str]) -> None:
    problem = poisson(
        source="c*exp(-a*x)*n",
        parameters=[Parameter("a"), Parameter("c", on="cells"), Parameter("n", on="nodes")],
    )
    counts = problem.compile().counts
    c, n = (1.0 + torch.rand(counts[k]).double() for k in ("cells", "nodes"))
    same_as_alone(problem, CASES, c=c, n=n)
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
    same_as_alone(problem, CASES)
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


def shuffled() -> MeshArrays:
    """Cells of which half are in an order in which neighbours are not near each other."""
    mesh = build_mesh(RectangleMesh(cells=(8, 30)))
    order = torch.randperm(mesh.n_cells, generator=torch.Generator().manual_seed(3))
    order[: mesh.n_cells // 2] = order[: mesh.n_cells // 2].sort()[0]
    cells = mesh.cells[order].tolist()
    return MeshArrays(points=mesh.points.tolist(), cells=cells, cell="triangle")


def test_threads_have_members_of_their_own_and_windows_all_sites(
    made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    law = "tanh(9*(x - a)*y + x*y)"  # no product of functions of one coordinate
    problem = poisson(mesh=shuffled(), source=law, boundary=[Dirichlet("x < 1e-9", "1 + y")])
    seen: dict[tuple[int, int], list[slice]] = {}
    rows: set[type] = set()
    add, columns = shares._add, shares.Members.columns

    def watched(load: Any, window: Any, more: Any) -> None:
        rows.add(type(window.rows))
        add(load, window, more)

    def evaluated(self: Any, some: slice) -> Any:
        seen.setdefault((self._some.start, self._some.stop), []).append(some)
        return columns(self, some)

    monkeypatch.setattr(shares, "_add", watched)
    monkeypatch.setattr(shares.Members, "columns", evaluated)
    monkeypatch.setattr(shares, "_WINDOW", 1_500)
    monkeypatch.setattr(shares, "_FEW", 2)
    monkeypatch.setattr(shares, "SMALL_WORK", 1)
    monkeypatch.setattr(threads, "SMALL_WORK", 1)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        every = problem.solve(a=A)
    finally:
        torch.set_num_threads(before)
    for i in (0, 17, 39):
        torch.testing.assert_close(every.u[i], problem.solve(a=A[i]).u, rtol=1e-8, atol=1e-11)
    assert rows == {slice, torch.Tensor}
    assert len(seen) >= 3
    blocks_of_members = sorted(seen)
    assert all(low < high for low, high in blocks_of_members)
    n = problem.compile().mesh.n_cells
    for windows in seen.values():
        once = sorted(k for w in windows for k in range(w.start, w.stop))
        assert once == sorted(list(range(n)) * (len(once) // n))


def test_windows_are_made_once_for_a_structure(
    made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arranged: list[Any] = []

    class Counted(shares.Windows):
        def __init__(self, *rest: Any) -> None:
            arranged.append(rest)
            super().__init__(*rest)

    monkeypatch.setattr(shares, "Windows", Counted)
    problem = poisson(source=HUMP)
    first = problem.solve(a=A).u
    assert torch.equal(problem.solve(a=A).u, first)
    assert len(arranged) == 1
    warmer = poisson(source=f"2*{HUMP}").solve(a=A).u
    assert len(arranged) == 1
    assert not torch.equal(warmer, first)
    poisson(source=HUMP, boundary=[Dirichlet("right", 0.0)]).solve(a=A)
    assert len(arranged) == 2
    clear_cache()
    problem.solve(a=A)
    assert len(arranged) == 3


@pytest.mark.parametrize(
    "source",
    [
        "sin(9*a*x)*cos(9*a*y)",
        "where(x < a, sin(a*x), 1 - y)",
        "max(x - a, y - a, 0)",
        "(x < a)*y",
        "a**x + 2**(a*y) - tanh(a*x*y)/(1 + a)",
        "exp(-a)*x + 3",
        "where(a < 0.5, exp(a*x), y)",
    ],
)
def test_laws_of_many_kinds(source: str, made: list[str]) -> None:
    same_as_alone(poisson(source=source, outputs=[Integral("i", "u")]), CASES)


def test_laws_in_single_precision(made: list[str]) -> None:
    problem = poisson(source="sin(9*a*x)*y**2", solver={"method": "cholesky", "dtype": "float32"})
    every = problem.solve(a=A)
    torch.testing.assert_close(every.u[17], problem.solve(a=A[17]).u, rtol=1e-4, atol=1e-5)
    assert set(made) == {"source"}


@pytest.mark.parametrize(
    ("law", "mesh", "along"),
    [
        ("sin(9*a*x)*cos(9*a*y)", RectangleMesh(cells=(30, 30)), 2),
        ("exp(a*x)*y + (x - a)**2", RectangleMesh(cells=(30, 30)), 1),
        (HUMP, RectangleMesh(cells=(30, 30)), 0),
        ("sin(9*a*x)*cos(9*a*y)", None, 0),
    ],
)
def test_functions_of_one_coordinate_are_evaluated_at_its_values(
    law: str, mesh: Any, along: int, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if mesh is None:  # no two points above each other
        whole = build_mesh(RectangleMesh(cells=(12, 11)))
        x, y = whole.points.T
        turned = torch.stack([x + 0.1 * x * y, y - 0.1 * x * y], 1)
        mesh = MeshArrays(points=turned.tolist(), cells=whole.cells.tolist(), cell="triangle")
    parted: list[Any] = []
    made_of = shares.PartedLaw.__init__

    def noted(self: Any, *rest: Any) -> None:
        made_of(self, *rest)
        parted.append(self)

    monkeypatch.setattr(shares.PartedLaw, "__init__", noted)
    problem = poisson(mesh=mesh, source=law, boundary=[Dirichlet("x < 1e-9", "1 + y")])
    every = problem.solve(a=A)
    torch.testing.assert_close(every.u[17], problem.solve(a=A[17]).u, rtol=1e-8, atol=1e-11)
    assert [len(p.along) for p in parted] == [along]


def test_one_block_is_its_own_solution(made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_BYTES", 128_000_000)
    problem = poisson(source=HUMP)
    same_as_alone(problem, CASES)
    every = problem.solve(a=A)
    left = problem.compile().mesh.points[:, 0] == 0
    held = every.u[:, left]
    torch.testing.assert_close(held, held[:1].expand_as(held), rtol=0, atol=0)
    assert torch.equal(problem.solve(a=A).u, every.u)


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
