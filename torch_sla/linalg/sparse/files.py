"""Sparse tensors in files: NumPy archives, safetensors and Matrix Market.

Archives hold the sorted, summed slots and a line of JSON: format version, shape, blocks, declared
structure and whatever the caller adds. Nothing in them is executed when read.
"""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.sparse.pattern import Pattern
from torch_sla.linalg.sparse.structure import Structure
from torch_sla.linalg.sparse.tensor import SparseTensor
from torch_sla.linalg.sparse.whole import whole

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

__all__ = ["load_metadata", "load_mtx", "load_sparse", "save_mtx", "save_sparse"]

_VERSION = 1
_FLAGS = ("symmetric", "hermitian", "positive_definite")
_TENSORS = ("nullspace", "near_nullspace", "coordinates")
_SUFFIXES = (".npz", ".safetensors", ".mtx")


def save_sparse(
    A: SparseTensor, path: str | PathLike[str], metadata: dict[str, Any] | None = None
) -> None:
    """Write a matrix or a batch; the suffix of `path` chooses the format.

    Parameters
    ----------
    path
        ``.npz``, ``.safetensors`` (needs that package) or ``.mtx`` (one real or complex matrix).
    metadata
        Anything JSON can hold, found again by `load_metadata`.

    Raises
    ------
    ArgumentError
        When the suffix is unknown or the format cannot hold the matrix.
    """
    target = _known(path)
    if target.suffix == ".mtx":
        save_mtx(A, target, comment=json.dumps(metadata) if metadata else "")
        return
    tensors = {
        "crow": A.pattern.crow,
        "col": A.pattern.ccol,
        "values": A.csr_values.detach().resolve_conj().resolve_neg(),
    }
    known = A.declared
    tensors |= {n: getattr(known, n) for n in _TENSORS if getattr(known, n) is not None}
    tensors = {n: t.detach().cpu().contiguous() for n, t in tensors.items()}
    header = {
        "format": "torch_sla.sparse",
        "version": _VERSION,
        "shape": list(A.sparse_shape),
        "batch": list(A.batch_shape),
        "block": list(A.block_shape),
        "nnz": A.pattern.nnz_csr,
        "dtype": str(A.dtype).removeprefix("torch."),
        "structure": {n: getattr(known, n) for n in _FLAGS if getattr(known, n) is not None},
        "metadata": metadata or {},
    }
    if target.suffix == ".npz":
        import numpy as np

        if A.dtype == torch.bfloat16:
            raise ArgumentError("NumPy archives cannot hold bfloat16; convert, or use .safetensors")
        arrays: dict[str, Any] = {n: t.numpy() for n, t in tensors.items()}
        with whole(target) as file:
            np.savez(file, header=np.array(json.dumps(header)), **arrays)
        return
    if tensors["values"].is_complex():
        raise ArgumentError("safetensors cannot hold complex values here; save to .npz")
    library = safetensors_library()
    with whole(target) as file:
        try:
            library.save_file(tensors, str(file), {"header": json.dumps(header)})
        except library.error as error:  # also where the system does not let it write
            code = re.search(r"os error (\d+)", str(error))
            number = int(code[1]) if code else errno.EIO
            raise OSError(number, os.strerror(number) if code else str(error)) from error


def load_sparse(
    path: str | PathLike[str], device: torch.device | str | None = None
) -> SparseTensor:
    """Read what `save_sparse` or ``scipy.sparse.save_npz`` wrote, or a Matrix Market file.

    Raises
    ------
    ArgumentError
        When the file is missing, of an unknown format or version, or inconsistent.

    Examples
    --------
    >>> import tempfile
    >>> from torch_sla.linalg import SparseTensor, load_sparse, save_sparse
    >>> path = f"{tempfile.mkdtemp()}/eye.npz"
    >>> save_sparse(SparseTensor.eye(3), path)
    >>> load_sparse(path)
    SparseTensor(shape=(3, 3), nnz=3, dtype=torch.float32, device=cpu)
    """
    source = _known(path)
    if source.suffix == ".mtx":
        return load_mtx(source, device=device)
    if source.suffix == ".npz" and (foreign := _of_scipy(source)) is not None:
        dtype = None if foreign.dtype.kind in "fc" else torch.float64
        return SparseTensor.from_scipy(foreign, dtype=dtype, device=device)
    header, tensors = _read(source, with_tensors=True)
    M, N = header["shape"]
    block = tuple(header["block"])
    pattern = Pattern.from_csr(tensors["crow"], tensors["col"], (M, N), block, copy=False)
    fields: dict[str, Any] = {n: tensors[n] for n in _TENSORS if n in tensors}
    known = Structure(**header["structure"], **fields)
    made = SparseTensor.from_pattern(pattern, tensors["values"], known)
    return made if device is None else made.to(device)


def load_metadata(path: str | PathLike[str]) -> dict[str, Any]:
    """Read what a file says about its matrix, without the matrix: shape, dtype, nnz, metadata."""
    source = _known(path)
    if source.suffix != ".mtx":
        return _read(source, with_tensors=False)[0]
    from scipy.io import mminfo

    rows, columns, entries, layout, field, symmetry = _of_market(mminfo, present(source))
    return {
        "format": "matrix-market",
        "shape": [rows, columns],
        "nnz": entries,
        "layout": layout,
        "field": field,
        "symmetry": symmetry,
    }


