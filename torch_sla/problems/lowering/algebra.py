"""Algebraic problems: matrices and vectors to tensors, verbs without a mesh."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from torch_sla.errors import ArgumentError, DTypeError, SpecError
from torch_sla.linalg import SolveInfo, SparseTensor
from torch_sla.problems.algebra_solution import AlgebraSolution
from torch_sla.problems.lowering.complex_modes import general_pairs
from torch_sla.problems.lowering.device import solver_device
from torch_sla.problems.lowering.parameters import Given, check_names, resolve
from torch_sla.problems.lowering.states import check_batch, given_start, refuse_start
from torch_sla.problems.specs.algebra import Entries, MatrixFile
from torch_sla.problems.specs.arrays import Array, numbers
from torch_sla.problems.specs.outputs import Component
from torch_sla.problems.specs.value import ArrayFile, Parameter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch_sla.problems.progress import ProgressCallback
    from torch_sla.problems.specs.algebra import EigenProblem, LinearProblem

__all__ = ["Algebra", "Eigen", "Linear", "components"]

_Numbers = TypeVar("_Numbers", Tensor, SparseTensor)


class Algebra(ABC):
    """What algebraic problems share: parameters, matrices, outputs.

    Parameters
    ----------
    spec
        The declaration.
    """

    counts: ClassVar[Mapping[str, int]] = {}
    """Number of sites of each kind: there are none without a mesh."""
    idle_names: ClassVar[frozenset[str]] = frozenset()
    """Names of the parameters that need no value: none."""

    def __init__(self, spec: Any) -> None:
        self.spec = spec
        self.declared: dict[str, Parameter] = spec.declared
        self.dtype: torch.dtype = getattr(torch, spec.solver.dtype)
        self.device, self.placement = solver_device(
            spec.solver.device, None, 0, definite=False, backend=spec.solver.backend
        )
        self.compiled = SimpleNamespace(key=self._key())
        self._files: dict[str, SparseTensor] = {}
        self._arrays: dict[tuple[str, str | None], Tensor] = {}

    def _matrices(self) -> dict[str, Any]:
        """Return the matrices of the declaration by their place in it."""
        whole = {name: getattr(self.spec, name, None) for name in ("matrix", "mass", "damping")}
        more = getattr(self.spec, "matrices", {})
        return whole | {f"matrices.{name}": value for name, value in more.items()}

    def _key(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        digest.update(f"{self.spec.type} {self.dtype} {self.device}".encode())
        for value in self._matrices().values():
            if isinstance(value, Entries):
                digest.update(f"{value.rows.digest} {value.cols.digest} {value.shape}".encode())
            elif isinstance(value, Array):
                digest.update(f"{value.array.shape}".encode())
        return digest.hexdigest()

    # -- values ---------------------------------------------------------------------------------

    def given(self, values: Mapping[str, Any]) -> tuple[Given, dict[str, SparseTensor]]:
        """Separate matrices from tensors, and check names, shapes and dtypes."""
        check_names(values, self.declared)
        matrices = {n: v for n, v in values.items() if isinstance(v, SparseTensor)}
        free = self._free()
        rest: dict[str, Any] = {}
        vectors: dict[str, Tensor] = {}
        for name, value in values.items():
            if name in matrices:
                continue
            if name in free:
                try:
                    vector = torch.as_tensor(value)
                except (TypeError, ValueError, RuntimeError):
                    raise DTypeError(
                        f"{name!r} is a {type(value).__name__}; a tensor, an array or, of a matrix, a SparseTensor is "
                        "needed (SparseTensor.from_scipy)"
                    ) from None
                vectors[name] = self._real(vector, repr(name))
            else:
                rest[name] = value
        missing = [n for n in free if n not in values and self.declared[n].default is None]
        if missing:
            raise ArgumentError(f"{missing[0]!r} has no default: give it to solve(...)")
        others = {n: p for n, p in self.declared.items() if n not in matrices and n not in vectors}
        found = resolve(
            rest,
            others,
            reaching=others,
            counts={},
            sites=self.nowhere,
            files=self._array,
            dtype=self.dtype,
            device=self.device,
        )
        found.update(vectors)
        for value in values.values():
            found.came_from(value)
        return found, matrices

    def _free(self) -> set[str]:
        """Names of parameters whose size is not declared: whole matrices and vectors."""
        found = set()
        for value in (*self._matrices().values(), getattr(self.spec, "rhs", None)):
            if isinstance(value, Parameter) and not value.shape:
                found.add(value.name)
        return found

    def nowhere(self, name: str) -> Tensor:
        """Say that no parameter lives anywhere."""
        raise ArgumentError(f"{name!r} lives nowhere in particular: there is no mesh")

    def defaults(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Return the default values of some parameters."""
        found, _ = self.given({})
        return {name: found[name] for name in names}

    def given_start(self, start: Tensor, n: int | None = None) -> Tensor:
        """Return where an iteration begins ``[*batch, n]``; of any length where `n` is left out."""
        any_length = start.shape[-1] if start.ndim else 1
        return given_start(start, any_length if n is None else n, self.dtype, self.device)

    def matrix(
        self, value: Any, given: Given, matrices: Mapping[str, SparseTensor], path: str
    ) -> SparseTensor:
        """Return a matrix as it was declared or given."""
        if isinstance(value, Parameter):
            if value.name in matrices:
                return self._real(matrices[value.name], repr(value.name))
            dense = given[value.name]
            if dense.ndim != 2:
                raise ArgumentError(
                    f"{value.name!r} has shape {tuple(dense.shape)}; a SparseTensor or a matrix [n, n] is needed"
                )
            return SparseTensor.from_dense(dense)
        if isinstance(value, Entries):
            row = torch.as_tensor(value.rows.array.copy()).long().to(self.device)
            col = torch.as_tensor(value.cols.array.copy()).long().to(self.device)
            entries = (
                given[value.values.name]
                if isinstance(value.values, Parameter)
                else self._tensor(value.values)
            )
            shape = (*entries.shape[:-1], *value.shape)
            return SparseTensor(entries, row, col, shape)
        if isinstance(value, MatrixFile):
            return self._from_file(value, path)
        dense = self._tensor(value)
        if dense.ndim != 2:
            raise SpecError(f"a matrix has two dimensions; received {dense.ndim}", path=path)
        return SparseTensor.from_dense(dense)

    def _from_file(self, value: MatrixFile, path: str) -> SparseTensor:
        from torch_sla.linalg.sparse.files import load_mtx, load_sparse

        if value.file not in self._files:
            try:
                load = load_mtx if value.file.endswith(".mtx") else load_sparse
                A = load(value.file)
            except (ArgumentError, OSError, ValueError, KeyError) as error:
                raise SpecError(f"cannot be read as a matrix: {error}", path=path) from None
            self._files[value.file] = self._real(A, f"{path}: the matrix")
        return self._files[value.file]

    def _array(self, value: ArrayFile, name: str) -> Tensor:
        key = (value.file, value.key)
        if key not in self._arrays:
            self._arrays[key] = torch.as_tensor(numbers(*key, name), dtype=self.dtype)
        return self._arrays[key]

    def _real(self, value: _Numbers, what: str) -> _Numbers:
        """Bring numbers to the dtype and device of the problem, and refuse to drop imaginary parts."""
        if value.dtype.is_complex:
            raise DTypeError(
                f"{what} is complex, and declared algebra is real; SparseTensor.solve takes complex matrices"
            )
        return value.to(device=self.device, dtype=self.dtype)

    def _tensor(self, value: Array) -> Tensor:
        return torch.as_tensor(value.array.copy()).to(device=self.device, dtype=self.dtype)

    # -- verbs ----------------------------------------------------------------------------------

    @abstractmethod
    def find(
        self, values: Mapping[str, Any], start: Tensor | None, *, throw: bool
    ) -> tuple[dict[str, Tensor], SolveInfo, torch.device]:
        """Return the fields by name, the report, and the device results return to."""

    def solve(
        self,
        values: Mapping[str, Any],
        *,
        points: Tensor | None = None,
        start: Tensor | None = None,
        info: bool = False,
        throw: bool = True,
        progress: ProgressCallback | None = None,
    ) -> AlgebraSolution:
        """Solve; see `Problem.solve`."""
        del progress
        if points is not None:
            raise ArgumentError("points: there is no mesh to move")
        fields, report, home = self.find(values, start, throw=throw)
        if not info:
            report.history.clear()
        x = next(iter(fields.values()))
        outputs = components(self.spec, x, home)
        fields = {name: value.to(home) for name, value in fields.items()}
        return AlgebraSolution(self, fields, outputs, report)

    def check(self) -> SimpleNamespace:
        """Check everything that needs no value."""
        for name, value in self._matrices().items():
            if self._at_once(value):
                A = self.matrix(value, Given(), {}, name)
                if A.shape[-1] != A.shape[-2] and "." not in name:
                    raise SpecError(
                        f"a square matrix is needed; this is {list(A.shape)}", path=name
                    )
        return SimpleNamespace()

    def _at_once(self, value: Any) -> bool:
        """Whether a matrix of the declaration is made to be checked."""
        return value is not None and not isinstance(value, Parameter | Entries)

    def describe(self, values: Mapping[str, Any]) -> list[str]:
        """Return lines on what will be done."""
        del values
        return ["plan", "  is made from the matrix when it is solved"]


