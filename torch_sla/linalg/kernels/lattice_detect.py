"""Finding the lattice behind a pattern, on the device of its indices.

Offsets are first read off a sample of rows, shapes guessed from them, and the best guess is proved by
one pass over all entries; an offset that the sample missed starts the search again. No temporary is
as long as the entries where Triton runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.linalg.kernels import structure, triton as device
from torch_sla.linalg.kernels.stencils import CENTRE, Lattice, step

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["candidates", "find_lattice", "sampled_offsets"]

_NEIGHBOURS = 27
_STEPS = [step(code) for code in range(_NEIGHBOURS)]
_SAMPLE = 64  # rows looked at first; those of a lattice are all alike inside
_STRIDE = 1640531551  # between them, around the end
_POINTS = 2**31 - 4096  # kernels on lattices number points in 32 bits, whole blocks of them


def find_lattice(
    crow: Tensor, ccol: Tensor, sample: Sequence[float] | None = None
) -> Lattice | None:
    """Return the lattice on which every entry of a square CSR pattern joins a point to a neighbour.

    Parameters
    ----------
    crow, ccol
        ``[n + 1]`` and ``[nnz]``, sorted and unique in each row.
    sample
        Numbers of `sampled_offsets`, where they have been read already.

    Returns
    -------
    Lattice or None
        Three points or more along the fastest edge. Of several that fit, the one with the fewest
        diagonal steps. None where there is none.

    Examples
    --------
    >>> import torch
    >>> crow, ccol = torch.tensor([0, 2, 5, 7]), torch.tensor([0, 1, 0, 1, 2, 1, 2])
    >>> find_lattice(crow, ccol).shape
    (3, 1, 1)
    """
    n = crow.numel() - 1
    if sample is None:
        found = sampled_offsets(crow, ccol)
        sample = [] if found is None else torch.unique(found.cpu()).tolist()
    offsets = sorted(map(int, set(sample)))
    if not offsets or len(offsets) > _NEIGHBOURS:
        return None
    while True:
        missed = None
        for lattice in candidates(offsets, n):
            missed, fits = _prove(lattice, crow, ccol)
            if missed is not None:
                break
            if fits:
                return lattice
        if missed is None:
            return None
        offsets = sorted({*offsets, missed})
        if len(offsets) > _NEIGHBOURS:
            return None


def sampled_offsets(crow: Tensor, ccol: Tensor) -> Tensor | None:
    """Offsets ``col - row`` of the first entries of some rows, spread without a period, and 0.

    None where there is no lattice.
    """
    n = crow.numel() - 1
    if not 3 <= n <= _POINTS or not ccol.numel():
        return None
    count = min(n, _SAMPLE)
    stride = 1 if n <= count else _STRIDE
    if device.runs(crow, ccol):
        from torch_sla.linalg.kernels.triton.patterns import sampled_offsets as in_triton

        return in_triton(crow, ccol, count, stride)
    row = torch.arange(count, device=crow.device) * stride % n
    start, stop = crow[row].long(), crow[row + 1].long()
    place = torch.arange(_NEIGHBOURS + 1, device=crow.device)
    at = start.unsqueeze(1) + place
    offset = ccol[at.clamp(max=ccol.numel() - 1)].long() - row.unsqueeze(1)
    return torch.where(at < stop.unsqueeze(1), offset, 0)


def candidates(offsets: list[int], n: int) -> list[Lattice]:
    """Return lattices of `n` points on which all offsets (ascending) are neighbours, fewest diagonal steps first."""
    ahead = [o for o in offsets if o > 1]
    if not ahead:
        shapes = [(n, 1, 1)] if any(o in (-1, 1) for o in offsets) else []
    else:
        shapes = []
        for n0 in range(ahead[0] - 1, ahead[0] + 2):
            if n0 < 3 or n % n0:
                continue
            shapes.append((n0, n // n0, 1))
            far = next((o for o in ahead if o > n0 + 1), None)
            if far is None:
                continue
            for back in range(-n0 - 1, n0 + 2):
                if abs(back) > 1 and abs(abs(back) - n0) > 1:
                    continue
                plane = far + back
                if plane > n0 and plane % n0 == 0 and n % plane == 0:
                    shapes.append((n0, plane // n0, n // plane))
    ranked = []
    for order, shape in enumerate(shapes):
        codes = _decoded(offsets, shape)
        if codes is not None:
            diagonal = sum(sum(map(abs, _STEPS[c])) for c in codes)
            both = tuple(sorted({CENTRE, *codes, *(26 - c for c in codes)}))
            ranked.append((diagonal, order, Lattice(shape, both)))
    return [lattice for _, _, lattice in sorted(ranked, key=lambda item: item[:2])]


def _decoded(offsets: list[int], shape: tuple[int, int, int]) -> list[int] | None:
    """Neighbours that the offsets stand for; None where one has no meaning, or two."""
    n0, n1, n2 = shape
    meaning: dict[int, list[int]] = {}
    for code, (d0, d1, d2) in enumerate(_STEPS):
        if (d0 == 0 or n0 > 1) and (d1 == 0 or n1 > 1) and (d2 == 0 or n2 > 1):
            meaning.setdefault(d0 + n0 * (d1 + n1 * d2), []).append(code)
    found = [meaning.get(o, []) for o in offsets]
    return [codes[0] for codes in found] if all(len(c) == 1 for c in found) else None


def _prove(lattice: Lattice, crow: Tensor, ccol: Tensor) -> tuple[int | None, bool]:
    """Return an offset that no neighbour of the lattice has, if any; and whether all entries fit."""
    if device.runs(crow, ccol):
        from torch_sla.linalg.kernels.triton.patterns import lattice_fit

        return lattice_fit(lattice, crow, ccol)
    steps = [_STEPS[code] for code in lattice.codes]
    found = structure.lattice_fit(crow, ccol, lattice.shape, lattice.offsets, steps)
    if found is not None:
        return found
    rows = torch.repeat_interleave(
        torch.arange(lattice.n, device=crow.device), crow.diff().long(), output_size=ccol.numel()
    )
    offset = ccol.long() - rows
    known = torch.tensor(lattice.offsets, device=crow.device)
    place = torch.searchsorted(known, offset).clamp(max=len(known) - 1)
    missing = known[place] != offset
    if bool(missing.any()):
        return int(offset[missing].amax()), False
    codes = torch.tensor(lattice.codes, device=crow.device)[place]
    fits = True
    for axis, n in enumerate(lattice.shape):
        x = rows // lattice.stride(axis) % n + codes // 3**axis % 3 - 1
        fits = fits and bool(((x >= 0) & (x < n)).all())
    return None, fits
