"""General patterns on one GPU: products, and aggregation multigrid on triangles and tetrahedra.

    python benchmarks/gpu/unstructured.py [--quick] [--only SECTION] [--budget SECONDS]

Meshes are made on the device: perturbed points, random diagonals, numbers shuffled (``random``:
altogether; ``local``: within tiles and tiles among each other, as a mesh generator leaves them).
Matrices are P1 stiffness matrices with coefficients 1 or 1e6 in blocks, one face fixed in place.
Nothing of this reaches the solver but the tensors of a matrix.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
import traceback
from typing import TYPE_CHECKING

import torch
from meshes import elasticity, mesh, stiffness
from torch import Tensor
from variants import diffusion, solved

from torch_sla.linalg.kernels import rows as fused, sparse as kernels
from torch_sla.linalg.methods.cg import cg
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.precond.multigrid.device import aggregation, blocks
from torch_sla.linalg.precond.multigrid.nullspace import rigid_body_modes
from torch_sla.linalg.precond.multigrid.options import AMG

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch_sla.linalg.sparse.pattern import Pattern

print = functools.partial(print, flush=True)


def sync(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def timed(function, device: str, repeats: int = 1):
    """Best time of several calls in seconds, and the last result."""
    best = float("inf")
    for _ in range(repeats):
        sync(device)
        start = time.perf_counter()
        out = function()
        sync(device)
        best = min(best, time.perf_counter() - start)
    return best, out


def copy_bandwidth(device: str, quick: bool) -> float:
    x = torch.ones((1 << 22) if quick else (1 << 27), dtype=torch.float64, device=device)
    y = torch.empty_like(x)
    seconds, _ = timed(lambda: [y.copy_(x) for _ in range(10)], device, 3)
    return 10 * 2 * x.numel() * 8 / seconds


def loop_time(function, device: str, quick: bool) -> float:
    count = 3 if quick else 20
    function()
    return timed(lambda: [function() for _ in range(count)], device, 3)[0] / count


def spmv(size: tuple[int, ...], order: str, device: str, quick: bool) -> None:
    copied = copy_bandwidth(device, quick)
    print(f"copy {copied / 1e9:.0f} GB/s")
    pattern, values = stiffness(*mesh(size, order, device), 1.0)
    crow, ccol = pattern.crow, pattern.ccol
    n, nnz = pattern.shape[0], pattern.nnz_csr
    longest = int(crow.diff().max())
    x = torch.randn(n, dtype=torch.float64, device=device)
    for name, a, v in (
        ("float64", values, x),
        ("float32", values.float(), x.float()),
        ("mixed", values.float(), x),
    ):
        traffic = nnz * (a.element_size() + 4) + n * (4 + 2 * v.element_size())
        A, eight = fused.Rows(crow, ccol, a, n, longest), v[:, None].repeat(1, 8)
        cases = {
            "product": lambda A=A, v=v: fused.product(A, v[:, None]),
            "face": lambda A=A, v=v: kernels.spmm(A.crow, A.ccol, A.values, v[:, None]),
            "8 columns": lambda A=A, V=eight: fused.product(A, V),
        }
        if name != "mixed":
            S = torch.sparse_csr_tensor(crow, ccol, a, (n, n), check_invariants=False)
            cases["cuSPARSE"] = lambda S=S, v=v: S @ v
            cases["cuSPARSE 8"] = lambda S=S, V=eight: S @ V
        for case, function in cases.items():
            try:
                seconds = loop_time(function, device, quick)
            except Exception as error:  # noqa: BLE001  a case that fails hides no other
                print(f"  {order} {name} {case}: {error!r}")
                continue
            moved = traffic + (14 * n * v.element_size() if "8" in case else 0)
            print(
                f"  {order:6s} {name:8s} {case:10s} {seconds * 1e6:8.1f} us "
                f"{moved / seconds / 1e9:6.0f} GB/s {moved / seconds / copied:5.2f} of copy"
            )


def sweep(size: tuple[int, ...], device: str, quick: bool) -> None:
    """Tile sizes of the product, in two and three dimensions."""
    from torch_sla.linalg.kernels.triton import csr

    for shape in (size, (40,) * 3 if quick else (100,) * 3):
        pattern, values = stiffness(*mesh(shape, "local", device), 1.0)
        n = pattern.shape[0]
        for a in (values, values.float()):
            x = torch.randn(1, n, 1, dtype=a.dtype, device=device)
            y = torch.empty_like(x)
            traffic = pattern.nnz_csr * (a.element_size() + 4) + n * (4 + 2 * a.element_size())
            line = []
            given = (pattern.crow, pattern.ccol, a[None], x, y)
            for width, tile, warps in (
                (8, 512, 4), (8, 1024, 4), (8, 2048, 4), (4, 512, 4), (4, 1024, 4), (16, 512, 4),
                (1, 128, 4), (2, 512, 4), (8, 1024, 8), (16, 2048, 8),
            ):  # fmt: skip
                shape_of = {"tile": (tile // width, width, 1), "warps": warps}
                run = functools.partial(csr.product, *given, longest=64, **shape_of)

                try:
                    line.append((traffic / loop_time(run, device, True) / 1e9, width, tile, warps))
                except Exception as error:  # noqa: BLE001
                    print(f"  width {width} tile {tile} warps {warps}: {error!r}")
            line.sort(reverse=True)
            print(f"{shape} {a.dtype}: GB/s, width, tile, warps; best and worst")
            print("  " + "; ".join(f"{g:.0f} {w} {t} {p}" for g, w, t, p in line[:10]))
            print("  " + "; ".join(f"{g:.0f} {w} {t} {p}" for g, w, t, p in line[-3:]))


PHASES = (
    "grouped", "couplings", "tied_groups", "strong_graph", "aggregate", "tentative", "transpose", "multiply",
    "flatten", "make_smoother", "coarse_inverse",
)  # fmt: skip


def phases(build, device: str) -> None:
    """Time the phases of a set-up."""
    spent: dict[str, float] = {}
    where = [(aggregation, name) for name in PHASES]
    where += [(blocks, name) for name in ("product_positions", "spgemm_masked")]  # of the two above
    kept = [(module, name, getattr(module, name)) for module, name in where]

    def wrapped(name, function):
        def call(*args, **kwargs):
            seconds, out = timed(lambda: function(*args, **kwargs), device)
            spent[name] = spent.get(name, 0.0) + seconds
            return out

        return call

    for module, name, function in kept:
        setattr(module, name, wrapped(name, function))
    try:
        build()
    finally:
        for module, name, function in kept:
            setattr(module, name, function)
    print("    set-up phases: " + ", ".join(f"{k} {1e3 * v:.1f} ms" for k, v in spent.items()))


def multigrid(
    shape: tuple[int, ...], order: str, jump: float, *, device: str, options: AMG
) -> None:
    made, matrix = timed(lambda: stiffness(*mesh(shape, order, device), jump), device)
    title = f"{len(shape)}D {order} jump {jump:g}"
    print(f"{title}: matrix made in {made:.2f} s")
    report(title, *matrix, None, device, options)


def elastic(shape: tuple[int, ...], device: str, options: AMG) -> None:
    made, (pattern, values, points) = timed(lambda: elasticity(shape, device), device)
    print(f"elasticity: matrix made in {made:.2f} s")
    report("elasticity", pattern, values, rigid_body_modes(points), device, options)


def report(title: str, pattern: Pattern, values: Tensor, modes: Tensor | None, device: str,
           options: AMG) -> None:  # fmt: skip
    """Set up, solve to 1e-8 and print."""
    n = pattern.shape[0]
    pattern.diagonal_slots  # noqa: B018
    generator = torch.Generator(device=device).manual_seed(5)
    b = torch.randn(n, 1, dtype=torch.float64, device=device, generator=generator)
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    def build():
        return aggregation.DeviceAggregation(pattern, values, options, modes)

    held = torch.cuda.memory_allocated() if device == "cuda" else 0
    cold, _ = timed(build, device)
    peak = (torch.cuda.max_memory_allocated() - held) / n if device == "cuda" else float("nan")
    setup, hierarchy = timed(build, device)
    phases(build, device)
    refresh, _ = timed(lambda: hierarchy.update(values), device)
    longest = int(pattern.crow.diff().max())
    A = fused.Rows(pattern.crow, pattern.ccol, values, n, longest)

    krylov = KrylovOptions(rtol=1e-8, maxiter=100)

    def solve():
        return hierarchy.cg(values, b, options=krylov)

    timed(solve, device)
    seconds, out = timed(solve, device)
    again = solve()
    plain, _ = timed(
        lambda: cg(lambda v: fused.product(A, v), b, M=hierarchy.apply, options=krylov), device
    )
    residual = float((b - fused.product(A, out.x)).norm() / b.norm())
    cycle = loop_time(lambda: hierarchy.apply(b), device, True)
    matvec = loop_time(lambda: fused.product(A, b), device, True)
    print(
        f"{title} n {n} nnz {pattern.nnz_csr}: set-up {setup:.3f} s "
        f"(first {cold:.2f}, update {refresh:.3f}) solve {seconds:.3f} s (plain CG {plain:.3f}), "
        f"{out.iterations} iterations, "
        f"residual {residual:.1e} {out.result.name}, set-up takes {peak:.0f} B/unknown, levels hold "
        f"{hierarchy.nbytes / n:.0f} B/unknown, same bits {torch.equal(out.x, again.x)}"
    )
    print(
        f"    cycle {cycle * 1e3:.2f} ms, matvec {matvec * 1e3:.3f} ms, {hierarchy.dtype}, complexity "
        f"{hierarchy.operator_complexity:.2f}, levels {[l.unknowns for l in hierarchy.levels]}"
    )


def door(shape: tuple[int, ...], device: str) -> None:
    """The same through ``A.solve``, everything included, and the gradient."""
    from torch_sla.linalg import SparseTensor

    pattern, values = stiffness(*mesh(shape, "local", device), 1.0)
    n = pattern.shape[0]
    values.requires_grad_()
    A = SparseTensor.from_pattern(pattern, values)
    b = torch.ones(n, dtype=torch.float64, device=device)
    for chosen in ({}, {"method": "cg", "preconditioner": "multigrid"}):
        for turn in ("first", "again"):
            seconds, (x, info) = timed(
                lambda chosen=chosen: A.solve(b, rtol=1e-8, info=True, **chosen), device
            )
            back, _ = timed(lambda x=x: torch.autograd.grad(x.square().sum(), values)[0], device)
            print(
                f"  A.solve {chosen or 'auto'} {turn}: n {n}, {seconds:.3f} s, {info.iterations} "
                f"iterations, residual {float(info.residual):.1e}, {info.backend} {info.method}, "
                f"gradient {back:.3f} s"
            )
    print(A.plan(b_shape=(n,)))


def against(shape: tuple[int, ...], jump: float, device: str) -> None:
    """``A.solve`` of a mesh beside one of a lattice with as many points: CSR tensors in, nothing kept but kernels."""
    on = torch.device(device)
    request = {"method": "cg", "preconditioner": "multigrid", "rtol": 1e-8}
    pattern, values = stiffness(*mesh(shape, "local", device), jump)
    cases = {"lattice": diffusion(shape, on)}
    if jump != 1:
        cases["lattice with such jumps"] = diffusion(shape, on, jump)
    cases["mesh"] = (pattern.crow, pattern.ccol, values)
    seconds = {}
    for name, arrays in cases.items():
        row = solved(arrays, on, request)
        seconds[name] = row["seconds"]
        print(
            f"  {len(shape)}D jump {jump:g} {name}: n {row['unknowns']}, {row['seconds']:.4f} s, {row['iterations']} "
            f"iterations, residual {row['residual']:.1e} {row['result']}, backward/forward "
            f"{row['backward / forward']:.2f}"
        )
    mine = seconds.pop("mesh")
    ratios = ", ".join(f"{mine / other:.1f}x the {name}" for name, other in seconds.items())
    print(f"  {len(shape)}D jump {jump:g}: the mesh takes {ratios}")


def launch(device: str) -> None:
    """Where the host spends its time when kernels are short."""
    import cProfile
    import pstats

    pattern, values = stiffness(*mesh((60, 60), "local", device), 1.0)
    A = fused.Rows.of(pattern.crow, pattern.ccol, values, pattern.shape[0])
    x = torch.ones(pattern.shape[0], 1, dtype=torch.float64, device=device)
    hierarchy = aggregation.DeviceAggregation(pattern, values, AMG(), None)
    for what, function in (
        ("product", lambda: fused.product(A, x)),
        ("set-up", lambda: aggregation.DeviceAggregation(pattern, values, AMG(), None)),
        ("cycle", lambda: hierarchy.apply(x)),
    ):
        count = 5 if what == "set-up" else 500
        function()
        function()
        seconds, _ = timed(lambda f=function, c=count: [f() for _ in range(c)], device)
        profile = cProfile.Profile()
        profile.enable()
        for _ in range(count):
            function()
        profile.disable()
        print(f"{what}: {1e6 * seconds / count:.0f} us a call")
        pstats.Stats(profile).sort_stats("tottime").print_stats(18)


SECTIONS = ("against", "triangles", "tetrahedra", "spmv", "elasticity", "door", "sweep", "launch")


def planned(args: argparse.Namespace) -> list[tuple[str, Callable[[], None]]]:
    """What to run, in the order in which it is worth having."""
    quick, device = args.quick, args.device
    options = AMG(cycle=args.cycle, smoother=args.smoother, sweeps=args.sweeps)
    small, middle, plane, space = (500, 500), (1000, 1000), (2000, 2000), (126, 126, 126)
    body = (9, 9, 9) if quick else (45, 45, 45)
    if quick:
        small, middle, plane, space = (100, 100), (150, 150), (200, 200), (30, 30, 30)
    mesh_of = functools.partial(multigrid, device=device, options=options)
    return [
        ("against", lambda: [against(s, j, device) for j in (1.0, 1e6) for s in (plane, space)]),
        ("triangles", lambda: mesh_of(small, "local", 1.0)),
        ("triangles", lambda: mesh_of(plane, "local", 1.0)),
        ("tetrahedra", lambda: mesh_of(space, "local", 1.0)),
        ("spmv", lambda: spmv(plane, "local", device, quick)),
        ("triangles", lambda: mesh_of(plane, "local", 1e6)),
        ("tetrahedra", lambda: mesh_of(space, "local", 1e6)),
        ("elasticity", lambda: elastic(body, device, options)),
        ("triangles", lambda: mesh_of(plane, "random", 1.0)),
        ("door", lambda: door(middle, device)),
        ("sweep", lambda: sweep(plane, device, quick)),
        ("launch", lambda: launch(device)),
        ("spmv", lambda: spmv(plane, "random", device, quick)),
        ("tetrahedra", lambda: mesh_of(space, "random", 1.0)),
        ("triangles", lambda: mesh_of(plane, "random", 1e6)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=SECTIONS)
    parser.add_argument("--budget", type=float, default=600.0, help="seconds to start rows in")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cycle", choices=["V", "W"])
    parser.add_argument("--smoother")
    parser.add_argument("--sweeps", type=int, default=1)
    args = parser.parse_args()
    if args.device == "cuda":
        print(torch.cuda.get_device_name(), "torch", torch.__version__)
    failed, start = False, time.perf_counter()
    for name, function in planned(args):
        if args.only not in (None, name):
            continue
        if time.perf_counter() - start > args.budget:
            print(f"{name}: no time left")
            continue
        try:
            function()
        except Exception:  # noqa: BLE001  later sections still run
            failed = True
            print(f"{name} failed")
            traceback.print_exc(file=sys.stdout)
        if args.device == "cuda":
            torch.cuda.empty_cache()
        print(f"  ({time.perf_counter() - start:.1f} s so far)")
    sys.exit(failed)


if __name__ == "__main__":
    main()
