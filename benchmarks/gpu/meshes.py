"""Matrices of unstructured meshes, made on the device."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from torch_sla.linalg.kernels import sparse as kernels
from torch_sla.linalg.sparse.pattern import Pattern

__all__ = ["elasticity", "mesh", "stiffness"]


def numbering(shape: tuple[int, ...], order: str, device: str) -> Tensor:
    """New number of each lattice point."""
    generator = torch.Generator(device=device).manual_seed(11)
    index = [torch.arange(s, device=device) for s in shape]
    grid = torch.meshgrid(*index, indexing="ij")
    n = grid[0].numel()
    key = torch.randperm(n, generator=generator, device=device)
    if order == "local":
        tile = 64 if len(shape) == 2 else 16
        counts = [-(-s // tile) for s in shape]
        tiles = torch.zeros_like(grid[0])
        for g, c in zip(grid, counts, strict=True):
            tiles = tiles * c + g // tile
        total = 1
        for c in counts:
            total *= c
        shuffled = torch.randperm(total, generator=generator, device=device)
        key = shuffled[tiles.flatten()] * n + key
    position = torch.empty(n, dtype=torch.int64, device=device)
    position[key.argsort()] = torch.arange(n, device=device)
    return position.reshape(shape)


def mesh(shape: tuple[int, ...], order: str, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Points ``[n, dim]``, cells ``[m, dim + 1]`` and the fixed points of a perturbed unit box."""
    dim = len(shape)
    generator = torch.Generator(device=device).manual_seed(7)
    number = numbering(shape, order, device)
    axes = [torch.linspace(0, 1, s, device=device, dtype=torch.float64) for s in shape]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    spacing = torch.tensor([1 / (s - 1) for s in shape], device=device, dtype=torch.float64)
    noise = torch.rand(points.shape, generator=generator, device=device, dtype=torch.float64) - 0.5
    points = points + (0.4 if dim == 2 else 0.2) * spacing * noise
    corner = {
        c: number[tuple(slice(o, s - 1 + o) for o, s in zip(c, shape, strict=True))].flatten()
        for c in itertools.product((0, 1), repeat=dim)
    }
    if dim == 2:
        a, b, c, d = corner[0, 0], corner[1, 0], corner[0, 1], corner[1, 1]
        flip = torch.rand(a.shape, generator=generator, device=device) < 0.5
        first = torch.stack([a, b, torch.where(flip, d, c)], 1)
        second = torch.stack([torch.where(flip, a, b), d, c], 1)
        cells = torch.cat([first, second])
    else:
        parts = []
        for path in itertools.permutations(range(3)):
            at, chain = [0, 0, 0], [corner[0, 0, 0]]
            for axis in path:
                at[axis] = 1
                chain.append(corner[tuple(at)])
            parts.append(torch.stack(chain, 1))
        cells = torch.cat(parts)
    flat = torch.empty_like(points.reshape(-1, dim))
    flat[number.flatten()] = points.reshape(-1, dim)
    return flat, cells, number[0].flatten()


