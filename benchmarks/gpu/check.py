"""Solutions and gradients on the device against the host, in float64."""

from __future__ import annotations

from typing import Any

import torch
from grids import matrix, poisson_csr, said, table

# Largest relative difference that passes.
LIMIT = 1e-8
REQUESTS: dict[str, dict[str, Any]] = {
    "auto": {},
    "cudss cholesky": {"backend": "cudss", "method": "cholesky"},
    "cudss ldlt": {"backend": "cudss", "method": "ldlt"},
    "cudss lu": {"backend": "cudss", "method": "lu"},
    "cg + jacobi": {"method": "cg", "preconditioner": "jacobi", "rtol": 1e-12},
    "cg + multigrid": {"method": "cg", "preconditioner": "multigrid", "rtol": 1e-12},
    "bicgstab": {"method": "bicgstab", "preconditioner": "jacobi", "rtol": 1e-12},
    "minres": {"method": "minres", "rtol": 1e-12},
    "cusolver cholesky": {"backend": "cusolver", "method": "cholesky"},
    "cusolver qr": {"backend": "cusolver", "method": "qr"},
    "cusolver lu": {"backend": "cusolver", "method": "lu"},
}


def solve(device: str, n: int, convection: float, **request: Any) -> tuple[torch.Tensor, ...]:
    """Solution, and gradients of a cubic functional with respect to values and load."""
    crow, ccol, values = (t.to(device) for t in poisson_csr(n, "cpu"))
    g = torch.Generator().manual_seed(11)
    row = torch.repeat_interleave(torch.arange(n * n), crow.cpu().diff().long())
    # Varying and symmetric, or not.
    weight = 1 + 0.2 * (torch.cos(row.double()) + torch.cos(ccol.cpu().double()))
    skew = convection * torch.sign(ccol.cpu() - row)
    a = (values.cpu() * weight + 4.0 * (row == ccol.cpu()) + skew).to(device).requires_grad_()
    b = torch.randn(n * n, 2, dtype=torch.float64, generator=g).to(device).requires_grad_()
    x = matrix(crow, ccol, a).solve(b, **request)
    found = torch.autograd.grad((x**3).sum() + (x**2).sum(), (a, b))
    return tuple(t.detach().cpu() for t in (x, *found))


def run(quick: bool) -> dict[str, Any]:
    """Compare; a row that is off says so in its verdict."""
    n, rows = (30 if quick else 100), []
    for convection in (0.0, 0.3):
        exact = solve("cpu", n, convection)
        for name, request in REQUESTS.items():
            definite = not name.endswith((" lu", "qr", "bicgstab", "auto"))
            if convection and definite:
                continue
            row: dict[str, Any] = {
                "matrix": "convection" if convection else "definite",
                "solver": name,
            }
            try:
                found = solve("cuda", n, convection, **request)
                parts = ("solution", "grad values", "grad load")
                for part, f, e in zip(parts, found, exact, strict=True):
                    row[part] = float((f - e).norm() / e.norm())
                row["verdict"] = "same" if max(row[p] for p in parts) < LIMIT else "DIFFERENT"
            except Exception as error:  # noqa: BLE001 - the next solver may do
                nothing = dict.fromkeys(("solution", "grad values", "grad load"), "")
                row |= nothing | {"verdict": f"{type(error).__name__}: {error}"[:160]}
            rows.append(said(row))
    return {"rows": rows, "markdown": table("Device against host, relative differences", rows)}
