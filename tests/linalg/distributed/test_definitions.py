"""Parts of multigrid and Schwarz on matrices in parts, against dense definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from tests.helpers.grids import diffusion
from tests.helpers.meshed import flat_cells, largest_eigenvalue, odd_cell
from torch_sla.linalg import AMG, SparseTensor
from torch_sla.linalg.distributed.precond import block, galerkin, kept_points, schwarz
from torch_sla.linalg.distributed.precond.chebyshev import Chebyshev, PartChebyshev
from torch_sla.linalg.distributed.precond.coarse import GatheredInverse
from torch_sla.linalg.distributed.precond.jacobi import PartJacobi
from torch_sla.linalg.distributed.precond.multigrid import PartMultigrid
from torch_sla.linalg.distributed.precond.schwarz import Schwarz
from torch_sla.linalg.distributed.sharding import Product

if TYPE_CHECKING:
    from torch import Tensor

    from torch_sla.linalg import DSparseTensor


def dense(D: DSparseTensor) -> Tensor:
    """In the order in which the parts hold the rows."""
    eye = torch.eye(D.shape[-1], dtype=D.slot_values().dtype)
    return Product(D.sharding, D.slot_values())(eye)


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("hermitian", [True, False])
@pytest.mark.parametrize("rank", [9, 8, 6])
@pytest.mark.parametrize("spread", [1.0, 1e16])
def test_the_coarsest_matrix_has_a_generalised_inverse(
    spread: float, rank: int, hermitian: bool, dtype: torch.dtype
) -> None:
    """Whatever the units of its unknowns: small ones are no null space."""
    X = normal(9, rank, seed=1, dtype=dtype)
    Y = X if hermitian else normal(9, rank, seed=2, dtype=dtype)
    size = spread ** torch.linspace(0, 0.5, 9, dtype=torch.float64)
    plain = X @ Y.mH
    D = SparseTensor.from_dense(plain * size * size[:, None]).partition(3)
    A, eye = dense(D), torch.eye(9, dtype=dtype)
    found = GatheredInverse(D.sharding, D.slot_values())
    B = found.apply(eye)
    torch.testing.assert_close(found.apply(eye, adjoint=True), B.mH)
    d = A.diagonal().abs().sqrt()
    A, B = A / d / d[:, None], B * d * d[:, None]
    torch.testing.assert_close(A @ B @ A, A, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(B @ A @ B, B, rtol=1e-7, atol=1e-7 * float(B.abs().max()))
    assert int(torch.linalg.matrix_rank(B, rtol=1e-10)) == rank
    if rank == 9:
        singular = torch.linalg.svdvals(A)
        assert found.pivot == pytest.approx(float(singular[-1] / singular[0]), rel=1e-6)


@pytest.mark.parametrize("jump", [1e6, 1e14])
def test_iterations_do_not_depend_on_a_jump(jump: float) -> None:
    """The coarsest matrix has rows of both sizes."""
    k = np.ones((40, 40))
    k[:20] = jump
    M = diffusion(k).tocoo()
    row, col = (torch.from_numpy(i.astype(np.int64)) for i in (M.row, M.col))
    A = SparseTensor(torch.from_numpy(M.data), row, col, M.shape)
    b = torch.linspace(-1, 1, 1600, dtype=torch.float64)
    exact, info = A.declare(positive_definite=True).solve(
        b, method="cg", backend="pytorch", preconditioner=AMG(), info=True
    )
    most = info.iterations + 2
    for parts in (1, 4):
        options = PartMultigrid(method="smoothed_aggregation")
        x, info = A.partition(parts).solve(b, preconditioner=options, info=True)
        torch.testing.assert_close(x, exact, rtol=1e-6, atol=1e-9)
        assert info.iterations <= most


def polynomial(degree: int, x: Tensor) -> Tensor:
    before, now = torch.ones_like(x), x
    for _ in range(degree - 1):
        before, now = now, 2 * x * now - before
    return now


@pytest.mark.parametrize("degree", [1, 2, 5])
def test_chebyshev_polynomials(degree: int) -> None:
    """``I - B A`` is ``T_k`` of the interval in ``D⁻¹ A``, over its value at zero; the adjoint is that of ``Aᴴ``."""
    X = normal(8, 8, seed=3)
    D = SparseTensor.from_dense(X @ X.T + 8 * torch.eye(8, dtype=torch.float64)).partition(3)
    A, eye = dense(D), torch.eye(8, dtype=torch.float64)
    made = Chebyshev(D.sharding, D.slot_values(), degree, 0.2)
    half = A.diagonal().rsqrt()
    w, V = torch.linalg.eigh(A * half * half[:, None])
    assert 0.8 * float(w[-1]) <= made.radius <= 1.0501 * float(w[-1])
    middle, width = 0.6 * made.radius, 0.4 * made.radius
    left = polynomial(degree, (middle - w) / width)
    left = left / polynomial(degree, torch.tensor([1.5], dtype=torch.float64))
    wanted = half[:, None] * ((V * left) @ V.T) / half
    torch.testing.assert_close(eye - made.apply(eye) @ A, wanted)
    torch.testing.assert_close(made.apply_adjoint(eye), made.apply(eye).T)
    x, b = normal(8, 2, seed=4), normal(8, 2, seed=5)
    exact = torch.linalg.solve(A, b)
    torch.testing.assert_close(made.smooth(b, x) - exact, wanted @ (x - exact))


@pytest.mark.parametrize("size", [6.0, 10.0])
def test_one_cell_among_many_is_within_the_bounds(size: float) -> None:
    A = odd_cell(200, size)
    D = SparseTensor.from_scipy(A).partition(3)
    true = largest_eigenvalue(A)
    assert 0.95 * true <= Chebyshev(D.sharding, D.slot_values(), 3).radius <= 1.0501 * true


def test_masses_are_inverted_within_the_bounds_of_their_elements() -> None:
    """Bilinear quadrilaterals: eigenvalues over the diagonal from 1/4 to 9/4, and a definite inverse."""
    one = torch.diag(torch.full((7,), 4.0)) + torch.diag(torch.ones(6), 1)
    one = (one + one.T - torch.diag(torch.full((7,), 4.0))).double()
    one[0, 0] = one[-1, -1] = 2.0
    D = SparseTensor.from_dense(torch.kron(one, one)).partition(4)
    B = PartChebyshev(degree=5, ratio=9.0).build_parts(D.sharding, D.slot_values(), None)
    assert B.radius == pytest.approx(9 / 4)
    eye = torch.eye(49, dtype=torch.float64)
    spectrum = torch.linalg.eigvals(B.apply(eye) @ dense(D))
    assert float(spectrum.imag.abs().max()) < 1e-12
    bound = 1 / float(polynomial(5, torch.tensor([1.25], dtype=torch.float64)))
    assert float((spectrum.real - 1).abs().max()) == pytest.approx(bound, rel=0.05)
    assert float((spectrum.real - 1).abs().max()) <= bound * (1 + 1e-9)


def in_parts(M: np.ndarray, parts: int) -> DSparseTensor:
    return SparseTensor.from_dense(torch.from_numpy(M)).partition(parts)


def jumping(n: int, decades: float = 4.0) -> np.ndarray:
    k = 10 ** (decades * np.random.default_rng(5).uniform(-0.5, 0.5, (n, n)))
    return diffusion(k).toarray()


def test_the_diagonal_is_divided_by() -> None:
    M = np.diag([2.0, 0.0, -4.0, 8.0]) + np.diag([1.0, 1.0, 1.0], 1)
    D = in_parts(M, 2)
    B = PartJacobi().build_parts(D.sharding, D.slot_values(), None)
    d = dense(D).diagonal()
    wanted = torch.diag(torch.where(d == 0, 1.0, 1 / d))
    eye = torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(B.apply(eye), wanted)
    torch.testing.assert_close(B.apply_adjoint(eye), wanted)


@pytest.mark.parametrize("overlap", [0, 1])
def test_subdomains_between_two_corrections(overlap: int) -> None:
    """``C + (1 - C A) S (1 - A C)``, ``C = Z (Zᴴ A Z)⁻¹ Zᴴ`` with the constants of the parts."""
    D = in_parts(jumping(8) + 0.3 * np.triu(np.ones((64, 64)), 62), 3)
    A, eye = dense(D), torch.eye(64, dtype=torch.float64)
    alone, both = (
        Schwarz(overlap=overlap, coarse=c).build_parts(D.sharding, D.slot_values(), None)
        for c in (None, "deflation")
    )
    S, Z = alone.apply(eye), torch.zeros(64, 3, dtype=torch.float64)
    for part, here in enumerate(D.sharding.rows.slices):
        Z[here, part] = 1.0
    if not overlap:
        blocks = [torch.linalg.inv(A[here, here]) for here in D.sharding.rows.slices]
        torch.testing.assert_close(S, torch.block_diag(*blocks))
    C = Z @ torch.linalg.solve(Z.T @ A @ Z, Z.T)
    B = both.apply(eye)
    torch.testing.assert_close(B, C + (eye - C @ A) @ S @ (eye - A @ C))
    torch.testing.assert_close(alone.apply_adjoint(eye), S.T)
    torch.testing.assert_close(both.apply_adjoint(eye), B.T)


def test_galerkin_products_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows at a time, and none left over."""
    monkeypatch.setattr(galerkin, "_ROWS", 2)
    D = in_parts(jumping(9), 3)
    made = PartMultigrid(method="smoothed_aggregation", coarse_size=4, dtype="float64").build_parts(
        D.sharding, D.slot_values(), None
    )
    levels = made._levels
    assert len(levels) >= 2
    fine, P, coarse = levels[0].smoother.A, levels[0].P, levels[1].smoother.A
    eye = torch.eye(P.sharding.columns.n, dtype=torch.float64)
    wanted = P.adjoint(fine(P(eye)))
    torch.testing.assert_close(coarse(eye), wanted)


