"""What the package makes of the libraries: every method through its backend and through the front door, and waits."""

from __future__ import annotations

import cProfile
import io
import pstats
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from grids import CUDA, clock, matrix, poisson_csr

from diagnosis.steps import attempt, report, residual, step

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


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

    for n in (20, 210):
        crow, ccol, values = poisson_csr(n, "cpu")
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
    crow, ccol, values = poisson_csr(n)
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
def host(_: bool) -> None:
    """Where the host spends the time of small solves, and what a launch and a wait cost it."""
    from torch_sla.linalg import SparseTensor, clear_factor_cache

    x = torch.zeros(1024, device=CUDA)

    def price(function: Callable[[], Any], count: int) -> float:
        function()
        return 1e6 * clock(lambda: [function() for _ in range(count)])[0] / count

    launch, wait = price(lambda: x.add_(1.0), 2000), price(lambda: x[:2].tolist(), 500)
    report(f"a torch operation {launch:.1f} us, a number read {wait:.1f} us")
    crow, ccol, values = poisson_csr(100)
    b = torch.ones(crow.numel() - 1, dtype=torch.float64, device=CUDA)
    A = matrix(crow, ccol, values)
    request = {"backend": "cudss", "method": "cholesky"}

    def new_values(k: int) -> Callable[[], Any]:
        a = (values * (1.1 + 0.01 * k)).requires_grad_()
        return lambda: SparseTensor.from_pattern(A.pattern, a).solve(b, **request)

    def backward(k: int) -> Callable[[], Any]:
        x = new_values(k)()
        return (x * x).sum().backward

    def lattice(k: int) -> Callable[[], Any]:
        del k

        def run() -> Any:
            clear_factor_cache()
            made = matrix(crow, ccol, values)
            return made.solve(b, method="cg", preconditioner="multigrid", rtol=1e-8)

        return run

    for work in (new_values, backward, lattice):
        with attempt(work.__name__):
            times = [clock(work(k))[0] for k in range(12)]
            run, activities = (
                work(12),
                [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA],
            )
            with torch.profiler.profile(activities=activities) as seen:
                clock(run)
            calls = [
                e for e in seen.key_averages() if e.key.startswith("cuda") or e.key.startswith("cu")
            ]
            calls.sort(key=lambda e: -e.self_cpu_time_total)
            report(f"{work.__name__}: {1e3 * min(times[2:]):.2f} ms")
            told = (f"{e.key} {e.count} ({e.self_cpu_time_total:.0f} us)" for e in calls[:8])
            report(f"  {', '.join(told)}; {sum(e.count for e in seen.key_averages())} events")
            profile, runs = cProfile.Profile(), [work(20 + k) for k in range(10)]
            profile.enable()
            for run in runs:
                clock(run)
            profile.disable()
            out = io.StringIO()
            pstats.Stats(profile, stream=out).sort_stats("tottime").print_stats(20)
            report("\n      ".join(filter(str.strip, out.getvalue().splitlines()[6:])))


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

    crow, ccol, values = poisson_csr(20)
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
