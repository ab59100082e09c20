"""Parts of a page, and the small pieces that they are made of."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import torch

from torch_sla.problems.report.draw.charts import number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

__all__ = ["Section", "facts", "figure", "short", "table"]


@dataclass(frozen=True)
class Section:
    """One part of a page.

    Parameters
    ----------
    title
        Its heading.
    body
        HTML that needs nothing from outside.
    """

    title: str
    body: str


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numeric: Sequence[int] = (),
    strong: int | None = None,
) -> str:
    """Lay out text in rows; columns in ``numeric`` are aligned as numbers, one row may stand out."""

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f'<{tag} class="number">{escape(text)}</{tag}>'
            if i in numeric
            else f"<{tag}>{escape(text)}</{tag}>"
            for i, text in enumerate(row)
        )

    body = "".join(
        f'<tr class="strong">{cells(row, "td")}</tr>'
        if i == strong
        else f"<tr>{cells(row, 'td')}</tr>"
        for i, row in enumerate(rows)
    )
    return (
        f'<div class="scroll"><table><thead><tr>{cells(head, "th")}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def facts(found: Mapping[str, str]) -> str:
    """Lay out names and values as a list."""
    inner = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in found.items()
    )
    return f'<dl class="facts">{inner}</dl>'


def figure(picture: str, caption: str) -> str:
    """Put a caption under a picture."""
    return f"<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>"


def short(value: Tensor, most: int = 6) -> str:
    """Write a tensor in one line: its numbers where they are few, else their range and shape."""
    flat = value.detach().cpu().reshape(-1)
    if flat.is_complex():
        if len(flat) <= most:
            pairs = torch.view_as_real(flat).tolist()
            return "  ".join(f"{a:.6g}{b:+.6g}i" for a, b in pairs)
        return f"|·| {number(float(flat.abs().min()))} … {number(float(flat.abs().max()))} {list(value.shape)}"
    if len(flat) <= most:
        return "  ".join(f"{v:.8g}" for v in flat.tolist())
    return f"{number(float(flat.min()))} … {number(float(flat.max()))}  {list(value.shape)}"
