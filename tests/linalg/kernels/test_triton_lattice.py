"""Triton kernels against their torch fallbacks: on CUDA, and on the CPU under Triton's interpreter."""

from __future__ import annotations

import os
from math import prod
from typing import Any

import pytest
import torch

from tests.helpers.devices import ON_CUDA
from tests.helpers.grids import split
from tests.helpers.lattices import box_stencil, checkerboard, laplacian
from torch_sla.linalg.kernels import (
    krylov,
    krylov_fallback,
    lattice,
    lattice_fallback as fallback,
    sparse_fallback,
)
from torch_sla.linalg.kernels.lattice_detect import find_lattice
from torch_sla.linalg.kernels.stencils import AxisWeights, Lattice, Stencil

pytest.importorskip("triton", reason="triton is not installed")

WHERE = [
    ON_CUDA,
    pytest.param(
        "cpu",
        marks=pytest.mark.skipif(
            os.environ.get("TRITON_INTERPRET") != "1", reason="needs TRITON_INTERPRET=1"
        ),
    ),
]
SYSTEMS = {
    "plane": lambda: laplacian(21, 33),
    "solid": lambda: laplacian(9, 12, 7),
    "nine": lambda: box_stencil(17, 20),
    "flat": lambda: box_stencil(9, 11, 8, edges=(1.0, 4.0, 4.0)),
    "jumps": lambda: checkerboard(24, 1e3, 6),
    "line": lambda: laplacian(300),
}
DTYPES = [torch.float32, torch.float64]


def kernels(name: str) -> Any:
    from torch_sla.linalg.kernels.triton import dense, krylov, lattice, patterns

    named = {"dense": dense, "lattice": lattice, "krylov": krylov, "patterns": patterns}
    return named[name]


def near(
    a: torch.Tensor, b: torch.Tensor, size: float | None = None, dtype: torch.dtype | None = None
) -> None:
    eps = torch.finfo(dtype or b.dtype).eps
    scale = float(b.abs().max()) if size is None else size
    assert float((a - b).abs().max()) <= 64 * eps * scale


def stencil(name: str, dtype: torch.dtype, where: str) -> tuple[Stencil, torch.Tensor]:
    pattern, values = split(SYSTEMS[name]())
    values = values * (1 + 0.1 * torch.rand_like(values))
    pattern, values = pattern.to(where), values.to(where)
    A = Stencil.empty(find_lattice(pattern.crow, pattern.ccol), dtype, values.device)
    fallback.load(A, pattern.crow, pattern.ccol, values, 1.0)
    made = Stencil.empty(A.lattice, dtype, values.device)
    kernels("lattice").load(made, pattern.crow, pattern.ccol, values, 1.0)
    assert torch.equal(made.planes[:, : A.n], A.planes[:, : A.n])
    return A, torch.zeros(1, dtype=torch.int32, device=where)


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SYSTEMS)
def test_coarsening(name: str, dtype: torch.dtype, where: str) -> None:
    ours = kernels("lattice")
    A, _ = stencil(name, dtype, where)
    for axis in range(3):
        if A.lattice.shape[axis] == 1:
            continue
        M, reference = (torch.empty(A.n, dtype=dtype, device=where) for _ in range(2))
        found = torch.empty(2, 6, dtype=torch.float64, device=where)
        ours.survey(A, M, found[0])
        fallback.survey(A, reference, found[1])
        near(found[0], found[1], dtype=dtype)  # of sums in it
        near(M, reference)
        halved = (True, False, axis == 2)
        ours.contrary(A, halved, found[0, 0])
        fallback.contrary(A, halved, found[1, 0])
        assert abs(float(found[0, 0] - found[1, 0])) <= A.n // 100  # rows on the threshold
        w, expected = AxisWeights.empty(A, axis), AxisWeights.empty(A, axis)
        ours.axis_weights(A, w)
        fallback.axis_weights(A, expected)
        near(w.low, expected.low)
        near(w.high, expected.high)
        coarse = A.lattice.coarsened(axis)
        C, reference_c = (Stencil.empty(coarse, dtype, A.device) for _ in range(2))
        ours.galerkin(A, expected, C)
        fallback.galerkin(A, expected, reference_c)
        near(C.planes[:, : C.n], reference_c.planes[:, : C.n])
        A = reference_c


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 3), (7, 5), (8, 8), (4, 5, 3), (31,), (63,)])
def test_small_inverses(shape: tuple[int, ...], dtype: torch.dtype, where: str) -> None:
    pattern, values = split(laplacian(*shape))
    row = pattern.csr_row
    d = 1 + torch.rand(pattern.shape[0], dtype=torch.float64)
    values = values * d[row.long()] * d[pattern.ccol.long()]  # symmetric, no longer constant
    pattern, values = pattern.to(where), values.to(where)
    A = Stencil.empty(find_lattice(pattern.crow, pattern.ccol), dtype, values.device)
    fallback.load(A, pattern.crow, pattern.ccol, values, 1.0)
    out = torch.empty(2, 2, dtype=torch.float64, device=where)
    got, expected = (torch.empty(A.n, A.n, dtype=dtype, device=where) for _ in range(2))
    kernels("dense").invert(A, got, out[0])
    fallback.invert(A, expected, out[1])
    near(got, expected, 100 * float(expected.abs().max()))  # the line has a condition of 1e3
    near(out[0, :1], out[1, :1], 1.0)
    assert float(out[0, 1]) <= torch.finfo(dtype).eps
    assert 0 < float(out[0, 0]) < 1


