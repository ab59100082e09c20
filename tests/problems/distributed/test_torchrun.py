"""The examples under ``torchrun``, as people start them; and what a person sees when something is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from torch_sla import load_problem

pytestmark = pytest.mark.distributed

EXAMPLES = Path(__file__).parents[3] / "examples" / "distributed"


def torchrun(*arguments: str, ranks: int = 3) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    start = (sys.executable, "-m", "torch.distributed.run", "--standalone")
    return subprocess.run(
        [*start, f"--nproc_per_node={ranks}", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_problem(tmp_path: Path) -> None:
    meshio = pytest.importorskip("meshio")
    file = str(EXAMPLES / "distributed_problem.yaml")
    done = torchrun("-m", "torch_sla.cli", "solve", file, "-o", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert said["outputs"]["heat"] == pytest.approx(1.5057689, rel=1e-6)
    assert (said["parts"], said["processes"], said["unknowns"]) == (3, 3, 1825)
    assert said["sent"]["bytes"] > 0
    pieces = [meshio.read(tmp_path / f"distributed_problem.{i}.vtu") for i in range(3)]
    assert sum(len(piece.cells[0].data) for piece in pieces) == 3456
    assert json.loads((tmp_path / "distributed_problem.json").read_text())["parts"] == 3
    assert (tmp_path / "distributed_problem.pvtu").is_file()


def test_a_search(tmp_path: Path) -> None:
    file = str(EXAMPLES / "distributed_design.yaml")
    command = ("-m", "torch_sla.cli", "optimize", file, "-o", str(tmp_path / "run"), "--json")
    done = torchrun(*command)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert said["outputs"]["compliance"] == pytest.approx(131.68, rel=1e-2)
    assert said["search"]["iterations"] == 12


def test_a_search_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hides = "import sys\nsys.modules['matplotlib'] = None\n"
    (tmp_path / "sitecustomize.py").write_text(hides, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    file, folder = str(EXAMPLES / "distributed_design.yaml"), tmp_path / "run"
    command = ("-m", "torch_sla.cli", "optimize", file, "-o", str(folder), "--json")
    done = torchrun(*command, "--set", "optimizer.max_iterations=1", ranks=2)
    assert done.returncode == 0, done.stderr
    files = json.loads(done.stdout.strip().splitlines()[-1])["files"]
    assert {Path(path).suffix for path in files} >= {".npz", ".csv", ".json", ".pvtu"}
    assert not list(folder.glob("*.png"))


def test_one_error_for_all(tmp_path: Path) -> None:
    file = str(EXAMPLES / "distributed_problem.yaml")
    command = ("-m", "torch_sla.cli", "solve", file, "--param", "kappa=-1", "-o", str(tmp_path))
    done = torchrun(*command)
    assert done.returncode != 0
    assert done.stderr.count("error diffusivity must be positive; it is -1") == 1
    assert not list(tmp_path.glob("*.pvtu"))


def test_it_tells_what_is_solved_and_where_nothing_can_be_written(tmp_path: Path) -> None:
    command = ("-m", "torch_sla.cli", "solve", str(EXAMPLES / "distributed_problem.yaml"), "-v")
    done = torchrun(*command, "-o", str(tmp_path), ranks=2)
    assert done.returncode == 0, done.stderr
    assert " ".join(done.stderr.split()).count("solved poisson in parts") == 1
    done = torchrun(*command, "-o", str(tmp_path / "distributed_problem.json" / "out"), ranks=2)
    assert done.returncode != 0
    assert "distributed_problem.json is a file; name a folder" in done.stderr.replace("\n", "")
    assert "solved poisson" not in " ".join(done.stderr.split())


def test_what_is_drawn_from_the_whole_is_refused_where_it_is_asked_for(tmp_path: Path) -> None:
    plate, search = (EXAMPLES / f"distributed_{name}.yaml" for name in ("problem", "design"))
    for verb, file, asked, named in (
        ("solve", plate, ("--picture", "--report"), "--picture and --report: drawn"),
        ("optimize", search, ("--report",), "error --report: drawn"),
    ):
        where = ("-o", str(tmp_path / "out"))
        done = torchrun("-m", "torch_sla.cli", verb, str(file), *where, *asked, ranks=2)
        assert done.returncode != 0
        assert done.stderr.count(named) == 1
        assert not (tmp_path / "out").exists()


def test_a_sweep(tmp_path: Path) -> None:
    file = str(EXAMPLES / "distributed_sweep.yaml")
    done = torchrun("-m", "torch_sla.cli", "solve", file, "-o", str(tmp_path), "--json", ranks=2)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.strip().splitlines()[-1])
    loud = [4.8643222e-05, 3.2697829e-05, 1.6967906e-05]
    assert said["outputs"]["loudness"] == pytest.approx(loud, rel=1e-6)
    rows = (tmp_path / "distributed_sweep.csv").read_text().splitlines()
    assert rows[0] == "k,loudness"
    assert len(rows) == 4


def test_a_flow(tmp_path: Path) -> None:
    meshio = pytest.importorskip("meshio")
    file = str(EXAMPLES.parent / "colliding_flow.yaml")
    done = torchrun("-m", "torch_sla.cli", "solve", file, "-o", str(tmp_path), "--json", ranks=2)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert said["outputs"]["pressure"] == pytest.approx([3.4374032], rel=1e-6)
    assert said["solve"]["preconditioner"] == "gathered"
    assert said["solve"]["iterations"] <= 2
    pieces = [meshio.read(tmp_path / f"colliding_flow.{i}.vtu") for i in range(2)]
    assert all({"u", "p"} <= piece.point_data.keys() for piece in pieces)


def test_nodal_fields_where_a_process_has_no_cells(tmp_path: Path) -> None:
    meshio = pytest.importorskip("meshio")
    file = tmp_path / "two.yaml"
    file.write_text(
        "type: poisson\n"
        "mesh: {type: rectangle, cells: [1, 1]}\n"
        "source: 1.0\n"
        "boundary:\n"
        "- {type: dirichlet, on: left, value: 0.0}\n"
        "outputs:\n"
        "- {type: field, name: slope, expression: grad(u), on: nodes}\n",
        encoding="utf-8",
    )
    done = torchrun("-m", "torch_sla.cli", "solve", str(file), "-o", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    whole = load_problem(str(file)).solve()
    slope, cells, pieces = whole["slope"].numpy(), 0, sorted(tmp_path.glob("two.*.vtu"))
    assert len(pieces) < 3
    for path in pieces:
        piece = meshio.read(path)
        for x, found in zip(piece.points, piece.point_data["slope"], strict=True):
            away = abs(whole.points.numpy() - x[:2]).max(-1)
            assert found[:2] == pytest.approx(slope[away.argmin()], abs=1e-12)
        cells += len(piece.cells[0].data)
    assert cells == 2


KINDS: dict[str, tuple[Path, float]] = {
    "chain": (EXAMPLES.parent / "chain.yaml", 1e-9),
    "chain_modes": (EXAMPLES.parent / "chain_modes.yaml", 1e-9),
    "two_links": (EXAMPLES.parent / "two_links.yaml", 1e-9),
    "euler_column": (EXAMPLES.parent / "euler_column.yaml", 1e-9),
    "radiating_bar": (EXAMPLES.parent / "radiating_bar.yaml", 1e-9),
    "distributed_transient": (EXAMPLES / "distributed_transient.yaml", 1e-8),
}


def test_every_kind_says_what_one_process_says(tmp_path: Path) -> None:
    """Linear, nonlinear, modes of matrices and bodies, a law of the solution, time; a search is sent elsewhere."""
    search = EXAMPLES / "distributed_design.yaml"
    files = [str(file) for file, _ in KINDS.values()]
    done = torchrun("-m", "tests.helpers.many_files", str(tmp_path), *files, str(search))
    assert done.returncode == 0, done.stderr
    for name, (file, rtol) in KINDS.items():
        told = json.loads((tmp_path / f"{name}.said").read_text())
        assert told["code"] == 0, name
        said = json.loads(told["printed"].strip().splitlines()[-1])
        assert said["processes"] == 3
        one = load_problem(file).solve()
        for output, value in said["outputs"].items():
            whole = one[output].detach().flatten().tolist()
            found = np.asarray(value).flatten().tolist()
            assert found == pytest.approx(whole, rel=rtol, abs=1e-14), (name, output)
        kept = json.loads((tmp_path / f"{name}.json").read_text())
        assert kept["outputs"] == said["outputs"]
        assert said["files"]
        assert all(Path(path).is_file() for path in said["files"])
    wrong = json.loads((tmp_path / "distributed_design.said").read_text())
    assert wrong["code"] == 2
    assert f"declares a design problem; search with torch-sla optimize {search}" in done.stderr
