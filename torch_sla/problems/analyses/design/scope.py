"""What goals see: results of all problems, values of variables, and measured data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.problems.specs.arrays import Array

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch_sla.problems.analyses.design.variables import Unknowns
    from torch_sla.problems.design.transforms import Place
    from torch_sla.problems.specs.design import DesignProblem
    from torch_sla.problems.specs.variable import Measured

__all__ = ["DesignScope"]


class DesignScope:
    """Results and values at one design.

    Parameters
    ----------
    spec, unknowns
        The declaration, and where its variables live.
    solutions
        By name of the problem.
    values
        Of the variables.
    """

    def __init__(
        self,
        spec: DesignProblem,
        unknowns: Unknowns,
        solutions: Mapping[str, Any],
        values: Mapping[str, Tensor],
    ) -> None:
        self.spec, self.unknowns, self.solutions, self.values = spec, unknowns, solutions, values

    def value(self, name: str) -> Tensor:
        """Return a result, or the value of a variable."""
        if name in self.values:
            return self.values[name]
        case, own = self.spec.results[name]
        solution = self.solutions[case]
        # What eigenvalues are called; of a sweep the modes of all cases know it.
        modes = solution if own in solution.outputs else getattr(solution, "solution", solution)
        named = own not in solution.outputs and own in modes.spec.called
        return getattr(modes, own) if named else solution[own]

    def place(self, name: str) -> Place:
        """Return where a variable lives."""
        return self.unknowns.chains[name].place

    def residual(self, data: str, found: Tensor) -> Tensor:
        """Return (found − measured)/noise, real, of one dimension.

        Raises
        ------
        ArgumentError
            If what was found has another shape than what was measured, or is complex where it is not.
        """
        measured: Measured = self.spec.data[data]
        values = torch.as_tensor(measured.values.array.copy(), dtype=torch.float64)
        noise = (
            torch.as_tensor(measured.noise.array.copy(), dtype=torch.float64)
            if isinstance(measured.noise, Array)
            else torch.tensor(measured.noise, dtype=torch.float64)
        )
        if measured.imaginary is not None:
            imaginary = torch.as_tensor(measured.imaginary.array.copy(), dtype=torch.float64)
            values = torch.complex(values, imaginary)
        if found.ndim == 0 and values.numel() == 1:
            # A list is the only way to write one number.
            values, noise = values.reshape(()), noise.reshape(())
        if found.shape != values.shape:
            raise ArgumentError(
                f"data.{data} is of shape {list(values.shape)}, and the result it is compared with of shape "
                f"{list(found.shape)}"
            )
        if found.is_complex() != values.is_complex():
            raise ArgumentError(
                f"data.{data} is {'complex' if values.is_complex() else 'real'}, and the result is not; give the "
                "imaginary part of complex data as imaginary, or compare abs(...), real(...)"
            )
        deviation = (noise.square() + (measured.relative * values.abs()).square()).sqrt()
        r = (found - values.to(found)) / deviation.to(found.device)
        return (torch.view_as_real(r) if r.is_complex() else r).reshape(-1)
