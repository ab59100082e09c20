"""What the direct backends do on this device: every step reports, none stops the others.

    python benchmarks/gpu/run.py --sections diagnose [--quick]

For a new machine, driver or cuDSS series: versions, each binding at work, what the library answers for
singular and indefinite matrices, the cost of each phase under each ordering, and where a solve waits
for the device.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

CUDA = torch.device("cuda", 0)
PACKAGES = (
    *("nvmath-python", "nvidia-cudss-cu13", "nvidia-cudss-cu12", "cuda-bindings", "cuda-core"),
    *("cuda-pathfinder", "nvidia-cublas", "nvidia-cusolver", "numpy", "scipy", "triton"),
)
SIZES, QUICK_SIZES = (100, 316, 1000), (100, 316)
_steps: dict[str, Callable[[bool], None]] = {}
# What may break the device for the rest of a process, and runs in one of its own.
_RISKY = ("repeatable",)


def step(function: Callable[[bool], None]) -> Callable[[bool], None]:
    _steps[function.__name__] = function
    return function


def report(*parts: Any) -> None:
    print("   ", *parts, flush=True)


@contextlib.contextmanager
def attempt(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the point is to go on
        last = traceback.extract_tb(error.__traceback__)[-3:]
        where = " < ".join(f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno}" for f in reversed(last))
        said = str(error)[:600].partition("\n")[0]
        report(f"FAILED {what}: {type(error).__name__}: {said} [{where}]")


def clock(function: Callable[[], Any]) -> tuple[float, Any]:
    torch.cuda.synchronize()
    start = time.perf_counter()
    out = function()
    torch.cuda.synchronize()
    return time.perf_counter() - start, out


def poisson(n: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """CSR of the 5-point stencil on n x n points, host tensors."""
    i = torch.arange(n * n, dtype=torch.int32)
    x, y = i % n, i // n
    offsets = torch.tensor([-n, -1, 0, 1, n], dtype=torch.int32)
    ok = torch.stack([y > 0, x > 0, torch.ones_like(x, dtype=torch.bool), x < n - 1, y < n - 1], 1)
    ccol = (i[:, None] + offsets)[ok]
    crow = torch.cat([torch.zeros(1, dtype=torch.int32), ok.sum(1).cumsum(0).int()])
    values = torch.tensor([-1.0, -1, 4, -1, -1], dtype=dtype).expand(n * n, 5)[ok]
    return crow, ccol, values.contiguous()


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
    from torch_sla.linalg.backends import cudss_driver as driver

    report(torch_sla.__file__, "extension:", reason or "there")
    report("threading layer", driver.threading_layer())
    with attempt("version"):
        report("cuDSS", driver.version())
    print(show_backends(), flush=True)


def solver(data: Any, kind: str, **options: Any) -> Any:
    from torch_sla.linalg.backends import cudss_driver as driver

    crow, ccol, values = (t.to(CUDA) for t in data)
    made = driver.Solver(crow, ccol, values.dtype, kind, **options)
    return made, values


def residual(data: Any, x: Tensor, b: Tensor) -> float:
    crow, ccol, values = (t.to(CUDA) for t in data)
    A = torch.sparse_csr_tensor(
        crow, ccol, values, (b.shape[0], b.shape[0]), check_invariants=False
    )
    return float((A @ x.contiguous() - b).norm() / b.norm())


@step
def phases(quick: bool) -> None:
    """Cost of each phase under each ordering."""
    from torch_sla.linalg.kernels import cholesky

    for n in QUICK_SIZES if quick else SIZES:
        data = poisson(n)
        b = torch.ones(n * n, 1, dtype=torch.float64, device=CUDA)
        orders: dict[str, dict[str, Any]] = {"cuDSS": {}, "cuDSS 1 thread": {"threads": 1}}
        with attempt("our ordering"):
            for name in ("auto", "amd", "dissection"):
                t, found = clock(partial(cholesky.analyze, *data[:2], ordering=name))
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
    crow, ccol, values = poisson(12)
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
    data = poisson(n)
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
    crow, ccol, values = (t.to(CUDA) for t in poisson(n))
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
        data = poisson(n)
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
    data = poisson(n)
    made, values = solver(data, "SPD", hybrid=True)
    made.analyze(values)
    report("estimates", made._get("MEMORY_ESTIMATES", "int64", 16)[:6].tolist())
    t, _ = clock(lambda: made.factorize(values))
    b = torch.ones(n * n, 1, dtype=torch.float64, device=CUDA)
    s, x = clock(lambda: made.solve(values, b))
    report(f"factor {t:.4f} solve {s:.4f} s, residual {residual(data, x, b):.1e}")


@step
def zoo(_: bool) -> None:
    """Every method, dtype, mode of the backend on small matrices, against dense torch."""
    from dataclasses import replace

    from tests.helpers.zoo import CASES
    from torch_sla.linalg.backends.base import ALL_DTYPES, SolveOptions
    from torch_sla.linalg.backends.registry import backend

    options = SolveOptions()
    for name in ("cudss", "cusolver"):
        with attempt(name):
            chosen = backend(name)
            if (why := chosen.unavailable()) is not None:
                report(name, why)
                continue
            good = 0
            for c in CASES:
                for method in chosen.capabilities.methods:
                    if not c.square or (method.needs != "general" and not c.hermitian):
                        continue
                    if (
                        method.needs == "positive_definite" and not c.definite
                    ) or c.nullspace is not None:
                        continue
                    for dtype in sorted(ALL_DTYPES, key=str):
                        with attempt(f"{name} {method.name} {c.name} {dtype}"):
                            pattern, values = c.sparse(dtype).to(CUDA).flat_slots()
                            values = values.reshape(-1, values.shape[-1])[0].clone()
                            s = replace(
                                c.sparse(dtype).structure,
                                hermitian=c.hermitian,
                                positive_definite=c.definite,
                            )
                            numeric = chosen.factorize(
                                chosen.analyze(pattern, method.name, s), values, options
                            )
                            D = c.dense(dtype).reshape(-1, *c.shape)[0].to(CUDA)
                            for mode, op in (("n", D), ("t", D.mT), ("h", D.mH)):
                                b = torch.randn(op.shape[0], 3, dtype=dtype, device=CUDA)
                                x = chosen.solve(numeric, values, b, mode, options=options).x
                                size = op.abs().amax() * x.abs().amax() + b.abs().amax()
                                eta = float((op @ x - b).abs().amax() / size)
                                eta /= torch.finfo(dtype).eps
                                if eta > 1000 or eta != eta:
                                    report(
                                        f"INACCURATE {name} {method.name} {c.name} {dtype} {mode}: "
                                        f"{eta:.1e} eps, {numeric.notes}"
                                    )
                                else:
                                    good += 1
            report(name, good, "accurate solves")


@step
def public(_: bool) -> None:
    """The public face on the device, gradients against the host."""
    from torch_sla.linalg import SparseTensor
    from torch_sla.linalg.sparse.pattern import Pattern

    for n in (20, QUICK_SIZES[-1] * 2 // 3):
        crow, ccol, values = poisson(n)
        pattern = Pattern.from_csr(crow, ccol, (n * n, n * n))
        g = torch.Generator().manual_seed(3)
        b = torch.randn(n * n, dtype=torch.float64, generator=g)
        grads: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        requests = {
            "host": ("cpu", {}),
            "auto": ("cuda", {}),
            "cudss cholesky": ("cuda", {"backend": "cudss", "method": "cholesky"}),
            "cudss ldlt": ("cuda", {"backend": "cudss", "method": "ldlt"}),
            "cudss lu": ("cuda", {"backend": "cudss", "method": "lu"}),
            "cg jacobi": ("cuda", {"method": "cg", "preconditioner": "jacobi", "rtol": 1e-12}),
        }
        for name, (device, request) in requests.items():
            with attempt(f"{n} {name}"):
                a = values.to(device).requires_grad_()
                rhs = b.to(device).requires_grad_()
                A = SparseTensor.from_pattern(pattern if device == "cpu" else pattern.to(CUDA), a)

                def run(A=A, rhs=rhs, request=request, a=a) -> Any:
                    x, info = A.solve(rhs, info=True, **request)
                    return x, info, torch.autograd.grad((x**3).sum(), (a, rhs))

                t, (x, info, found) = clock(run)
                t2, _ = clock(run)
                grads[name] = (x.detach().cpu(), *(f.cpu() for f in found))
                errors = [
                    f"{float((p - q).norm() / q.norm()):.1e}"
                    for p, q in zip(grads[name], grads["host"], strict=True)
                ]
                report(
                    f"n={n * n} {name}: {info.backend} {info.method} {info.preconditioner} {t:.4f}/"
                    f"{t2:.4f} s, residual {info.residual:.1e}, against the host {errors} {info.notes}"
                )


@step
def waits(_: bool) -> None:
    """Where a solve waits for the device."""
    from torch_sla.linalg import SparseTensor
    from torch_sla.linalg.sparse.pattern import Pattern

    n = 100
    crow, ccol, values = (t.to(CUDA) for t in poisson(n))
    pattern = Pattern.from_csr(crow, ccol, (n * n, n * n))
    b = torch.ones(n * n, dtype=torch.float64, device=CUDA)
    for request in (
        {"backend": "cudss", "method": "cholesky"},
        {"method": "cg", "preconditioner": "jacobi"},
    ):
        with attempt(str(request)):
            SparseTensor.from_pattern(pattern, values).solve(b, **request)
            scaled = 1.5 * values
            for what in ("new values", "same values"):
                torch.cuda.synchronize()
                torch.cuda.set_sync_debug_mode("warn")
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    A = SparseTensor.from_pattern(pattern, scaled)
                    _, info = A.solve(b, info=True, **request)
                torch.cuda.set_sync_debug_mode("default")
                places = Counter(
                    f"{w.filename.rsplit('/', 1)[-1]}:{w.lineno}"
                    for w in caught
                    if "synchroniz" in str(w.message)
                )
                report(
                    f"{request} {what}: {sum(places.values())} waits, {info.iterations} iterations: "
                    f"{dict(places.most_common(40))}"
                )


@step
def cusolver(_: bool) -> None:
    """Whether the sparse part of cuSOLVER is still there."""
    from nvmath.bindings import cusolver as base, cusolverSp, cusparse

    with attempt("version"):
        report("cuSOLVER", [base.get_property(i) for i in range(3)])
    handle = cusolverSp.create()
    description = cusparse.create_mat_descr()
    report("handle", handle != 0, "description", description != 0)
    import numpy as np

    crow, ccol, values = (t.to(CUDA) for t in poisson(20))
    b = torch.ones(400, dtype=torch.float64, device=CUDA)
    for name in ("dcsrlsvchol", "dcsrlsvqr"):
        with attempt(name):
            function = getattr(cusolverSp, name)
            report(function.__doc__.splitlines()[0])
            x, singular = torch.zeros_like(b), np.zeros(1, dtype=np.int32)
            arguments = [handle, 400, ccol.numel(), description, values.data_ptr(), crow.data_ptr()]
            arguments += [ccol.data_ptr(), b.data_ptr(), 0.0, 0, x.data_ptr(), singular.ctypes.data]
            function(*arguments)
            report(name, int(singular[0]), residual((crow, ccol, values), x[:, None], b[:, None]))
    cusparse.destroy_mat_descr(description)
    cusolverSp.destroy(handle)


def run(quick: bool) -> None:
    """Run every step."""
    for name in _steps:
        if name not in _RISKY:
            one(name, quick)
    for name in _RISKY:
        command = [sys.executable, __file__, "--only", name, *["--quick"][:quick]]
        subprocess.run(command, check=False, timeout=120)


def one(name: str, quick: bool) -> None:
    print(f"== {name}", flush=True)
    start = time.perf_counter()
    with attempt(name):
        _steps[name](quick)
    report(f"({time.perf_counter() - start:.1f} s)")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent.parent))
    if "--only" in sys.argv:
        one(sys.argv[sys.argv.index("--only") + 1], "--quick" in sys.argv)
    else:
        run("--quick" in sys.argv)
