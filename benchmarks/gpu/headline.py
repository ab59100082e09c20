"""2D Poisson on one GPU: matrix as tensors in, solution out, nothing known but the tensors.

    python benchmarks/gpu/headline.py --sizes 10k,100k,1M,2M,16M,81M,169M,400M --out results
    python benchmarks/gpu/headline.py --quick

Every size is solved three times through `A.solve(b)` on a fresh `SparseTensor`, caches cleared: the
first time kernels are compiled, the last time counts. Nothing is kept of the problem, but device and
host are kept awake by other work, which the collection of garbage before would let fall asleep. Bytes
per unknown are the peak of the allocator, input included, over the unknowns. The residual is recomputed
by torch's own product where it fits in memory, by ours elsewhere. Sizes that fail say why, and the rest
go on.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import io
import json
import pstats
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from torch_sla.linalg import SparseTensor, clear_factor_cache

EDGES = {
    "2k": 45, "10k": 100, "100k": 316, "1M": 1000, "2M": 1414, "4M": 2000, "16M": 4000, "81M": 9000,
    "169M": 13000, "400M": 20000,
}  # fmt: skip
TARGETS = {
    "10k": 0.010,
    "100k": 0.015,
    "1M": 0.06,
    "2M": 0.1,
    "16M": 0.3,
    "81M": 1.2,
    "169M": 2.0,
    "400M": 6.0,
}
REPEATS = 10  # launches between two looks at the clock
AWAKE = 0.1  # seconds of other work before a solve is timed
ROWS = 1 << 22  # of a matrix, written at a time


def sync(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def poisson(
    m: int, device: torch.device, dim: int = 2
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """5- or 7-point matrix of m points a side as CSR, int32 where that counts, without wider temporaries."""
    n, strides = m**dim, [m**axis for axis in range(dim)]
    nnz = (2 * dim + 1) * n - 2 * dim * m ** (dim - 1)
    index = torch.int64 if nnz >= 2**31 else torch.int32
    crow = torch.zeros(n + 1, dtype=index, device=device)
    ccol = torch.empty(nnz, dtype=index, device=device)
    values = torch.empty(nnz, dtype=torch.float64, device=device)
    steps = torch.tensor(
        [*(-s for s in reversed(strides)), 0, *strides], dtype=index, device=device
    )
    entries = torch.where(steps == 0, 2.0 * dim, -1.0).double()
    at = 0
    for first in range(0, n, ROWS):
        last = min(n, first + ROWS)
        i = torch.arange(first, last, dtype=index, device=device)
        place = [i // s % m for s in strides]
        before, after = [x > 0 for x in reversed(place)], [x < m - 1 for x in place]
        there = torch.stack([*before, torch.ones_like(before[0]), *after], 1)
        end = at + int(there.sum())
        ccol[at:end] = (i.unsqueeze(1) + steps)[there]
        values[at:end] = entries.expand(len(i), len(steps))[there]
        crow[first + 1 : last + 1] = at + there.sum(1).cumsum(0)
        at = end
    return crow, ccol, values


def build(crow: torch.Tensor, ccol: torch.Tensor, values: torch.Tensor) -> SparseTensor:
    n = crow.numel() - 1
    csr = torch.sparse_csr_tensor(crow, ccol, values, (n, n), check_invariants=False)
    return SparseTensor.from_torch_sparse(csr)


def timed(work: Any, device: torch.device) -> tuple[Any, float]:
    sync(device)
    start = time.perf_counter()
    out = work()
    sync(device)
    return out, time.perf_counter() - start


def awake(device: torch.device) -> None:
    """Bring the clocks of the device, and the launches of the host, up to speed."""
    if device.type == "cuda":
        x = torch.ones(1 << 20, device=device)
        end = time.perf_counter() + AWAKE
        while time.perf_counter() < end:
            for _ in range(100):
                x.mul_(1.0)
            sync(device)


def row(
    name: str, device: torch.device, *, gradient: bool, rounds: int, **asked: str
) -> dict[str, Any]:
    """Solve one size; times are of the last round."""
    m = EDGES[name]
    n = m * m
    clear_factor_cache()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    crow, ccol, values = poisson(m, device)
    b = torch.ones(n, dtype=torch.float64, device=device)
    # An exact solution rounded to float64 has a residual of 2.3e-17 n: beyond, the backward error counts.
    rtol = 1e-8 if n < 2e8 else 3e-8
    out: dict[str, Any] = {"size": name, "unknowns": n, "rtol": rtol}
    for k in range(rounds):
        clear_factor_cache()
        gc.collect()
        awake(device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            held = torch.cuda.memory_allocated()
        A, t_build = timed(lambda: build(crow, ccol, values), device)
        plan, t_plan = timed(lambda: A.plan(**asked), device)
        (x, info), t_solve = timed(
            lambda: A.solve(b, rtol=rtol, info=True, throw=False, **asked), device
        )
        out[f"seconds_round{k}"] = t_build + t_plan + t_solve
        if device.type == "cuda":
            out["bytes_per_unknown"] = torch.cuda.max_memory_allocated() / n
            out["input_bytes_per_unknown"] = held / n
        out.update(
            build=t_build, plan=t_plan, solve=t_solve, seconds=t_build + t_plan + t_solve,
            iterations=info.iterations, residual=info.residual, backward_error=info.backward_error,
            result=info.result.name, notes=list(info.notes),
            choice=f"{info.backend} {info.method} {info.preconditioner}",
        )  # fmt: skip
        if k + 1 < rounds:
            del A, x, info, plan
    del x, info
    if gradient:
        out.update(derivative(crow, ccol, values, b, device, **asked))
    return out


def derivative(
    crow: torch.Tensor,
    ccol: torch.Tensor,
    values: torch.Tensor,
    b: torch.Tensor,
    device: torch.device,
    **asked: str,
) -> dict[str, Any]:
    """Forward and backward of a solve, second round; its hierarchy is made afresh, once, each time."""
    forward = backward = check = 0.0
    w = torch.linspace(0, 1, len(b), dtype=torch.float64, device=device)
    for _ in range(2):
        clear_factor_cache()
        gc.collect()
        a, rhs = values.clone().requires_grad_(), b.clone().requires_grad_()
        A = SparseTensor.from_pattern(build(crow, ccol, values).pattern, a)
        x, forward = timed(lambda: A.solve(rhs, rtol=1e-8, **asked), device)
        _, backward = timed(lambda: (x @ w).backward(), device)
        # d(w.x)/db = A^-T w, and the matrix is symmetric: the residual of that is the check.
        with torch.no_grad():
            check = float(torch.linalg.vector_norm(w - A @ rhs.grad) / torch.linalg.vector_norm(w))
        A = x = a = rhs = None
    return {"forward": forward, "backward": backward, "adjoint_residual": check}


def profile(name: str, device: torch.device) -> str:
    """Where the host spends its time in a solve, the third of its size."""
    m = EDGES[name]
    crow, ccol, values = poisson(m, device)
    b = torch.ones(m * m, dtype=torch.float64, device=device)

    def work() -> None:
        clear_factor_cache()
        build(crow, ccol, values).solve(b, rtol=1e-8, method="cg", preconditioner="multigrid")
        sync(device)

    work()
    work()
    watch = cProfile.Profile()
    watch.runcall(work)
    text = io.StringIO()
    stats = pstats.Stats(watch, stream=text).strip_dirs()
    stats.sort_stats("tottime").print_stats(28)
    stats.sort_stats("cumtime").print_stats(40)
    return text.getvalue()


def stages(name: str, device: torch.device) -> dict[str, float]:
    """Seconds of the pieces of a solve, one after the other, second round."""
    from torch_sla.linalg.kernels import sparse as kernels
    from torch_sla.linalg.methods.outcome import KrylovOptions
    from torch_sla.linalg.precond.multigrid import AMG
    from torch_sla.linalg.precond.multigrid.device.lattice import DeviceLattice
    from torch_sla.linalg.residual import Residual
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import detect

    m = EDGES[name]
    crow, ccol, values = poisson(m, device)
    n = m * m
    b = torch.ones(n, 1, dtype=torch.float64, device=device)
    found: dict[str, float] = {}
    for _ in range(2):
        pattern, found["pattern"] = timed(lambda: Pattern.from_csr(crow, ccol, (n, n)), device)
        _, found["fingerprint of the values"] = timed(lambda: kernels.fingerprint(values), device)
        _, found["structure"] = timed(lambda: detect(pattern, values), device)
        _, found["lattice"] = timed(lambda: pattern.lattice, device)
        _, found["key"] = timed(lambda: pattern.key, device)
        h, found["hierarchy"] = timed(lambda: DeviceLattice(pattern, values, AMG()), device)
        out, found["conjugate gradients"] = timed(
            lambda: h.cg(values, b, options=KrylovOptions(rtol=1e-8)), device
        )
        found["iterations"] = out.iterations
        _, found["conjugate gradients again"] = timed(
            lambda: h.cg(values, b, options=KrylovOptions(rtol=1e-8)), device
        )
        _, found["update of the values"] = timed(lambda: h.update(values), device)
        check, found["residual set-up"] = timed(lambda: Residual(pattern, values, b, "n"), device)
        _, found["residual"] = timed(lambda: check(out.x), device)
        found["levels"] = len(h.levels)
        found["hierarchy bytes/unknown"] = h.nbytes / n
        pattern = h = out = check = None
    return found


def roofline(name: str, device: torch.device) -> list[tuple[str, float, float]]:
    """(kernel, milliseconds, bytes per row that have to move) on the first two levels."""
    from torch_sla.linalg.kernels import krylov, lattice
    from torch_sla.linalg.kernels.lattice_detect import find_lattice
    from torch_sla.linalg.kernels.stencils import Stencil

    m = EDGES[name]
    n = m * m
    crow, ccol, values = poisson(m, device)
    found = find_lattice(crow, ccol)
    if found is None:
        raise RuntimeError("no lattice found")
    wide = Stencil.empty(found, torch.float64, device)
    A = Stencil.empty(found, torch.float32, device)
    flag = torch.zeros(1, dtype=torch.int32, device=device)
    x64, r64, p64, q64 = (torch.rand(n, dtype=torch.float64, device=device) for _ in range(4))
    x, y = (torch.rand(n, dtype=torch.float32, device=device) for _ in range(2))
    dots = lattice.partials(n, device)
    s = krylov.Scalars.empty(10, device)
    lattice.load(found, crow, ccol, values, torch.float32, out=A)
    found_of = torch.empty(6, dtype=torch.float64, device=device)
    M = lattice.survey(A, found_of)
    w0 = lattice.axis_weights(A, 0)
    B = lattice.galerkin(A, w0)
    w1 = lattice.axis_weights(B, 1)
    C = lattice.galerkin(B, w1)
    MC = lattice.survey(C, found_of)
    nc = C.n
    f, e, g = (torch.rand(nc, dtype=torch.float32, device=device) for _ in range(3))
    cases: list[tuple[str, Any, float]] = [
        ("copy float64", lambda: q64.copy_(p64), 16),
        ("planes from CSR, float64", lambda: lattice.load(found, crow, ccol, values, torch.float64, out=wide), 64 + 40),
        ("planes from CSR, float32", lambda: lattice.load(found, crow, ccol, values, torch.float32, out=A), 64 + 20),
        ("survey", lambda: lattice.survey(A, found_of), 24),
        ("weights of axis 0", lambda: lattice.axis_weights(A, 0), 10 + 4),
        ("Galerkin, axis 0", lambda: lattice.galerkin(A, w0), 20 + 4 + 18),
        ("Galerkin, axis 1", lambda: lattice.galerkin(B, w1), 18 + 2 + 9),
        ("product and dot, float64", lambda: lattice.matvec_dot(wide, p64, q64, dots, flag), 40 + 16),
        ("update of x and r, norm", lambda: krylov.update(s, p64, q64, x64, r64, dots), 48),
        ("direction", lambda: krylov.direction(s, x, p64), 20),
        ("first smoothing and residual", lambda: lattice.residual_after_first(A, M, r64, y, flag), 20 + 4 + 8 + 4),
        ("restriction", lambda: lattice.restrict(found, [w0, w1], y, f, flag), 4 + 6 + 1),
        ("correction", lambda: lattice.correct(found, [w0, w1], f, M, r64, x, flag), 1 + 6 + 4 + 8 + 4),
        ("second smoothing and dot", lambda: lattice.relax(A, M, r64, x, y, dots, flag), 20 + 4 + 8 + 4 + 4),
        ("level 1: first smoothing", lambda: lattice.residual_after_first(C, MC, f, g, flag), (36 + 12) / 4),
        ("level 1: second smoothing", lambda: lattice.relax(C, MC, f, e, g, None, flag), (36 + 16) / 4),
    ]  # fmt: skip
    rows = []
    for what, work, size in cases:
        work()
        times = []
        for _ in range(3):
            _, t = timed(lambda: [work() for _ in range(REPEATS)], device)
            times.append(t / REPEATS)
        rows.append((what, 1e3 * min(times), size))
    return rows


def with_warps(warps: int, name: str, device: torch.device) -> str:
    """Milliseconds of every kernel with another number of warps per program."""
    from torch_sla.linalg.kernels.triton import launch

    before, launch.WARPS = launch.WARPS, warps
    try:
        return ", ".join(f"{what}: {ms:.3f}" for what, ms, _ in roofline(name, device))
    finally:
        launch.WARPS = before


def show_roofline(rows: list[tuple[str, float, float]], n: int) -> str:
    copy = 16 * n / rows[0][1] * 1e3
    lines = [
        "| kernel | ms | bytes/row | TB/s | of a copy |",
        "|---|---|---|---|---|",
    ]
    for what, ms, size in rows:
        rate = size * n / ms * 1e3
        lines.append(f"| {what} | {ms:.3f} | {size:.1f} | {rate / 1e12:.2f} | {rate / copy:.0%} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sizes", default="10k,100k,1M,2M,16M,81M,169M")
    parser.add_argument("--quick", action="store_true", help="10k, 1M and 16M, with details of 16M")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--stages", default="", help="sizes to take apart")
    parser.add_argument("--profile", default="", help="sizes to profile on the host")
    parser.add_argument("--roofline", default="", help="size to measure kernels at")
    parser.add_argument("--gradient", default="16M", help="size to differentiate, if it is solved")
    parser.add_argument(
        "--ask", action="store_true", help="for CG with multigrid, whatever the plan"
    )
    parser.add_argument(
        "--warps", default="", help="other numbers of warps for the kernels measured"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", default="", help="folder for headline.json and headline.md")
    args = parser.parse_args()
    device = torch.device(args.device)
    if args.quick:
        args.sizes, args.stages, args.roofline = "10k,1M,16M", "1M,16M", "16M"
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    print(f"{name}, torch {torch.__version__}", flush=True)
    report: dict[str, Any] = {"device": name, "torch": torch.__version__, "rows": [], "stages": {}}
    lines = [
        f"# 2D Poisson, {name}, torch {torch.__version__}",
        "",
        (
            "| size | seconds | target | pattern | plan | solve | first round | iterations | "
            "residual | backward error | bytes/unknown |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip

    def guarded(work: Any) -> Any:
        try:
            return work()
        except Exception:  # noqa: BLE001  the sizes after it are to run all the same
            print(traceback.format_exc(), flush=True)
            clear_factor_cache()
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
            return None

    asked = {"method": "cg", "preconditioner": "multigrid"} if args.ask else {}
    for size in args.sizes.split(","):
        r = guarded(
            lambda: row(size, device, gradient=size == args.gradient, rounds=args.rounds, **asked)
        )
        if r is None:
            continue
        report["rows"].append(r)
        lines.append(
            f"| {size} | {r['seconds']:.4f} | {TARGETS.get(size, float('nan'))} | {r['build']:.4f} | {r['plan']:.4f} | "
            f"{r['solve']:.4f} | {r.get('seconds_round0', 0):.2f} | {r['iterations']} | {r['residual']:.1e} | "
            f"{r['backward_error']:.1e} | {r.get('bytes_per_unknown', 0):.0f} |"
        )
        print(lines[-1], r["choice"], r["result"], r["notes"], flush=True)
        if "backward" in r:
            told = (
                f"gradient at {size}: forward {r['forward']:.4f} s, backward {r['backward']:.4f} s "
                f"({r['backward'] / r['forward']:.2f} of it), adjoint residual {r['adjoint_residual']:.1e}"
            )
            lines += ["", told, ""]
            print(lines[-2], flush=True)
    for size in filter(None, args.stages.split(",")):
        found = guarded(lambda: stages(size, device))
        if found is not None:
            report["stages"][size] = found
            lines += ["", f"## Stages at {size}", ""]
            lines += [f"- {what}: {value:.5g}" for what, value in found.items()]
            print("\n".join(lines[-len(found) - 2 :]), flush=True)
    for size in filter(None, args.profile.split(",")):
        print(guarded(lambda: profile(size, device)), flush=True)
    for warps in filter(None, args.warps.split(",")):
        print(
            f"{warps} warps",
            guarded(lambda: with_warps(int(warps), args.roofline, device)),
            flush=True,
        )
    if args.roofline:
        kernels = guarded(lambda: roofline(args.roofline, device))
        if kernels is not None:
            report["roofline"] = kernels
            lines += [
                "",
                f"## Kernels at {args.roofline}",
                "",
                show_roofline(kernels, EDGES[args.roofline] ** 2),
            ]
            print("\n".join(lines[-2:]), flush=True)
    if args.out:
        folder = Path(args.out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "headline.json").write_text(json.dumps(report, indent=1))
        (folder / "headline.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
