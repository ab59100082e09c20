from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from tests.helpers.shell import run
from torch_sla import (
    Dirichlet,
    Field,
    Integral,
    Line,
    Parameter,
    PoissonProblem,
    RectangleMesh,
    Robin,
    SweepProblem,
    load_problem,
)
from torch_sla.errors import ArgumentError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def plate(tmp_path) -> Path:
    problem = PoissonProblem(
        name="plate",
        mesh=RectangleMesh(cells=(6, 6)),
        diffusivity=Parameter("kappa", on="cells", default=1.0, unit="W/(m K)"),
        source=1.0,
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Integral("total", "u", unit="K m²")],
    )
    problem.to_yaml(tmp_path / "plate.yaml")
    return tmp_path / "plate.yaml"


def test_solve(plate: Path, tmp_path) -> None:
    done = run("solve", plate, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    for word in ("49 points", "choice", "total", "K m²", "wrote"):
        assert word in done.output
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["plate.html", "plate.json", "plate.png", "plate.vtu"]


def test_solve_tells_the_same_as_python(plate: Path, tmp_path) -> None:
    done = run("solve", plate, "-o", tmp_path, "--json", "--no-picture", "--no-report")
    told = json.loads(done.stdout)
    solution = load_problem(plate).solve()
    assert told["outputs"]["total"] == solution["total"].item()
    assert told["spec_hash"] == solution.spec_hash


def test_set_and_param(plate: Path, tmp_path) -> None:
    rng = np.random.default_rng(99)
    k = 1 + rng.random(32)
    np.save(tmp_path / "k.npy", k)
    done = run(
        *("solve", plate, "--json", "-o", tmp_path, "--no-picture", "--no-report"),
        *("--set", "mesh.cells=[4, 4]", "--set", "boundary.0.value=2", "--set", "order=2"),
        *("--param", f"kappa={tmp_path / 'k.npy'}"),
    )
    assert done.exit_code == 0, done.output
    problem = load_problem(plate).updated(
        mesh=RectangleMesh(cells=(4, 4)), boundary=[Dirichlet("left", 2)], order=2
    )
    expected = problem.solve(kappa=torch.as_tensor(k))["total"].item()
    assert json.loads(done.stdout)["outputs"]["total"] == pytest.approx(expected, rel=1e-12)
    done = run(
        "solve",
        plate,
        "--json",
        "-o",
        tmp_path,
        "--no-picture",
        "--no-report",
        "--param",
        "kappa=2.5",
    )
    assert done.exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "difusivity=1"], "did you mean 'diffusivity'"),
        (["--set", "boundary.0.on=lefft"], "--set: boundary.0.on: the mesh has no facet tag"),
        (["--set", "boundary.7.on=left"], "no index"),
        (["--set", "source.x=1"], "single value"),
        (["--set", "nonsense"], "expected PATH=VALUE"),
        (["--param", "kapa=1"], "did you mean 'kappa'"),
        (["--param", "kappa=absent.npy"], "no such file"),
        (["--param", "kappa=2,3"], "give a number, or a file of them"),
        (["--param", "kappa=-1"], "must be positive"),
        (["--device", "tpu"], "solver.device"),
    ],
)
def test_bad_input_exits_with_two(
    plate: Path, tmp_path, arguments: list[str], message: str
) -> None:
    done = run("solve", plate, "-o", tmp_path, *arguments)
    assert done.exit_code == 2
    assert message in done.output.replace("\n", " ")


def test_bad_files(tmp_path) -> None:
    done = run("solve", tmp_path / "absent.yaml")
    assert done.exit_code == 2
    assert "absent.yaml" in done.output
    (tmp_path / "bad.yaml").write_text(
        "type: poisson\nmesh: {type: interval, cells: 3}\nsource: open(x)\n"
    )
    done = run("validate", tmp_path / "bad.yaml")
    assert done.exit_code == 2
    assert "bad.yaml:3: source: 'open' is not a function" in done.output


def test_a_failed_solve_exits_with_one(plate: Path, tmp_path) -> None:
    done = run(
        *("solve", plate, "-o", tmp_path / "out", "--set"),
        "solver={backend: pytorch, method: cg, preconditioner: none, maxiter: 1}",
    )
    assert done.exit_code == 1
    assert "maxiter" in done.output
    assert [path.suffix for path in (tmp_path / "out").iterdir()] == [".html"]


