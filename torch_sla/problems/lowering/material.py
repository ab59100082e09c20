"""Stiffness of elastic materials between strains and stresses along the axes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from torch_sla.assembly import weak
from torch_sla.errors import ArgumentError
from torch_sla.linalg.checks import require

__all__ = ["Material", "flat", "isotropic", "orthotropic"]


class Material(NamedTuple):
    """Stiffness at sites.

    ``N [..., 3, 3]`` maps strains along the axes to stresses, ``G [..., 3]`` are shear moduli (yz, xz, xy),
    ``out [..., 3]`` maps stresses to the strain out of the plane, where stress is plane. ``lam mu`` are the
    parameters of an isotropic material.
    """

    N: Tensor
    G: Tensor
    out: Tensor
    lam: Tensor | None = None
    mu: Tensor | None = None


def flat(like: Tensor) -> Tensor:
    """Return 1 for the two axes of a plane, 0 for the third ``[3]``."""
    return (torch.arange(3, device=like.device) < 2).to(like.dtype)


def isotropic(E: Tensor, nu: Tensor, kind: str) -> Material:
    """Return the material of Young's modulus and Poisson's ratio in a model of that kind."""
    lam, mu = weak.lame_parameters(E, nu, kind)
    one = torch.ones(3, 3, dtype=E.dtype, device=E.device)
    eye = torch.eye(3, dtype=E.dtype, device=E.device)
    if kind == "plane_stress":
        keep = flat(one)
        one, eye = torch.outer(keep, keep), torch.diag(keep)
    N = lam[..., None, None] * one + 2.0 * mu[..., None, None] * eye
    out = (-nu / E)[..., None] * flat(one)
    return Material(N, mu[..., None].expand(*mu.shape, 3), out, lam, mu)


def orthotropic(E: Tensor, nu: Tensor, G: Tensor, kind: str) -> Material:
    """Return the material of three moduli, ratios (xy, yz, xz) and shear moduli (yz, xz, xy)."""
    E, nu = torch.broadcast_tensors(E, nu)
    xy, yz, xz = (nu[..., k] for k in range(3))
    a, b, c = (1.0 / E[..., k] for k in range(3))
    rows = [(a, -xy * a, -xz * a), (-xy * a, b, -yz * b), (-xz * a, -yz * b, c)]
    S = torch.stack([torch.stack(row, -1) for row in rows], -2)
    least = torch.linalg.eigvalsh(S.detach())[..., 0]
    require(
        (least > 0).all(),
        lambda: ArgumentError(
            "poisson_ratio: with these young_modulus the elastic energy is not positive (the compliance has the "
            f"eigenvalue {float(least.min()):.6g}); check ν_ij/E_i = ν_ji/E_j"
        ),
    )
    if kind == "plane_stress":
        N = torch.nn.functional.pad(torch.linalg.inv(S[..., :2, :2]), (0, 1, 0, 1))
    else:
        N = torch.linalg.inv(S)
    return Material(N, G, S[..., 2, :])