@pytest.mark.parametrize("method", ["smoothed_aggregation", "classical"])
@pytest.mark.parametrize("scale", [1.0, 1e40])
def test_what_a_cycle_leaves(method: str, scale: float) -> None:
    """``I - B A = S (I - P B_c Pᵀ A) S`` on every level, in any units; transfers keep constants."""
    # Over more decades, weak couplings would leave nothing of some diagonal entries that they are added to.
    D = in_parts(scale * jumping(12, 0.6 if method == "smoothed_aggregation" else 4.0), 3)
    options = PartMultigrid(method=method, coarse_size=8, dtype="float64")
    made = options.build_parts(D.sharding, D.slot_values(), None)
    assert len(made._levels) >= 2

    def inverse(i: int) -> Tensor:
        if i == len(made._levels):
            return made._last(torch.eye(made.sizes[-1], dtype=torch.float64), False)
        level, eye = made._levels[i], torch.eye(made.sizes[i], dtype=torch.float64)
        A, P = level.smoother.A(eye), level.P(torch.eye(made.sizes[i + 1], dtype=torch.float64))
        kept = (A.sum(1).abs() < 1e-9 * A.diagonal()) & (P != 0).any(1)
        torch.testing.assert_close(P.sum(1)[kept], torch.ones(int(kept.sum())).double())
        S = eye - level.smoother.apply(eye) @ A
        left = S @ (eye - P @ inverse(i + 1) @ P.T @ A) @ S
        return torch.linalg.solve(A.T, (eye - left).T).T

    eye = torch.eye(144, dtype=torch.float64)
    A = made._levels[0].smoother.A(eye) / made._scale
    torch.testing.assert_close(A / scale, dense(D) / scale)
    torch.testing.assert_close(scale * made.apply(eye), inverse(0) * made._scale * scale)
    torch.testing.assert_close(made.apply_adjoint(eye), made.apply(eye).T)


