"""Declarations of designs: what they say, round trips, and everything that is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torch_sla import (
    LBFGS,
    MMA,
    ConeFilter,
    DesignProblem,
    Dirichlet,
    Effort,
    EigenProblem,
    Integral,
    IntervalMesh,
    LinearProblem,
    Log,
    Measured,
    Parameter,
    PoissonProblem,
    Probe,
    Problem,
    RectangleMesh,
    SweepProblem,
    Variable,
    load_problem,
)
from torch_sla.errors import ArgumentError, SpecError


def plate(name: str = "kappa") -> PoissonProblem:
    return PoissonProblem(
        mesh=RectangleMesh(cells=(4, 4), cell="quad"),
        diffusivity=Parameter(name, on="cells", default=1.0),
        source=Parameter("f", default=1.0),
        boundary=[Dirichlet(on=["left", "right"], value=0.0)],
        outputs=[Probe("sensors", at=[(0.3, 0.4), (0.7, 0.2)]), Integral("amount", name)],
    )


def design(**changes) -> DesignProblem:
    fields = {
        "of": plate(),
        "variables": [
            Variable("kappa", bounds=(0.1, 10.0), transform=[Log(), ConeFilter(0.4)], initial=2.0)
        ],
        "objective": "misfit(sensors) + 1e-3*smoothness(log(kappa))",
        "constraints": ["amount <= 1.3"],
        "data": {"sensors": Measured([0.1, 0.08], noise=0.01)},
        "optimizer": MMA(max_iterations=3),
    }
    return DesignProblem(**{**fields, **changes})


def test_yaml_says_the_same(tmp_path) -> None:
    problem = design(effort=Effort(first_rtol=1e-4, warm_start=True))
    text = problem.to_yaml(tmp_path / "d.yaml")
    again = load_problem(tmp_path / "d.yaml")
    assert isinstance(again, DesignProblem)
    assert again.spec_hash == problem.spec_hash
    assert again.structural_hash == problem.structural_hash
    assert again.to_yaml() == text
    assert isinstance(again.optimizer, MMA)
    assert again.optimizer.max_iterations == 3
    assert again.variables[0].transform == (Log(), ConeFilter(0.4))
    assert type(Problem(**{**problem.given(), "type": "design"})) is DesignProblem


def test_several_problems_and_long_data_survive_files(tmp_path) -> None:
    sensors = np.linspace(0.1, 0.2, 200)
    many = plate().updated(
        outputs=[Probe("sensors", at=np.random.default_rng(0).random((200, 2)) * 0.9 + 0.05)]
    )
    problem = DesignProblem(
        of={"cold": many, "warm": plate()},
        variables=[Variable("kappa")],
        objective="misfit(cold_sensors, measured) + sum(warm_sensors**2) + 0*amount",
        data={"measured": Measured(sensors)},
    )
    problem.to_yaml(tmp_path / "d.yaml")
    assert load_problem(tmp_path / "d.yaml").spec_hash == problem.spec_hash


def test_spelling_does_not_matter_to_the_hash() -> None:
    first = design(objective="misfit(sensors)+1e-3 * smoothness( log(kappa) )")
    assert first.spec_hash == design().spec_hash
    assert design(optimizer={"type": "mma", "max_iterations": 3}).spec_hash == first.spec_hash
    assert design(optimizer="lbfgs", constraints=[]).optimizer == LBFGS()
    assert design(optimizer=MMA(max_iterations=4)).spec_hash != first.spec_hash


def test_it_explains_itself() -> None:
    stages = [{"variables.0.transform.1.radius": 0.2}]
    text = design(effort=Effort(warm_start=True), stages=stages).explain()
    wanted = ("16 unknowns on cells through log, cone_filter", "amount <= 1.3", "MMA", "plan")
    for words in (*wanted, "warm_start=True", "then        variables.0.transform.1.radius = 0.2"):
        assert words in text, words


WRONG = {
    "unknown parameter": (
        {"variables": [Variable("kapa")]},
        r"variables.0.parameter: 'kapa' is no parameter.*did you mean 'kappa'",
    ),
    "twice": (
        {"variables": [Variable("kappa"), Variable("kappa")]},
        r"variables.1: 'kappa' varies twice",
    ),
    "start of points": (
        {"variables": [Variable("kappa"), Variable("points", initial=1.0)]},
        r"variables.1.initial: points start where the mesh",
    ),
    "unknown result": (
        {"objective": "misfit(sensors) + sensrs[0]"},
        r"objective: there is no result or parameter 'sensrs' \(did you mean 'sensors'\?\)",
    ),
    "unknown function": ({"objective": "tikhonof(kappa)"}, r"did you mean 'tikhonov'"),
    "a condition": ({"objective": "amount < 3"}, r"conditions go to constraints"),
    "no comparison": ({"constraints": ["amount"]}, r"constraints.0: a constraint compares"),
    "strict": ({"constraints": ["amount < 1"]}, r"'<' has no meaning here; use <="),
    "unknown data": (
        {"objective": "misfit(amount) + misfit(sensors)"},
        r"no data is called 'amount'; data holds: sensors",
    ),
    "no name of data": ({"objective": "misfit(2*sensors)"}, r"misfit takes the name of data"),
    "unused data": ({"objective": "amount"}, r"data.sensors: no goal uses it"),
    "regulariser of a constant": (
        {"variables": [Variable("f")], "objective": "misfit(sensors) + tikhonov(f)"},
        r"tikhonov takes an expression of one variable that lives on the mesh; there are: none",
    ),
    "regulariser of two": (
        {"objective": "misfit(sensors) + tikhonov(kappa*amount)"},
        r"takes an expression of one variable",
    ),
    "result and variable": (
        {
            "of": plate("sensed").updated(outputs=[Integral("f", "sensed")]),
            "variables": [Variable("f")],
            "objective": "f",
            "data": {},
            "constraints": [],
        },
        r"'f' is a result and a variable",
    ),
    "solver": ({"solver": {"type": "solver", "rtol": 1e-3}}, r"solver: .*of.solver"),
    "outputs": ({"outputs": [Integral("a", "f")]}, r"integral has no meaning in 'design'"),
    "optimizer": ({"optimizer": "mna"}, r"unknown optimizer 'mna' \(did you mean 'mma'\?\)"),
    "option": (
        {"optimizer": {"type": "mma", "max_iteration": 3}},
        r"unknown field 'max_iteration' \(did you mean 'max_iterations'\?\)",
    ),
    "option value": ({"optimizer": {"type": "mma", "max_iterations": 0}}, r"max_iterations"),
    "option type": ({"optimizer": {"type": "mma", "max_iterations": "3"}}, r"without quotes"),
    "transform": (
        {"variables": [{"type": "variable", "parameter": "kappa", "transform": ["lgo"]}]},
        r"variables.0.transform.0: unknown transform 'lgo' \(did you mean 'log'\?\)",
    ),
    "transform option": (
        {
            "variables": [
                {
                    "type": "variable",
                    "parameter": "kappa",
                    "transform": [{"type": "cone_filter", "radius": -1.0}],
                }
            ]
        },
        r"radius must be positive",
    ),
    "noise": (
        {"data": {"sensors": {"type": "measured", "values": [1.0, 2.0], "noise": -1.0}}},
        r"data.sensors.noise: a standard deviation is positive",
    ),
    "shapes of data": (
        {"data": {"sensors": {"type": "measured", "values": [1.0, 2.0], "imaginary": [1.0]}}},
        r"values are of shape \[2\]",
    ),
    "of itself": (
        {"of": DesignProblem(of=plate(), variables=[Variable("f")], objective="amount")},
        r"it cannot be of a design problem",
    ),
    "warm start": (
        {
            "of": EigenProblem(of=plate().updated(boundary=[], outputs=[])),
            "data": {},
            "objective": "eigenvalues[0]",
            "constraints": [],
            "effort": Effort(warm_start=True),
        },
        r"effort.warm_start: of is of type eigen",
    ),
    "unknown name in a start": (
        {"variables": [{"type": "variable", "parameter": "kappa", "initial": "x + q"}]},
        r"variables.0.initial: unknown name 'q'",
    ),
    "no mesh": (
        {
            "of": LinearProblem(matrix=[[2.0]], rhs=Parameter("b", shape=(1,))),
            "data": {},
            "variables": [Variable("points")],
            "objective": "x[0]",
            "constraints": [],
        },
        r"there is no mesh, so no points",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_refused_at_declaration(name: str) -> None:
    changes, message = WRONG[name]
    with pytest.raises(SpecError, match=message):
        design(**changes)


LATER = {
    "order of bounds": (
        [Variable("kappa", bounds=(2.0, 1.0))], r"variables.0.bounds: the lower bound 2"),
    "log of a negative bound": (
        [Variable("kappa", bounds=(-1.0, 1.0), transform=["log"])], r"variables.0.bounds: log needs"),
    "start outside a log": (
        [Variable("kappa", initial=-1.0, transform=["log"])], r"variables.0.initial: log needs"),
    "filter of a constant": (
        [Variable("f", transform=[ConeFilter(0.1)])], r"variables.0.transform"),
}  # fmt: skip


@pytest.mark.parametrize("name", LATER)
def test_refused_when_it_is_checked(name: str) -> None:
    variables, message = LATER[name]
    problem = DesignProblem(of=plate(), variables=variables, objective="amount")
    with pytest.raises(SpecError, match=message):
        problem.check()


def test_parameters_must_agree() -> None:
    other = plate().updated(diffusivity=Parameter("kappa", on="nodes", default=1.0))
    with pytest.raises(SpecError, match=r"of.b: .*'kappa' is defined differently"):
        DesignProblem(
            of={"a": plate(), "b": other}, variables=[Variable("f")], objective="a_amount"
        )


def test_meshes_must_agree_where_a_variable_lives() -> None:
    finer = plate().updated(mesh=RectangleMesh(cells=(5, 4), cell="quad"))
    with pytest.raises(SpecError, match=r"lives on meshes that differ"):
        DesignProblem(
            of={"a": plate(), "b": finer}, variables=[Variable("kappa")], objective="a_amount"
        ).check()
    of = {"a": plate(), "b": finer}
    DesignProblem(of=of, variables=[Variable("f")], objective="sum(a_sensors)").check()


def test_errors_have_a_line(tmp_path) -> None:
    text = design().to_yaml().replace("misfit(sensors) + ", "misfit(sensor) + ")
    (tmp_path / "d.yaml").write_text(text)
    line = next(i for i, row in enumerate(text.splitlines(), 1) if row.startswith("objective"))
    with pytest.raises(SpecError, match=rf"d.yaml:{line}: objective: no data is called"):
        load_problem(tmp_path / "d.yaml")


def test_functions_live_in_python_only() -> None:
    problem = design(objective=lambda s: s["amount"], data={}, constraints=[])
    with pytest.raises(SpecError, match=r"objective: the Python function .* lives in this process"):
        problem.to_yaml()


def test_refused_values() -> None:
    problem = design()
    with pytest.raises(ArgumentError, match="'kappa' varies"):
        problem.solve(kappa=1.0)
    with pytest.raises(ArgumentError, match="'g' is no parameter"):
        problem.solve(g=1.0)
    with pytest.raises(ArgumentError, match="requires grad, and a search"):
        problem.solve(f=torch.tensor(1.0, requires_grad=True))
    with pytest.raises(ArgumentError, match=r"data\.sensors is of shape"):
        design(data={"sensors": Measured([1.0, 2.0, 3.0])}).solve()
    with pytest.raises(ArgumentError, match="one real number"):
        design(objective="misfit(sensors) + sensors").solve()
    for verb in ("value_and_grad", "jvp", "vjp", "hvp", "sensitivities"):
        with pytest.raises(ArgumentError, match=r"problem\.oracle\(\)"):
            getattr(problem, verb)("amount")
    with pytest.raises(ArgumentError, match=r"problem\.of\.module"):
        problem.module(["kappa"])


def test_names_of_results() -> None:
    of = SweepProblem(of=plate(), cases={"f": [1.0, 2.0]})
    problem = DesignProblem(of=of, variables=[Variable("kappa")], objective="sum(sensors**2)")
    assert set(problem.results) == {"u", "sensors", "amount"}
    both = DesignProblem(
        of={"a": plate(), "b": plate().updated(outputs=[Integral("total", "u")])},
        variables=[Variable("kappa")],
        objective="total + amount + a_u[0]",
    )
    assert set(both.results) == {"a_u", "b_u", "sensors", "amount", "total"}
    string = PoissonProblem(mesh=IntervalMesh(cells=4), diffusivity=Parameter("T", default=1.0))
    modes = DesignProblem(
        of=EigenProblem(of=string), variables=[Variable("T")], objective="-frequencies[1]"
    )
    assert set(modes.results) == {"eigenvalues", "modes", "frequencies"}
