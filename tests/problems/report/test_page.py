"""The page about a run: whole, closed in itself, and right where its pictures can be counted."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import textwrap
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
import torch

from tests.helpers.samples import SAMPLES, Sample
from torch_sla import (
    BoxMesh,
    DesignProblem,
    Dirichlet,
    EigenProblem,
    ElasticityProblem,
    Field,
    Integral,
    IntervalMesh,
    Line,
    LinearProblem,
    Neumann,
    Parameter,
    PoissonProblem,
    Probe,
    RectangleMesh,
    Solver,
    SweepProblem,
    TransientProblem,
    Variable,
)
from torch_sla.errors import ArgumentError
from torch_sla.problems.report.page import Section

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VOID = {"meta", "link", "input", "br", "img"}
EMPTY_SVG = {"line", "path", "circle", "rect", "image", "stop", "text"}


class Page(HTMLParser):
    """Checks that tags balance and that nothing comes from outside; gathers text and pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.text, self.pictures = [], 0

    def handle_starttag(self, tag, attributes) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self._see(tag, attributes)

    def handle_startendtag(self, tag, attributes) -> None:
        assert tag in EMPTY_SVG | VOID, tag
        self._see(tag, attributes)

    def _see(self, tag, attributes) -> None:
        known = dict(attributes)
        assert len(known) == len(attributes), f"{tag} has an attribute twice"
        for name in ("src", "href", "action", "data", "srcset"):
            url = known.get(name)
            assert url is None or url.startswith(("data:", "#")), (tag, name, url)
        assert not any(name.startswith("on") for name in known)
        if "id" in known:
            self.ids.append(known["id"])
        self.pictures += tag == "image" or known.get("class") == "chart"

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.text.append(data)


def read(path: Path) -> Page:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"https?:|@import|url\((?!#)", text)
    page = Page()
    page.feed(text)
    page.close()
    assert not page.open
    assert len(set(page.ids)) == len(page.ids)
    for anchor in re.findall(r'href="#([^"]*)"', text):
        assert anchor in page.ids
    return page


def bar(**more: object) -> ElasticityProblem:
    return ElasticityProblem(
        name="bar <of> wood & glue",
        mesh=BoxMesh(cells=(3, 1, 1), size=(3.0, 1.0, 1.0), cell="hexahedron"),
        young_modulus=Parameter("E", default=10.0, unit="Pa"),
        boundary=[Dirichlet("left", 0.0), Neumann("right", traction=[0.01, 0.0, 0.0])],
        outputs=[
            Field("worst", "von_mises(stress)", on="nodes"),
            Line("axis", at=[(0.0, 0.5, 0.5), (3.0, 0.5, 0.5)]),
        ],
        **more,
    )


def plate(**more: object) -> PoissonProblem:
    more.setdefault("solver", Solver(method="cholesky"))
    return PoissonProblem(
        mesh=RectangleMesh(cells=(4, 4), cell="quad"),
        source=Parameter("f", default=1.0),
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Probe("T", at=[(0.4, 0.5), (0.9, 0.5)], unit="K"), Integral("heat", "u")],
        **more,
    )