@pytest.mark.parametrize("where", WHERE)
def test_what_has_no_inverse_says_so(where: str) -> None:
    A, _ = stencil("plane", torch.float64, where)
    A = Stencil.empty(Lattice((4, 3, 1), A.lattice.codes), torch.float64, A.device)
    out = torch.empty(2, dtype=torch.float64, device=where)
    inverse = torch.empty(A.n, A.n, dtype=torch.float64, device=where)
    A.planes.zero_()
    kernels("dense").invert(A, inverse, out)
    assert float(out[0]) == 0  # nothing at all
    A.plane(13).fill_(1.0)
    A.plane(14)[0] = 0.5
    kernels("dense").invert(A, inverse, out)
    assert out.tolist() == [1.0, 0.5]  # not symmetric
    A.plane(13)[5] = float("nan")
    kernels("dense").invert(A, inverse, out)
    assert not float(out[0]) > 0


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SYSTEMS)
def test_passes_of_a_cycle(name: str, dtype: torch.dtype, where: str) -> None:
    ours = kernels("lattice")
    A, flag = stencil(name, dtype, where)
    M = torch.empty(A.n, dtype=dtype, device=where)
    fallback.survey(A, M, torch.empty(6, dtype=torch.float64, device=where))
    weights, coarse = [], A
    for axis in range(3):
        if A.lattice.shape[axis] > 1:
            w = AxisWeights.empty(coarse, axis)
            fallback.axis_weights(coarse, w)
            below = Stencil.empty(coarse.lattice.coarsened(axis), dtype, A.device)
            fallback.galerkin(coarse, w, below)
            weights.append(w)
            coarse = below
    x = torch.randn(A.n, dtype=dtype, device=where)
    got, expected = torch.empty_like(x), torch.empty_like(x)
    dots, reference = (lattice.partials(A.n, A.device) for _ in range(2))
    large = float(A.planes[:, : A.n].abs().max())
    for kind in DTYPES:
        f = torch.randn(A.n, dtype=kind, device=where)
        for module, out in ((ours, got), (fallback, expected)):
            module.residual_after_first(A, M, f, out, flag)
        near(got, expected, 8 + 8 * large)
        for module, out in ((ours, got), (fallback, expected)):
            module.residual(A, f, x, out, flag)
        near(got, expected, 8 + 8 * large)
        for module, out, parts in ((ours, got, dots), (fallback, expected, reference)):
            module.relax(A, M, f, x, out, parts, flag)
        near(got, expected, 8 + 8 * large)
        assert abs(float(dots.sum() - reference.sum())) <= 1e-4 * A.n
    for chosen in (weights, weights[:1]):
        size = prod(chosen[-1].fine.halved(chosen[-1].axis))
        r, reference_r = (torch.empty(size, dtype=dtype, device=where) for _ in range(2))
        ours.restrict(A.lattice, chosen, x, r, flag)
        fallback.restrict(A.lattice, chosen, x, reference_r, flag)
        near(r, reference_r)
        for smoother, f in ((M, torch.randn(A.n, dtype=torch.float64, device=where)), (None, x)):
            ours.correct(A.lattice, chosen, reference_r, smoother, f, got, flag)
            fallback.correct(A.lattice, chosen, reference_r, smoother, f, expected, flag)
            near(got, expected)
    ours.matvec_dot(A, x, got, dots, flag)
    fallback.matvec_dot(A, x, expected, reference, flag)
    near(got, expected, 8 * large)
    near(dots.sum(), reference.sum(), A.n * 8 * large, dtype=dtype)
    inverse = torch.randn(70, 70, dtype=dtype, device=where)
    for transpose in (False, True):
        z, reference_z = (torch.empty(70, dtype=dtype, device=where) for _ in range(2))
        ours.dense_apply(inverse, x[:70].contiguous(), z, flag, transpose)
        fallback.dense_apply(inverse, x[:70].contiguous(), reference_z, flag, transpose)
        near(z, reference_z, 30.0)


