"""Weak forms of common operators: forms and nothing else."""

from __future__ import annotations

from torch_sla.assembly.weak.convection import (
    convection,
    streamline,
    streamline_mass,
    streamline_source,
    streamline_time,
)
from torch_sla.assembly.weak.dilatation import CellPolynomials, elasticity_bbar, fbar
from torch_sla.assembly.weak.elasticity import (
    elasticity,
    foundation,
    initial_stress,
    lame_parameters,
    normal_strains,
    normal_stress_load,
    orthotropic,
    strain,
    stress,
)
from torch_sla.assembly.weak.follower import follower_pressure
from torch_sla.assembly.weak.mass import mass, tensor_mass, vector_mass
from torch_sla.assembly.weak.poisson import diffusion, tensor_diffusion
from torch_sla.assembly.weak.source import pressure_load, source, vector_source

__all__ = [
    "CellPolynomials",
    "convection",
    "diffusion",
    "elasticity",
    "elasticity_bbar",
    "fbar",
    "follower_pressure",
    "foundation",
    "initial_stress",
    "lame_parameters",
    "mass",
    "normal_strains",
    "normal_stress_load",
    "orthotropic",
    "pressure_load",
    "source",
    "strain",
    "streamline",
    "streamline_mass",
    "streamline_source",
    "streamline_time",
    "stress",
    "tensor_diffusion",
    "tensor_mass",
    "vector_mass",
    "vector_source",
]
