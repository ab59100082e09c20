"""Row pointers, against those of SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from torch_sla.linalg.kernels.pointers import kept_pointers, pointers


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_pointers_of_what_is_kept(dtype: torch.dtype) -> None:
    A = sp.random_array((9, 7), density=0.4, rng=np.random.default_rng(3), format="csr")
    lengths = torch.from_numpy(np.diff(A.indptr))
    crow = pointers(lengths, dtype)
    assert crow.dtype is dtype
    assert crow.tolist() == A.indptr.tolist()
    keep = A.data > 0.5
    A.data[~keep] = 0.0
    A.eliminate_zeros()
    left = kept_pointers(crow, torch.from_numpy(keep))
    assert left.dtype is dtype
    assert left.tolist() == A.indptr.tolist()


def test_no_rows_and_many_entries() -> None:
    assert pointers(torch.zeros(0, dtype=torch.int32)).tolist() == [0]
    wide = torch.full((3,), 2**30, dtype=torch.int32)  # sums beyond 32 bits
    assert pointers(wide).tolist() == [0, 2**30, 2**31, 3 * 2**30]
