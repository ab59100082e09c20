"""Assembly in chunks: the same sums, the same derivatives, bounded memory."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.assembly import weak
from torch_sla.errors import ArgumentError


@pytest.mark.parametrize("cell", ["line", "triangle", "quad", "tetra", "hexahedron"])
def test_equal_to_assembly_at_once(tools, cell, generator):
    mesh = tools.distorted(cell, 2)
    dofs = fem.Dofs(mesh, fem.lagrange(cell, 1), mesh.dim)
    mu = torch.rand(2, mesh.n_cells, 1, generator=generator, dtype=torch.float64)
    basis = fem.CellBasis(mesh, dofs.element, components=mesh.dim)
    work = fem.ChunkedAssembly(dofs, 3)

    def piece(cells):
        basis = fem.CellBasis(mesh, dofs.element, components=mesh.dim, cells=cells)
        return weak.elasticity(basis, lam=1.0, mu=mu[:, cells])

    def load(cells):
        basis = fem.CellBasis(mesh, dofs.element, components=mesh.dim, cells=cells)
        return weak.vector_source(basis, f=basis.x)

    whole = dofs.assemble_matrix(weak.elasticity(basis, lam=1.0, mu=mu))
    torch.testing.assert_close(work.matrix(piece), whole)
    assert torch.equal(work.matrix(piece), work.matrix(piece))
    torch.testing.assert_close(
        work.vector(load), dofs.assemble_vector(weak.vector_source(basis, f=basis.x))
    )


def test_derivatives(tools, generator):
    mesh = tools.distorted("triangle", 2)
    pair = fem.MixedDofs(
        {
            "u": fem.Dofs(mesh, fem.lagrange("triangle", 2), 2),
            "p": fem.Dofs(mesh, fem.lagrange("triangle", 1)),
        }
    )
    work = fem.ChunkedAssembly(pair, 5)
    form = fem.BilinearForm(lambda u, v, w: w.k**2 * fem.inner(fem.grad(u), fem.grad(v)))

    def function(k, points):
        def piece(cells):
            basis = fem.CellBasis(
                mesh, pair.fields["u"].element, points=points, components=2, cells=cells
            )
            return pair.block_matrices({("u", "u"): form(basis, k=k[cells])})

        return work.matrix(piece)

    k = torch.rand(mesh.n_cells, 1, generator=generator, dtype=torch.float64).requires_grad_()
    points = mesh.points.clone().requires_grad_()
    assert torch.autograd.gradcheck(function, (k, points), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (k, points), fast_mode=True)


def test_a_chunk_has_cells(tools):
    with pytest.raises(ArgumentError, match="at least one cell at a time"):
        fem.ChunkedAssembly(fem.Dofs(tools.structured("line", 2), fem.lagrange("line")), 0)


MEMORY = """
    import re
    import torch
    import torch_sla.assembly as fem
    from torch_sla.assembly import weak

    def status(name):
        return 1024 * int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read()).group(1))

    def size(*tensors):
        return sum(t.numel() * t.element_size() for t in tensors)

    torch.set_num_threads(1)
    mesh = fem.box_mesh((12, 12, 12))
    chunk, n = 2048, 30

    def assemble(mesh, chunk, k):
        dofs = fem.Dofs(mesh, fem.lagrange("tetra", 2), 3)
        work = fem.ChunkedAssembly(dofs, chunk)

        def piece(cells):
            basis = fem.CellBasis(mesh, dofs.element, 2, components=3, cells=cells)
            return weak.elasticity(basis, lam=1.0, mu=k[cells])

        return dofs, work, work.matrix(piece)

    small = fem.box_mesh((2, 2, 2))
    k = torch.ones(small.n_cells, 1, dtype=torch.float64, requires_grad=True)
    assemble(small, 16, k)[2].sum().backward()
    before = status("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")
    k = torch.ones(mesh.n_cells, 1, dtype=torch.float64, requires_grad=True)
    dofs, work, values = assemble(mesh, chunk, k)
    values.sum().backward()
    peak = status("VmHWM") - before
    maps = [m for _, m in work._maps.values()]
    matrix = size(values, dofs.pattern.crow, dofs.pattern.ccol)
    scatter = sum(m.nbytes for m in maps) + size(*(e for e, _ in work._maps.values()))
    local = 8 * chunk * n * n
    print(peak / (matrix + scatter + local), 8 * mesh.n_cells * n * n / peak)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_memory_is_bounded():
    """Matrix, maps and gradient together stay within twice the matrix, its maps and one chunk."""
    script = textwrap.dedent(MEMORY)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    ratio, _ = (float(word) for word in done.stdout.split())
    assert ratio < 2.0
