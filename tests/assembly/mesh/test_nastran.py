"""Files of Nastran whose coordinates or properties are not what they seem."""

from __future__ import annotations

import pytest

import torch_sla.assembly as fem
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
