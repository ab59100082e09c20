from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from tests.helpers.grids import diffusion, poisson, rhs, second_difference, split
from tests.helpers.lattices import checkerboard
from torch_sla.errors import ArgumentError, DTypeError, Result, SolveError
from torch_sla.linalg.kernels import unavailable
from torch_sla.linalg.kernels.multigrid import Transfer
from torch_sla.linalg.methods.gmres import gmres
from torch_sla.linalg.methods.outcome import KrylovOptions
from torch_sla.linalg.precond.multigrid import AMG, Hierarchy, rigid_body_modes
from torch_sla.linalg.precond.multigrid.device import build as build_on_device
from torch_sla.linalg.sparse.structure import Structure

pytestmark = pytest.mark.skipif(unavailable() is not None, reason="needs the extension")

AGGREGATES = AMG(method="smoothed_aggregation")
LATTICE = AMG(method="lattice")


def solve(A: sp.csr_array, options: AMG, rtol: float = 1e-8) -> tuple[int, Hierarchy]:
    """Solve to `rtol`, check the true residual, return iterations."""
    pattern, values = split(A)
    hierarchy = Hierarchy(pattern, values, options)
    b = rhs(A.shape[0])
    out = hierarchy.cg(values, b, options=KrylovOptions(rtol=rtol, maxiter=200))
    assert out.result is Result.CONVERGED
    residual = np.linalg.norm(b[:, 0].numpy() - A @ out.x[:, 0].numpy())
    assert residual <= rtol * np.linalg.norm(b.numpy()) * (1 + 1e-6)
    assert len(out.history) == out.iterations
    return out.iterations, hierarchy


@pytest.mark.parametrize("options", [AGGREGATES, LATTICE], ids=["aggregates", "lattice"])
@pytest.mark.parametrize("shape", [(100, 100), (317, 317), (30, 30, 30), (57, 13, 41)])
def test_iterations_do_not_grow(shape: tuple[int, ...], options: AMG) -> None:
    iterations, hierarchy = solve(poisson(*shape), options)
    assert iterations <= 15
    assert hierarchy.operator_complexity < (2.5 if options is LATTICE else 1.8)


