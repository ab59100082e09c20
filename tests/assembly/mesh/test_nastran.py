"""Files of Nastran whose coordinates or properties are not what they seem."""

from __future__ import annotations

import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.assembly.mesh import raised
from torch_sla.errors import MeshError

GRID = """{first}GRID,1,{cp},0.,0.,0.
GRID,2,{cp},1.,0.,0.
GRID,3,,1.,1.,0.
GRID,4,,0.,1.,0.
GRID,5,,2.,0.,0.
"""
CELLS = "CTRIA3,1,{one},1,2,3\nCTRIA3,2,{two},1,3,4\nCTRIA3,3,3,2,5,3\n"


def read(tmp_path, cp="", first="", one="1", two="1"):
    path = tmp_path / "plate.bdf"
    text = GRID.format(first=first, cp=cp) + CELLS.format(one=one, two=two)
    path.write_text(f"BEGIN BULK\n{text}ENDDATA\n")
    return fem.read_mesh(path)


@pytest.mark.parametrize("cp", ["", "0"])
@pytest.mark.parametrize(
    "first", ["", "GRDSET,,0\n", "GRDSET                                  123456\n"]
)
def test_points_of_the_basic_system(tmp_path, cp, first):
    mesh = read(tmp_path, cp, first)
    assert {name: index.tolist() for name, index in mesh.cell_tags.items()} == {
        "1": [0, 1],
        "3": [2],
    }
    assert mesh.points[4].tolist() == [2.0, 0.0]


@pytest.mark.parametrize(
    ("cp", "first"),
    [
        ("7", ""),
        ("7", "CORD2C,7,0,0.,0.,0.,0.,0.,1.\n,1.,0.,0.\n"),
        ("", "GRDSET,,7\n"),
        ("", "GRDSET                 7\n"),
        ("", "GRDSET*                                7\n"),
    ],
)
def test_points_of_another_system_are_refused(tmp_path, cp, first):
    with pytest.raises(MeshError, match=r"has points in the coordinate system 7 .*basic system, 0"):
        read(tmp_path, cp, first)


@pytest.mark.parametrize("blank", ["one", "two"])
def test_elements_of_which_only_some_have_a_property_are_refused(tmp_path, blank):
    """The third one was taken for the second."""
    with pytest.raises(MeshError, match="give each"):
        read(tmp_path, **{blank: ""})


def entry(name: str, fields: list[str], form: str) -> str:
    """Write an entry in one of the forms that Nastran reads."""
    name = name.lower() if "lower" in form else name
    if form == "free":
        rows = [fields[at : at + 8] for at in range(0, len(fields), 8)]
        return "\n".join(f"{'' if i else name},{','.join(row)}" for i, row in enumerate(rows))
    most, wide, star = (4, 16, "*") if "large" in form else (8, 8, "")
    rows = [fields[at : at + most] for at in range(0, len(fields), most)]
    heads = [name + star, *[star or ("+" if "marked" in form else "")] * (len(rows) - 1)]
    texts = ["".join(f"{field:<{wide}}" for field in row) for row in rows]
    pad = 72 if "marked" in form else 0
    tail = "+" if "marked" in form else ""
    return "\n".join(
        f"{h:<8}{text:<{pad}}{tail}".rstrip() for h, text in zip(heads, texts, strict=True)
    )


@pytest.mark.parametrize(
    "form", ["free", "small", "small marked", "small lower", "large", "large lower"]
)
@pytest.mark.parametrize("cell", ["tetra10", "hexahedron"])
def test_entries_of_several_lines(tmp_path, form, cell):
    """Continuations without a mark were lost, and so were elements in large fields or small letters."""
    mesh = fem.box_mesh((1, 1, 2), cell=cell.rstrip("10"))
    mesh = raised(mesh) if cell == "tetra10" else mesh
    lines = ["CEND", "BEGIN BULK", "$ points"]
    for i, x in enumerate(mesh.points.tolist()):
        # A blank coordinate is zero, and the E of an exponent may be a D or missing.
        said = ["" if v == 0 else f"{10 * v}{'D-1' if i % 2 else '-1'}" for v in x]
        lines.append(entry("GRID", [str(3 * i + 5), "", *said], form))
    name = {"tetra10": "CTETRA", "hexahedron": "CHEXA"}[cell]
    for k, row in enumerate(mesh.cells.tolist()):
        lines.append(entry(name, [str(k + 1), "4", *(str(3 * i + 5) for i in row)], form))
    path = tmp_path / "body.bdf"
    path.write_text("\n".join([*lines, "ENDDATA", ""]))
    read = fem.read_mesh(path)
    assert read.cell == cell
    assert torch.allclose(read.points, mesh.points, rtol=0, atol=1e-15)
    assert torch.equal(read.cells, mesh.cells)
    assert read.cell_tags["4"].tolist() == list(range(mesh.n_cells))


def test_what_follows_the_points_of_an_element_is_no_point(tmp_path):
    path = tmp_path / "plate.bdf"
    cells = "CTRIA3,1,1,1,2,3,45.0\nCTRIA3,2,1,1,3,4,,0.1\n,,,0.2,0.2,0.2\nCBUSH,9,2,1,,,,,0\n"
    path.write_text("BEGIN BULK\n" + GRID.format(first="", cp="") + cells + "ENDDATA\n")
    assert fem.read_mesh(path).cells.tolist() == [[0, 1, 2], [0, 2, 3]]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("CQUADX,4,1,1,2,3,4", "has CQUADX elements, which are not read; .*CTRIA3"),
        ("INCLUDE 'more.bdf'", "includes other files .'more.bdf'., which is not followed"),
    ],
)
def test_what_meshio_passes_over_is_refused(tmp_path, line, said):
    path = tmp_path / "plate.bdf"
    text = GRID.format(first="", cp="") + CELLS.format(one="1", two="1")
    path.write_text(f"BEGIN BULK\n{text}{line}\nENDDATA\n")
    with pytest.raises(MeshError, match=said):
        fem.read_mesh(path)


@pytest.mark.parametrize(("begin", "end"), [("", "ENDDATA\n"), ("BEGIN BULK\n", "")])
def test_a_file_without_begin_or_end_is_told_of(tmp_path, begin, end):
    path = tmp_path / "plate.bdf"
    path.write_text(begin + GRID.format(first="", cp="") + CELLS.format(one="1", two="1") + end)
    with pytest.raises(MeshError, match=f"has no line {'ENDDATA' if begin else 'BEGIN BULK'}"):
        fem.read_mesh(path)