def components(spec: Any, x: Tensor, home: torch.device) -> dict[str, Tensor]:
    """Take the outputs of a problem whose result is the vector ``x [*batch, n]``."""
    outputs = {}
    for i, output in enumerate(spec.outputs):
        if not isinstance(output, Component):
            raise SpecError("only components are outputs here", path=f"outputs.{i}")
        if max(output.index) >= x.shape[-1]:
            raise SpecError(
                f"there are {x.shape[-1]} components; received {max(output.index)}",
                path=f"outputs.{i}.index",
            )
        outputs[output.name] = x[..., list(output.index)].to(home)
    return outputs


class Linear(Algebra):
    """Lowers `LinearProblem`."""

    spec: LinearProblem

    def _system(self, values: Mapping[str, Any]) -> tuple[SparseTensor, Tensor, torch.device]:
        given, matrices = self.given(values)
        A = self.matrix(self.spec.matrix, given, matrices, "matrix")
        rhs = self.spec.rhs
        b = given[rhs.name] if isinstance(rhs, Parameter) else self._tensor(rhs)
        if A.shape[-1] != A.shape[-2] or b.shape[-1:] != (A.shape[-1],):
            raise ArgumentError(
                f"matrix and rhs have shapes {list(A.shape)} and {list(b.shape)}; expected [n, n] and [*batch, n]"
            )
        return A, b, given.home

    def find(
        self, values: Mapping[str, Any], start: Tensor | None, *, throw: bool
    ) -> tuple[dict[str, Tensor], SolveInfo, torch.device]:
        """Solve the system; a batch of right-hand sides shares one factor."""
        A, b, home = self._system(values)
        # The matrix takes as many dimensions in front as it has itself; further ones are columns to it.
        own, batch = len(A.batch_shape), tuple(b.shape[:-1])
        if batch and len(batch) < own:
            b = b.reshape(*[1] * (own - len(batch)), *b.shape)
        more = batch[: max(len(batch) - own, 0)]
        columns = len(more) > 0

        def as_columns(x: Tensor) -> Tensor:
            return x.flatten(0, len(more) - 1).movedim(0, -1) if columns else x

        if start is not None:
            start = self.given_start(start, b.shape[-1])
            full = (*more, *np.broadcast_shapes(A.batch_shape, b.shape[len(more) : -1]))
            check_batch(start, full)
            start = as_columns(start.expand(*full, b.shape[-1]))
        solver = self.spec.solver
        x, info = A.solve(
            as_columns(b),
            backend=solver.backend,
            method=solver.method,
            preconditioner=solver.preconditioner,
            rtol=solver.rtol,
            atol=solver.atol,
            maxiter=solver.maxiter,
            adjoint_rtol=solver.adjoint_rtol,
            x0=start,
            info=True,
            throw=throw,
        )
        if columns:
            x = x.movedim(-1, 0).reshape(*more, *x.shape[:-1])
        return {"x": x}, info, home

    def describe(self, values: Mapping[str, Any]) -> list[str]:
        """Return the plan, where the matrix is known."""
        try:
            A, b, _ = self._system(values)
        except ArgumentError:
            return super().describe(values)
        solver = self.spec.solver
        plan = A.detach().plan(
            needs_grad=b.requires_grad,
            backend=solver.backend,
            method=solver.method,
            preconditioner=solver.preconditioner,
        )
        return ["plan", *(f"  {line}" for line in str(plan).splitlines())]