@pytest.mark.parametrize("where", WHERE)
def test_a_set_flag_stops_everything(where: str) -> None:
    ours = kernels("lattice")
    A, flag = stencil("plane", torch.float32, where)
    flag.fill_(1)
    x, out = torch.ones(A.n, device=where), torch.full((A.n,), 7.0, device=where)
    ours.residual(A, x, x, out, flag)
    ours.residual_after_first(A, x, x, out, flag)
    assert bool((out == 7.0).all())


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("dtype", DTYPES)
def test_steps_of_conjugate_gradients(dtype: torch.dtype, where: str) -> None:
    n, device = 5000, torch.device(where)
    made = []
    for module in (kernels("krylov"), krylov_fallback):
        torch.manual_seed(4)
        z, p, q, x, r = (torch.randn(n, dtype=dtype).to(device) for _ in range(5))
        dots = torch.rand(5, dtype=torch.float64).to(device)
        s = krylov.Scalars.empty(20, device)
        module.begin(s, dots, dots, 0.0, 0.0)
        for _ in range(2):
            module.start(s, dots)
            module.direction(s, z.float(), p)
            module.curvature(s, dots)
            module.update(s, p, q, x, r, dots)
            module.test(s, dots)
            dots[0] += 1
        bad = torch.full((5,), -1.0, dtype=torch.float64, device=device)
        module.curvature(s, bad)
        made.append((p, x, r, dots, s.numbers[:4], s.history, s.steps, s.flag))
    for got, expected in zip(*made, strict=True):
        if got.is_floating_point():
            near(got, expected)
        else:
            assert torch.equal(got, expected)
    assert int(made[0][-1]) == krylov.BREAKDOWN


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("n", [1, 1024, 5000])
def test_partial_sums_of_a_dot_product(n: int, where: str) -> None:
    torch.manual_seed(6)
    x, y = torch.randn(n).to(where), torch.randn(n, dtype=torch.float64).to(where)
    dots, expected = (lattice.partials(n, x.device) for _ in range(2))
    kernels("krylov").store_dots(dots, x, y)
    krylov_fallback.store_dots(expected, x, y)
    near(dots, expected)
    assert torch.isclose(dots.sum(), x.double() @ y)


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("subtract", [False, True])
def test_beginnings_of_conjugate_gradients(subtract: bool, dtype: torch.dtype, where: str) -> None:
    n = 5000
    torch.manual_seed(5)
    b, q, r, p = (torch.randn(n, dtype=dtype).to(where) for _ in range(4))
    for rtol, atol, flag in (
        (1e-8, 0.0, krylov.RUNNING),
        (0.0, 1e-3, krylov.RUNNING),
        (2.0, 0.0, krylov.CONVERGED),
    ):
        made = []
        for module in (kernels("krylov"), krylov_fallback):
            r, p = torch.full_like(b, 7.0), torch.full_like(b, 7.0)
            dots, b_dots = (lattice.partials(n, b.device) for _ in range(2))
            module.residual(b, q if subtract else None, r, p, dots, b_dots)
            s = krylov.Scalars.empty(20, b.device)
            s.memory.fill_(3.0)
            module.begin(s, dots, b_dots, rtol, atol)
            made.append((s.numbers, s.history[:1], r, p))
            assert (int(s.flag), int(s.steps)) == (flag, 0)
            told = krylov.Scalars.over(s.memory.cpu())
            assert (int(told.flag), float(told.numbers[5])) == (flag, float(s.numbers[5]))
            # To the last digits of a double, although kernels take numbers in single precision.
            target = max(rtol * float(s.numbers[5]), atol) ** 2
            assert abs(float(s.numbers[4]) / target - 1) < 1e-13
        for got, expected in zip(*made, strict=True):
            near(got, expected)
    for module in (kernels("krylov"), krylov_fallback):
        given, sums = b.clone(), [lattice.partials(n, b.device) for _ in range(2)]
        module.residual(given, q if subtract else None, given, p, *sums)
        for got, expected in zip((given, *sums), (r, dots, b_dots), strict=True):
            near(got, expected)
        module.begin(s, dots, b_dots, 0.0, 1e60)  # no number of single precision
        assert int(s.flag) == krylov.CONVERGED
    b[3] = float("nan")
    module = kernels("krylov")
    module.residual(b, None, r, p, dots, b_dots)
    module.begin(s, dots, b_dots, 1e-8, 0.0)
    assert int(s.flag) == krylov.NONFINITE


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("name", SYSTEMS)
def test_questions_about_patterns(name: str, where: str) -> None:
    ours = kernels("patterns")
    pattern, values = split(SYSTEMS[name]())
    crow, ccol, row = (t.to(where) for t in (pattern.crow, pattern.ccol, pattern.csr_row))
    assert torch.equal(ours.sorted_rows(row, ccol, pattern.shape[0]), crow)
    assert ours.sorted_rows(row.flip(0), ccol, pattern.shape[0]) is None
    assert torch.equal(ours.mirrored_slots(crow, ccol).cpu(), pattern.transpose_permutation)
    moved = values.to(where)
    near(ours.largest_row_sum(crow, moved).cpu(), pattern.sum_rows(values.abs()).amax())
    words = moved.view(torch.int64).repeat(2, 1)
    others = ccol.view(1, -1)
    *twice, other = ours.hash_words([words, others], sparse_fallback.CONSTANTS).tolist()
    for sums in twice:
        found = sparse_fallback.finished(sums, 8 * len(values))
        assert found == sparse_fallback.fingerprint(values.view(torch.uint8))
    assert [other] == ours.hash_words([others], sparse_fallback.CONSTANTS).tolist()
    changed = values.clone()
    changed[1] *= 1.1  # beside the first diagonal entry
    for v, symmetric in ((values, True), (changed, False)):
        counts = ours.structure_counts(crow, ccol, v.to(where)).tolist()
        assert (counts[0] == 0, counts[1] == 0, counts[2]) == (True, symmetric, 0)
    small, beside = (
        torch.tensor([2.0, 1e-9, 1e-9 + x, 2.0], dtype=values.dtype) for x in (0, 1e-15)
    )
    for v, rounded in ((small, 0), (beside, 2)):
        full = (torch.tensor(x, dtype=crow.dtype, device=where) for x in ([0, 2, 4], [0, 1, 0, 1]))
        assert ours.structure_counts(*full, v.to(where)).tolist()[:3] == [0, 0, rounded]
    members = [values.to(where), changed.to(where), -values.to(where)]
    each = torch.stack([ours.structure_counts(crow, ccol, v) for v in members])
    *counts, longest = ours.structure_counts(crow, ccol, torch.stack(members)).tolist()
    assert each[:, :-1].sum(0).tolist() == counts
    assert each[:, -1].tolist() == [longest] * 3 == [int(crow.diff().amax())] * 3


