"""Gradients of many numbers at once: one adjoint solve with many right-hand sides.

Numbers that depend on the same solutions have cotangents that meet the same matrices. Pulled back together, by
``vmap`` over one backward pass, they are columns of one solve with one factor or hierarchy, and go through one pass of
all that lies before it. Where that would take many large arrays at once, which costs more than it saves, cotangents
are pulled back to the solutions first, solved with together, and then pulled through the rest a few at a time. Numbers
that depend on different solutions go apart: in one pass each would be a column of zeros in the solves of the others.

A Function whose derivative costs a solve, or more, has the size of what many cotangents of its inputs may take each in
``ctx.nbytes``. Where it is one solve, it has ``solve_adjoint(ctx, G)``, which solves for cotangents ``[m, ...]``, and a
backward that takes what was found from ``ctx.solved`` where that is there. A rule for ``vmap``, or ``pulls_many =
True``, says that a backward takes many cotangents. Where one on the way does not, as with Functions of others, they are
pulled one by one, and the solves that numbers meet first are shared all the same.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["jacobian", "pulled"]

# Bytes that the cotangents of matrix values may take at once. Much larger arrays are new memory each time.
_ROOM = 1 << 26


def jacobian(
    numbers: Sequence[Tensor], inputs: Sequence[Tensor], *, retain: bool = True
) -> list[tuple[Tensor | None, ...]]:
    """Differentiate recorded tensors.

    Parameters
    ----------
    numbers
        Real tensors of any shape; those of one tensor go together, and with others that reach the same solves.
    inputs
        Tensors that require grad.
    retain
        Whether the graph is kept; where not, the pass of the group of the first tensor, which is the last one,
        frees what it has passed.

    Returns
    -------
    list of tuple
        For each tensor and each input the gradients ``[*number, *input]``, detached; None where there is no
        dependence by structure.

    Examples
    --------
    >>> x = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    >>> (one,), (two,) = jacobian([x.sum(), x**2], [x])
    >>> one.tolist(), two.tolist()
    ([1.0, 1.0], [[2.0, 0.0], [0.0, 4.0]])
    """
    found: list[tuple[Tensor | None, ...]] = [(None,) * len(inputs)] * len(numbers)
    groups: dict[Any, list[int]] = {}
    for i, number in enumerate(numbers):
        if number.requires_grad and number.numel():
            way = _way([number])
            # Where all is cheap there is nothing to share.
            groups.setdefault(way if way.dear else (i, way), []).append(i)
    first = next(iter(groups.values()), None)
    for key, members in reversed(groups.items()):
        way = key if isinstance(key, _Way) else key[1]
        flat = torch.cat([numbers[i].reshape(-1).to(numbers[members[0]]) for i in members])
        keep = retain or members is not first
        sizes = [numbers[i].numel() for i in members]
        unit = torch.eye(len(flat), dtype=flat.dtype, device=flat.device)
        columns = [
            [None] * len(members) if rows is None else rows.split(sizes)
            for rows in _pulled([flat], inputs, [unit], way, keep)
        ]
        for i, parts in zip(members, zip(*columns, strict=True), strict=True):
            found[i] = tuple(
                None if part is None else part.reshape(numbers[i].shape + x.shape)
                for part, x in zip(parts, inputs, strict=True)
            )
    return found


class _Way(NamedTuple):
    """What lies between a tensor and the inputs.

    Parameters
    ----------
    dear
        Nodes whose backward costs a solve or more.
    first
        Those that solve once and are met first.
    together
        Whether all on the way takes many cotangents.
    size
        Bytes of a cotangent of what the largest of them depends on.
    """

    dear: frozenset[Any]
    first: tuple[Any, ...]
    together: bool
    size: int


def pulled(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    *,
    retain: bool = True,
) -> list[Tensor | None]:
    """Pull cotangents ``[m, *output]`` back to inputs, ``[m, *input]``, in one pass where all on the way takes it."""
    return _pulled(outputs, inputs, weights, _way(outputs), retain)


def _pulled(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    way: _Way,
    retain: bool,
) -> list[Tensor | None]:
    wanted, m, count = list(inputs), len(weights[0]), len(outputs)
    step = min(m, max(1, _ROOM // max(way.size, 1))) if way.together else 1
    solved = _solved(outputs, way.first, weights) if step < m else {}

    def pull(*column: Tensor, keep: bool = True) -> tuple[Tensor | None, ...]:
        with _known(tuple(solved), column[count:]):
            return torch.autograd.grad(
                outputs, wanted, column[:count], retain_graph=keep, allow_unused=True
            )

    pieces = []
    for start in range(0, m, step):
        part, keep = slice(start, start + step), retain or start + step < m
        some = [x[part] for x in (*weights, *solved.values())]
        if len(some[0]) == 1:
            grads = pull(*(x[0] for x in some), keep=keep)
            pieces.append(tuple(None if g is None else g.unsqueeze(0) for g in grads))
        else:
            pieces.append(_mapped(functools.partial(pull, keep=keep), some))
    return [
        None
        if column[0] is None
        else (column[0] if len(column) == 1 else torch.cat(column)).detach()
        for column in zip(*pieces, strict=True)
    ]


def _mapped(
    pull: Callable[..., tuple[Tensor | None, ...]], columns: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """Map over the first dimension of all columns; what is None for one is None."""
    there: list[bool] = []

    def present(*column: Tensor) -> list[Tensor]:
        grads = pull(*column)
        there[:] = [g is not None for g in grads]
        return [g for g in grads if g is not None]

    found = iter(torch.func.vmap(present)(*columns))
    return tuple(next(found) if one else None for one in there)


def _solved(
    outputs: Sequence[Tensor], nodes: Sequence[Any], weights: Sequence[Tensor]
) -> dict[Any, Tensor]:
    """Return the adjoint solutions ``[m, ...]`` at nodes that cotangents ``[m, *output]`` arrive at."""
    if not nodes:
        return {}
    edges = [GradientEdge(node, 0) for node in nodes]
    arrived = [
        torch.autograd.grad(outputs, edges, column, retain_graph=True, allow_unused=True)
        for column in zip(*weights, strict=True)
    ]
    return {
        node: node._forward_cls.solve_adjoint(node, torch.stack(column))
        for node, column in zip(nodes, zip(*arrived, strict=True), strict=True)
        if column[0] is not None
    }


@contextlib.contextmanager
def _known(nodes: Sequence[Any], solved: Sequence[Tensor]) -> Iterator[None]:
    """Let nodes know the solutions of their adjoint systems."""
    try:
        for node, known in zip(nodes, solved, strict=True):
            node.solved = known
        yield
    finally:
        for node in nodes:
            node.solved = None


def _way(numbers: Sequence[Tensor]) -> _Way:
    nodes = _reached([number.grad_fn for number in numbers])
    custom = [node for node in nodes if hasattr(node, "_forward_cls")]
    dear = [node for node in custom if hasattr(node, "nbytes")]
    behind = _reached([f for node in dear for f, _ in node.next_functions])
    first = (node for node in dear if node not in behind)
    return _Way(
        frozenset(dear),
        tuple(node for node in first if hasattr(node._forward_cls, "solve_adjoint")),
        all(_takes_many(node._forward_cls) for node in custom),
        max((node.nbytes for node in dear), default=0),
    )


def _takes_many(kind: Any) -> bool:
    return getattr(kind, "pulls_many", kind.vmap is not torch.autograd.Function.vmap)


def _reached(ahead: list[Any]) -> dict[Any, None]:
    """Return the nodes of a graph from some on, in a fixed order."""
    seen: dict[Any, None] = {}
    while ahead:
        node = ahead.pop()
        if node is not None and node not in seen:
            seen[node] = None
            ahead += [following for following, _ in node.next_functions]
    return seen
