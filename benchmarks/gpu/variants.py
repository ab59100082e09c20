"""What is beside the headline: lattices in space, with jumps, with double-precision levels; batches; dtypes of cuDSS.

    python benchmarks/gpu/variants.py [--quick] [--device cpu] [--only lattices|wide|batches|dtypes] [--out DIR]

Matrix as CSR tensors in, solution and gradient out, nothing kept between rounds but compiled kernels;
the last of three rounds counts. ``wide`` is a lattice with more entries than 32 bits count, which takes 100 GB;
its second solve counts, and the residual is computed once more without the package.
"""

from __future__ import annotations

import argparse
import gc
import json
import warnings
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from grids import table
from headline import build, poisson, timed

from torch_sla.linalg import SparseTensor, clear_factor_cache
from torch_sla.linalg.backends.cudss_library import unavailable
from torch_sla.linalg.precond.multigrid import AMG

if TYPE_CHECKING:
    from collections.abc import Iterable

# Points along each axis, contrast of a checkerboard of 16 cells, dtype of the levels.
CASES: dict[str, tuple[tuple[int, ...], float, Any]] = {
    "2D 1M, float64 levels": ((1000, 1000), 1.0, "float64"),
    "2D 16M, float64 levels": ((4000, 4000), 1.0, "float64"),
    "2D 16M, jumps of 1e3": ((4000, 4000), 1e3, None),
    "2D 16M, jumps of 1e6": ((4000, 4000), 1e6, None),
    "3D 1M": ((100, 100, 100), 1.0, None),
    "3D 16M": ((256, 256, 256), 1.0, None),
    "3D 16M, float64 levels": ((256, 256, 256), 1.0, "float64"),
    "3D 64M": ((400, 400, 400), 1.0, None),
}
# Members of a batch, and points along each axis of one.
BATCHES = ((64, (64, 64)), (512, (64, 64)), (64, (256, 256)), (16, (512, 512)), (64, (40, 40, 40)))
QUICK = ("2D 1M, float64 levels", "3D 1M")
BOX = 16  # cells of the checkerboard
EDGE = 700  # points a side of the lattice that is wide