@pytest.mark.parametrize("parts", [1, 3])
def test_weights_of_the_points_that_are_not_kept(parts: int) -> None:
    """What a point k that is not kept gives to i is shared out among the kept points of k, and i itself."""
    D = in_parts(jumping(10), parts)
    A, sharding, values = dense(D).numpy(), D.sharding, D.slot_values()
    graph = kept_points._graph(sharding, values, 0.25)
    kept = kept_points.chosen(sharding, graph)
    layout, place = kept_points.numbered(sharding.rows, kept)
    P, entries = kept_points._interpolation(sharding, values, graph.strong, kept, layout, place)
    found = Product(P, entries)(torch.eye(layout.n, dtype=torch.float64)).numpy()
    marks = Product(sharding, graph.strong.double())(torch.eye(100, dtype=torch.float64))
    strong, at, wanted = marks.numpy() > 0, place.numpy(), np.zeros((100, layout.n))
    beta = np.where(strong & (at >= 0), A, 0.0)
    for i in range(100):
        if at[i] >= 0:
            wanted[i, at[i]] = 1.0
            continue
        length = A[i, i] + np.where(strong[i] | (np.arange(100) == i), 0.0, A[i]).sum()
        for k in np.flatnonzero(strong[i]):
            if at[k] >= 0:
                wanted[i, at[k]] -= A[i, k]
                continue
            share = beta[k] / (beta[k].sum() + A[i, k])
            wanted[i, at[share != 0]] -= A[i, k] * share[share != 0]
            length += A[i, k] * (1 - share.sum())
        wanted[i] /= length
    assert 20 < layout.n < 70
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


