"""Pictures checked by counting: areas, colours, sides, and the bytes of the files."""

from __future__ import annotations

import io
import math
import re

import numpy as np
import pytest
import torch

from torch_sla.assembly.mesh import box_mesh, rectangle_mesh
from torch_sla.problems.report.draw.charts import Curve, chart, labels, number, ticks
from torch_sla.problems.report.draw.colours import Scale
from torch_sla.problems.report.draw.picture import framed
from torch_sla.problems.report.draw.png import png
from torch_sla.problems.report.draw.raster import rasterise
from torch_sla.problems.report.draw.view import View


def test_the_area_of_a_triangle_is_the_samples_it_covers() -> None:
    xy = np.array([[10.0, 10.0], [90.0, 20.0], [30.0, 85.0]])
    hits = rasterise(xy, np.array([[0, 1, 2]]), (100, 100))
    area = 0.5 * abs(80 * 75 - 10 * 20)
    assert len(hits.seen) / 4 == pytest.approx(area, rel=0.01)
    # x and y interpolate to where the samples are
    where = [hits.values(xy[:, i], np.array([[0, 1, 2]])) for i in (0, 1)]
    row, column = np.divmod(hits.seen, hits.shape[1])
    assert np.allclose(where[0], (column + 0.5) / 2)
    assert np.allclose(where[1], (row + 0.5) / 2)


def test_triangles_that_share_sides_leave_no_gap_and_no_overlap() -> None:
    mesh = rectangle_mesh((7, 5))
    view = View(mesh, mesh.points.numpy()[None], 100, 100)
    hits = view.hits(mesh.points.numpy())
    assert len(np.unique(hits.seen)) == len(hits.seen)
    rows, columns = np.divmod(hits.seen, hits.shape[1])
    covered = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert covered == len(hits.seen)


def test_order_and_size_of_batches_do_not_matter(monkeypatch) -> None:
    rng = np.random.default_rng(4)
    xy = 60 * rng.random((40, 2))
    triangles = np.stack([rng.permutation(40)[:3] for _ in range(60)])
    depth = rng.random(40)
    whole = rasterise(xy, triangles, (60, 60), depth)
    monkeypatch.setattr("torch_sla.problems.report.draw.raster._BATCH", 500)
    pieces = rasterise(xy, triangles, (60, 60), depth)
    assert np.array_equal(whole.seen, pieces.seen)
    assert np.array_equal(whole.triangle, pieces.triangle)


def test_the_nearest_is_seen_whatever_the_order() -> None:
    xy = np.array([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]] * 2)
    triangles = np.array([[0, 1, 2], [3, 4, 5]])
    depth = np.array([1.0, 1.0, 1.0, 2.0, 2.0, 2.0])
    assert set(rasterise(xy, triangles, (20, 20), depth).triangle) == {0}
    assert set(rasterise(xy, triangles, (20, 20), 3.0 - depth).triangle) == {1}


def test_triangles_without_area_or_outside_are_not_seen() -> None:
    xy = np.array(
        [[1.0, 1.0], [5.0, 5.0], [9.0, 9.0], [-50.0, -50.0], [-40.0, -50.0], [-50.0, -40.0]]
    )
    hits = rasterise(xy, np.array([[0, 1, 2], [3, 4, 5]]), (10, 10))
    assert not len(hits.seen)


def test_of_a_box_the_three_sides_towards_the_eye_are_seen() -> None:
    mesh = box_mesh((2, 2, 2), cell="hexahedron")
    points = mesh.points.numpy()
    view = View(mesh, points[None], 200, 200)
    facets = np.unique(view.owners[view.hits(points).triangle])
    seen = {name for name, index in mesh.facet_tags.items() if np.isin(index.numpy(), facets).any()}
    assert seen == {"right", "front", "top"}


