"""What lies in a folder that holds a matrix in parts: an archive for each part, and the manifest that names them.

Archives are called by their checksums, so that those of an older matrix stay until the manifest of the new one is
in place.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.linalg.sparse.whole import whole

if TYPE_CHECKING:
    from pathlib import Path

    from torch_sla.linalg.distributed.part import DSparseMatrix
    from torch_sla.linalg.distributed.tensor import DSparseTensor

__all__ = [
    "DIGEST",
    "read_manifest",
    "read_part",
    "write_manifest",
    "write_part",
]

DIGEST = 16
"""Bytes of a checksum."""
_FORMAT, _VERSION = "torch_sla.dsparse", 1
_MANIFEST = "manifest.json"


def write_part(folder: Path, part: DSparseMatrix, near: Tensor | None) -> list[int]:
    """Write one part; return its number, rows, entries and digest."""
    arrays = {
        "owned": part.owned_nodes,
        "crow": part.pattern.crow.long(),
        "col": part.local_to_global[part.pattern.ccol.long()],
        "values": part.values.detach().resolve_conj().resolve_neg(),
    }
    if near is not None:
        arrays["near_nullspace"] = near[part.whole.sharding.rows.part_slice(part.partition_id)]
    file = io.BytesIO()
    plain: dict[str, Any] = {name: t.detach().cpu().numpy() for name, t in arrays.items()}
    np.savez(file, **plain)
    data = file.getvalue()
    digest = hashlib.blake2b(data, digest_size=DIGEST).digest()
    _replace(folder / _name(part.partition_id, digest), data)
    return [part.partition_id, part.num_owned, part.pattern.nnz_csr, *digest]


def _name(part: int, digest: bytes) -> str:
    return f"part-{part:05d}-{digest.hex()[:12]}.npz"


def _replace(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all."""
    with whole(path) as beside, beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest, which says what parts there are."""
    path = folder / _MANIFEST
    if not path.is_file():
        raise ArgumentError(f"`directory`: {str(folder)!r} holds no matrix in parts ({_MANIFEST})")
    try:
        header: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArgumentError(f"{str(path)!r} is damaged: {error}") from None
    if header.get("format") != _FORMAT:
        raise ArgumentError(f"{str(path)!r} is no manifest of a matrix in parts of this library")
    if header["version"] > _VERSION:
        raise ArgumentError(
            f"{str(path)!r} has format version {header['version']}; this library reads up to {_VERSION}"
        )
    return header


def read_part(folder: Path, header: dict[str, Any], part: int) -> dict[str, Tensor]:
    """Read one part, whose checksum is that of the manifest."""
    said = header["parts"][part]
    path = folder / said["file"]
    if not path.is_file():
        raise ArgumentError(f"part {part} of {str(folder)!r} is missing: there is no {path.name}")
    data = path.read_bytes()
    if hashlib.blake2b(data, digest_size=DIGEST).hexdigest() != said["digest"]:
        raise ArgumentError(
            f"part {part} of {str(folder)!r} is damaged: the checksum of {path.name} is not that of the manifest"
        )
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


def write_manifest(
    folder: Path, D: DSparseTensor, table: list[list[int]], metadata: dict[str, Any]
) -> None:
    """Put the manifest in place, and take away what it does not name."""
    files = [
        {"file": _name(part, bytes(digest)), "rows": n, "nnz": nnz, "digest": bytes(digest).hex()}
        for part, n, nnz, *digest in table
    ]
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "shape": list(D.shape),
        "nnz": sum(nnz for _, _, nnz, *_ in table),
        "dtype": str(D.dtype).removeprefix("torch."),
        "num_partitions": len(files),
        "parts": files,
        "metadata": metadata,
    }
    _replace(folder / _MANIFEST, json.dumps(header, indent=1).encode())
    kept = {f["file"] for f in files}
    for old in folder.glob("part-*.npz"):
        if old.name not in kept:
            old.unlink()
