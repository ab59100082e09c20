"""Products, algebra and conversions of matrices."""

from __future__ import annotations

import io
import pickle

import torch
from torch import Tensor

from tests.helpers.everywhere.table import F64, backward, entry, general, grid, random
from torch_sla.linalg import SparseTensor, SparseTensorList, spsolve


@entry("matmul")
def _matmul(device: torch.device) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for label, batch in (("", ()), ("batch_", (3,))):
        A = general(40, device, *batch)
        x = random(*batch, 40, 5, seed=1).to(device).requires_grad_()
        y = A @ x
        v = A @ x[..., 0]
        left = random(4, 40, seed=2).to(device) @ A if not batch else y
        loss = (y**3).sum() + (v**2).sum() + (left**2).sum()
        out |= {f"{label}{k}": t for k, t in backward(loss, x=x, a=A.values).items()}
        out |= {f"{label}y": y, f"{label}v": v, f"{label}left": left}
    return out


@entry("matmul complex and single")
def _matmul_dtypes(device: torch.device) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for dtype in (torch.complex128, torch.complex64, torch.float32):
        A = general(30, device, dtype=dtype)
        x = random(30, 2, seed=1, dtype=dtype).to(device).requires_grad_()
        y = A @ x + A.H() @ x + A.T() @ x
        out[f"y {dtype}"] = y
        out |= {
            f"{k} {dtype}": t for k, t in backward(y.abs().square().sum(), x=x, a=A.values).items()
        }
    return out


@entry("algebra")
def _algebra(device: torch.device) -> dict[str, Tensor]:
    A, B = grid(5, device), general(25, device)
    out = {
        "sum": (A + B).to_dense(),
        "difference": (A - B).to_dense(),
        "product": (A * B).to_dense(),
        "sparse product": (A @ B).to_dense(),
        "scaled": (2 * A / 3).to_dense(),
        "negated": (-A).to_dense(),
        "abs": A.abs().to_dense(),
        "transposed": B.T().to_dense(),
    }
    loss = sum((t**2).sum() for t in out.values())
    return out | backward(torch.as_tensor(loss), a=A.values, b=B.values)


@entry("reductions and norms")
def _reductions(device: torch.device) -> dict[str, Tensor]:
    A = general(30, device, 2)
    out = {
        "sum": A.sum(),
        "rows": A.sum(-1),
        "columns": A.sum(-2),
        "mean": A.mean(),
        "max": A.max(),
        "min": A.min(),
        "fro": A.norm("fro"),
        "1": A.norm(1),
        "inf": A.norm(float("inf")),
    }
    return out | backward(torch.as_tensor(sum(t.sum() for t in out.values())), a=A.values)


@entry("blocks")
def _blocks(device: torch.device) -> dict[str, Tensor]:
    row, col = torch.tensor([0, 1, 1, 2, 0, 1, 2]), torch.tensor([1, 0, 2, 1, 0, 1, 2])
    values = random(7, 3, 3, seed=4)
    values[4:] += 9 * torch.eye(3, dtype=F64)
    values = values.to(device).requires_grad_()
    A = SparseTensor(values, row.to(device), col.to(device), (3, 3, 3, 3))
    b = random(9, seed=5).to(device)
    x = A.flatten_blocks().solve(b, backend="pytorch", method="gmres", rtol=1e-12)
    y = A.flatten_blocks() @ x
    return {"x": x, "y": y, **backward((x**2).sum(), values=values)}


@entry("structure")
def _structure(device: torch.device) -> dict[str, Tensor]:
    A, B = grid(6, device), general(20, device)
    labels, count = A.connected_components()
    flags = [
        A.is_symmetric(),
        A.is_hermitian(),
        A.is_positive_definite(),
        B.is_symmetric(),
        A.has_isolated_components(),
        count == 1,
    ]
    return {"flags": torch.tensor([bool(f) for f in flags], device=device), "labels": labels}


@entry("conversions")
def _conversions(device: torch.device) -> dict[str, Tensor]:
    A = general(20, device).detach()
    stream = io.BytesIO(pickle.dumps(A))
    again = pickle.load(stream)
    back = SparseTensor.from_torch_sparse(A.to_torch())
    scipy = torch.from_numpy(A.to_scipy().toarray()).to(device)
    crow, ccol, values = A.to_csr()
    dense = SparseTensor.from_dense(A.to_dense())
    return {
        "pickled": again.to_dense(),
        "torch": back.to_dense(),
        "scipy": scipy,
        "crow": crow,
        "ccol": ccol,
        "values": values,
        "dense": dense.to_dense(),
    }


@entry("transforms")
def _transforms(device: torch.device) -> dict[str, Tensor]:
    A = grid(5, device).detach()
    B = random(3, 25, seed=14).to(device)

    def solved(b: Tensor) -> Tensor:
        x = A.solve(b, backend="pytorch", method="cg", rtol=1e-13)
        total: Tensor = (x**3).sum()
        return total

    tangent = torch.ones_like(B[0])
    value, slope = torch.func.jvp(solved, (B[0],), (tangent,))  # type: ignore[misc]
    return {
        "vmap": torch.func.vmap(torch.func.grad(solved))(B),
        "jvp": slope,
        "value": value,
    }


@entry("lists")
def _lists(device: torch.device) -> dict[str, Tensor]:
    L = SparseTensorList([grid(3, device), grid(4, device)])
    b = [random(9, seed=19).to(device), random(16, seed=20).to(device)]
    x = L.solve(b, backend="pytorch", method="cg", rtol=1e-12)
    block = L.to_block_diagonal()
    return {"first": x[0], "second": x[1], "block": block.to_dense(), "y": (L @ b)[1]}


@entry("functions")
def _functions(device: torch.device) -> dict[str, Tensor]:
    A = grid(5, device).detach()
    b = random(25, seed=21).to(device)
    x = spsolve(
        A.values,
        A.row_indices,
        A.col_indices,
        A.shape,
        b,
        backend="pytorch",
        method="cg",
        tol=1e-12,
    )
    return {"x": x}
