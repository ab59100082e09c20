"""What cuDSS itself answers: versions, phases under each ordering, singular and indefinite matrices, batches."""

from __future__ import annotations

import contextlib
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Any

import torch
from grids import CUDA, clock, poisson_csr

from diagnosis.steps import attempt, report, residual, step

if TYPE_CHECKING:
    from torch import Tensor

PACKAGES = (
    *("nvmath-python", "nvidia-cudss-cu13", "nvidia-cudss-cu12", "cuda-bindings", "cuda-core"),
    *("cuda-pathfinder", "nvidia-cublas", "nvidia-cusolver", "numpy", "scipy", "triton"),
)
SIZES, QUICK_SIZES = (100, 316, 1000), (100, 316)


@step
def versions(_: bool) -> None:
    report("torch", torch.__version__, "cuda", torch.version.cuda, torch.cuda.get_device_name(0))
    report("threads", torch.get_num_threads(), "free/total", torch.cuda.mem_get_info())
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            report(name, metadata.version(name))
    import torch_sla
    from torch_sla._core import reason
    from torch_sla.linalg import show_backends
    from torch_sla.linalg.backends import cudss_library as library

    report(torch_sla.__file__, "extension:", reason or "there")
    report("threading layer", library.threading_layer())
    with attempt("version"):
        report("cuDSS", library.version())
    print(show_backends(), flush=True)


def solver(data: Any, kind: str, **options: Any) -> Any:
    from torch_sla.linalg.backends import cudss_driver as driver

    crow, ccol, values = (t.to(CUDA) for t in data)
    made = driver.Solver(crow, ccol, values.dtype, kind, **options)
    return made, values


@step
def phases(quick: bool) -> None:
    """Cost of each phase under each ordering."""
    from torch_sla.linalg.kernels import symbolic

    for n in QUICK_SIZES if quick else SIZES:
        data = poisson_csr(n, "cpu")
        b = torch.ones(n * n, 1, dtype=torch.float64, device=CUDA)
        orders: dict[str, dict[str, Any]] = {"cuDSS": {}, "cuDSS 1 thread": {"threads": 1}}
        with attempt("our ordering"):
            for name in ("auto", "amd", "dissection"):
                t, found = clock(partial(symbolic.analyze, *data[:2], ordering=name))
                report(f"ours {name}: {t:.3f} s, nnz(L) {found.factor_nnz:.4g} {found.ordering}")
                orders[f"ours {name}"] = {"order": found.order}
            orders["ours inverse"] = {"order": torch.argsort(found.order.long()).int()}
        if n > 400:
            orders.pop("ours inverse", None)
            orders.pop("cuDSS 1 thread", None)
        kept: dict[str, Any] = {}
        for name, options in orders.items():
            with attempt(f"{n} {name}"):
                measure(n, name, data, b, options, kept)
        with attempt("tree"):
            order, tree = kept["cuDSS"].ordering() or (None, None)
            report("tree", tree.shape[0], tree[:8].tolist(), tree[-4:].tolist())
            report("is a permutation", torch.equal(order.sort().values.long(), torch.arange(n * n)))
            measure(n, "cuDSS order+tree again", data, b, {"order": order, "tree": tree}, kept)
            measure(n, "cuDSS order alone again", data, b, {"order": order}, kept)


def measure(n: int, name: str, data: Any, b: Tensor, options: Any, kept: dict[str, Any]) -> None:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    made, values = solver(data, "SPD", **options)
    lib = made._lib
    made._lib.matrix_set_values(made._matrix, values.data_ptr())
    reorder, _ = clock(lambda: made._execute("REORDERING", None, None))
    symbolic, _ = clock(lambda: made._execute("SYMBOLIC_FACTORIZATION", None, None))
    factor, _ = clock(lambda: made.factorize(values))
    again = min(clock(lambda: made.factorize(values))[0] for _ in range(3))
    first, _ = clock(lambda: made.solve(values, b))
    solve, x = min((clock(lambda: made.solve(values, b)) for _ in range(3)), key=lambda p: p[0])
    del lib
    report(
        f"n={n * n} {name}: reorder {reorder:.4f} symbolic {symbolic:.4f} factor {factor:.4f} "
        f"refactor {again:.4f} solve {first:.4f}/{solve:.4f} s, nnz {made.factor_entries:.4g}, "
        f"estimates {made.estimates()}, torch peak {torch.cuda.max_memory_allocated() - before:.4g}, "
        f"info {made.info} pivots {made.pivots}, residual {residual(data, x, b):.1e}"
    )
    kept[name] = made


