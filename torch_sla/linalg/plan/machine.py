"""How fast the machine is taken to be."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT_MACHINE", "MachineModel"]


@dataclass(frozen=True)
class MachineModel:
    """Speeds a plan counts with: a fixed table, so that the same inputs give the same plan everywhere.

    The figures are for one core of a server processor of 2023 (AMD EPYC, measured in November
    2026). They rank candidates; they do not predict another machine's clock.

    Parameters
    ----------
    bandwidth
        Bytes per second that a sparse matrix-vector product streams.
    simplicial_flops, supernodal_flops, lu_flops
        Flops per second of a scalar, a blocked Cholesky and a sparse LU factorisation.
    ordering
        Seconds per row and stored entry that a fill-reducing ordering takes.
    coarsening
        Seconds per stored entry to set a multigrid hierarchy up.
    call
        Seconds of overhead of one vector operation issued from Python.
    memory
        Bytes that a solve may take.
    """

    bandwidth: float = 10e9
    simplicial_flops: float = 1.3e9
    supernodal_flops: float = 1.2e10
    lu_flops: float = 2.5e9
    ordering: float = 2e-7
    coarsening: float = 1.2e-7
    call: float = 4e-6
    memory: float = 16e9


DEFAULT_MACHINE = MachineModel()
