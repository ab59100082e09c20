"""Every example runs, and is pinned to a number; a new one without a number fails."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from torch_sla import load_problem

EXAMPLES = Path(__file__).parents[1] / "examples"

# Python: what main returns. YAML: outputs by name. Values, relative tolerance.
NUMBERS: dict[str, tuple[object, float]] = {
    "poisson.py": (1.2517825e-4, 1e-6),
    "adaptive_corner.py": (0.99, 0.02),
    "distributed/distributed_solve.py": ([75.047993948, 0.163554592], 1e-7),
    "distributed/distributed_eigen.py": (
        [0.028889461144, 0.059568225422, 0.084426778521, 0.172884465087],
        1e-9,
    ),
    "distributed/distributed_nonlinear.py": ([0.556718499, 0.268154730, 0.086175353], 1e-7),
    "conductivity_from_sensors.py": (0.0636, 0.05),
    "radiating_bar.yaml": ({"end": 927.0}, 1e-4),
    "pressurised_cylinder.yaml": ({"radial": -7 / 9, "hoop": 25 / 9, "bore": 0.572}, 1e-3),
    "bending_cantilever.yaml": ({"down": -0.49346, "back": -0.16064}, 5e-3),
    "open_duct.yaml": ({"amplitude": 1.0}, 1e-3),
    "colliding_flow.yaml": ({"pressure": 3.4375, "speed": 0.6072366842}, 1e-3),
    "bratu.yaml": ({"middle": 0.1405392}, 1e-6),
    "cantilever_modes.yaml": ({"lowest": 2544.3247}, 1e-6),
    "warming_wall.yaml": ({"T": 36.6}, 2e-3),
    "deep_beam_shock.yaml": ({"down": 1.043, "stress": 18.76}, 5e-3),
    "struck_beam.yaml": ({"all": 1 / 75}, 1e-9),
    "quenched_plate.yaml": ({"middle": 0.47436}, 1e-3),
    "euler_column.yaml": ({"lowest": 1.0516}, 2e-3),
    "scattered_modulus.yaml": (
        {
            "tip": [
                *[-0.0679093401, -0.0843678074, -0.0588238758, -0.1079899646],
                *[-0.0817775977, -0.1111677868, -0.0383118391, -0.0973260927],
            ]
        },
        1e-7,
    ),
    "fin_cases.yaml": ({"heat": [-29.390239, -57.618981, -136.108846, -249.971024]}, 1e-7),
    "chain.yaml": ({"middle": 4.0}, 1e-12),
    "chain_modes.yaml": ({"lowest": 2 - 2**0.5}, 1e-10),
    "two_links.yaml": ({"elbow": 1.4454684956}, 1e-8),
    "limit_point.yaml": ({"stretch": -1.3247179572}, 1e-8),
    "trusted_law/fire_clay.yaml": ({"middle": 324.6211251, "heat": 2560.0}, 1e-8),
    "distributed/distributed_gradient.py": ([0.16664063, -0.08332032], 1e-6),
    "distributed/distributed_problem.yaml": ({"heat": 1.5057689, "loss": 0.0527880}, 1e-6),
    "distributed/distributed_sweep.yaml": (
        {"loudness": [4.8643222e-05, 3.2697829e-05, 1.6967906e-05]},
        1e-6,
    ),
    "distributed/distributed_transient.yaml": ({"heat": 2.39839775}, 1e-7),
    "distributed/distributed_design.yaml": ({"compliance": 131.68, "volume": 0.4997}, 1e-2),
    "two_materials.yaml": ({"through": 1772.727272727, "joint": 11.363636364}, 1e-9),
    "heat_sink/heat_sink.yaml": (
        {
            "hottest": 46.531595,
            "from_base": -60.0,
            "to_air": 12.90917,
            "to_frame": 47.09083,
            "mean_of_base": 43.144373,
        },
        1e-6,
    ),
}
TOOLS = {"heat_sink/make_mesh.py", "trusted_law/laws.py"}
"""Scripts that make inputs and need programs the tests do not (what they made is committed), and laws in Python."""
TRUSTED = {"trusted_law/fire_clay.yaml"}
"""Declarations that name Python functions."""


def examples(ending: str) -> list[str]:
    found = (path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob(f"*{ending}"))
    # Those of design have a test of their own, beside this one.
    return sorted(n for n in found if n not in TOOLS and not n.startswith("design/"))


@pytest.mark.parametrize("name", examples(".py"))
def test_scripts(name: str, tmp_path, capsys) -> None:
    assert name in NUMBERS, f"{name} has no number: add what its main returns"
    spec = importlib.util.spec_from_file_location(Path(name).stem, EXAMPLES / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    arguments = [tmp_path] if inspect.signature(module.main).parameters else []
    value, tolerance = NUMBERS[name]
    assert module.main(*arguments) == pytest.approx(value, rel=tolerance)
    assert capsys.readouterr().out


# Joins the others once: `launched` inside of each script finds that done.
SCRIPTS = """
import runpy, sys
from torch_sla.linalg.distributed.launch import launched

with launched("cpu") as ranks:
    for path in sys.argv[1:]:
        if ranks.first:
            print("=== " + path, flush=True)
        runpy.run_path(path, run_name="__main__")
"""


@pytest.mark.distributed
def test_three_processes_print_the_same_numbers(tmp_path: Path) -> None:
    names = [n for n in examples(".py") if n.startswith("distributed/")]
    program = tmp_path / "scripts.py"
    program.write_text(SCRIPTS)
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=3"]
    done = subprocess.run(
        [*start, str(program), *(str(EXAMPLES / name) for name in names)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stdout.split("=== ")[1:]
    assert len(said) == len(names) >= 4
    for name, text in zip(names, said, strict=True):
        values, _ = NUMBERS[name]
        first = values[0] if isinstance(values, list) else values
        printed = [float(x) for x in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", text)]
        assert any(x == pytest.approx(first, rel=1e-6) for x in printed), (name, text)


@pytest.mark.parametrize("name", examples(".yaml"))
def test_declarations(name: str) -> None:
    assert name in NUMBERS, f"{name} has no numbers: add some of its outputs"
    values, tolerance = NUMBERS[name]
    assert isinstance(values, dict)
    solution = load_problem(EXAMPLES / name, trust=name in TRUSTED).solve()
    for output, value in values.items():
        numbers = solution[output].flatten()
        # Of a problem in time the last value counts.
        last = numbers[-1].item() if isinstance(value, float) else numbers.tolist()
        assert last == pytest.approx(value, rel=tolerance), output


def test_the_index_names_every_example() -> None:
    index = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert not [n for n in (*examples(".py"), *examples(".yaml")) if f"({n})" not in index]


def test_the_heat_sink_loses_what_it_gains() -> None:
    problem = load_problem(EXAMPLES / "heat_sink" / "heat_sink.yaml")
    assert problem.mesh_data().n_points >= 5000
    s = problem.solve()
    balance = s["from_base"] + s["to_air"] + s["to_frame"]
    assert abs(balance.item()) < 1e-10 * abs(s["from_base"].item())
