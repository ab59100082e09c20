"""Values are never baked in, and bad ones are refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torch_sla import (
    Dirichlet,
    Flux,
    HelmholtzProblem,
    Integral,
    IntervalMesh,
    MeshArrays,
    MeshFile,
    Neumann,
    Parameter,
    PoissonProblem,
    Probe,
    Reaction,
    RectangleMesh,
    Robin,
    Solver,
    clear_cache,
)
from torch_sla.errors import ArgumentError, DTypeError, GradientError, SolveError, SpecError

BASE: dict[str, object] = {
    "mesh": RectangleMesh(cells=(4, 4)),
    "solver": Solver(backend="scipy", method="superlu"),
    "diffusivity": 2.0,
    "reaction": 0.5,
    "source": 1.0,
    "boundary": [Dirichlet("left", 1.0), Neumann("top", flux=0.5), Robin("right", 3.0, 2.0)],
    "outputs": [Probe("p", at=[(0.4, 0.6)])],
}


def declare(**changes: object) -> PoissonProblem:
    return PoissonProblem(**{**BASE, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"diffusivity": 3.0},
        {"diffusivity": "2 + x"},
        {"diffusivity": {"*": 5.0}},
        {"diffusivity": [[2.0, 0.5], [0.5, 3.0]]},
        {"reaction": 1.0},
        {"source": "x"},
        {"boundary": [Dirichlet("left", 2.0), *BASE["boundary"][1:]]},
        {"boundary": [BASE["boundary"][0], Neumann("top", flux=1.5), BASE["boundary"][2]]},
        {"boundary": [*BASE["boundary"][:2], Robin("right", 4.0, 2.0)]},
        {"boundary": [*BASE["boundary"][:2], Robin("right", 3.0, 1.0)]},
        {"mesh": RectangleMesh(cells=(4, 4), size=(1.0, 1.5))},
        {"mesh": RectangleMesh(cells=(4, 4), origin=(0.1, 0.0))},
    ],
    ids=str,
)
def test_a_new_value_takes_effect_on_the_same_structure(changes: dict[str, object]) -> None:
    first, second = declare(), declare(**changes)
    before = first.solve()["p"]
    after = second.solve()["p"]
    assert first.structural_hash == second.structural_hash
    clear_cache()
    fresh = declare(**changes).solve()["p"]
    torch.testing.assert_close(after, fresh, rtol=1e-13, atol=0)
    if "origin" not in str(changes):
        assert abs(float(after - before)) > 1e-5
    torch.testing.assert_close(first.solve()["p"], before, rtol=1e-13, atol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"mesh": RectangleMesh(cells=(4, 5))},
        {"order": 2},
        {"boundary": [Dirichlet("bottom", 1.0), *BASE["boundary"][1:]]},
        {"boundary": [Dirichlet("y < 1e-9", 1.0)]},
        {"solver": Solver(backend="scipy", method="superlu", dtype="float32")},
    ],
    ids=str,
)
def test_the_structural_hash_sees_structure(changes: dict[str, object]) -> None:
    assert declare(**changes).structural_hash != declare().structural_hash


def test_the_structural_hash_sees_selections_not_their_spelling() -> None:
    by_tag = declare(boundary=[Dirichlet("left", 1.0)])
    by_predicate = declare(boundary=[Dirichlet("x < 1e-9", 1.0)])
    assert by_tag.structural_hash == by_predicate.structural_hash
    assert by_tag.compile().compiled is by_predicate.compile().compiled
    assert declare(solver=Solver(rtol=1e-8)).structural_hash == declare().structural_hash


@pytest.mark.parametrize(
    ("home", "value"),
    [
        ("constant", 3.0),
        ("constant", torch.tensor(3.0)),
        ("cells", 3.0),
        ("cells", torch.full((32,), 3.0)),
        ("cells", np.full(32, 3.0)),
        ("nodes", torch.full((25,), 3.0)),
        ("quadrature", torch.full((96,), 3.0)),
        ("cells", [3.0] * 32),
    ],
)
def test_homes_of_parameters(home: str, value: object) -> None:
    problem = declare(diffusivity=Parameter("k", on=home))
    expected = declare(diffusivity=3.0).solve().u
    torch.testing.assert_close(problem.solve(k=value).u, expected)
    torch.testing.assert_close(problem.solve({"k": value}).u, expected)


def test_defaults() -> None:
    expected = declare(diffusivity="1 + x").solve().u
    problem = declare(diffusivity=Parameter("k", on="quadrature", default="1 + x"))
    torch.testing.assert_close(problem.solve().u, expected)
    with pytest.raises(ArgumentError, match=r"'k' has no default: .* \[\*batch 32 cells\]"):
        declare(diffusivity=Parameter("k", on="cells")).solve()


def test_files(tmp_path) -> None:
    k = 1 + np.random.default_rng(77).random(32)
    np.savez(tmp_path / "k.npz", kappa=k, other=k)
    problem = declare(diffusivity={"file": str(tmp_path / "k.npz"), "key": "kappa"})
    expected = declare(diffusivity=Parameter("k", on="cells")).solve(k=k).u
    torch.testing.assert_close(problem.solve().u, expected)
    with pytest.raises(ValueError, match="has no array 'kapa'; it holds: kappa other"):
        declare(diffusivity={"file": str(tmp_path / "k.npz"), "key": "kapa"}).solve()
    np.save(tmp_path / "short.npy", k[:7])
    with pytest.raises(SpecError, match="fits no kind of site"):
        declare(diffusivity={"file": str(tmp_path / "short.npy")}).solve()
    with pytest.raises(SpecError, match="no such file"):
        declare(diffusivity={"file": str(tmp_path / "absent.npy")})


def test_matrix_parameter() -> None:
    problem = declare(diffusivity=Parameter("K", on="cells", shape=(2, 2)))
    K = torch.tensor([[2.0, 0.5], [0.5, 3.0]], dtype=torch.float64)
    expected = declare(diffusivity=[[2.0, 0.5], [0.5, 3.0]]).solve().u
    torch.testing.assert_close(problem.solve(K=K.expand(32, 2, 2)).u, expected)
    torch.testing.assert_close(problem.solve(K=K).u, expected)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (torch.ones(31), ArgumentError, r"'k' has shape \(31,\); expected \[\*batch, 32\]"),
        (torch.ones(32, 2), ArgumentError, "'k' has shape"),
        (torch.ones(32, dtype=torch.int64), DTypeError, "'k' has dtype torch.int64"),
        (torch.ones(32, dtype=torch.complex128), DTypeError, "complex"),
        (True, DTypeError, "truth value"),
        ("1.0", DTypeError, "'k' is a str"),
        (torch.full((32,), float("nan")), ArgumentError, "'k' holds NaN"),
        (-torch.ones(32), ArgumentError, r"diffusivity must be positive; it is -1 in cell 0"),
        (torch.zeros(32), ArgumentError, "diffusivity must be positive"),
        (torch.nn.Linear(2, 3), ArgumentError, "'k' has shape"),
        ([[1.0], [1.0, 2.0]], DTypeError, "'k' cannot be read as an array of numbers"),
        (["a"], DTypeError, "'k' holds <U1; numbers are needed"),
        ([None], DTypeError, "'k' holds object"),
        ([torch.ones((), requires_grad=True)] * 32, GradientError, "'k' is a list .* torch.stack"),
        (np.ma.masked_less(np.arange(32.0), 1.0), DTypeError, "'k' is masked"),
        (torch.ones(32).to_sparse(), DTypeError, "'k' is a tensor of layout torch.sparse_coo"),
        (torch.ones(32, device="meta"), DTypeError, "'k' is a tensor on the meta device"),
    ],
)
def test_bad_values(value: object, error: type[Exception], message: str) -> None:
    problem = declare(diffusivity=Parameter("k", on="cells"))
    with pytest.raises(error, match=message):
        problem.solve(k=value)


def test_an_unknown_name() -> None:
    problem = declare(diffusivity=Parameter("kappa", default=1.0))
    with pytest.raises(ArgumentError, match=r"'kapa' .* \(did you mean 'kappa'\?\)"):
        problem.solve(kapa=2.0)


def test_what_requires_grad_must_reach_something() -> None:
    problem = declare(parameters=[Parameter("idle", default=1.0)])
    problem.solve(idle=2.0)
    with pytest.raises(GradientError, match="'idle' requires grad, but no law"):
        problem.solve(idle=torch.tensor(2.0, requires_grad=True))
    with pytest.raises(GradientError, match="'idle'"):
        problem.solve(idle=torch.nn.Linear(2, 1))
    # Reached by an output alone is reached; zero in effect is not zero in structure.
    problem = declare(
        parameters=[Parameter("idle", default=1.0)], outputs=[Integral("i", "u + 0*idle")]
    )
    problem.solve(idle=torch.tensor(2.0, requires_grad=True))


def test_fluxes_alone_leave_the_level_open() -> None:
    problem = declare(boundary=[Neumann("top", flux=1.0)], reaction=None)
    with pytest.raises(SpecError, match=r"Dirichlet value or a Robin exchange .* or a reaction"):
        problem.solve()
    problem.assemble()
    declare(boundary=[Neumann("top", flux=1.0)]).solve()


def test_an_exchange_of_zero_is_singular_and_says_so() -> None:
    problem = declare(boundary=[Robin("top", 0.0, 1.0)], reaction=None)
    with pytest.raises(SpecError, match="nothing fixes the level of the solution"):
        problem.solve()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"boundary": [Dirichlet("lefft", 0.0)]},
            r"'lefft' \(did you mean 'left'\?\).*left right bottom top",
        ),
        ({"boundary": [Dirichlet("x > 2", 0.0)]}, "no boundary facet satisfies 'x > 2'"),
        ({"boundary": [Dirichlet("fluid-wall", 0.0)]}, "no facet tag 'fluid-wall'"),
        ({"boundary": [Dirichlet("z < 1", 0.0)]}, "no facet tag 'z < 1'"),
        ({"boundary": [Dirichlet("xx < 1", 0.0)]}, "as a condition: unknown name 'xx' .*'x'"),
        ({"boundary": [Dirichlet("x = 0", 0.0)]}, "as a condition: .* equality is written =="),
        ({"diffusivity": {"steel": 1.0}}, "no cell tag 'steel'"),
        ({"diffusivity": "z"}, "'z' does not exist in 2 dimensions"),
        ({"diffusivity": "1/(x - x)"}, "NaN or infinite"),
        ({"diffusivity": "1j*x"}, "complex"),
        ({"boundary": [Dirichlet("left", 0.0), Neumann("left", flux=1.0)]}, "a value or a flux"),
        ({"boundary": [Dirichlet("left", {"*": 1.0})]}, "no meaning at a node"),
        ({"outputs": [Probe("p", at=[(0.1,)])]}, "1 coordinates; this mesh has 2"),
        ({"outputs": [Probe("p", at=[(7.0, 0.1)])]}, "outside the mesh"),
        ({"outputs": [Flux("f", "wall")]}, "outputs.0.on: .*no facet tag 'wall'"),
        ({"outputs": [Reaction("r", "top")]}, "no Dirichlet condition holds"),
        (
            {"diffusivity": [[1.0, 2.0], [2.0, 1.0]]},
            "positive definite; the least eigenvalue is -1",
        ),
        ({"solver": Solver(device="cuda")}, "solver.device"),
    ],
    ids=str,
)
def test_bad_problems(changes: dict[str, object], message: str) -> None:
    with pytest.raises((ArgumentError, DTypeError), match=message):
        declare(**changes).solve()


def test_cell_tags_must_cover_each_cell_once() -> None:
    mesh = MeshArrays(
        points=[[0.0], [0.5], [1.0]],
        cells=[[0, 1], [1, 2]],
        cell="line",
        cell_tags={"a": [0], "b": [0, 1]},
        facet_tags={"end": [[0]]},
    )

    def solve(**kappa: float) -> torch.Tensor:
        end = Dirichlet("end", 0.0)
        return PoissonProblem(mesh=mesh, diffusivity=kappa, source=1.0, boundary=[end]).solve().u

    with pytest.raises(SpecError, match="'a' and 'b' share cells"):
        solve(a=1.0, b=2.0)
    with pytest.raises(SpecError, match="1 of 2 cells match no entry"):
        solve(a=1.0)
    torch.testing.assert_close(solve(**{"b": 1.0, "*": 2.0}), solve(b=1.0))
    end = [Dirichlet("end", 0.0)]
    problem = PoissonProblem(
        mesh=mesh, diffusivity={"b": 1.0, "*": Parameter("rest")}, boundary=end
    )
    with pytest.raises(GradientError, match="'rest' requires grad"):
        problem.solve(rest=torch.tensor(1.0, requires_grad=True))
    # A source in one cell alone: the flux 0.5 it makes crosses the other.
    somewhere = PoissonProblem(mesh=mesh, source={"value": 1.0, "on": "a"}, boundary=end)
    assert somewhere.source == {"a": 1.0, "*": 0.0}
    torch.testing.assert_close(
        somewhere.solve().u, torch.tensor([0.0, 0.125, 0.125], dtype=torch.float64)
    )


def test_bad_meshes(tmp_path) -> None:
    with pytest.raises(SpecError, match=r"path: no such file: 'plate.msh'"):
        MeshFile("plate.msh")
    (tmp_path / "noise.msh").write_text("this is no mesh")
    with pytest.raises(SpecError, match=r"mesh: .*cannot read"):
        declare(mesh=MeshFile(str(tmp_path / "noise.msh"))).solve()
    import meshio

    square = meshio.Mesh([[0.0, 0, 0], [1, 0, 0], [1, 1, 0]], [("triangle", [[0, 1, 2]])])
    meshio.write(tmp_path / "square.vtu", square)
    with pytest.raises(SpecError, match="has no tetra cells"):
        declare(mesh=MeshFile(str(tmp_path / "square.vtu"), cell="tetra")).solve()
    flat = {"points": [[0.0, 0], [1, 0], [2, 0]], "cells": [[0, 1, 2]], "cell": "triangle"}
    with pytest.raises(SpecError, match="mesh: "):
        declare(mesh=MeshArrays(**flat)).solve()


def test_late_errors_name_the_file(tmp_path) -> None:
    from torch_sla import load_problem

    path = tmp_path / "p.yaml"
    text = declare(boundary=[Dirichlet("left", 0.0)]).to_yaml()
    path.write_text(text.replace("on: left", "on: lefft"))
    problem = load_problem(path)
    with pytest.raises(SpecError, match="did you mean 'left'") as caught:
        problem.solve()
    line = next(i for i, s in enumerate(path.read_text().splitlines(), 1) if "lefft" in s)
    assert (caught.value.file, caught.value.line) == (str(path), line)


def test_sites() -> None:
    problem = PoissonProblem(
        mesh=IntervalMesh(cells=4),
        diffusivity="kc*kq*kn",
        parameters=[
            Parameter("kc", on="cells"),
            Parameter("kn", on="nodes"),
            Parameter("kq", on="quadrature"),
            Parameter("a"),
        ],
        boundary=[Neumann("left", flux=Parameter("q", on="facets"))],
    )
    assert problem.sites("kc")[:, 0].tolist() == [0.125, 0.375, 0.625, 0.875]
    assert problem.sites("kn").shape == (5, 1)
    assert problem.sites("q").shape == (2, 1)
    assert len(problem.sites("kq")) % 4 == 0
    with pytest.raises(ArgumentError, match="has no sites; declare it on cells"):
        problem.sites("a")
    with pytest.raises(ArgumentError, match="no parameter"):
        problem.sites("b")


def test_failure_can_be_returned() -> None:
    problem = declare(
        solver=Solver(backend="pytorch", method="cg", preconditioner="none", maxiter=2)
    )
    with pytest.raises(SolveError) as caught:
        problem.solve()
    assert caught.value.iterations == 2
    solution = problem.solve(throw=False, info=True)
    assert not solution.info.converged
    assert len(solution.info.history) >= 2
    start = declare().solve().u
    assert problem.solve(start=start).info.iterations == 0


def test_inference_mode_leaves_nothing_behind() -> None:
    problem = declare(mesh=RectangleMesh(cells=(5, 3)), diffusivity=Parameter("k", on="cells"))
    clear_cache()
    with torch.inference_mode():
        problem.solve(k=2.0)
    k = torch.ones(30, dtype=torch.float64, requires_grad=True)
    problem.solve(k=k)["p"].sum().backward()
    assert bool(k.grad.isfinite().all())


def test_what_was_made_in_inference_mode_is_a_value_like_others() -> None:
    problem = declare(diffusivity="a*(1 + u**2)", parameters=[Parameter("a", on="cells")])
    plain = torch.rand(32, dtype=torch.float64) + 1
    with torch.inference_mode():
        made = plain * 1
        inside = problem.solve(a=made)["p"]
    assert torch.equal(problem.solve(a=made)["p"], inside)
    assert torch.equal(problem.solve(a=plain)["p"], inside)


def test_explain_needs_no_values() -> None:
    problem = declare(diffusivity=Parameter("k", on="cells", unit="W/(m K)"))
    text = problem.explain()
    for word in ("25 points", "symmetric positive definite", "k [W/(m K)]", "required", "choice"):
        assert word in text


def test_batches_that_do_not_go_together_are_refused_by_name() -> None:
    problem = declare(diffusivity=Parameter("k"), source=Parameter("s"))
    with pytest.raises(
        ArgumentError, match=r"'s' has the batch dimensions \[3\], and 'k' has \[2\]"
    ):
        problem.solve(k=torch.ones(2), s=torch.ones(3))
    with pytest.raises(ArgumentError, match=r"'k' has the batch dimensions .* no member"):
        problem.solve(k=torch.ones(0), s=1.0)
    assert problem.solve(k=torch.ones(2, 1), s=torch.ones(3)).u.shape[:2] == (2, 3)


def test_files_of_wrong_numbers_are_refused_at_their_law(tmp_path) -> None:
    cells = declare().mesh_data().n_cells
    kappa = np.linspace(1.0, 2.0, cells)
    np.savez(tmp_path / "two.npz", kappa=kappa, other=kappa)
    np.save(tmp_path / "complex.npy", kappa + 1j)
    np.save(tmp_path / "text.npy", kappa.astype(str))
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 no archive")
    for name, error, said in (
        ("two.npz", SpecError, "says no key; it holds: kappa other"),
        ("complex.npy", DTypeError, "complex numbers; real ones are needed"),
        ("text.npy", SpecError, "numbers are needed"),
        ("cut.npz", SpecError, "cannot be read"),
    ):
        with pytest.raises(error, match=rf"diffusivity: .*{said}"):
            declare(diffusivity={"file": str(tmp_path / name)}).solve()
        with pytest.raises(error, match=said):
            declare(
                diffusivity=Parameter("k", on="cells", default={"file": str(tmp_path / name)})
            ).solve()


def test_complex_files_keep_their_imaginary_part_where_fields_are_complex(tmp_path) -> None:
    mesh = RectangleMesh(cells=(3, 3))
    base = {"mesh": mesh, "wavenumber": 2.0, "boundary": [Dirichlet("left", 0.0)]}
    source = np.full(HelmholtzProblem(**base).mesh_data().n_cells, 1.0 + 2.0j)
    np.save(tmp_path / "f.npy", source)
    found = HelmholtzProblem(**base, source={"file": str(tmp_path / "f.npy")}).solve().u
    torch.testing.assert_close(found, HelmholtzProblem(**base, source="1 + 2j").solve().u)


@pytest.mark.parametrize(("on", "shape"), [("cells", (3, 32)), ("constant", (3,))])
def test_a_default_from_a_file_is_no_batch(on: str, shape: tuple[int, ...], tmp_path) -> None:
    k = 1.0 + np.arange(np.prod(shape)).reshape(shape)
    np.save(tmp_path / "k.npy", k)
    declared = declare(diffusivity=Parameter("k", on=on, default={"file": str(tmp_path / "k.npy")}))
    with pytest.raises(
        ArgumentError, match=r"'k' has shape \(3.*the default, and a batch is given"
    ):
        declared.solve()
    assert declared.solve(k=torch.as_tensor(k)).u.shape[0] == 3


def test_a_file_is_read_once_for_laws_and_defaults(tmp_path) -> None:
    """What a compiled problem identifies itself by is what it computes with, whatever is written meanwhile."""
    file = {"file": str(tmp_path / "k.npy")}
    np.save(tmp_path / "k.npy", np.full(32, 2.0))
    declared = declare(
        diffusivity=Parameter("k", on="cells", default=file), source={**file, "on": "cells"}
    )
    before = declared.solve().u
    np.save(tmp_path / "k.npy", np.full(32, 5.0))
    assert torch.equal(declared.solve().u, before)
    torch.testing.assert_close(declare(source=2.0).solve().u, before)
