"""What a search was like: one row per iteration, as CSV, JSON and a plot."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch_sla.errors import ArgumentError
from torch_sla.linalg.sparse.whole import whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

__all__ = ["History"]


class History:
    """Rows of numbers by name, one per iteration, the start first.

    Parameters
    ----------
    rows
        Those there are already.

    Examples
    --------
    >>> history = History()
    >>> history.append({"iteration": 0, "objective": 2.0})
    >>> len(history), history["objective"], history[-1]["iteration"]
    (1, [2.0], 0)
    >>> history
    History(1 rows of iteration objective)
    """

    def __init__(self, rows: list[dict[str, Any]] | None = None) -> None:
        self.rows: list[dict[str, Any]] = list(rows or [])

    def append(self, row: dict[str, Any]) -> None:
        """Add an iteration."""
        self.rows.append(row)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __getitem__(self, which: int | str) -> Any:
        """Return a row by number, or a column by name."""
        if isinstance(which, int):
            return self.rows[which]
        if not any(which in row for row in self.rows):
            known = " ".join(self.names)
            raise KeyError(f"no column is called {which!r}; columns: {known}")
        return [row.get(which) for row in self.rows]

    def __repr__(self) -> str:
        return f"History({len(self)} rows of {' '.join(self.names) or 'nothing'})"

    @property
    def names(self) -> list[str]:
        """Names of the columns, in order."""
        found: dict[str, None] = {}
        for row in self.rows:
            found |= dict.fromkeys(row)
        return list(found)

    def save(self, path: str | Path) -> None:
        """Write as ``.csv`` or ``.json``, whole or not at all."""
        path = Path(path)
        if path.suffix == ".csv":
            buffer = io.StringIO(newline="")
            writer = csv.DictWriter(buffer, fieldnames=self.names)
            writer.writeheader()
            writer.writerows(self.rows)
            text = buffer.getvalue()
        elif path.suffix == ".json":
            text = json.dumps(self.rows, indent=1) + "\n"
        else:
            raise ArgumentError(
                f"path ends in {path.suffix!r}; a history is saved as .csv or .json"
            )
        with whole(path) as file:
            file.write_text(text, encoding="utf-8", newline="")

    def plot(self, path: str | Path | None = None) -> Figure:
        """Draw the objective, the optimality and the violation over the iterations.

        Raises
        ------
        ArgumentError
            Without matplotlib, or where the name ends in no format of pictures.
        """
        from torch_sla.problems.report.picture import new_figure, save_figure

        figure = new_figure()
        above, below = figure.subplots(2, 1, sharex=True)
        steps = self["iteration"]
        above.plot(steps, self["objective"], color="tab:blue")
        above.set_ylabel("objective")
        if min(self["objective"]) > 0:
            above.set_yscale("log")
        for name, colour in (("optimality", "tab:orange"), ("violation", "tab:red")):
            if name in self.names and any((v or 0.0) > 0 for v in self[name]):
                below.semilogy(steps, self[name], color=colour, label=name)
        if below.lines:
            below.legend()
        below.set_xlabel("iteration")
        if path is not None:
            save_figure(figure, Path(path))
        return figure
