"""Connected components of a graph in compressed rows, on the device it lies on."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_sla.linalg.kernels.pointers import kept_pointers
from torch_sla.linalg.kernels.rows import row_max

__all__ = ["component_labels"]

_UNSEEN = 4  # rounds between looks by the host; meshes of millions of rows take about twelve


def component_labels(crow: Tensor, ccol: Tensor, linked: Tensor | None = None) -> Tensor:
    """Return a number for each row, the same in a component and in no other.

    Parameters
    ----------
    crow, ccol
        A graph ``[n + 1]`` and ``[nnz]``, symmetric unless it is on the CPU.
    linked
        bool ``[nnz]``: entries that connect; None stands for all.

    Returns
    -------
    Tensor
        int64 ``[n]``: of each component one of its rows.

    Examples
    --------
    >>> label = component_labels(torch.tensor([0, 1, 2, 2]), torch.tensor([1, 0]))
    >>> bool(label[0] == label[1]), bool(label[0] == label[2])
    (True, False)
    """
    if linked is not None and not bool(linked.all()):
        crow, ccol = kept_pointers(crow, linked), ccol[linked]
    if crow.is_cpu:
        return _by_search(crow, ccol)
    return _by_hooking(crow, ccol)


def _by_search(crow: Tensor, ccol: Tensor) -> Tensor:
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    n = crow.numel() - 1
    ones = torch.ones(ccol.numel(), dtype=torch.int8)
    graph = csr_array((ones.numpy(), ccol.numpy(), crow.numpy()), shape=(n, n), copy=True)
    count, label = connected_components(graph, directed=False)
    number = torch.as_tensor(label, dtype=torch.int64)
    last = torch.zeros(count, dtype=torch.int64).index_put_((number,), torch.arange(n))
    return last[number]


def _by_hooking(crow: Tensor, ccol: Tensor) -> Tensor:
    """Let labels grow along entries and along labels until none does (FastSV: Zhang, Azad, Hu, SIAM PP 2020)."""
    label = torch.arange(crow.numel() - 1, device=crow.device)
    while label.numel():
        for _ in range(_UNSEEN):
            before, above = label, label[label]
            near = torch.maximum(row_max(crow, above, ccol, -1), above)
            label = before.scatter_reduce(0, before, near, "amax").maximum(near)
        if torch.equal(label, before):
            break
    return label