@pytest.mark.parametrize("smoother", ["spai0", "jacobi", "l1_jacobi", "chebyshev", "gauss_seidel"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cycle", ["V", "W", "K"])
def test_every_smoother_and_cycle(smoother: str, dtype: str, cycle: str) -> None:
    options = AMG(method="smoothed_aggregation", smoother=smoother, dtype=dtype, cycle=cycle)
    assert solve(poisson(60, 60), options)[0] <= 22


@pytest.mark.parametrize("options", [AGGREGATES, LATTICE], ids=["aggregates", "lattice"])
@pytest.mark.parametrize(("a", "b"), [(1.0, 1e4), (1e4, 1.0), (1.0, 10.0), (1.0, 2.5)])
def test_stretched_grids(a: float, b: float, options: AMG) -> None:
    assert solve(poisson(120, 120, weights=(a, b)), options)[0] <= 20


@pytest.mark.parametrize("options", [AGGREGATES, LATTICE], ids=["aggregates", "lattice"])
def test_jumps_of_the_coefficient(options: AMG) -> None:
    y, x = np.mgrid[:120, :120] // 30
    assert solve(diffusion(np.where((x + y) % 2, 1e6, 1.0)), options)[0] <= 30


@pytest.mark.parametrize(("edge", "width", "most"), [(240, 30, 20), (480, 30, 26)])
def test_aggregates_stand_jumps_at_crossing_points(edge: int, width: int, most: int) -> None:
    """Transfers reach from stiff regions into soft ones: without that 71 and 173 iterations."""
    assert solve(checkerboard(edge, 1e6, width), AGGREGATES, rtol=1e-6)[0] <= most


def test_auto_takes_the_lattice_unless_its_axes_disagree() -> None:
    pattern, values = split(poisson(40, 40))
    assert Hierarchy(pattern, values).method == "lattice"
    assert Hierarchy(pattern, values, AMG(strength=0.1)).method == "smoothed aggregation"
    n = 60
    left = sp.kron(sp.eye_array(n), sp.diags_array((np.arange(n) < n // 2).astype(float)))
    A = 100 * left @ poisson(n, n, weights=(1.0, 0.0)) @ left + poisson(n, n, weights=(1e-2, 1.0))
    A = sp.csr_array(A)
    A.sort_indices()
    iterations, hierarchy = solve(A, AMG())
    assert hierarchy.method == "smoothed aggregation"
    assert iterations <= 30


def test_lattice_is_refused_where_there_is_none() -> None:
    A = sp.csr_array(
        sp.random_array((50, 50), density=0.1, random_state=np.random.default_rng(91))
        + sp.eye_array(50)
    )
    A.sort_indices()
    with pytest.raises(ArgumentError, match="neighbours of a lattice"):
        Hierarchy(*split(A), LATTICE)


def assembled(hierarchy: Hierarchy, n: int, adjoint: bool = False) -> torch.Tensor:
    eye = torch.eye(n, dtype=torch.float64)
    return hierarchy.apply_adjoint(eye) if adjoint else hierarchy.apply(eye)


@pytest.mark.parametrize("method", ["smoothed_aggregation", "lattice"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_adjoint_is_the_transpose(method: str, symmetric: bool) -> None:
    A = poisson(11, 13)
    if not symmetric:
        upwind = sp.diags_array([np.ones(13), -np.ones(12)], offsets=[0, -1])
        A = sp.csr_array(A + sp.kron(sp.eye_array(11), 5 * upwind))
        A.sort_indices()
    options = AMG(method=method, dtype="float64", coarse_size=20)
    hierarchy = Hierarchy(*split(A), options)
    assert len(hierarchy.levels) > 1
    B, transposed = assembled(hierarchy, 143), assembled(hierarchy, 143, adjoint=True)
    torch.testing.assert_close(transposed, B.T, rtol=1e-10, atol=1e-12)
    if symmetric:
        torch.testing.assert_close(B, B.T, rtol=1e-10, atol=1e-12)
        assert torch.linalg.eigvalsh(B).min() > 0
        spectrum = torch.linalg.eigvals(B @ torch.from_numpy(A.toarray())).real
        assert spectrum.max() < 1.6
        assert spectrum.min() > 0.2


@pytest.mark.parametrize("method", ["smoothed_aggregation", "lattice"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_update_is_a_new_set_up(method: str, dtype: str) -> None:
    k = np.exp(0.3 * np.random.default_rng(57).standard_normal((2, 40, 40)))
    (pattern, old), (_, new) = split(diffusion(k[0])), split(diffusion(k[1]))
    options = AMG(method=method, dtype=dtype)
    r = rhs(1600)
    hierarchy = Hierarchy(pattern, old, options)
    first = hierarchy.apply(r)
    hierarchy.update(new)
    assert not torch.equal(hierarchy.apply(r), first)
    hierarchy.update(old)
    tolerance = 1e-4 if dtype == "float32" else 1e-11
    torch.testing.assert_close(hierarchy.apply(r), first, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("method", ["smoothed_aggregation", "lattice"])
@pytest.mark.parametrize("threads", [1, 2])
def test_bits_repeat(method: str, threads: int) -> None:
    pattern, values = split(poisson(200, 200))
    b = rhs(40000)
    runs = []
    for _ in range(2):
        hierarchy = Hierarchy(pattern, values, AMG(method=method, threads=threads))
        runs.append(hierarchy.cg(values, b, options=KrylovOptions(rtol=1e-9)).x)
    assert torch.equal(*runs)


@pytest.mark.parametrize("method", ["smoothed_aggregation", "lattice"])
def test_two_threads_agree_with_one(method: str) -> None:
    pattern, values = split(poisson(250, 250))
    r = rhs(62500)
    one, two = (
        Hierarchy(pattern, values, AMG(method=method, threads=t, dtype="float64")).apply(r)
        for t in (1, 2)
    )
    torch.testing.assert_close(one, two, rtol=1e-11, atol=1e-12)


def test_galerkin_and_transfers_of_a_hierarchy() -> None:
    A = poisson(30, 30)
    hierarchy = Hierarchy(*split(A), AMG(method="smoothed_aggregation", dtype="float64"))
    P, C = hierarchy.prolongation(0), hierarchy.matrix(1)
    dense = {
        name: sp.csr_array(
            (t.values.flatten(), t.ccol, t.crow), shape=(t.crow.numel() - 1, t.columns)
        )
        for name, t in (("P", P), ("C", C))
    }
    np.testing.assert_allclose(
        (dense["P"].T @ A @ dense["P"]).toarray(), dense["C"].toarray(), atol=1e-13
    )
    inner = np.abs(A @ np.ones(900)) < 1e-12
    np.testing.assert_allclose((dense["P"] @ np.ones(P.columns))[inner], 1.0)


def test_hierarchy_by_hand() -> None:
    n = 63
    fine = torch.arange(n)
    pairs = sp.lil_array((n, 31))
    for coarse in range(31):
        pairs[2 * coarse : 2 * coarse + 3, [coarse]] = np.array([[0.5], [1.0], [0.5]])
    P = sp.csr_array(pairs)
    transfer = Transfer(
        torch.from_numpy(P.indptr),
        torch.from_numpy(P.indices),
        torch.from_numpy(P.data).reshape(-1, 1, 1),
        31,
    )
    A = second_difference(n)
    pattern, values = split(A)
    options = AMG(method="smoothed_aggregation", dtype="float64", coarse_size=40)
    hierarchy = Hierarchy(pattern, values, options, transfers=[transfer])
    coarse = hierarchy.matrix(1)
    assert [level.unknowns for level in hierarchy.levels] == [63, 31]
    torch.testing.assert_close(
        coarse.values.flatten()[: int(coarse.crow[1])], torch.tensor([1.0, -0.5]).double()
    )
    b = torch.sin(fine.double()).unsqueeze(1)
    assert hierarchy.cg(values, b).iterations <= 14
    hierarchy.update(3 * values)
    torch.testing.assert_close(hierarchy.matrix(1).values, 3 * coarse.values)
    broken = Transfer(transfer.crow, transfer.ccol, transfer.values, 5)
    with pytest.raises(ArgumentError, match="a transfer must be CSR"):
        Hierarchy(pattern, values, options, transfers=[broken])


def test_dirichlet_rows_in_place() -> None:
    A = poisson(40, 40).tolil()
    fixed = np.random.default_rng(8).choice(1600, 60, replace=False)
    pattern, values = split(sp.csr_array(A))
    rows = pattern.csr_row.long()
    cut = torch.from_numpy(np.isin(rows.numpy(), fixed) | np.isin(pattern.ccol.numpy(), fixed))
    values[cut & (rows != pattern.ccol)] = 0.0
    for options in (AGGREGATES, LATTICE):
        hierarchy = Hierarchy(pattern, values, options)
        b = rhs(1600)
        out = hierarchy.cg(values, b, options=KrylovOptions(rtol=1e-9))
        assert out.result is Result.CONVERGED
        assert out.iterations <= 18
        torch.testing.assert_close(out.x[fixed], b[fixed] / 4, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("method", ["smoothed_aggregation", "lattice"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_singular_with_constants(method: str, dtype: str) -> None:
    shape = (50, 44)
    A = poisson(*shape)
    A = sp.csr_array(A - sp.diags_array(A @ np.ones(A.shape[0])))
    A.sort_indices()
    pattern, values = split(A)
    hierarchy = Hierarchy(pattern, values, AMG(method=method, dtype=dtype))
    assert hierarchy.coarse_nullity == 1
    ones = torch.ones(A.shape[0], 1, dtype=torch.float64)
    b = rhs(A.shape[0])
    out = hierarchy.cg(values, b, options=KrylovOptions(rtol=1e-8), nullspace=ones)
    assert out.result is Result.CONVERGED
    assert out.iterations <= 20
    x = out.x[:, 0].numpy()
    assert abs(x.mean()) < 1e-8 * np.abs(x).max()
    centred = b[:, 0].numpy() - b.mean().item()
    assert np.linalg.norm(A @ x - centred) <= 1e-7 * np.linalg.norm(centred)


def test_disconnected_parts_and_single_unknowns() -> None:
    parts = [poisson(25, 25), 1e5 * poisson(20, 20), sp.csr_array([[7.0]]), sp.csr_array([[1e-4]])]
    A = sp.csr_array(sp.block_diag(parts))
    assert solve(A, AGGREGATES)[0] <= 18
    assert solve(sp.csr_array([[3.0]]), AMG())[0] <= 2


@pytest.mark.parametrize("method", ["smoothed_aggregation", "auto"])
def test_failures_have_reasons(method: str) -> None:
    A = poisson(20, 20)
    pattern, values = split(A)
    options = AMG(method=method)
    hole = values.clone()
    hole[pattern.diagonal_slots[37]] = 0.0
    with pytest.raises(SolveError, match="row 37 is zero") as caught:
        Hierarchy(pattern, hole, options)
    assert caught.value.result is Result.BREAKDOWN
    with pytest.raises(SolveError, match="not finite") as caught:
        Hierarchy(pattern, torch.full_like(values, torch.nan), options)
    assert caught.value.result is Result.NONFINITE
    hierarchy = Hierarchy(pattern, values, options)
    b = rhs(400)
    assert hierarchy.cg(-values, b).result is Result.BREAKDOWN
    assert hierarchy.cg(values, b * torch.inf).result is Result.NONFINITE
    assert hierarchy.cg(values, b, options=KrylovOptions(maxiter=2)).result is Result.MAXITER
    assert hierarchy.cg(values, b, options=KrylovOptions(rtol=1e-17)).result is not Result.CONVERGED
    zero = hierarchy.cg(values, 0 * b)
    assert zero.result is Result.CONVERGED
    assert not zero.x.any()
    with pytest.raises(DTypeError, match="float32 or float64"):
        Hierarchy(pattern, values.to(torch.complex128), options)


@pytest.mark.parametrize("scale", [1e-60, 1e60])
@pytest.mark.parametrize("method", ["smoothed_aggregation", "lattice"])
def test_float32_levels_of_tiny_and_huge_matrices(scale: float, method: str) -> None:
    pattern, values = split(poisson(50, 50) * scale)
    hierarchy = Hierarchy(pattern, values, AMG(method=method))
    b = rhs(2500) * 1e-50
    out = hierarchy.cg(values, b, options=KrylovOptions(rtol=1e-8))
    assert out.result is Result.CONVERGED
    assert out.iterations <= 15
    z = hierarchy.apply(b)
    assert torch.isfinite(z).all()
    torch.testing.assert_close(hierarchy.apply(2.0**130 * b), 2.0**130 * z, rtol=1e-6, atol=0.0)


def test_several_right_hand_sides_and_starts() -> None:
    A = poisson(40, 40)
    pattern, values = split(A)
    hierarchy = Hierarchy(pattern, values)
    b = rhs(1600, 3)
    b[:, 1] = 0.0
    out = hierarchy.cg(values, b, options=KrylovOptions(rtol=1e-10))
    np.testing.assert_allclose(A @ out.x.numpy(), b.numpy(), atol=1e-8)
    again = hierarchy.cg(values, b, x0=out.x, options=KrylovOptions(rtol=1e-9))
    assert again.iterations == 0
    torch.testing.assert_close(hierarchy.apply(b)[:, 2], hierarchy.apply(b[:, 2]))
    single = hierarchy.cg(values.float(), b.float(), options=KrylovOptions(rtol=1e-5))
    assert single.result is Result.CONVERGED
    assert single.x.dtype is torch.float32


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("peclet", [10.0, 100.0])
def test_upwinded_convection_under_gmres(peclet: float, direction: int) -> None:
    n = 100
    first = sp.diags_array([np.ones(n), -np.ones(n - 1)], offsets=[0, -direction])
    flow = sp.kron(sp.eye_array(n), first) + sp.kron(first, sp.eye_array(n))
    A = sp.csr_array(poisson(n, n) + peclet * flow)
    A.sort_indices()
    pattern, values = split(A)
    hierarchy = Hierarchy(pattern, values, structure=Structure(symmetric=False))
    out = gmres(
        lambda x: torch.from_numpy(A @ x.numpy()),
        rhs(n * n),
        M=hierarchy.apply,
        options=KrylovOptions(rtol=1e-8, maxiter=100),
    )
    assert out.result is Result.CONVERGED
    assert out.iterations <= 30


def test_options_compare_by_value() -> None:
    assert AMG(sweeps=2) == AMG(sweeps=2) != AMG()
    assert len({AMG(), AMG(), AMG(cycle="V")}) == 2


def test_rigid_body_modes_are_not_strained() -> None:
    x = torch.from_numpy(np.random.default_rng(3).random((9, 3)))
    modes = rigid_body_modes(x).reshape(9, 3, 6)
    gaps = x[:, None] - x[None]
    for k in range(6):
        u = modes[..., k]
        stretch = ((u[:, None] - u[None]) * gaps).sum(-1)
        torch.testing.assert_close(stretch, torch.zeros_like(stretch), rtol=0, atol=1e-12)


def test_same_class_as_pyamg() -> None:
    pyamg = pytest.importorskip("pyamg")
    A = poisson(150, 150)
    b = rhs(22500)[:, 0].numpy()
    history: list[float] = []
    pyamg.smoothed_aggregation_solver(sp.csr_matrix(A)).solve(
        b, tol=1e-8, accel="cg", residuals=history
    )
    # Theirs smooths with symmetric Gauss-Seidel, twice our work before and after.
    assert solve(A, AGGREGATES)[0] <= 1.6 * (len(history) - 1)
    assert solve(A, LATTICE)[0] <= 1.3 * (len(history) - 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"smoother": "ilu"}, "`smoother` must be one of"),
        ({"strength": 2.0}, "`strength` must be between"),
        ({"sweeps": 0}, "`sweeps` must be from 1"),
        ({"method": "lattice", "block": 3}, "`block` has no meaning"),
        ({"method": "lattice", "smoother": "jacobi"}, "`smoother` must be spai0 or line"),
        ({"smoother": "line"}, "smoother='line' needs"),
        ({"method": "classical", "damping": 1.0}, "`damping` has no meaning"),
        ({"method": "classical", "block": 2}, "`block` must be 1"),
    ],
)
def test_options_are_checked(changes: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        AMG(**changes)


@pytest.mark.parametrize("device", [False, True])
def test_a_near_nullspace_must_have_columns(device: bool) -> None:
    pattern, values = split(poisson(24, 21))
    n = 24 * 21
    for vectors in (torch.ones(n), torch.ones(n - 1, 1), torch.ones(n, 0)):
        with pytest.raises(ArgumentError, match="`near_nullspace` must be"):
            (build_on_device if device else Hierarchy)(pattern, values, AMG(near_nullspace=vectors))
    with pytest.raises(ArgumentError, match="`near_nullspace` has NaN"):
        Hierarchy(pattern, values, AMG(near_nullspace=torch.full((n, 1), float("nan"))))


@pytest.mark.parametrize("device", [False, True])
@pytest.mark.parametrize("change", [{"strength": 0.1}, {"damping": 0.0}, {"block": 1}])
def test_settings_of_aggregates_leave_the_lattice(change: dict[str, float], device: bool) -> None:
    pattern, values = split(poisson(24, 21))
    make = build_on_device if device else Hierarchy
    assert make(pattern, values, AMG()).method == "lattice"
    assert make(pattern, values, AMG(**change)).method == "smoothed aggregation"


def test_tetrahedra_get_a_stronger_smoother() -> None:
    pattern, values = split(poisson(12, 12))
    assert "spai0" in str(Hierarchy(pattern, values, AMG(method="smoothed_aggregation")))
    slivers = values.clone()
    slivers[(pattern.csr_row - pattern.ccol).abs() == 12] *= -0.2
    assert "chebyshev" in str(Hierarchy(pattern, slivers, AMG(method="smoothed_aggregation")))
