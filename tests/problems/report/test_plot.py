"""Pictures with axes and films: which there are, and how many frames."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
import torch

from tests.problems.report.test_files import plate
from torch_sla import (
    Dirichlet,
    EigenProblem,
    IntervalMesh,
    Parameter,
    PoissonProblem,
    SweepProblem,
    TransientProblem,
)
from torch_sla.errors import ArgumentError
from torch_sla.problems.report.frames import frames_of
from torch_sla.problems.report.picture import new_figure
from torch_sla.problems.report.plot import Drawing

image = pytest.importorskip("PIL.Image", reason="Pillow counts the frames")


@pytest.fixture(scope="module")
def warming() -> object:
    return TransientProblem(of=plate(name="plate"), end=1.0, steps=3, save=["u"]).solve()


def test_films_have_a_picture_for_each_time(tmp_path, warming) -> None:
    for ending in (".gif", ".png"):
        warming.animate(tmp_path / f"film{ending}", seconds=0.2)
        with image.open(tmp_path / f"film{ending}") as film:
            assert film.n_frames == 4
            assert film.info["duration"] == 200
    warming.animate(tmp_path / "film.html", field="flow")
    text = (tmp_path / "film.html").read_text(encoding="utf-8")
    assert text.count("data:image/png") == 5  # four frames, and the one that is shown


def test_a_mode_swings_through_a_period(tmp_path) -> None:
    modes = EigenProblem(of=plate(), k=2).solve()
    modes.animate(tmp_path / "mode.gif", mode=2)
    with image.open(tmp_path / "mode.gif") as film:
        assert film.n_frames == 24
    assert len(modes.plot().axes) == 2
    with pytest.raises(ArgumentError, match="modes 1 to 2"):
        modes.animate(tmp_path / "mode.gif", mode=3)


def test_a_curve_follows_the_points_of_its_member() -> None:
    rod = PoissonProblem(
        mesh=IntervalMesh(cells=4), order=2, source=1.0, boundary=[Dirichlet("left", 0.0)]
    )
    x = rod.mesh_data().points
    both = rod.solve(points=torch.stack([x, 2.0 * x]))
    drawing = Drawing(frames_of(both), None)
    axes = new_figure().add_subplot()
    drawn = drawing.draw(axes, 0)
    for member, length in enumerate((1.0, 2.0)):
        drawing.change(axes, drawn, member)
        across, up = drawn.get_data()
        assert torch.from_numpy(across).allclose(length * x[:, 0])
        # The quadratic u = x (length - x / 2).
        assert torch.from_numpy(up).allclose(torch.from_numpy(across * (length - across / 2)))
    low, high = axes.get_xlim()
    assert low < 0.0
    assert high > 2.0


@pytest.mark.parametrize("name", ["from 5 $ to 6 $", r"$\nothing$"])
def test_a_name_is_written_as_it_is(tmp_path, name) -> None:
    figure = plate(name=name).solve().plot(tmp_path / "plate.png")
    (title,) = (axes.title for axes in figure.axes if axes.get_title())
    assert title.get_text() == name
    assert not title.get_parse_math()


def test_curves_move_too(tmp_path) -> None:
    rod = PoissonProblem(mesh=IntervalMesh(cells=5), source=1.0, boundary=[Dirichlet("left", 0.0)])
    run = TransientProblem(of=rod, end=1.0, steps=3, save=["u"]).solve()
    run.animate(tmp_path / "film.png")
    with image.open(tmp_path / "film.png") as film:
        assert film.n_frames == 4
    with pytest.raises(ArgumentError, match=r"\.gif or \.png"):
        run.animate(tmp_path / "film.html")


def test_which_one_is_drawn(warming) -> None:
    assert warming.plot().axes[0].get_title() == "t = 1"
    assert warming.plot(member=0).axes[0].get_title() == "t = 0"
    assert plate(name="plate").solve().plot(field="flow").axes[0].get_title() == "plate"
    cases = SweepProblem(of=plate(), cases={"f": [1.0, 2.0]}).solve()
    assert cases.plot(member=1).axes[0].get_title() == "f = 2"
    batch = plate().solve(f=torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert batch.plot(member=(1, 0)).axes[0].get_title() == "member 2"


def test_modes_of_cases_are_drawn_by_their_names() -> None:
    rod = PoissonProblem(
        mesh=IntervalMesh(cells=8),
        capacity=Parameter("c", default=1.0),
        boundary=[Dirichlet("left", 0.0)],
    )
    cases = SweepProblem(of=EigenProblem(of=rod, k=2), cases={"c": [1.0, 4.0]}).solve()
    titles = [axes.get_title() for axes in cases.plot().axes]
    begins = [f"c = {c}, mode {i}: " for c in (1, 4) for i in (1, 2)]
    assert [t for t in titles if t][:4] == [
        f"{begin}{f:.5g} Hz"
        for begin, f in zip(begins, cases["frequencies"].flatten().tolist(), strict=True)
    ]
    assert cases.plot(member=(1, 0)).axes[0].get_title().startswith("c = 4, mode 1: ")


def test_what_cannot_be_drawn_is_refused(tmp_path, warming) -> None:
    with pytest.raises(ArgumentError, match=r"no field 'flo' \(did you mean 'flow'\?\)"):
        warming.plot(field="flo")
    with pytest.raises(ArgumentError, match="one state only"):
        plate().solve().animate(tmp_path / "film.gif")
    with pytest.raises(ArgumentError, match="a film is"):
        warming.animate(tmp_path / "film.mp4")
    with pytest.raises(ArgumentError, match="only an eigenproblem"):
        warming.animate(tmp_path / "film.gif", mode=1)
    with pytest.raises(ArgumentError, match="there are 4 pictures"):
        warming.plot(member=4)
    with pytest.raises(ArgumentError, match=r"the batch is \[2\]"):
        plate().solve(f=torch.tensor([1.0, 2.0])).plot(member=(2,))
    for name in ("a.foo", "a"):
        with pytest.raises(ArgumentError, match=r"a picture ends in one of .*\.png"):
            warming.plot(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_it_says_what_to_install() -> None:
    script = """
    import sys
    sys.modules["matplotlib"] = sys.modules["matplotlib.figure"] = None
    from torch_sla import Dirichlet, PoissonProblem, RectangleMesh
    from torch_sla.errors import ArgumentError
    plate = PoissonProblem(mesh=RectangleMesh(cells=(2, 2)), boundary=[Dirichlet("left", 0.0)])
    try:
        plate.solve().plot("a.png")
    except ArgumentError as error:
        print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "pip install matplotlib" in done.stdout


def test_a_grid_of_pyvista_has_all_fields(warming) -> None:
    pytest.importorskip("pyvista", reason="pyvista is not installed")
    grid = warming.to_pyvista()
    assert grid.n_cells == 12
    assert torch.equal(torch.as_tensor(grid.point_data["u"]), warming.u)
    assert grid.cell_data["flow"].shape == (12, 3)
    assert grid.compute_cell_sizes()["Area"].sum() == pytest.approx(1.0)