KINDS: dict[str, tuple[Callable[[], object], int]] = {
    "one dimension": (
        lambda: PoissonProblem(
            mesh=IntervalMesh(cells=4), source=1.0, boundary=[Dirichlet("left", 0.0)]
        ).solve(),
        1,
    ),
    "space": (lambda: bar().solve(info=True), 4),
    "a batch": (lambda: plate().solve(f=torch.tensor([1.0, 2.0])), 2),
    "modes": (lambda: EigenProblem(of=plate().updated(outputs=[]), k=3).solve(), 4),
    "time": (lambda: TransientProblem(of=plate(), end=1.0, steps=4, save=["u"]).solve(), 4),
    "cases": (lambda: SweepProblem(of=plate(), cases={"f": [1.0, 2.0, 3.0]}).solve(), 5),
    "modes of cases": (
        lambda: SweepProblem(
            of=EigenProblem(of=plate().updated(outputs=[], capacity=Parameter("c")), k=2),
            cases={"c": [1.0, 2.0]},
        ).solve(),
        5,
    ),
    "no mesh": (lambda: LinearProblem(matrix=[[2.0]], rhs=[1.0]).solve(), 0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_result_has_its_pictures(kind: str, tmp_path) -> None:
    make, pictures = KINDS[kind]
    solution = make()
    solution.report(tmp_path / "run.html", command="torch-sla solve p.yaml", seconds=0.5)
    page = read(tmp_path / "run.html")
    text = " ".join(page.text)
    assert page.pictures == pictures
    for word in ("How to do it again", "torch-sla solve p.yaml", solution.spec_hash, "0.5 s"):
        assert word in text
    assert (f"type: {solution.spec.type}") in text  # the YAML


CASES = [
    pytest.param(sample, id=f"{kind}-{name}")
    for kind, samples in SAMPLES.items()
    for name, sample in samples.items()
]


@pytest.mark.parametrize("sample", CASES)
def test_every_physics_has_a_page(sample: Sample, tmp_path) -> None:
    solution = sample.make().solve(info=True)
    solution.report(tmp_path / "run.html")
    text = " ".join(read(tmp_path / "run.html").text)
    for name in solution.outputs:
        assert name in text


def test_a_design_has_its_search(tmp_path) -> None:
    goal = {"of": plate(), "objective": "heat", "optimizer": {"type": "mma", "max_iterations": 3}}
    variable = Variable("f", bounds=(0.5, 2.0), initial=1.0)
    DesignProblem(variables=[variable], **goal).solve().report(tmp_path / "run.html")
    page = read(tmp_path / "run.html")
    assert {"design", "search", "fields", "outputs"} <= set(page.ids)
    assert page.pictures >= 4  # the field, the mesh, the objective, how far from an optimum


def test_names_of_people_are_text_not_tags(tmp_path) -> None:
    bar().solve().report(tmp_path / "run.html")
    assert "<of>" not in (tmp_path / "run.html").read_text(encoding="utf-8")
    assert "bar <of> wood & glue" in " ".join(read(tmp_path / "run.html").text)


def test_a_result_adds_parts_of_its_own(tmp_path) -> None:
    solution = plate().solve()
    solution.sections = lambda: [Section("History", "<p>falling</p>")]
    solution.report(tmp_path / "run.html")
    page = read(tmp_path / "run.html")
    assert "history" in page.ids
    assert "falling" in page.text


def test_what_failed_is_said(tmp_path) -> None:
    weak = plate(solver=Solver(method="cg", backend="scipy", preconditioner="none", maxiter=2))
    weak.solve(throw=False).report(tmp_path / "run.html")
    text = " ".join(read(tmp_path / "run.html").text)
    assert "maxiter" in text


def test_unknowns_are_those_of_one_system(tmp_path) -> None:
    EigenProblem(matrix=[[2.0, -1.0], [-1.0, 2.0]], k=2).solve().report(tmp_path / "run.html")
    text = " ".join(read(tmp_path / "run.html").text)
    assert re.search(r"unknowns\s+2\b", text)


def test_frames_of_time_are_all_there(tmp_path) -> None:
    solution = TransientProblem(of=plate(), end=1.0, steps=4, save=["u"]).solve()
    solution.report(tmp_path / "run.html")
    text = (tmp_path / "run.html").read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', text)
    frames = json.loads(data)
    assert [frame["title"] for frame in frames] == [f"t = {t:.6g}" for t in solution.times.tolist()]
    assert len({frame["url"] for frame in frames}) == 5


def test_wrong_endings_are_refused(tmp_path) -> None:
    with pytest.raises(ArgumentError, match=r"an \.html file"):
        plate().solve().report(tmp_path / "run.pdf")


def test_it_needs_no_plotting_library(tmp_path) -> None:
    script = """
    import sys
    sys.modules["matplotlib"] = None
    from torch_sla import Dirichlet, PoissonProblem, RectangleMesh
    plate = PoissonProblem(mesh=RectangleMesh(cells=(4, 4)), source=1.0, boundary=[Dirichlet("left", 0.0)])
    plate.solve().report(sys.argv[1])
    """
    path = tmp_path / "run.html"
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(path)], check=True)
    assert read(path).pictures == 2


FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def test_it_opens_in_a_browser_without_errors_or_network(tmp_path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium here")
    page = tmp_path / "run.html"
    TransientProblem(of=plate(), end=1.0, steps=4, save=["u"]).solve().report(page)
    # Marks that only a script which ran to its end can have left; errors and requests are gathered.
    probe = """<script>
    const said = [];
    addEventListener("error", e => said.push(String(e.message || e.target.tagName)), true);
    addEventListener("load", () => setTimeout(() => {
      const image = document.querySelector("[data-frames] image");
      const slider = document.querySelector("[data-frames] input");
      const before = image.getAttribute("href");
      slider.value = 1;
      slider.dispatchEvent(new Event("input"));
      const requests = performance.getEntriesByType("resource").map(e => e.name).filter(n => !n.startsWith("data:"));
      document.documentElement.dataset.found = JSON.stringify({
        errors: said, requests, moved: before !== image.getAttribute("href"),
        title: document.querySelector("[data-frames] output").textContent,
        wide: image.getBoundingClientRect().width,
      });
    }, 50));
    </script>"""
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("</head>", f"{probe}</head>"), encoding="utf-8")
    command = [
        chromium,
        *FLAGS,
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=3000",
    ]
    done = subprocess.run(
        [*command, "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    (found,) = re.findall(r'data-found="([^"]*)"', done.stdout)
    told = json.loads(found.replace("&quot;", '"'))
    assert told["errors"] == []
    assert told["requests"] == []
    assert told["moved"]
    assert told["title"] == "t = 0.25"
    assert told["wide"] > 100


@pytest.mark.parametrize(
    ("load", "said"), [(1e-6, "times"), (1e6, "times"), (1.0, "on the deformed")]
)
def test_small_strain_is_drawn_a_tenth_of_the_body_whatever_the_load(
    load: float, said: str
) -> None:
    from torch_sla.problems.report.frames import frames_of
    from torch_sla.problems.report.page.fields import moved_points

    body = bar().updated(
        boundary=[Dirichlet("left", 0.0), Neumann("right", traction=[load, 0.0, 0.0])]
    )
    frames = frames_of(body.solve())
    points = frames.points.numpy()[None]
    moved, caption = moved_points(frames, points, "u")
    assert said in caption
    assert 0.05 <= abs(moved - points).max() / 3.0 <= 0.2


def test_the_table_of_cases_tells_them_apart(tmp_path) -> None:
    rod = PoissonProblem(
        mesh=IntervalMesh(cells=4),
        parameters=[
            Parameter("T", default=1.0),
            Parameter("force", shape=(2,), default=(0.0, 1.0)),
        ],
        source="force[1]",
        boundary=[Dirichlet("left", "T")],
        outputs=[Integral("mean", "u")],
    )
    cases = [{"T": T, "force": [0.0, 1234.75]} for T in (293.15, 293.05)]
    SweepProblem(of=rod, cases=cases).solve().report(tmp_path / "run.html")
    text = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert [text.count(f">{given}</td>") for given in ("293.15", "293.05", "1234.75")] == [1, 1, 2]


def test_what_cases_and_searches_vary_is_not_asked_for_again(tmp_path) -> None:
    of = PoissonProblem(
        mesh=RectangleMesh(cells=(4, 4)),
        source="a*s",
        parameters=[Parameter("a"), Parameter("s", default=1.0)],
        boundary=[Dirichlet("left", 0.0)],
        outputs=[Integral("mean", "u")],
    )
    swept = SweepProblem(of=of, cases={"a": [1.0, 2.0]})
    sought = DesignProblem(
        of=of,
        variables=[Variable("a", initial=0.5, bounds=(0.0, 1.0))],
        objective="mean**2",
        optimizer={"type": "lbfgs", "max_iterations": 2},
    )
    for problem in (swept, sought):
        path = tmp_path / "run.html"
        problem.solve(s=3.0).report(path)
        text = path.read_text(encoding="utf-8")
        assert ".solve(s=s)  # with values of: s" in text
        assert "<td>a</td><td>varies</td>" in text
        assert "<td>s</td><td>3</td>" in text
        problem.solve(s=3.0, folder=tmp_path / problem.type).report(path)
        text = path.read_text(encoding="utf-8")
        assert ("<td>3</td>" if problem is sought else "<td>1.0 unless given</td>") in text