def save_mtx(A: SparseTensor, path: str | PathLike[str], comment: str = "") -> None:
    """Write one matrix in the Matrix Market coordinate format, blocks written out.

    Symmetric and Hermitian matrices are stored by their lower triangle. Values are written with
    enough digits to be read back exactly.

    Raises
    ------
    ArgumentError
        For a batch.
    """
    from scipy.io import mmwrite

    matrix = A.to_scipy("coo")
    s = A.known_structure()
    symmetry: Literal["general", "symmetric", "hermitian"] = "general"
    if s.symmetric or s.hermitian:
        symmetry = "symmetric" if s.symmetric else "hermitian"
    digits = 17 if A.dtype in (torch.float64, torch.complex128) else 9
    if symmetry != "general":
        mirrored = matrix.T if symmetry == "symmetric" else matrix.T.conj()
        if (matrix - mirrored).count_nonzero():
            # Equal up to rounding only: a triangle would lose the difference.
            symmetry = "general"
    # To a stream: of a file that it opens itself, it does not notice that the disk is full.
    with whole(path) as file, file.open("wb") as stream:
        mmwrite(stream, matrix, comment=comment, precision=digits, symmetry=symmetry)


def load_mtx(
    path: str | PathLike[str],
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> SparseTensor:
    """Read a Matrix Market file.

    Parameters
    ----------
    path
        Coordinate or array format; a pattern without values gets ones.
    dtype
        float64 or complex128 by default, as the file has it.
    device
        Where to keep it.
    """
    from scipy.io import mmread
    from scipy.sparse import coo_array, issparse

    _check_counts(present(Path(path)))
    matrix = _of_market(mmread, Path(path))
    coo = matrix if issparse(matrix) else coo_array(matrix)
    if dtype is None:
        dtype = torch.complex128 if coo.dtype.kind == "c" else torch.float64
    return SparseTensor.from_scipy(coo, dtype=dtype, device=device)


def _known(path: str | PathLike[str]) -> Path:
    target = Path(path)
    if target.suffix not in _SUFFIXES:
        raise ArgumentError(f"`path` must end in {', '.join(_SUFFIXES)}, got {str(path)!r}")
    return target


def present(path: Path) -> Path:
    if not path.is_file():
        raise ArgumentError(f"`path`: there is no file {str(path)!r}")
    return path


def _of_market(read: Callable[[Path], Any], source: Path) -> Any:
    """Read a Matrix Market file, or say which file it is that is none."""
    try:
        return read(source)
    except (ValueError, OverflowError, TypeError) as error:
        raise ArgumentError(f"{str(source)!r} cannot be read: {error}") from None


def _check_counts(path: Path) -> None:
    """Refuse a Matrix Market file that announces more entries than it can hold, before there is memory for them."""
    from scipy.io import mminfo

    _, _, entries, _, _, _ = _of_market(mminfo, path)
    # Every entry takes two characters at least: a digit and the end of its line.
    if 2 * entries > path.stat().st_size + 2:
        raise ArgumentError(
            f"`path`: {str(path)!r} announces {entries} entries, and is too short for them"
        )


def _of_scipy(source: Path) -> Any:
    """Return the matrix of a file of SciPy, or None of another."""
    import zipfile

    import numpy as np
    from scipy.sparse import load_npz

    try:
        with present(source).open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if not {"format", "shape", "data"} <= set(archive.files):
                return None
        return load_npz(source)
    except (ValueError, EOFError, OSError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ArgumentError(f"{str(source)!r} cannot be read: {error}") from None


def _read(source: Path, *, with_tensors: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    present(source)
    tensors: dict[str, Tensor] = {}
    if source.suffix == ".npz":
        import numpy as np

        with np.load(source, allow_pickle=False) as archive:
            text = str(archive["header"]) if "header" in archive else ""
            if with_tensors:
                tensors = {n: torch.from_numpy(archive[n]) for n in archive.files if n != "header"}
    else:
        library = safetensors_library()
        try:
            opened = library.safe_open(str(source), "pt")
        except library.error as error:
            raise ArgumentError(f"{str(source)!r} is no safetensors file: {error}") from None
        with opened as archive:
            text = (archive.metadata() or {}).get("header", "")
            if with_tensors:
                tensors = {n: archive.get_tensor(n) for n in archive.keys()}  # noqa: SIM118
    header = json.loads(text) if text else {}
    if header.get("format") != "torch_sla.sparse":
        raise ArgumentError(f"{str(source)!r} is no sparse tensor file of this library")
    if header["version"] > _VERSION:
        raise ArgumentError(
            f"{str(source)!r} has format version {header['version']}; this library reads up to {_VERSION}"
        )
    return header, tensors


def safetensors_library() -> Any:
    try:
        import safetensors
        import safetensors.torch
    except ImportError as error:
        raise ArgumentError(
            "the .safetensors format needs the package safetensors; install it, or use .npz"
        ) from error

    class Both:
        save_file = staticmethod(safetensors.torch.save_file)
        safe_open = staticmethod(safetensors.safe_open)
        error = safetensors.SafetensorError

    return Both
