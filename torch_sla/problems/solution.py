"""A solution: the field, the outputs, how it was found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_sla.errors import ArgumentError
from torch_sla.problems.expression import Expression
from torch_sla.problems.results import Drawn, Named
from torch_sla.problems.specs.laws import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch_sla.linalg import SolveInfo
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.lowering.outputs import Taken

__all__ = ["Solution"]


class Solution(Drawn, Named):
    """What ``solve`` returns; everything in it is differentiable.

    Attributes
    ----------
    u
        The (first) field at its nodes ``[*batch, n_nodes]``, a vector field ``[*batch, n_nodes, dim]``.
    fields
        All fields by name; ``solution["p"]`` is the same.
    outputs
        The declared outputs by name; ``solution["name"]`` is the same.
    info
        Method, iterations, residual.
    points
        The mesh points it was solved on ``[n_points, dim]``; ``[*batch, n_points, dim]`` of a batch of meshes.

    Examples
    --------
    >>> from torch_sla import Dirichlet, Integral, IntervalMesh, PoissonProblem
    >>> problem = PoissonProblem(
    ...     mesh=IntervalMesh(cells=10),
    ...     source=1.0,
    ...     boundary=[Dirichlet("left", 0.0)],
    ...     outputs=[Integral("mean", "u")],
    ... )
    >>> round(float(problem.solve()["mean"]), 4)
    0.3325
    """

    model: Model

    def __init__(self, taken: Taken, outputs: Mapping[str, Tensor], info: SolveInfo) -> None:
        self.model, self.info, self._taken = taken.model, info, taken
        home = taken.scene.given.home
        numbering = taken.model.numbering
        self.fields = {n: numbering.shaped(taken.u, n).to(home) for n in numbering.fields}
        self.u = next(iter(self.fields.values()))
        self.outputs = {name: value.to(home) for name, value in outputs.items()}

    @property
    def flat(self) -> Tensor:
        """All unknowns behind each other ``[*batch, n]``, on the device of the problem."""
        return self._taken.u

    @property
    def batch(self) -> tuple[int, ...]:
        """Batch dimensions; all outputs have them."""
        return self._taken.batch

    @property
    def points(self) -> Tensor:
        """The mesh points it was solved on ``[n_points, dim]``, or those of a batch of meshes."""
        return self._taken.scene.geometry.points

    drawable = True

    @property
    def endings(self) -> tuple[str, ...]:
        """Files that a run writes: arrays where neither a viewer nor ``.json`` has all numbers."""
        from torch_sla.problems.report.save import hides

        if self.batch:
            return (".npz", ".json")
        seen = {o.name for o in self.spec.outputs if o.type == "field" and o.on != "quadrature"}
        lost = any(hides(value) for name, value in self.outputs.items() if name not in seen)
        return (".vtu", *((".npz",) if lost else ()), ".json")

    def evaluate(self, expression: str, at: Tensor) -> Tensor:
        """Evaluate an expression anywhere in the body.

        Parameters
        ----------
        expression
            Of ``x y z``, the field, its gradient and the parameters.
        at
            Points ``[m, dim]``; may require grad.

        Returns
        -------
        Tensor ``[*batch, m, *shape]``.

        Raises
        ------
        ExpressionError
            If the expression does not parse, or uses an unknown name.
        MeshError
            If a point lies outside the mesh.
        """
        model = self.model
        parsed = Expression.parse(expression)
        scene = self._taken.scene
        known = visible(scene.declared, model.ranks) | model.spec.derived_of
        forbidden = {}
        if scene.time is None:
            del known["t"]
            forbidden = {"t": "this problem is steady"}
        parsed.check(known, forbidden)
        unused = parsed.names & scene.declared.keys() - scene.given.keys() - scene.given.laws.keys()
        if unused:
            raise ArgumentError(
                f"{sorted(unused)[0]!r} is declared but used by no law, so no value of it is known"
            )
        at = torch.as_tensor(at, device=model.device, dtype=model.dtype)
        if at.ndim != 2 or at.shape[1] != model.mesh.dim:
            raise ArgumentError(f"at has shape {tuple(at.shape)}; expected [m, {model.mesh.dim}]")
        return self._taken.at(expression, at, "evaluate").to(self.u.device)

    def save(self, path: str | Path) -> None:
        """Write to a file: ``.vtu`` fields for a viewer, ``.npz`` arrays, ``.json`` numbers and identity.

        Raises
        ------
        ArgumentError
            For another ending, or a batch of fields in ``.vtu``.
        """
        from torch_sla.problems.report.save import save

        save(self, Path(path))

    def __repr__(self) -> str:
        how = f"{self.info.backend} {self.info.method}"
        return self._with_outputs(f"Solution(u {list(self.u.shape)}, {how}")
