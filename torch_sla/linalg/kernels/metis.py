"""The graph that METIS works on, as pymetis takes it: an optional package, loaded on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["as_graph", "nested_dissection"]


def as_graph(starts: Any, adjacent: Any) -> dict[str, Any]:
    """Return the arguments of pymetis for a graph in compressed rows, symmetric and without a diagonal.

    Raises
    ------
    ImportError
        Where pymetis is not installed.
    """
    import pymetis

    if hasattr(pymetis, "CSRAdjacency"):
        return {"adjacency": pymetis.CSRAdjacency(adj_starts=starts, adjacent=adjacent)}
    return {"xadj": starts, "adjncy": adjacent}  # of before 2025


def nested_dissection(start: npt.NDArray[Any], column: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Order a symmetric pattern, row eliminated k-th (G. Karypis, V. Kumar, SIAM J. Sci. Comput. 20, 1998).

    Parameters
    ----------
    start, column
        Compressed rows, both triangles.
    """
    import pymetis

    n = len(start) - 1
    if n == 0:
        return np.zeros(0, dtype=np.int32)
    row = np.repeat(np.arange(n), np.diff(start))
    off = row != column
    ends = np.concatenate([[0], np.bincount(row[off], minlength=n).cumsum()])
    order, _ = pymetis.nested_dissection(**as_graph(ends, column[off]))
    return np.ascontiguousarray(order, dtype=np.int32)