def test_validate_and_explain(plate: Path, tmp_path) -> None:
    done = run("validate", plate)
    assert done.exit_code == 0
    assert "plate.yaml is valid: poisson" in done.output
    done = run("validate", plate, "--set", "boundary=[]")
    assert done.exit_code == 2
    assert "Robin" in done.output
    done = run("explain", plate)
    assert done.exit_code == 0
    assert "kappa [W/(m K)]: 72 on cells" in done.output
    problem = PoissonProblem(
        mesh=RectangleMesh(cells=(2, 2)),
        boundary=[Robin("left", 1.0, 0.0)],
        outputs=[Integral("a", "u", on="inside")],
    )
    problem.to_yaml(tmp_path / "b.yaml")
    assert run("validate", tmp_path / "b.yaml").exit_code == 2


def test_schema(tmp_path) -> None:
    assert run("schema", ROOT / "schemas" / "problem.json", "--check").exit_code == 0
    done = run("schema", tmp_path / "absent.json", "--check")
    assert done.exit_code == 2
    assert run("schema", "-o", tmp_path / "new" / "s.json").exit_code == 0
    assert run("schema").stdout == (tmp_path / "new" / "s.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "."], "directory"),
        (["s.json"], "-o s.json writes"),
        (["--check", "-o", "s.json"], "--check writes nothing"),
    ],
)
def test_a_schema_that_cannot_be_written_is_bad_input(
    arguments: list[str], said: str, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("schema", *arguments)
    assert done.exit_code == 2
    assert said in done.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [">f8", "longdouble", "i4"])
def test_arrays_of_other_types_are_numbers(plate: Path, dtype: str, tmp_path) -> None:
    np.save(tmp_path / "k.npy", np.arange(1, 73).astype(dtype))
    options = ["--json", "--no-picture", "--no-report", "--param", f"kappa={tmp_path / 'k.npy'}"]
    done = run("solve", plate, "-o", tmp_path, *options)
    expected = load_problem(plate).solve(kappa=np.arange(1.0, 73.0))["total"].item()
    assert json.loads(done.stdout)["outputs"]["total"] == expected
    np.save(tmp_path / "k.npy", np.zeros(0))
    done = run("solve", plate, "-o", tmp_path, *options)
    assert (done.exit_code, "'kappa' has shape (0,)" in done.output) == (2, True)


def test_backends() -> None:
    done = run("backends")
    assert done.exit_code == 0
    for word in ("scipy", "superlu", "pytorch", "compiled kernels"):
        assert word in done.output


def test_parameters_are_numbers_given_once(plate) -> None:
    text = plate.parent / "text.npy"
    np.save(text, np.array(["a"]))
    result = run("solve", plate, "--param", f"kappa={text}")
    assert result.exit_code == 2
    assert "numbers are needed" in result.stderr
    result = run("solve", plate, "--param", "kappa=1.0", "--param", "kappa=2.0")
    assert result.exit_code == 2
    assert "kappa is given twice" in result.stderr


def test_explain_takes_parameters(plate) -> None:
    problem = load_problem(plate).updated(diffusivity=Parameter("kappa", on="cells"))
    problem.to_yaml(plate.parent / "needs.yaml")
    file = plate.parent / "needs.yaml"
    assert run("explain", file, "--param", "kapa=2.0").exit_code == 2
    result = run("explain", file, "--param", "kappa=2.0")
    assert result.exit_code == 0
    assert "cholesky" in result.stdout