def stiffness(points: Tensor, cells: Tensor, fixed: Tensor, jump: float) -> tuple[Pattern, Tensor]:
    """P1 matrix with a coefficient that jumps between blocks; unit rows where the solution is fixed."""
    n, dim = points.shape
    device = points.device
    generator = torch.Generator(device=device).manual_seed(3)
    edges = points[cells[:, 1:]] - points[cells[:, :1]]
    centre = (points[cells].mean(1) * 8).long().clamp(0, 7)
    block = centre[:, 0]
    for d in range(1, dim):
        block = block * 8 + centre[:, d]
    high = torch.rand(8**dim, generator=generator, device=device) < 0.5
    kappa = torch.where(high[block], jump, 1.0).double()
    # Columns of the inverse are the gradients of all shape functions but the first.
    if dim == 2:
        (a, b), (c, d) = edges[:, 0].unbind(1), edges[:, 1].unbind(1)
        det, cofactors = a * d - b * c, torch.stack([d, -b, -c, a], 1)
    else:
        u, v, w = edges.unbind(1)
        columns = [torch.linalg.cross(v, w), torch.linalg.cross(w, u), torch.linalg.cross(u, v)]
        det, cofactors = (u * columns[0]).sum(1), torch.stack(columns, 2)
    volume = det.abs() / (2 if dim == 2 else 6)
    grad = cofactors.reshape(-1, dim, dim) / det[:, None, None]
    grad = torch.cat([-grad.sum(2, keepdim=True), grad], 2)
    local = grad.new_empty(cells.shape[0], dim + 1, dim + 1)
    for i, j in itertools.product(range(dim + 1), repeat=2):
        local[:, i, j] = volume * kappa * (grad[:, :, i] * grad[:, :, j]).sum(1)
    del edges, grad, centre
    k = dim + 1
    row = cells.int().repeat_interleave(k, 1).flatten()
    col = cells.int().repeat(1, k).flatten()
    pattern = Pattern.from_coo(row, col, (n, n))
    values = pattern.coalesce(local.flatten())
    del row, col, local
    pattern = Pattern.from_csr(pattern.crow, pattern.ccol, (n, n))
    is_fixed = torch.zeros(n, dtype=torch.bool, device=device)
    is_fixed[fixed] = True
    rows = kernels.expand_rows(pattern.crow)
    cut = (is_fixed[rows] | is_fixed[pattern.ccol.long()]) & (rows != pattern.ccol)
    values[cut] = 0.0
    return pattern, values


def elasticity(shape: tuple[int, ...], device: str) -> tuple[Pattern, Tensor, Tensor]:
    """Q1 hexahedra with Poisson's ratio 0.3, clamped at one face; pattern, values, points."""
    nu = 0.3
    lame, shear = nu / ((1 + nu) * (1 - 2 * nu)), 0.5 / (1 + nu)
    corners = torch.tensor(list(itertools.product((0, 1), repeat=3)), dtype=torch.float64)
    stiff = torch.zeros(8, 3, 8, 3, dtype=torch.float64)
    for point in itertools.product((0.5 - 0.5 / 3**0.5, 0.5 + 0.5 / 3**0.5), repeat=3):
        at = torch.tensor(point, dtype=torch.float64)
        factor, slope = torch.where(corners == 1, at, 1 - at), 2 * corners - 1
        grad = torch.stack(
            [slope[:, d] * factor[:, [e for e in range(3) if e != d]].prod(1) for d in range(3)], 1
        )
        stiff += lame * torch.einsum("ai,bj->aibj", grad, grad) / 8
        stiff += shear * torch.einsum("aj,bi->aibj", grad, grad) / 8
        stiff += shear * torch.einsum("ak,bk,ij->aibj", grad, grad, torch.eye(3).double()) / 8
    number = numbering(shape, "local", device)
    nodes = torch.stack(
        [
            number[
                tuple(slice(int(o), s - 1 + int(o)) for o, s in zip(c, shape, strict=True))
            ].flatten()
            for c in corners
        ],
        1,
    )
    dofs = (
        nodes.int()[:, :, None] * 3 + torch.arange(3, dtype=torch.int32, device=device)
    ).flatten(1)
    n, cells = 3 * number.numel(), dofs.shape[0]
    pattern = Pattern.from_coo(
        dofs.repeat_interleave(24, 1).flatten(), dofs.repeat(1, 24).flatten(), (n, n)
    )
    local = stiff.reshape(1, 576).to(device).expand(cells, -1).flatten()
    values = pattern.coalesce(local)
    pattern = Pattern.from_csr(pattern.crow, pattern.ccol, (n, n))
    fixed = torch.zeros(n, dtype=torch.bool, device=device)
    fixed[(number[0].flatten()[:, None] * 3 + torch.arange(3, device=device)).flatten()] = True
    rows = kernels.expand_rows(pattern.crow)
    cut = (fixed[rows] | fixed[pattern.ccol.long()]) & (rows != pattern.ccol)
    values[cut] = 0.0
    grid = torch.meshgrid(*[torch.arange(s, device=device) for s in shape], indexing="ij")
    points = torch.empty(number.numel(), 3, dtype=torch.float64, device=device)
    points[number.flatten()] = torch.stack(grid, -1).reshape(-1, 3).double()
    return pattern, values, points