def diffusion(
    shape: tuple[int, ...], device: torch.device, contrast: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """CSR of ``-div k grad`` on a lattice, fixed all around; harmonic means between the points."""
    n, strides = prod(shape), [prod(shape[:axis]) for axis in range(len(shape))]
    i = torch.arange(n, dtype=torch.int32, device=device)
    at = [i // s % m for s, m in zip(strides, shape, strict=True)]
    boxes = sum((x // BOX for x in at), torch.zeros_like(i))
    k = torch.where(boxes % 2 == 1, contrast, 1.0).double()
    columns, entries, there, own = [], [], [], torch.zeros_like(k)
    for axis, step in [(a, -1) for a in reversed(range(len(shape)))] + [
        (a, 1) for a in range(len(shape))
    ]:
        inside = (at[axis] > 0) if step < 0 else (at[axis] < shape[axis] - 1)
        j = torch.where(inside, i + step * strides[axis], i)
        face = 2 * k * k[j] / (k + k[j])
        own += face
        columns.append(j)
        entries.append(-face)
        there.append(inside)
    middle = len(shape)
    columns.insert(middle, i)
    entries.insert(middle, own)
    there.insert(middle, torch.ones_like(there[0]))
    mask = torch.stack(there, 1)
    crow = torch.zeros(n + 1, dtype=torch.int32, device=device)
    crow[1:] = mask.sum(1).cumsum(0)
    return crow, torch.stack(columns, 1)[mask], torch.stack(entries, 1)[mask]


def left(x: torch.Tensor, m: int) -> float:
    """Relative residual of ones minus the 7-point matrix times x, plane by plane from shifted views."""
    u, total = x.view(m, m, m), 0.0
    for k in range(m):
        r = 1.0 - 6.0 * u[k]
        r[1:] += u[k, :-1]
        r[:-1] += u[k, 1:]
        r[:, 1:] += u[k, :, :-1]
        r[:, :-1] += u[k, :, 1:]
        for other in (k - 1, k + 1):
            if 0 <= other < m:
                r += u[other]
        total += float(r.square().sum())
    return float((total / m**3) ** 0.5)


def wide(device: torch.device, m: int) -> list[dict[str, Any]]:
    """Solve with more entries than 32 bits count."""
    request: dict[str, Any] = {"method": "cg", "preconditioner": "multigrid", "rtol": 1e-8}
    crow, ccol, values = poisson(m, device, 3)
    b = torch.ones(m**3, dtype=torch.float64, device=device)
    found = []
    for k in range(2):
        fresh(device, first=k == 0)
        A, made = timed(lambda: build(crow, ccol, values), device)
        (x, info), t = timed(lambda A=A: A.solve(b, info=True, throw=False, **request), device)
        row = {
            "unknowns": m**3, "entries": len(values), "index": str(ccol.dtype)[6:], "seconds": made + t,
            "iterations": info.iterations, "residual": info.residual, "result": info.result.name,
        }  # fmt: skip
        if device.type == "cuda":
            row["bytes / unknown"] = torch.cuda.max_memory_allocated() / m**3
        found.append(row)
        del A, info
    return [{**found[-1], "first (s)": found[0]["seconds"], "residual again": left(x, m)}]


def fresh(device: torch.device, *, first: bool = True) -> None:
    """Keep nothing of earlier solves; of memory that the allocator holds, between the rounds of a case."""
    clear_factor_cache()
    gc.collect()
    if device.type == "cuda":
        if first:
            torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def solved(
    arrays: tuple[torch.Tensor, ...], device: torch.device, request: dict[str, Any]
) -> dict[str, Any]:
    """Forward and backward of a solve, last of three rounds."""
    crow, ccol, values = arrays
    n = crow.numel() - 1
    b = torch.ones(n, dtype=values.dtype, device=device)
    out: dict[str, Any] = {}
    for k in range(3):
        fresh(device, first=k == 0)
        a = values.clone().requires_grad_()
        A, made = timed(lambda: build(crow, ccol, values), device)
        A = SparseTensor.from_pattern(A.pattern, a)
        (x, info), forward = timed(
            lambda A=A: A.solve(b, info=True, throw=False, **request), device
        )
        _, backward = timed((x * x.conj()).real.sum().backward, device)
        out = {
            "unknowns": n,
            "seconds": made + forward,
            "backward / forward": backward / forward,
            "iterations": info.iterations,
            "residual": info.residual,
            "solver": f"{info.backend} {info.method}",
            "result": info.result.name,
        }
        if device.type == "cuda":
            out["bytes / unknown"] = torch.cuda.max_memory_allocated() / n
        del A, a, x, info
    return out


def direct(device: torch.device, edge: int) -> list[dict[str, Any]]:
    """Cholesky of cuDSS in every dtype: a first solve, and new values."""
    rows = []
    crow, ccol, real = diffusion((edge, edge), device)
    for dtype in (torch.float32, torch.float64, torch.complex64, torch.complex128):
        values = real.to(dtype)
        b = torch.ones(edge * edge, dtype=dtype, device=device)
        request: dict[str, Any] = {"backend": "cudss", "method": "cholesky"}
        first = again = float("inf")
        for _ in range(2):
            fresh(device)
            A = build(crow, ccol, values)
            (_, info), t = timed(lambda A=A: A.solve(b, info=True, **request), device)
            first = min(first, t)
            for k in range(4):
                B = SparseTensor.from_pattern(A.pattern, values * (1.1 + k))
                _, t = timed(lambda B=B: B.solve(b, **request), device)
                again = min(again, t)
        rows.append(
            {
                "unknowns": edge * edge, "dtype": str(dtype)[6:], "first solve (s)": first,
                "new values (s)": again, "residual": info.residual, "backward error": info.backward_error,
            }
        )  # fmt: skip
    return rows


def batches(
    device: torch.device, sizes: Iterable[tuple[int, tuple[int, ...]]]
) -> list[dict[str, Any]]:
    """Batches of matrices with coefficients of their own, and one of them alone."""
    rows = []
    request = {"method": "cg", "preconditioner": "multigrid", "rtol": 1e-8}
    for members, shape in sizes:
        crow, ccol, values = diffusion(shape, device)
        factor = torch.linspace(1.0, 2.0, members, dtype=values.dtype, device=device)
        found = []
        for scales in (factor, factor[:1]):
            b = torch.ones(len(scales), prod(shape), dtype=values.dtype, device=device)
            for k in range(3):
                fresh(device, first=k == 0)
                a = (scales[:, None] * values).requires_grad_()
                A = SparseTensor.from_pattern(build(crow, ccol, values).pattern, a)
                (x, info), forward = timed(
                    lambda A=A, b=b: A.solve(b, info=True, **request), device
                )
                _, backward = timed((x * x).sum().backward, device)
            found.append((forward, backward, info))
        (forward, backward, info), (alone, back_alone, one) = found
        rows.append(
            {
                "members": members, "unknowns of one": prod(shape), "solve (s)": forward, "gradient (s)": backward,
                "one alone (s)": alone, "its gradient (s)": back_alone, "gain": members * alone / forward,
                "iterations": info.iterations, "of one": one.iterations, "residual": info.residual,
                "notes": "; ".join(info.notes),
            }
        )  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def lattices(device: torch.device, names: Iterable[str]) -> list[dict[str, Any]]:
    """Rows of the cases named."""
    rows = []
    for name in names:
        shape, contrast, levels = CASES[name]
        request = {"method": "cg", "preconditioner": AMG(dtype=levels), "rtol": 1e-8}
        try:
            found = solved(diffusion(shape, device, contrast), device, request)
        except Exception as error:  # noqa: BLE001  the cases after it are to run all the same
            found = {"result": f"{type(error).__name__}: {error}"[:120]}
        rows.append({"lattice": name, **found})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", choices=("lattices", "wide", "batches", "dtypes"))
    parser.add_argument("--out", type=Path, help="folder for variants.md and variants.json")
    args = parser.parse_args()
    device = torch.device(args.device)
    warnings.filterwarnings("ignore", "Sparse", UserWarning)
    found, text = {}, []
    if args.only in (None, "lattices"):
        found["lattices"] = lattices(device, QUICK if args.quick else CASES)
        text.append(table("Lattices beside the headline's", found["lattices"]))
    if args.only == "wide":
        found["wide"] = wide(device, 40 if args.quick else EDGE)
        text.append(table("A lattice with 64-bit indices", found["wide"]))
    if args.only in (None, "batches"):
        found["batches"] = batches(device, BATCHES[:1] if args.quick else BATCHES)
        text.append(table("Batches with multigrid", found["batches"]))
    if args.only in (None, "dtypes") and device.type == "cuda" and unavailable() is None:
        found["dtypes"] = direct(device, 100 if args.quick else 316)
        text.append(table("cuDSS Cholesky by dtype", found["dtypes"]))
    print("\n\n".join(text))
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        name = f"variants-{args.only}" if args.only else "variants"
        (args.out / f"{name}.md").write_text("\n\n".join(text) + "\n")
        (args.out / f"{name}.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