@step
def answers(_: bool) -> None:
    """What the library says of singular, indefinite and badly scaled matrices."""
    crow, ccol, values = poisson_csr(12, "cpu")
    n = 144
    dense = torch.sparse_csr_tensor(crow, ccol, values, (n, n), check_invariants=False).to_dense()
    rows = torch.repeat_interleave(torch.arange(n), crow.diff().long())
    diagonal = rows == ccol

    def variant(shift: float, scale: float = 1.0) -> Tensor:
        return scale * torch.where(diagonal, values - shift, values)

    w = torch.linalg.eigvalsh(dense)
    singular = float(w[20])
    cases = {
        "definite": variant(0.0),
        "indefinite": variant(float(w[20] + w[21]) / 2 + 0.01),
        "singular": variant(singular),
        "negative": -variant(0.0),
        "times 1e-14": variant(0.0, 1e-14),
        "times 1e14": variant(0.0, 1e14),
    }
    b = torch.ones(n, 1, dtype=torch.float64, device=CUDA)
    for name, v in cases.items():
        A = torch.zeros(n, n, dtype=torch.float64)
        A[rows, ccol.long()] = v
        eig = torch.linalg.eigvalsh(A)
        exact = int((eig > 0).sum()), int((eig < 0).sum())
        log = float(torch.linalg.slogdet(A).logabsdet)
        for kind in ("SPD", "SYMMETRIC", "GENERAL"):
            with attempt(f"{name} {kind}"):
                made, gpu = solver((crow, ccol, v), kind)
                made.analyze(gpu)
                made.factorize(gpu)
                said: list[Any] = ["info", made.info, "pivots", made.pivots]
                with attempt("inertia"):
                    said += ["inertia", made.inertia, "exact", exact]
                with attempt("diagonal"):
                    d = made.diagonal
                    logs = float(d.abs().log().sum())
                    said += [
                        f"sum log|diag| {logs:.6f} exact {log:.6f} negative {int((d < 0).sum())}"
                    ]
                x = made.solve(gpu, b)
                r = float((A.to(CUDA) @ x - b).norm() / b.norm())
                report(name, kind, *said, f"residual {r:.1e}")
    with attempt("saddle"):
        K = torch.zeros(11, 11, dtype=torch.float64)
        K[:8, :8] = torch.eye(8).double() * 3
        K[8:, :8] = torch.randn(3, 8, dtype=torch.float64)
        K[:8, 8:] = K[8:, :8].T
        csr = K.to_sparse_csr()
        saddle = (csr.crow_indices().int(), csr.col_indices().int(), csr.values())
        for kind in ("SYMMETRIC", "GENERAL"):
            made, gpu = solver(saddle, kind)
            made.analyze(gpu)
            made.factorize(gpu)
            x = made.solve(gpu, b[:11])
            r = float((K.to(CUDA) @ x - b[:11]).norm())
            report("saddle", kind, "info", made.info, "pivots", made.pivots, f"residual {r:.1e}")


@step
def columns(_: bool) -> None:
    """Several right-hand sides, on an analysis made for one."""
    n = QUICK_SIZES[-1]
    data = poisson_csr(n, "cpu")
    made, values = solver(data, "SPD")
    made.analyze(values)
    made.factorize(values)
    for k in (1, 2, 5, 16, 64):
        b = torch.randn(n * n, k, dtype=torch.float64, device=CUDA)
        with attempt(f"{k} columns"):
            made.solve(values, b)
            t, x = clock(lambda b=b: made.solve(values, b))
            worst = max(residual(data, x[:, j : j + 1], b[:, j : j + 1]) for j in range(min(k, 8)))
            report(f"{k} columns: {t:.4f} s, residual {worst:.1e}")


