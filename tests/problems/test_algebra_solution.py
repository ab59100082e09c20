"""Results of problems without a mesh by their names."""

from __future__ import annotations

import pytest

from torch_sla import LinearProblem


def test_names_that_are_not_there_are_none() -> None:
    found = LinearProblem(matrix=[[2.0]], rhs=[1.0]).solve()
    for name in ("frequencies", "load_factors", "eigenvalues", "y"):
        assert not hasattr(found, name)
        with pytest.raises(AttributeError, match=f"no '{name}' here: x"):
            getattr(found, name)
