"""Tensors whose memory is not their numbers: pending conjugations, pending signs, strides of single entries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from torch_sla.linalg import SparseTensor

if TYPE_CHECKING:
    from pathlib import Path

N = 6
ROW, COL = torch.nonzero(torch.ones(N, N)).T
WAYS = [("auto", "auto"), ("scipy", "superlu"), ("auto", "ldlt"), ("native", "static_lu")]
WAYS += [("eigen", "lu"), ("scipy", "gmres"), ("pytorch", "lsmr")]


def pending(kind: str, *batch: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(3)
    z = torch.randn(*batch, N, N, dtype=torch.complex128, generator=g)
    h = (z + z.mH) / 2 + 8 * torch.eye(N)
    v = h[..., ROW, COL].contiguous()
    if kind == "conjugate":
        return v.conj()
    lazy = torch.complex(torch.zeros_like(v.real), -v.real).conj().imag
    assert lazy.is_neg()
    return lazy


def taken(v: torch.Tensor, way: tuple[str, str]) -> tuple[torch.Tensor, ...]:
    v = v.detach().requires_grad_()
    b = v.detach()[..., :N].requires_grad_()
    A = SparseTensor(v, ROW, COL, (*v.shape[:-1], N, N))
    x = A.solve(b, backend=way[0], method=way[1])
    return x.detach(), *torch.autograd.grad(x.abs().square().sum(), (v, b))


CASES = [(way, kind) for way in WAYS for kind in ("conjugate", "sign")]
CASES.remove((("native", "static_lu"), "conjugate"))  # for real matrices


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize(("way", "kind"), CASES, ids=str)
def test_solves(way: tuple[str, str], kind: str, batch: tuple[int, ...]) -> None:
    v = pending(kind, *batch)
    for lazy, plain in zip(taken(v, way), taken(v.resolve_conj().resolve_neg(), way), strict=True):
        torch.testing.assert_close(lazy, plain, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", ["conjugate", "sign"])
def test_adjoint_of_a_batch_factors_files_and_scipy(kind: str, tmp_path: Path) -> None:
    v = pending(kind, 2)
    D = v.resolve_conj().resolve_neg().unflatten(-1, (N, N))
    A = SparseTensor(v, ROW, COL, (2, N, N))
    b = torch.ones(N, dtype=v.dtype)
    wanted = torch.linalg.solve(D.mH, b.expand(2, N))
    torch.testing.assert_close(A.H().solve(b), wanted)
    torch.testing.assert_close(A.lu().solve(b), torch.linalg.solve(D, b.expand(2, N)))
    one = SparseTensor(v[0], ROW, COL, (N, N))
    assert abs(one.to_scipy().toarray() - D[0].numpy()).max() == 0
    one.save(tmp_path / "a.npz")
    assert torch.equal(SparseTensor.load(tmp_path / "a.npz").to_dense(), D[0])
    torch.testing.assert_close(one.partition(2).solve_distributed(b), torch.linalg.solve(D[0], b))


@pytest.mark.parametrize("batch", [(), (3,)])
def test_one_unknown_of_any_stride(batch: tuple[int, ...]) -> None:
    both = torch.arange(1.0, 3.0, dtype=torch.float64).expand(*batch, 1, 2).clone()
    v, b = both[..., 1], both[..., 0]
    assert v.stride(-1) == 2
    zero = torch.zeros(1, dtype=torch.long)
    A = SparseTensor(v, zero, zero, (*batch, 1, 1))
    torch.testing.assert_close(A.solve(b), b / v)
    torch.testing.assert_close(A.lu().solve(b), b / v)