def test_sides_of_quadrilaterals_are_drawn_and_their_diagonals_not() -> None:
    mesh = rectangle_mesh((2, 2), cell="quad")
    points = mesh.points.numpy()
    view = View(mesh, points[None], 101, 101)
    hits = view.hits(points)
    white = np.full((len(hits.seen), 3), 255, dtype=np.uint8)
    pixels = view.draw(hits, points, white, 1.0)
    dark = pixels[..., 0] < 128
    middle = pixels.shape[0] // 2
    assert dark[10:40, middle - 1 : middle + 1].any(1).all()  # the side between cells
    quarter = middle // 2
    assert not dark[quarter - 9 : quarter + 9, quarter - 9 : quarter + 9].any()


def test_png_is_read_back_by_others() -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow reads the files back")
    rng = np.random.default_rng(2)
    frames = [rng.integers(0, 256, (5, 7, 4), dtype=np.uint8) for _ in range(3)]
    one = image.open(io.BytesIO(png(frames[0])))
    assert np.array_equal(np.asarray(one.convert("RGBA")), frames[0])
    several = image.open(io.BytesIO(png(frames, 0.2)))
    assert several.n_frames == 3
    for i, frame in enumerate(frames):
        several.seek(i)
        assert several.info["duration"] == 200
        assert np.array_equal(np.asarray(several.convert("RGBA")), frame)


def test_scales_know_signs_constants_and_nothing() -> None:
    assert Scale.of(np.array([0.0, 2.0])) == Scale(0.0, 2.0)
    assert Scale.of(np.array([-1.0, 2.0])) == Scale(-2.0, 2.0, signed=True)
    assert Scale.of(np.array([-1e-9, 2.0])) == Scale(-1e-9, 2.0)
    flat = Scale.of(np.array([3.0, 3.0 + 1e-12]))
    assert flat.low < 3.0 < flat.high
    assert Scale.of(np.array([np.nan])) == Scale(0.0, 1.0)
    middle = Scale(-2.0, 2.0, signed=True).colours(np.array([0.0]))
    assert (middle > 240).all()


def test_ticks_are_round_and_inside() -> None:
    for low, high in ((0.0, 1.0), (-3e-5, 7e-5), (1e6, 1.001e6), (0.123, 0.124)):
        found = ticks(low, high)
        assert 3 <= len(found) <= 8
        assert all(low - 1e-9 * abs(low) <= t <= high * (1 + 1e-9) for t in found)
    assert ticks(1.0, 1.0) == [1.0]
    assert number(1234567.0) == "1.235e6"


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (293.11, 293.35),
        (1e5, 1e5 + 3),
        (-1000.2, -1000.1),
        (0.99995, 1.00005),
        (0, 1),
        (-3e-9, 1e9),
    ],
)
def test_ticks_are_where_their_labels_say(low: float, high: float) -> None:
    """A small range about a large value, as of temperatures in kelvins, takes more digits."""
    values = ticks(low, high)
    step = values[1] - values[0]
    assert [float(text) for text in labels(values)] == pytest.approx(values, abs=1e-3 * step)
    curve = chart([Curve("T", [low, high], [low, high])])
    texts = re.findall("<text [^>]*>([^<]*)</text>", curve)
    assert set(labels(values)) <= set(texts)
    mesh = rectangle_mesh((2, 2), (high - low, 1.0), (low, 0.0))
    view = View(mesh, mesh.points.numpy()[None], 560, 300)
    framing = framed(view, "", Scale(low, high))
    shown = [float(text) for text in re.findall("<text [^>]*>([^<]*)</text>", framing)]
    # Across, then up, then beside the colours from the least on.
    assert len(set(shown[-3:])) == 3
    assert low - 1e-3 * step <= shown[-1] <= high + 1e-3 * step


def test_charts_break_where_numbers_do_and_keep_peaks() -> None:
    y = [0.0, 1.0, math.nan, 1.0, 0.0]
    assert chart([Curve("a", range(5), y)]).count("M") == 2
    long = torch.zeros(100_000)
    long[54_321] = 5.0
    text = chart([Curve("a", range(100_000), long.tolist())])
    heights = [float(part.split()[1]) for part in text.split('d="M')[1].split('"')[0].split("L")]
    assert min(heights) < 30 < 200 < max(heights)
    assert "Nothing finite" in chart([Curve("a", [0.0], [-1.0])], log=True)
