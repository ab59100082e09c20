"""Weak forms of common operators: forms and nothing else."""

from __future__ import annotations

from torch_sla.assembly.weak.convection import convection
from torch_sla.assembly.weak.dilatation import elasticity_bbar, fbar
from torch_sla.assembly.weak.elasticity import elasticity, lame_parameters, strain, stress
from torch_sla.assembly.weak.follower import follower_pressure
from torch_sla.assembly.weak.mass import mass, tensor_mass, vector_mass
from torch_sla.assembly.weak.poisson import diffusion, tensor_diffusion
from torch_sla.assembly.weak.source import pressure_load, source, vector_source

__all__ = [
    "convection",
    "diffusion",
    "elasticity",
    "elasticity_bbar",
    "fbar",
    "follower_pressure",
    "lame_parameters",
    "mass",
    "pressure_load",
    "source",
    "strain",
    "stress",
    "tensor_diffusion",
    "tensor_mass",
    "vector_mass",
    "vector_source",
]
