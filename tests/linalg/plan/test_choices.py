"""Questions about backends, and about what a plan chooses."""

from __future__ import annotations

import pytest

from torch_sla import linalg
from torch_sla.errors import ArgumentError


def test_questions_about_backends() -> None:
    names = linalg.get_available_backends()
    assert {"scipy", "pytorch"} <= set(names)
    assert linalg.is_scipy_available()
    assert linalg.is_eigen_available() == ("eigen" in names)
    assert linalg.is_cudss_available() == ("cudss" in names)
    assert linalg.is_cusolver_available() == ("cusolver" in names)
    assert "cg" in linalg.get_backend_methods("pytorch")
    assert linalg.select_backend(is_spd=True) in names
    chosen = linalg.select_method("pytorch", is_spd=True)
    assert chosen in linalg.get_backend_methods("pytorch")
    assert all(name in linalg.show_backends() for name in names)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"device": "nowhere"}, "device"),
        ({"device": None}, "device"),
        ({"n": -1}, "n"),
        ({"n": "many"}, "n"),
        ({"nnz": 2.5}, "nnz"),
        ({"dtype": "float64"}, "dtype"),
    ],
)
def test_a_question_about_no_system_is_refused(given: dict, name: str) -> None:
    for ask in (linalg.select_backend, linalg.select_method):
        with pytest.raises(ArgumentError, match=f"`{name}` must be"):
            ask(**given)
