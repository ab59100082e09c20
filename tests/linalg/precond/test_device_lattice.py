"""The structured multigrid over tensors: on the CPU through torch, on CUDA through Triton."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from tests.helpers.devices import NEEDS_CUDA, ON_CUDA
from tests.helpers.grids import split
from tests.helpers.lattices import box_stencil, checkerboard, laplacian, neumann
from tests.helpers.simulated import SIMULATED
from torch_sla.errors import ArgumentError, Result, SolveError
from torch_sla.linalg import SparseTensor
from torch_sla.linalg.kernels import unavailable
from torch_sla.linalg.methods.cg import cg
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.precond.multigrid import AMG, Hierarchy
from torch_sla.linalg.precond.multigrid.device import build
from torch_sla.linalg.precond.multigrid.device.lattice import DeviceLattice
from torch_sla.linalg.sparse.structure import Structure

DEVICES = [
    "cpu",
    ON_CUDA,
]
LATTICE = AMG(method="lattice")


def made(
    A: sp.csr_array, device: str, options: AMG = LATTICE
) -> tuple[DeviceLattice, torch.Tensor]:
    pattern, values = split(A)
    pattern, values = pattern.to(device), values.to(device)
    return DeviceLattice(pattern, values, options), values


def rhs(n: int, device: str, k: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(733).standard_normal((n, k))).to(device)


def solve(
    A: sp.csr_array, device: str, options: AMG = LATTICE, rtol: float = 1e-8
) -> tuple[int, DeviceLattice]:
    """Solve to `rtol`, check the true residual, return iterations."""
    hierarchy, values = made(A, device, options)
    b = rhs(A.shape[0], device)
    out = hierarchy.cg(values, b, options=KrylovOptions(rtol=rtol, maxiter=200))
    assert out.result is Result.CONVERGED
    left = b[:, 0].cpu().numpy() - A @ out.x[:, 0].cpu().numpy()
    assert np.linalg.norm(left) <= rtol * float(b.norm()) * (1 + 1e-6)
    assert len(out.history) == out.iterations
    return out.iterations, hierarchy


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(100, 100), (317, 317), (30, 30, 30), (57, 13, 41), (5000,)])
def test_iterations_do_not_grow(shape: tuple[int, ...], device: str) -> None:
    iterations, hierarchy = solve(laplacian(*shape), device)
    assert iterations <= 12
    assert hierarchy.operator_complexity < 2.1
    assert hierarchy.grid_complexity < 2.1
    assert str(hierarchy).startswith("lattice, float32")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(90, 101), (17, 18, 19)])
def test_nine_and_twenty_seven_neighbours(shape: tuple[int, ...], device: str) -> None:
    assert solve(box_stencil(*shape), device)[0] <= 12


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("a", "b"), [(1.0, 1e4), (1e4, 1.0), (1.0, 10.0), (1.0, 2.5)])
def test_stretched_grids(a: float, b: float, device: str) -> None:
    assert solve(laplacian(120, 120, weights=(a, b)), device)[0] <= 15


@pytest.mark.parametrize("device", DEVICES)
def test_jumps_of_the_coefficient_choose_double_precision(device: str) -> None:
    iterations, hierarchy = solve(checkerboard(120, 1e6, 30), device)
    assert iterations <= 15
    assert hierarchy.dtype is torch.float64


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("jump", [1e3, 1e6])
def test_regions_as_wide_as_coarse_steps(jump: float, device: str) -> None:
    A = checkerboard(192, jump, 16)
    found, hierarchy = solve(A, device, rtol=1e-7)
    plain, other = solve(A, device, AMG(method="lattice", cycle="V"), rtol=1e-7)
    assert hierarchy._twice == (3, 4)
    assert other._twice == ()
    assert found <= 14
    assert found <= 0.7 * plain
    assert made(laplacian(192, 192), device)[0]._twice == ()


@pytest.mark.skipif(unavailable() is not None, reason="needs the extension")
@pytest.mark.parametrize(
    "A",
    [laplacian(61, 40), laplacian(9, 14, 10), box_stencil(7, 8, 9), checkerboard(64, 1e6, 16)],
    ids=["plane", "solid", "box", "jumps"],
)
@pytest.mark.parametrize("cycle", ["V", "W"])
@pytest.mark.parametrize("sweeps", [1, 2])
def test_same_operator_as_compiled(A: sp.csr_array, cycle: str, sweeps: int) -> None:
    options = AMG(method="lattice", cycle=cycle, sweeps=sweeps, dtype="float64", coarse_size=30)
    hierarchy, values = made(A, "cpu", options)
    compiled = Hierarchy(split(A)[0], values, options)
    r = rhs(A.shape[0], "cpu", 2)
    assert len(hierarchy.levels) == len(compiled.levels)
    assert hierarchy.levels[0] == compiled.levels[0]
    z, expected = hierarchy.apply(r), compiled.apply(r)
    assert float((z - expected).norm()) <= 1e-9 * float(expected.norm())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("cycle", ["V", "W"])
@pytest.mark.parametrize("sweeps", [1, 2])
@pytest.mark.parametrize("symmetric", [True, False])
def test_adjoint_is_the_transpose(symmetric: bool, sweeps: int, cycle: str, device: str) -> None:
    A = laplacian(14, 11)
    if not symmetric:
        A = sp.csr_array(A + 0.3 * sp.diags_array([np.ones(153)], offsets=[1]) @ sp.eye_array(154))
        keep = (np.arange(154) + 1) % 11 != 0
        A = laplacian(14, 11) + sp.diags_array([0.3 * keep[:-1]], offsets=[1])
        A = sp.csr_array(A)
        A.eliminate_zeros()
        A.sort_indices()
    options = AMG(method="lattice", cycle=cycle, sweeps=sweeps, dtype="float64", coarse_size=10)
    hierarchy, _ = made(A, device, options)
    eye = torch.eye(A.shape[0], dtype=torch.float64, device=device)
    B, adjoint = hierarchy.apply(eye), hierarchy.apply_adjoint(eye)
    assert float((B.T - adjoint).norm()) <= 1e-12 * float(B.norm())
    assert symmetric == (float((B - B.T).norm()) <= 1e-12 * float(B.norm()))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_update_is_a_new_set_up(dtype: str, device: str) -> None:
    options = AMG(method="lattice", dtype=dtype)
    hierarchy, values = made(laplacian(40, 30), device, options)
    new = values * (1 + 0.3 * torch.linspace(0, 1, len(values), dtype=torch.float64, device=device))
    r = rhs(1200, device)
    before = hierarchy.apply(r)
    hierarchy.update(new)
    fresh = DeviceLattice(split(laplacian(40, 30))[0].to(device), new, options)
    assert torch.equal(hierarchy.apply(r), fresh.apply(r))
    assert not torch.equal(before, hierarchy.apply(r))


@pytest.mark.parametrize("device", DEVICES)
def test_bits_repeat(device: str) -> None:
    A = laplacian(70, 45)
    runs = []
    for _ in range(2):
        hierarchy, values = made(A, device)
        for _ in range(2):  # the second replays what the first recorded
            runs.append(hierarchy.cg(values, rhs(3150, device), options=KrylovOptions(rtol=1e-9)).x)
    assert all(torch.equal(runs[0], x) for x in runs[1:])


@pytest.mark.parametrize("device", DEVICES)
def test_values_may_differ_from_those_of_the_set_up(device: str) -> None:
    A = laplacian(50, 50)
    hierarchy, values = made(A, device)
    b = rhs(2500, device)
    out = hierarchy.cg(1.7 * values, b, options=KrylovOptions(rtol=1e-9))
    expected = hierarchy.cg(values, b, options=KrylovOptions(rtol=1e-9)).x / 1.7
    assert float((out.x - expected).norm()) <= 1e-7 * float(expected.norm())


@pytest.mark.parametrize("device", DEVICES)
def test_several_right_hand_sides_and_starts(device: str) -> None:
    A = laplacian(40, 40)
    hierarchy, values = made(A, device)
    b = rhs(1600, device, 3)
    out = hierarchy.cg(values, b, options=KrylovOptions(rtol=1e-10))
    singles = [
        hierarchy.cg(values, b[:, k : k + 1], options=KrylovOptions(rtol=1e-10)).x for k in range(3)
    ]
    assert torch.equal(out.x, torch.cat(singles, 1))
    again = hierarchy.cg(values, b, x0=out.x, options=KrylovOptions(rtol=1e-8))
    assert (again.iterations, again.result) == (0, Result.CONVERGED)
    limited = hierarchy.cg(values, b, options=KrylovOptions(rtol=1e-10, maxiter=2))
    assert (limited.iterations, limited.result) == (2, Result.MAXITER)


@pytest.mark.parametrize("device", DEVICES)
def test_dirichlet_rows_in_place(device: str) -> None:
    A = laplacian(64, 64).tolil()
    edge = np.zeros((64, 64), dtype=bool)
    edge[0], edge[:, -1] = True, True
    fixed = np.flatnonzero(edge.ravel())
    A[fixed, :] = 0
    A[:, fixed] = 0
    A[fixed, fixed] = 4.0
    A = sp.csr_array(A) + 0.0 * laplacian(64, 64)  # the pattern stays
    A = sp.csr_array(A)
    A.sort_indices()
    assert solve(A, device)[0] <= 12


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(60, 61), (15, 16, 17)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_singular_with_constants(dtype: str, shape: tuple[int, ...], device: str) -> None:
    A = neumann(*shape)
    hierarchy, values = made(A, device, AMG(method="lattice", dtype=dtype))
    assert hierarchy.coarse_nullity == 1
    b = rhs(A.shape[0], device)
    b -= b.mean()
    pattern = split(A)[0].to(device)
    S = SparseTensor.from_pattern(pattern, values)
    out = cg(
        lambda v: S @ v,
        b,
        M=lambda r: (z := hierarchy.apply(r)) - z.mean(),
        options=KrylovOptions(rtol=1e-8, maxiter=60),
    )
    assert out.result is Result.CONVERGED
    assert out.iterations <= 15


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("scale", [1e-30, 1e-200, 1e30, 1e200])
def test_tiny_and_huge_matrices(scale: float, device: str) -> None:
    A = sp.csr_array(scale * laplacian(40, 40))
    hierarchy, values = made(A, device)
    assert hierarchy.dtype is torch.float32
    out = hierarchy.cg(values, rhs(1600, device), options=KrylovOptions(rtol=1e-8, maxiter=50))
    assert out.result is Result.CONVERGED
    z = hierarchy.apply(rhs(1600, device))
    reference = made(laplacian(40, 40), device)[0].apply(rhs(1600, device))
    assert float((z * scale - reference).norm()) <= 1e-5 * float(reference.norm())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("method", ["lattice", "smoothed_aggregation"])
@pytest.mark.parametrize("size", [2.0**-150, 2.0**200])  # beyond single precision
def test_right_hand_sides_of_any_size(size: float, method: str, device: str) -> None:
    pattern, values = (t.to(device) for t in split(laplacian(20, 20)))
    hierarchy = build(pattern, values, AMG(method=method))
    assert hierarchy.dtype is torch.float32
    b = rhs(400, device, 3)
    b[:, 1], x0 = 0, rhs(400, device, 3)
    for rtol, atol, start in ((1e-9, 0.0, None), (0.0, 1e-9, x0)):
        expected = hierarchy.cg(values, b, x0=start, options=KrylovOptions(rtol, atol))
        found = hierarchy.cg(
            values,
            size * b,
            x0=None if start is None else size * start,
            options=KrylovOptions(rtol, size * atol),
        )
        assert found.result is expected.result is Result.CONVERGED
        assert found.iterations == expected.iterations
        assert torch.equal(found.x, size * expected.x)
    assert torch.equal(hierarchy.apply(size * b), size * hierarchy.apply(b))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("scale", "size"), [(1e31, 1e9), (1e-33, 1e-9)])
def test_products_that_leave_single_precision(scale: float, size: float, device: str) -> None:
    A = sp.csr_array(scale * laplacian(20, 20)).astype(np.float32)
    hierarchy, values = made(A, device)
    b = (size * rhs(400, device)).float()
    out = hierarchy.cg(values, b, options=KrylovOptions(rtol=1e-5))
    assert out.result is Result.CONVERGED
    left = A.astype(np.float64) @ out.x[:, 0].double().cpu().numpy() - b[:, 0].cpu().numpy()
    assert np.linalg.norm(left) <= 2e-5 * np.linalg.norm(b.double().cpu())


@pytest.mark.parametrize("device", DEVICES)
def test_failures_have_reasons(device: str) -> None:
    pattern, values = split(laplacian(30, 30))
    pattern, values = pattern.to(device), values.to(device)
    broken = values.clone()
    broken[7] = float("nan")
    with pytest.raises(SolveError) as caught:
        DeviceLattice(pattern, broken, AMG())
    assert caught.value.result is Result.NONFINITE
    broken = values.clone()
    broken[pattern.diagonal_slots[17].long()] = 0.0
    with pytest.raises(SolveError) as caught:
        DeviceLattice(pattern, broken, AMG())
    assert caught.value.result is Result.BREAKDOWN
    indefinite = -values
    hierarchy = DeviceLattice(pattern, values, AMG())
    out = hierarchy.cg(indefinite, rhs(900, device), options=KrylovOptions())
    assert out.result is Result.BREAKDOWN


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("scale", [1.0, 1e-30])
def test_values_that_are_refused_change_nothing(scale: float, device: str) -> None:
    hierarchy, values = made(sp.csr_array(scale * laplacian(30, 30)), device)
    assert (hierarchy.scale != 1.0) == (scale != 1.0)
    r = rhs(900, device)
    before, dtype = hierarchy.apply(r), hierarchy.dtype
    spread = 1e8 * values
    spread[hierarchy._pattern.diagonal_slots[17].long()] = 0.0
    for broken, result in ((float("nan") * values, Result.NONFINITE), (spread, Result.BREAKDOWN)):
        with pytest.raises(SolveError) as caught:
            hierarchy.update(broken)
        assert caught.value.result is result
        assert hierarchy.dtype is dtype
        assert torch.equal(hierarchy.apply(r), before)


@pytest.mark.parametrize("method", ["lattice", "smoothed_aggregation"])
@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[*NEEDS_CUDA, pytest.mark.skipif(SIMULATED, reason="has no inference mode")],
        ),
    ],
)
def test_what_is_made_in_inference_mode_serves_after_it(method: str, device: str) -> None:
    pattern, values = split(laplacian(30, 30))
    pattern, values, b = pattern.to(device), values.to(device), rhs(900, device)
    with torch.inference_mode():
        hierarchy = build(pattern, values, AMG(method=method))
        inside = hierarchy.cg(values, b), hierarchy.apply(b), hierarchy.apply_adjoint(b)
    assert not inside[0].x.requires_grad
    assert torch.equal(hierarchy.cg(values, b).x, inside[0].x)
    assert torch.equal(hierarchy.apply(b), inside[1])
    assert torch.equal(hierarchy.apply_adjoint(b), inside[2])
    with torch.inference_mode():
        hierarchy.update(4 * values)
        x = hierarchy.cg(4 * values, b).x
    assert torch.equal(hierarchy.cg(4 * values, b).x, x)


@pytest.mark.parametrize("device", DEVICES)
def test_memory_held_is_what_is_counted(device: str) -> None:
    n = 400
    hierarchy, _ = made(laplacian(n, n), device)
    tensors = {}
    for level in hierarchy._levels:
        held = [
            level.A.planes,
            level.M,
            *level.vectors,
            *(t for w in level.weights for t in (w.low, w.high)),
        ]
        tensors.update({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in held})
    counted = hierarchy.nbytes
    assert abs(sum(tensors.values()) - counted) <= 0.03 * counted
    # 4 bytes of: 5 coefficients, 1 smoother, 1.5 weights, 2 vectors; a third again with 9 and one more
    assert counted / n**2 < 4 * (9.5 + 14.0 / 3) * 1.05


def test_the_choice_of_a_hierarchy() -> None:
    pattern, values = split(laplacian(30, 30))
    assert isinstance(build(pattern, values, AMG()), DeviceLattice)
    A = sp.csr_array(
        sp.random_array((50, 50), density=0.1, random_state=np.random.default_rng(91))
        + sp.eye_array(50)
    )
    A.sort_indices()
    with pytest.raises(ArgumentError, match="neighbours of a lattice"):
        build(*split(A), LATTICE)
    unsymmetric = Structure(symmetric=False)
    assert isinstance(build(pattern, values, LATTICE, unsymmetric), DeviceLattice)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("shape", [(300, 300), (40, 41, 42)])
def test_solve_chooses_it_and_differentiates(shape: tuple[int, ...]) -> None:
    pattern, values = split(laplacian(*shape))
    a = values.cuda().requires_grad_()
    A = SparseTensor.from_pattern(pattern.to("cuda"), a)
    b = rhs(pattern.shape[0], "cuda")[:, 0].requires_grad_()
    x, info = A.solve(b, method="cg", preconditioner="multigrid", rtol=1e-10, info=True)
    assert info.iterations <= 15
    assert info.residual <= 1e-10
    x.square().sum().backward()
    host = SparseTensor.from_pattern(pattern, values.requires_grad_())
    y = host.solve(b.detach().cpu().requires_grad_(), rtol=1e-12)
    y.square().sum().backward()
    assert float((x.cpu() - y).detach().norm()) <= 1e-7 * float(y.detach().norm())
    assert float((a.grad.cpu() - values.grad).norm()) <= 1e-6 * float(values.grad.norm())


@pytest.mark.parametrize("device", DEVICES)
def test_eigenvalues_with_it(device: str) -> None:
    n = 40
    hierarchy, values = made(laplacian(n, n), device)
    A = SparseTensor.from_pattern(split(laplacian(n, n))[0].to(device), values)
    w, _ = A.eigsh(4, which="SA", method="lobpcg", preconditioner=hierarchy.apply, tol=1e-9)
    one = 4 * np.sin(np.arange(1, n + 1) * np.pi / (2 * (n + 1))) ** 2
    expected = np.sort((one[:, None] + one).ravel())[:4]
    assert np.allclose(w.cpu().numpy(), expected, rtol=1e-8)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("shape", "times"), [((50,), 200), ((33, 31), 8), ((9, 9), 200), ((9, 12, 11), 5)]
)
def test_blocks_of_one_matrix_are_solved_as_alone(
    shape: tuple[int, ...], times: int, device: str
) -> None:
    A = laplacian(*shape)
    pattern, values = (t.to(device) for t in split(A))
    many, entries = pattern.repeated(times), values.repeat(times)
    assert many.lattice is not None
    assert many.lattice.codes == pattern.lattice.codes
    b = rhs(times * A.shape[0], device)
    options = KrylovOptions(rtol=1e-8)
    whole = DeviceLattice(many, entries, LATTICE).cg(entries, b, options=options)
    assert whole.result is Result.CONVERGED
    columns = b.reshape(times, -1).T[:, :4].contiguous()
    alone = DeviceLattice(pattern, values, LATTICE).cg(values, columns, options=options)
    assert whole.iterations <= max(alone.iterations, 9) + 1
    r = sp.block_diag([A] * times) @ whole.x.flatten().cpu().numpy() - b.flatten().cpu().numpy()
    assert np.linalg.norm(r) <= 1e-8 * float(b.norm()) * (1 + 1e-6)


def test_no_block_reaches_into_another() -> None:
    pattern, values = split(laplacian(15, 13, 11))
    n, times = pattern.shape[0], 4
    whole = DeviceLattice(pattern.repeated(times), values.repeat(times), AMG(dtype="float64"))
    r = torch.zeros(times, n, dtype=torch.float64)
    r[2] = rhs(n, "cpu")[:, 0]
    z = whole.apply(r.reshape(-1, 1)).reshape(times, n)
    assert bool((z[2] != 0).any())
    assert torch.equal(z[[0, 1, 3]], torch.zeros(3, n, dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (AMG(method="classical"), "method"),
        (AMG(method="lattice", cycle="K"), "cycle"),
        (AMG(cycle="K"), "cycle"),
        (AMG(method="lattice", smoother="line"), "smoother"),
        (AMG(method="smoothed_aggregation", smoother="gauss_seidel"), "smoother"),
    ],
    ids=["points", "lattice, K", "K", "lines", "rows"],
)
def test_what_no_device_has_is_refused(options: AMG, name: str) -> None:
    with pytest.raises(ArgumentError, match=f"`{name}` must be .* on a"):
        build(*split(laplacian(30, 30)), options)