@step
def batches(quick: bool) -> None:
    """Many matrices on one pattern at once."""
    from torch_sla.linalg.backends.base import SolveOptions
    from torch_sla.linalg.backends.registry import backend
    from torch_sla.linalg.sparse.pattern import Pattern
    from torch_sla.linalg.sparse.structure import Structure

    n, chosen, options = 32, backend("cudss"), SolveOptions()
    crow, ccol, values = poisson_csr(n)
    pattern = Pattern.from_csr(crow, ccol, (n * n, n * n))
    known = Structure(symmetric=True, hermitian=True, positive_definite=True)
    for count in (3, 64) if quick else (3, 64, 1000):
        for method in ("cholesky", "ldlt", "lu"):
            with attempt(f"{count} {method}"):
                many = (
                    values * torch.linspace(1, 2, count, dtype=values.dtype, device=CUDA)[:, None]
                )
                b = torch.randn(count, n * n, 2, dtype=values.dtype, device=CUDA)
                symbolic = chosen.analyze(pattern, method, known)
                first, numerics = clock(lambda: chosen.factorize_batch(symbolic, many, options))
                solver = numerics[0].payload.batch.direct.solver
                said = f"info {solver.info} pivots {solver.pivots} estimates {solver.estimates()}"
                for mode in ("n", "h"):
                    t, x = clock(
                        lambda: chosen.solve_batch(numerics, many, b, mode, options=options)
                    )
                    from torch_sla.linalg.kernels.sparse import spmm

                    r = spmm(crow, ccol, many, x) - b
                    worst = float((r.norm(dim=1) / b.norm(dim=1)).max())
                    report(
                        f"{count} x {n * n} {method} {mode}: factorise {first:.4f} solve {t:.4f} s, "
                        f"residual {worst:.1e}, {said}"
                    )
                del numerics
                again, numerics = clock(lambda: chosen.factorize_batch(symbolic, many, options))
                report(f"refactorised in {again:.4f} s")


@step
def repeatable(_: bool) -> None:
    """Whether two runs give the same bits, and what it costs to make them."""
    for n in QUICK_SIZES:
        data = poisson_csr(n, "cpu")
        b = torch.ones(n * n, 1, dtype=torch.float64, device=CUDA)
        for kind in ("SPD", "SYMMETRIC", "GENERAL"):
            for strict in (0, 1):
                with attempt(f"{n} {kind} {strict}"):
                    out, times = [], []
                    for _ in range(2):
                        made, values = solver(data, kind)
                        made._set("DETERMINISTIC_MODE", strict)
                        made.analyze(values)
                        made.factorize(values)
                        times.append(clock(partial(made.factorize, values))[0])
                        for _ in range(2):
                            t, x = clock(partial(made.solve, values, b))
                            out.append(x)
                    same = [bool(torch.equal(out[0], x)) for x in out[1:]]
                    took = f"factorise {min(times):.4f} solve {t:.4f} s"
                    report(f"{n * n} {kind} deterministic={strict}: same bits {same}, {took}")


@step
def hybrid(_: bool) -> None:
    """Factors kept partly on the host."""
    n = QUICK_SIZES[-1]
    data = poisson_csr(n, "cpu")
    made, values = solver(data, "SPD", hybrid=True)
    made.analyze(values)
    report("estimates", made._get("MEMORY_ESTIMATES", "int64", 16)[:6].tolist())
    t, _ = clock(lambda: made.factorize(values))
    b = torch.ones(n * n, 1, dtype=torch.float64, device=CUDA)
    s, x = clock(lambda: made.solve(values, b))
    report(f"factor {t:.4f} solve {s:.4f} s, residual {residual(data, x, b):.1e}")
