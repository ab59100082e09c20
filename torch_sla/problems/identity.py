"""What makes a run the same run: its declaration, the values it is solved for, versions."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

import torch_sla
from torch_sla.linalg import SparseTensor

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["fingerprint", "raw_bytes", "run_identity", "versions"]

# Attributes of a module that are numbers, words or tensors.
_PLAIN = (bool, int, float, complex, str, tuple, Tensor)


def fingerprint(values: Mapping[str, Any]) -> dict[str, str]:
    """Return a hash of each value, for an identity.

    Tensors and arrays count by dtype, shape and content, sparse ones by where their entries are as well, lists by what
    is in them. Modules count by what they print, their parameters, buffers and plain attributes; others by what they
    print.

    Examples
    --------
    >>> fingerprint({"k": torch.ones(2)}) == fingerprint({"k": torch.ones(2)})
    True
    """
    return {name: _hash(values[name]) for name in sorted(values)}


def run_identity(model: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run of a lowered problem must share to go on to the same bits.

    Parameters
    ----------
    model
        The lowered problem: ``spec``, ``compiled.key`` and ``device`` are read.
    values
        What it is solved for, by name.
    """
    return {
        "spec_hash": model.spec.spec_hash,
        "structural_hash": model.compiled.key,
        "values": fingerprint(values),
        "versions": versions(),
        "device": str(model.device),
        "threads": torch.get_num_threads(),
    }


def versions() -> dict[str, str]:
    """Return the versions of the libraries that numbers come from: any of them may change the last bits."""
    found = {"torch_sla": torch_sla.__version__, "torch": torch.__version__}
    # SciPy is imported where it is needed only.
    return {**found, "numpy": np.__version__, "scipy": version("scipy")}


def _hash(value: Any) -> str:
    digest = hashlib.blake2b(digest_size=12)
    parts: dict[str, Any] = {}
    if isinstance(value, torch.nn.Module):
        digest.update(f"{value!r};".encode())
        parts = {**dict(value.named_parameters()), **dict(value.named_buffers())}
        for where, module in value.named_modules():
            plain = {n: v for n, v in vars(module).items() if isinstance(v, _PLAIN)}
            parts |= {f"{where}:{n}": v for n, v in plain.items()}
    elif isinstance(value, SparseTensor):
        parts = {"values": value.values, "row": value.row_indices, "col": value.col_indices}
        digest.update(f"{tuple(value.shape)};".encode())
    elif isinstance(value, list | tuple):
        digest.update(b"list;")
        parts = {str(i): part for i, part in enumerate(value)}
    elif isinstance(value, dict):
        digest.update(b"dict;")
        parts = {repr(name): part for name, part in value.items()}
    elif isinstance(value, Tensor | np.ndarray):
        tensor = torch.as_tensor(value).detach().cpu().contiguous()
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(raw_bytes(tensor))
    else:
        digest.update(f"{type(value).__name__} {value!r}".encode())
    for name, part in parts.items():
        digest.update(f"{name} {_hash(part)};".encode())
    return digest.hexdigest()


def raw_bytes(tensor: Tensor) -> memoryview:
    """Return the raw bytes of a tensor on the CPU, of any dtype."""
    plain = tensor.resolve_conj().resolve_neg().contiguous()
    # A tensor of one or no element is contiguous whatever its strides are, which a view does not accept.
    return plain.as_strided((plain.numel(),), (1,)).view(torch.uint8).numpy().data