def test_tied_rows_of_an_unsymmetric_matrix_have_an_adjoint() -> None:
    M = sp.diags_array(1.0 + 0.3 * np.sin(np.arange(216))) @ flat_cells(1e3, edge=6)
    D = in_parts(M.toarray(), 2)
    made = Chebyshev(D.sharding, D.slot_values(), 2, edge=1)
    assert made._ties is not None
    eye = torch.eye(216, dtype=torch.float64)
    torch.testing.assert_close(made.apply_adjoint(eye), made.apply(eye).T)


def test_the_complement_of_a_saddle_point() -> None:
    """``C + B diag(A)⁻¹ Bᵀ`` of ``[[A, Bᵀ], [B, -C]]``."""
    X, C = normal(6, 6, seed=6).numpy(), np.diag([0.5, 2.0, 0.0]) + 0.1
    B = normal(3, 6, seed=7).numpy()
    D = in_parts(np.block([[X @ X.T + np.eye(6), B.T], [B, -C]]), 2)
    A = dense(D)
    dual = A.diagonal() < 0
    product, entries = block._complement(block._Blocks(D.sharding, dual), D.slot_values())
    found = Product(product, entries)(torch.eye(3, dtype=torch.float64))
    coupling = A[dual][:, ~dual]
    wanted = coupling / A.diagonal()[~dual] @ coupling.T - A[dual][:, dual]
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("loss", [1e-12, -1e-12])
def test_outgoing_waves_leave_a_subdomain_as_if_it_went_on(loss: float) -> None:
    """On a line, whose waves turn by ``2 asin(k h / 2)`` from point to point, whatever the length."""
    n, square = 24, 0.7
    M = np.diag(np.full(n, 2.0 - square + 1j * loss)) - np.eye(n, k=1) - np.eye(n, k=-1)
    D = SparseTensor.from_dense(torch.from_numpy(M)).partition(2, partition_method="simple")
    values, halo = D.slot_values(), D.sharding.halo
    turn = -np.sign(loss) * 2 * np.arcsin(np.sqrt(square) / 2)
    found = list(schwarz._squares(D.sharding, values, halo, outgoing=True))
    assert len(found) == 2
    for at, (_, pattern, a) in enumerate(found):
        local = SparseTensor.from_pattern(pattern, a).to_dense()
        j = torch.arange(n // 2 + 1, dtype=torch.float64)
        # Towards the cut: upwards in the first part, downwards in the second, whose halo comes last.
        j, end = (j, 0) if at == 0 else ((-j).roll(-1), n // 2 - 1)
        left = local @ torch.polar(torch.ones_like(j), turn * j)
        left[end] = 0.0  # where the whole line ends
        assert float(left.abs().max()) < 1e-10
