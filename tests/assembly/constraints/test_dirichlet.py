from __future__ import annotations

import pytest
import torch

import torch_sla.assembly as fem
from torch_sla.errors import ArgumentError
from torch_sla.linalg.sparse.pattern import Pattern


@pytest.fixture
def system(tools, generator):
    mesh = tools.distorted("triangle", 3)
    dofs = fem.Dofs(mesh, fem.lagrange("triangle", 1))
    values = torch.rand(2, dofs.pattern.nnz, generator=generator, dtype=torch.float64)
    values[:, dofs.pattern.diagonal_slots.long()] += 8.0
    load = torch.rand(3, 1, dofs.n, generator=generator, dtype=torch.float64)
    fixed = dofs.facet_dofs(mesh.facet_tags["left"]).flip(0)
    g = torch.rand(1, 2, len(fixed), generator=generator, dtype=torch.float64)
    return dofs, values, load, fixed, g


def dense(dofs, values):
    out = torch.zeros(*values.shape[:-1], dofs.n, dofs.n, dtype=values.dtype)
    out[..., dofs.pattern.csr_row.long(), dofs.pattern.ccol.long()] = values
    return out


def constrained_solve(dofs, constraint, values, load, g):
    matrix, right = constraint.apply(values, load, g)
    return constraint.recover(torch.linalg.solve(dense(dofs, matrix), right[..., None])[..., 0], g)


def test_equals_elimination_for_batches_of_everything(system):
    dofs, values, load, fixed, g = system
    constraint = fem.DirichletConstraint(dofs.pattern, fixed)
    assert constraint.free.sum() == dofs.n - len(fixed)
    u = constrained_solve(dofs, constraint, values, load, g)
    assert u.shape == (3, 2, dofs.n)
    free = torch.nonzero(constraint.free)[:, 0]
    K = dense(dofs, values)
    right = load[..., free] - (K[:, free][..., fixed] @ g[..., None])[..., 0]
    expected = torch.linalg.solve(K[:, free][..., free], right[..., None])[..., 0]
    torch.testing.assert_close(u[..., free], expected)
    torch.testing.assert_close(u[..., fixed], g.expand(3, 2, -1), rtol=0, atol=0)


def test_a_batch_of_loads_keeps_one_matrix(system):
    dofs, values, load, fixed, g = system
    constraint = fem.DirichletConstraint(dofs.pattern, fixed)
    matrix, right = constraint.apply(values[0], load, g)
    assert matrix.shape == (dofs.pattern.nnz,)
    assert right.shape == (3, 2, dofs.n)


def test_symmetry_is_kept_and_the_diagonal_scaled(system):
    dofs, values, load, fixed, g = system
    K = dense(dofs, values)
    symmetric = (K + K.mT)[..., dofs.pattern.csr_row.long(), dofs.pattern.ccol.long()]
    constraint = fem.DirichletConstraint(dofs.pattern, fixed)
    matrix = dense(dofs, constraint.apply(symmetric, load, g)[0])
    torch.testing.assert_close(matrix, matrix.mT)
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    scale = diagonal[:, constraint.free].mean(1, keepdim=True)
    torch.testing.assert_close(diagonal[:, fixed], scale.expand(-1, len(fixed)))


def test_derivatives_to_values_load_and_prescribed_values(system):
    dofs, values, load, fixed, g = system
    constraint = fem.DirichletConstraint(dofs.pattern, fixed)
    inputs = [t.clone().requires_grad_() for t in (values[0], load[0, 0], g[0, 0])]

    def function(values, load, g):
        return constrained_solve(dofs, constraint, values, load, g)

    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


def test_no_prescribed_dofs_and_all_of_them(system):
    dofs, values, load, _, _ = system
    none = fem.DirichletConstraint(dofs.pattern, torch.zeros(0, dtype=torch.int64))
    same, right = none.apply(values, load, torch.zeros(0, dtype=torch.float64))
    assert torch.equal(same, values)
    assert torch.equal(right, load)
    every = fem.DirichletConstraint(dofs.pattern, torch.arange(dofs.n))
    g = torch.arange(dofs.n, dtype=torch.float64)
    u = constrained_solve(dofs, every, values[0], load[0, 0], g)
    torch.testing.assert_close(u, g, rtol=0, atol=0)
    assert not every.restrict(u).any()
    assert not every.reduce(u, torch.empty_like(u)).any()


def test_bad_input_is_refused(system):
    dofs, values, load, fixed, _ = system
    with pytest.raises(ArgumentError, match="dof 0 is prescribed twice"):
        fem.DirichletConstraint(dofs.pattern, torch.tensor([0, 1, 0]))
    with pytest.raises(ArgumentError, match="there are 16 dofs"):
        fem.DirichletConstraint(dofs.pattern, torch.tensor([16]))
    with pytest.raises(ArgumentError, match="expected integer indices"):
        fem.DirichletConstraint(dofs.pattern, torch.tensor([0.5]))
    twice = Pattern.from_coo(torch.tensor([0, 0]), torch.tensor([0, 0]), (1, 1))
    with pytest.raises(ArgumentError, match="coalesce"):
        fem.DirichletConstraint(twice, torch.tensor([0]))
    hollow = Pattern.from_coo(torch.tensor([0, 1]), torch.tensor([1, 0]), (2, 2))
    with pytest.raises(ArgumentError, match="no diagonal entry for dof 1"):
        fem.DirichletConstraint(hollow, torch.tensor([1]))
    constraint = fem.DirichletConstraint(dofs.pattern, fixed)
    with pytest.raises(ArgumentError, match=r"g: got shape \(3,\); the last dimension must be 4"):
        constraint.apply(values, load, torch.ones(3, dtype=torch.float64))