class Eigen(Algebra):
    """Lowers `EigenProblem`."""

    spec: EigenProblem

    def find(
        self, values: Mapping[str, Any], start: Tensor | None, *, throw: bool
    ) -> tuple[dict[str, Tensor], SolveInfo, torch.device]:
        """Find eigenpairs, normalised by the mass; the largest component of each mode is positive."""
        del throw
        refuse_start(start)
        spec = self.spec
        given, matrices = self.given(values)
        A, M, C = (
            None if law is None else self.matrix(law, given, matrices, name)
            for name, law in (
                ("matrix", spec.matrix),
                ("mass", spec.mass),
                ("damping", spec.damping),
            )
        )
        if A is None:
            raise ValueError("an eigenproblem without a physics has a matrix")
        n = A.shape[-1]
        if spec.k > n * (1 if C is None else 2):
            raise SpecError(
                f"a matrix of size {n} has no {spec.k} eigenvalues"
                + ("" if C is None else f"; with damping {2 * n}"),
                path="k",
            )
        if C is None and M is not None and M.is_batched:
            shape = np.broadcast_shapes(A.batch_shape, M.batch_shape)
            A = SparseTensor.from_pattern(A.pattern, A.values.expand(*shape, A.values.shape[-1]))
        hermitian = A.known_structure().hermitian and (
            M is None or bool(M.known_structure().hermitian)
        )
        if C is not None or not hermitian:
            pair = general_pairs(A, C, M, spec.k, spec.which, spec.sigma)
            info = SolveInfo(method=f"eigs {spec.which}", backend="eigs")
            return dict(zip(("eigenvalues", "modes"), pair, strict=True)), info, given.home
        which = spec.which if spec.sigma is None else "LM"
        w, V = A.eigsh(k=spec.k, which=which, sigma=spec.sigma, M=M)
        modes = V.transpose(-1, -2)
        largest = modes.detach().abs().argmax(-1, keepdim=True)
        modes = modes * modes.detach().gather(-1, largest).sign()
        order = w.detach().argsort(-1)
        w = w.gather(-1, order)
        modes = modes.gather(-2, order[..., None].expand_as(modes))
        info = SolveInfo(method=f"eigsh {spec.which}", backend="eigsh")
        return {"eigenvalues": w, "modes": modes}, info, given.home