@pytest.mark.parametrize("where", WHERE)
def test_empty_rows_and_one_sided_patterns(where: str) -> None:
    ours = kernels("patterns")
    row = torch.tensor([1, 1, 4], dtype=torch.int32, device=where)
    col = torch.tensor([0, 3, 1], dtype=torch.int32, device=where)
    assert ours.sorted_rows(row, col, 7).tolist() == [0, 0, 2, 2, 2, 3, 3, 3]
    crow = ours.sorted_rows(row, col, 5)
    assert ours.mirrored_slots(crow, col) is None
    counts = ours.structure_counts(
        crow, col, torch.ones(3, dtype=torch.float64, device=where)
    ).tolist()
    assert counts[:4] == [3, 0, 0, 5]


@pytest.mark.parametrize("where", WHERE)
def test_long_rows_are_not_paired(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = kernels("patterns")
    pattern, _ = split(laplacian(6, 5))
    crow, ccol = pattern.crow.to(where), pattern.ccol.to(where)
    monkeypatch.setattr(ours, "WIDEST", 5)
    assert ours.mirrored_slots(crow, ccol) is not None
    monkeypatch.setattr(ours, "WIDEST", 4)
    assert ours.mirrored_slots(crow, ccol) is None


@pytest.mark.parametrize("where", WHERE)
def test_faults_of_compressed_rows(where: str) -> None:
    ours = kernels("patterns")
    pattern, _ = split(laplacian(6, 5))
    crow, ccol = pattern.crow.to(where), pattern.ccol.to(where)
    n, nnz = pattern.shape[0], len(ccol)
    assert ours.sound_rows(crow, ccol, n)
    assert not ours.sound_rows(crow, ccol, n - 1)
    for place, value in ((0, 1), (n, nnz - 1), (7, 0), (7, nnz + 5), (3, -2)):
        broken = crow.clone()
        broken[place] = value
        assert not ours.sound_rows(broken, ccol, n)
    for place, value in ((4, -1), (4, int(ccol[5])), (9, n)):
        broken = ccol.clone()
        broken[place] = value
        assert not ours.sound_rows(crow, broken, n)


@pytest.mark.parametrize("where", WHERE)
def test_wide_indices(where: str) -> None:
    ours = kernels("patterns")
    pattern, values = split(laplacian(6, 5))
    n = pattern.shape[0]
    crow, ccol, row = (t.to(where) for t in (pattern.crow, pattern.ccol, pattern.csr_row))
    wide = [t.long() for t in (crow, ccol, row)]
    v = values.to(where)
    assert find_lattice(*wide[:2]) == find_lattice(crow, ccol)
    assert ours.sound_rows(*wide[:2], n)
    assert torch.equal(ours.structure_counts(*wide[:2], v), ours.structure_counts(crow, ccol, v))
    assert torch.equal(ours.sorted_rows(wide[2], wide[1], n), wide[0])
    assert torch.equal(ours.mirrored_slots(*wide[:2]), ours.mirrored_slots(crow, ccol).long())
    assert torch.equal(ours.largest_row_sum(wide[0], v), ours.largest_row_sum(crow, v))
    made = [Stencil.empty(find_lattice(crow, ccol), v.dtype, v.device) for _ in range(2)]
    kernels("lattice").load(made[0], crow, ccol, v, 1.0)
    kernels("lattice").load(made[1], *wide[:2], v, 1.0)
    assert torch.equal(made[0].planes[:, :n], made[1].planes[:, :n])