def test_a_singular_solve_is_a_failed_solve(plate) -> None:
    problem = load_problem(plate).updated(boundary=[Robin("left", Parameter("h", default=0.0))])
    problem.to_yaml(plate.parent / "loose.yaml")
    result = run("solve", plate.parent / "loose.yaml", "-o", plate.parent, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["solve"]["result"] != "converged"


def test_numbers_too_many_to_read_are_written_as_arrays(plate: Path, tmp_path) -> None:
    many = load_problem(plate).updated(
        outputs=[
            Line("along", at=[(0.0, 0.5), (1.0, 0.5)], n=100),
            Field("q", "grad(u)", on="cells"),
        ]
    )
    many.to_yaml(tmp_path / "many.yaml")
    done = run("solve", tmp_path / "many.yaml", "-o", tmp_path / "out", "--json", "--no-report")
    assert done.exit_code == 0, done.output
    with np.load(tmp_path / "out" / "many.npz") as found:
        assert np.array_equal(found["along"], many.solve()["along"].numpy())
    few = many.updated(outputs=[Field("q", "grad(u)", on="cells")])
    assert few.solve().endings == (".vtu", ".json")  # which the .vtu has
    sweep = SweepProblem(of=few, cases={"kappa": [1.0, 2.0]})
    sweep.to_yaml(tmp_path / "cases.yaml")
    assert run("solve", tmp_path / "cases.yaml", "-o", tmp_path / "out").exit_code == 0
    with np.load(tmp_path / "out" / "cases.npz") as found:
        assert np.array_equal(found["q"], sweep.solve()["q"].numpy())


def test_a_run_takes_no_folder_of_somebody_along(plate: Path, tmp_path) -> None:
    thesis = tmp_path / "plate.run" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("mine")
    assert run("solve", plate, "-o", tmp_path, "--no-report", "--no-picture").exit_code == 0
    assert thesis.read_text() == "mine"


@pytest.mark.parametrize("verb", ["solve", "optimize", "calibrate"])
def test_where_nothing_can_be_written_is_said_before_the_work(
    plate: Path, tmp_path, verb: str, monkeypatch
) -> None:
    monkeypatch.setattr("torch_sla.linalg.plan.calibrate.calibrate", pytest.fail)
    monkeypatch.setattr(PoissonProblem, "solve", pytest.fail)
    (tmp_path / "file").write_text("")
    where = tmp_path / "file" / "out"
    file = () if verb == "calibrate" else (plate,)
    done = run(verb, *file, "-o", where / "m.json" if verb == "calibrate" else where)
    assert done.exit_code == 2
    assert "is a file; name a folder" in done.stderr


@pytest.mark.parametrize("verb", ["solve", "mesh", "calibrate"])
def test_what_is_in_the_way_of_a_result_is_said_before_the_work(
    plate: Path, tmp_path, verb: str, monkeypatch
) -> None:
    monkeypatch.setattr("torch_sla.linalg.plan.calibrate.calibrate", pytest.fail)
    monkeypatch.setattr(PoissonProblem, "compile", pytest.fail)
    monkeypatch.setattr(PoissonProblem, "check", pytest.fail)
    (tmp_path / "out" / "plate.vtu").mkdir(parents=True)
    file = () if verb == "calibrate" else (plate,)
    done = run(verb, *file, "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert ("is a folder; name a file" if verb == "calibrate" else "in the way") in done.stderr
    if verb == "mesh":
        done = run(verb, plate, "-o", plate)
        assert (done.exit_code, "is a file; name a folder" in done.stderr) == (2, True)


def test_a_disk_that_cannot_be_written_to_is_found_before_the_work(
    plate: Path, tmp_path, monkeypatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)  # whatever the permissions say
    monkeypatch.setattr(PoissonProblem, "solve", pytest.fail)
    done = run("solve", plate, "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert "cannot be written to (Read-only file system)" in done.stderr


def test_a_file_where_a_run_is_kept_is_named(tmp_path) -> None:
    fin = PoissonProblem(mesh=RectangleMesh(cells=(2, 2)), source=Parameter("f"))
    fin = fin.updated(boundary=[Dirichlet("left", 0.0)])
    SweepProblem(of=fin, cases={"f": [1.0, 2.0]}).to_yaml(tmp_path / "cases.yaml")
    (tmp_path / "cases.run").write_text("mine")
    done = run("solve", tmp_path / "cases.yaml", "-o", tmp_path)
    assert done.exit_code == 2
    assert "is a file, where the run is to be kept" in done.stderr
    assert (tmp_path / "cases.run").read_text() == "mine"


class _Broken(ModuleType):
    """Of another NumPy: it is found, and fails when it is used."""

    def __getattr__(self, name: str) -> None:
        raise RuntimeError("_ARRAY_API not found")


def test_a_plotting_library_that_cannot_be_loaded_costs_the_picture_only(
    plate: Path, tmp_path, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", _Broken("matplotlib.figure"))
    done = run("solve", plate, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["plate.html", "plate.json", "plate.vtu"]
    for said in ("total", "no .png", "RuntimeError: _ARRAY_API not found"):
        assert said in done.output
    with pytest.raises(ArgumentError, match="cannot be loaded"):
        load_problem(plate).solve().plot(tmp_path / "plate.png")
