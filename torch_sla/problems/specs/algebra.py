"""Algebraic problems: matrices given as numbers, as files or at solve time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeAlias

from annotated_types import MinLen
from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from torch_sla.errors import ExpressionError, SpecError
from torch_sla.problems.expression.functions import FUNCTIONS
from torch_sla.problems.specs.arrays import Array
from torch_sla.problems.specs.base import Spec
from torch_sla.problems.specs.faults import fault
from torch_sla.problems.specs.laws import Law
from torch_sla.problems.specs.of import Physics
from torch_sla.problems.specs.place import NONNEGATIVE, Place
from torch_sla.problems.specs.problem import Problem
from torch_sla.problems.specs.value import RESERVED_NAMES, Parameter, Value
from torch_sla.problems.specs.written import FilePath, FormulaText, FrozenMap, Listed, Text, thaw

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["EigenProblem", "Entries", "LinearProblem", "MatrixFile", "NonlinearProblem", "Root"]

_ENDINGS = (".mtx", ".npz", ".safetensors")


class MatrixFile(Spec):
    """A matrix in a file: Matrix Market (``.mtx``), ``.npz`` or ``.safetensors``.

    Examples
    --------
    >>> MatrixFile("absent.mtx")
    Traceback (most recent call last):
    ...
    torch_sla.errors.SpecError: file: no such file: 'absent.mtx' ...
    """

    type: Literal["matrix_file"] = "matrix_file"
    file: FilePath = Field(kw_only=False, description="Path, relative to the declaration's file.")

    @model_validator(mode="after")
    def _ending(self) -> Self:
        if Path(self.file).suffix not in _ENDINGS:
            raise fault(
                f"a matrix file ends in one of {' '.join(_ENDINGS)}; received {self.file!r}"
            )
        return self


def _vector_kind(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "parameter" if kind == "parameter" else "array"


Vector: TypeAlias = Annotated[
    Annotated[Array, Tag("array")] | Annotated[Parameter, Tag("parameter")],
    Discriminator(_vector_kind),
]


class Entries(Spec):
    """A sparse matrix by its entries; duplicates add up.

    Examples
    --------
    >>> Entries(rows=[0, 1], cols=[0, 1], values=[2.0, 3.0], shape=[2, 2]).shape
    (2, 2)
    """

    type: Literal["entries"] = "entries"
    rows: Array = Field(description="Row of each entry [nnz].")
    cols: Array = Field(description="Column of each entry [nnz].")
    values: Vector = Field(description="Values [nnz], or a parameter that gives them.")
    shape: Annotated[Listed[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2)] = (
        Field(description="Rows and columns.")
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, index, size in zip(
            ("rows", "cols"), (self.rows, self.cols), self.shape, strict=True
        ):
            array = index.array
            if array.ndim != 1 or array.dtype.kind not in "iu":
                raise SpecError("a list of whole numbers is needed", path=name)
            if len(array) and (array.min() < 0 or array.max() >= size):
                raise SpecError(f"indices lie between 0 and {size - 1}", path=name)
        if self.rows.array.shape != self.cols.array.shape:
            raise SpecError("rows and cols have different lengths", path="cols")
        values = self.values
        shape = values.shape if isinstance(values, Parameter) else values.array.shape
        if tuple(shape) != self.rows.array.shape:
            raise SpecError(
                f"{len(self.rows.array)} values are needed; received shape {tuple(shape)}",
                path="values",
            )
        return self


def _matrix_kind(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    if kind in ("parameter", "entries", "matrix_file"):
        return str(kind)
    if isinstance(value, dict) and str(value.get("file", "")).endswith((".mtx", ".safetensors")):
        return "matrix_file"
    return "array"


Matrix: TypeAlias = Annotated[
    Annotated[Array, Tag("array")]
    | Annotated[Parameter, Tag("parameter")]
    | Annotated[Entries, Tag("entries")]
    | Annotated[MatrixFile, Tag("matrix_file")],
    Discriminator(_matrix_kind),
]
"""Rows of numbers, entries, a file, or a `Parameter` that is a ``SparseTensor`` at solve time."""


class AlgebraProblem(Problem):
    """The base of problems without a mesh."""

    kinds: ClassVar[frozenset[str] | None] = frozenset({"component"})

    def more_laws(self) -> Iterator[Law]:
        """Yield the parameters of matrices and vectors."""
        place = Place("cells", (0, 1, 2))
        held: list[tuple[tuple[str, ...], Any]] = []
        for name in type(self).model_fields:
            value = getattr(self, name)
            inside = value.items() if isinstance(value, FrozenMap) else ()
            held += [((name,), value), *(((name, key), item) for key, item in inside)]
        for path, value in held:
            if isinstance(value, Entries):
                value, path = value.values, (*path, "values")
            if isinstance(value, Parameter):
                yield Law(path, value, place)


class LinearProblem(AlgebraProblem):
    """Find x with matrix x = rhs.

    Examples
    --------
    >>> from torch_sla import LinearProblem, Parameter
    >>> problem = LinearProblem(matrix=[[2.0, -1.0], [-1.0, 2.0]], rhs=Parameter("b", shape=(2,)))
    >>> problem.solve(b=[3.0, 0.0]).x.round(decimals=9).tolist()
    [2.0, 1.0]
    """

    fields_of: ClassVar[dict[str, int]] = {"x": 0}

    type: Literal["linear"] = "linear"
    matrix: Matrix = Field(description="Square matrix.")
    rhs: Vector = Field(description="Right-hand side [*batch, n].")


class EigenProblem(AlgebraProblem):
    """Find the pairs with matrix v = λ mass v, or with damping (matrix + λ damping + λ² mass) v = 0.

    Of a physics these are natural frequencies (elasticity), modes of a membrane or of cooling (Poisson), resonances of
    an open cavity (Helmholtz). Eigenvalues and modes are real where the matrices are symmetric and nothing is damped,
    complex else.

    Examples
    --------
    >>> from torch_sla import Dirichlet, IntervalMesh, PoissonProblem
    >>> string = PoissonProblem(
    ...     mesh=IntervalMesh(cells=40),
    ...     order=2,
    ...     boundary=[Dirichlet("left", 0.0), Dirichlet("right", 0.0)],
    ... )
    >>> [round(f, 4) for f in EigenProblem(of=string, k=3).solve().frequencies.tolist()]
    [0.5, 1.0, 1.5]
    >>> from torch_sla import EigenProblem
    >>> EigenProblem(matrix=[[2.0, -1.0], [-1.0, 2.0]], k=1).solve().eigenvalues.tolist()
    [1.0]
    """

    fields_of: ClassVar[dict[str, int]] = {"eigenvalues": 0, "modes": 1}

    type: Literal["eigen"] = "eigen"
    of: Physics | None = Field(
        default=None,
        description="The physics whose modes are found: its stiffness, or tangent at its solution, against its "
        "mass, on the unknowns that are free.",
    )
    matrix: Matrix | None = Field(default=None, description="Square matrix, without a physics.")
    mass: Matrix | None = Field(
        default=None,
        description="Mass matrix, square (positive definite where the matrix is symmetric and nothing is damped, or "
        "semidefinite, with which SM or sigma); the identity when left out.",
    )
    damping: Matrix | None = Field(
        default=None,
        description="C of (K + λ C + λ² M) v = 0 with the matrix K: a mode moves like exp(λ t).",
    )
    mass_damping: Annotated[Value, Place("constant", within=NONNEGATIVE)] = Field(
        default=0.0,
        description="Of a physics with two derivatives in time: α of the damping C = α M + β K (1/s); a mode moves "
        "like exp(λ t), and of each conjugate pair the half above the real axis is given.",
    )
    stiffness_damping: Annotated[Value, Place("constant", within=NONNEGATIVE)] = Field(
        default=0.0, description="β of that damping (s); K is the stiffness of the undeformed body."
    )
    kind: Literal["modes", "prestressed", "buckling"] = Field(
        default="modes",
        description="Of a physics: modes of the body as it is declared, modes about the state that its loads put it "
        "in, or the factors on these loads at which it buckles (the least positive ones).",
    )
    k: Annotated[int, Field(ge=1)] = Field(default=6, description="Number of pairs.")
    which: Literal["SM", "LM", "SA", "LA"] = Field(
        default="SM",
        description="Least or largest, by magnitude or (real ones) by value. Of helmholtz SM are the resonances "
        "nearest to the given wavenumber.",
    )
    sigma: float | None = Field(
        default=None, description="Shift: the pairs nearest to this value are found instead."
    )

    @property
    def inner(self) -> Problem | None:
        """The physics, where there is one."""
        return self.of

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.sigma is not None and self.which != "SM":
            raise SpecError("sigma takes the pairs nearest to it; leave which out", path="which")
        if (self.of is None) == (self.matrix is None):
            raise SpecError("give either a physics (of) or a matrix", path="of")
        for name in ("mass", "damping"):
            if self.of is not None and getattr(self, name) is not None:
                remedy = "" if name == "mass" else ": mass_damping and stiffness_damping"
                raise SpecError(
                    f"the {name} is that of the {self.of.type} problem{remedy}", path=name
                )
        if self.of is not None and self.of.no_modes is not None:
            raise SpecError(f"{self.of.type} has no modes: {self.of.no_modes}", path="of")
        if self.kind != "modes":
            self._stressed()
        self._damped()
        return self

    @property
    def damped(self) -> bool:
        """Whether there is damping, by structure: eigenvalues are then rates, exp(λ t)."""
        proportional = self.mass_damping != 0.0 or self.stiffness_damping != 0.0
        return self.damping is not None or proportional

    @property
    def called(self) -> tuple[str, ...]:
        """What people call the eigenvalues."""
        if self.kind == "buckling":
            return ("load_factors",)
        if self.damped:
            return ("frequencies", "damping_ratios")
        if self.of is not None and self.of.type == "helmholtz":
            return ("wavenumbers",)
        return ("frequencies",)

    def _damped(self) -> None:
        if self.of is not None and self.of.type == "helmholtz":
            if self.which != "SM":
                raise SpecError(
                    "of helmholtz those nearest to the given wavenumber are found, or to sigma",
                    path="which",
                )
        elif self.damped and self.which in ("SA", "LA"):
            raise SpecError("damped eigenvalues are complex: SM or LM, by magnitude", path="which")
        if self.mass_damping == 0.0 and self.stiffness_damping == 0.0:
            return
        path = "mass_damping" if self.mass_damping != 0.0 else "stiffness_damping"
        if self.of is None:
            raise SpecError("matrices have a damping of their own: damping", path=path)
        if 2 not in self.of.evolves:
            raise SpecError(
                f"damping acts on velocities, with two derivatives in time: {self.of.still}",
                path=path,
            )
        if self.kind == "buckling":
            raise SpecError("a body that buckles stands still: nothing is damped", path=path)

    def _stressed(self) -> None:
        if self.of is None:
            raise SpecError("matrices say themselves what they are", path="kind")
        if self.of.type != "elasticity":
            followed = (
                "its modes are about the loaded state already, and control: arc_length finds the load at which it "
                "gives way"
                if self.of.type == "hyperelasticity"
                else "only a stress stiffens or softens a body: elasticity"
            )
            raise SpecError(f"{self.kind} of {self.of.type}: {followed}", path="kind")
        if self.kind == "buckling" and (self.which != "SM" or self.sigma is not None):
            path = "sigma" if self.sigma is not None else "which"
            raise SpecError("the least positive load factors are found", path=path)


class Root(Spec):
    """A number, or a vector of numbers, at which the equations hold.

    Examples
    --------
    >>> Root("x", start=0.5)
    Root(name='x', start=0.5)
    """

    type: Literal["root"] = "root"
    name: Text = Field(kw_only=False, description="Its name in the equations.")
    size: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Number of components of a vector; a number when left out."
    )
    start: float = Field(
        default=0.0, description="Starting value of the iteration, of every component."
    )


class NonlinearProblem(AlgebraProblem):
    """Find numbers and vectors at which as many expressions vanish.

    In the expressions a vector is a list of numbers: ``x**2``, ``x*y`` and ``exp(x)`` act on each of them,
    ``dot(A, x)`` applies a matrix.

    Examples
    --------
    >>> from torch_sla import NonlinearProblem, Parameter, Root
    >>> problem = NonlinearProblem(
    ...     unknowns=[Root("x", start=1.0), Root("y", start=2.0)],
    ...     residual=["x**2 + y**2 - r2", "x - y"],
    ...     parameters=[Parameter("r2", default=8.0)],
    ... )
    >>> [round(float(v), 9) for v in problem.solve().x]
    [2.0, 2.0]
    """

    fields_of: ClassVar[dict[str, int]] = {"x": 0}
    _untransformed: ClassVar[bool] = True

    type: Literal["nonlinear"] = "nonlinear"
    unknowns: Annotated[Listed[Root], MinLen(1)] = Field(description="What is to be found.")
    matrices: Annotated[dict[str, Matrix], BeforeValidator(thaw), AfterValidator(FrozenMap)] = (
        Field(
            default_factory=FrozenMap,
            description="Matrices by the name they have in the equations, where they act on vectors.",
        )
    )
    residual: Annotated[Listed[FormulaText], MinLen(1)] = Field(
        description="One expression of unknowns, parameters and matrices for each unknown, and of its size."
    )

    @model_validator(mode="after")
    def _square(self) -> Self:
        if len(self.residual) != len(self.unknowns):
            raise SpecError(
                f"{len(self.unknowns)} unknowns need as many equations; received {len(self.residual)}",
                path="residual",
            )
        named = [(f"unknowns.{i}.name", "an unknown", u.name) for i, u in enumerate(self.unknowns)]
        named += [(f"matrices.{name}", "a matrix", name) for name in self.matrices]
        names = [name for _, _, name in named]
        whole = {m.name for m in self.matrices.values() if isinstance(m, Parameter)}
        for path, what, name in named:
            if name in (RESERVED_NAMES - set("xyz")) | FUNCTIONS.keys() or not name.isidentifier():
                raise SpecError(f"{what} cannot be called {name!r}", path=path)
            if names.count(name) > 1 or name in self.declared.keys() - whole:
                raise SpecError(f"the name {name!r} is taken twice", path=path)
        ranks = {n: len(p.shape) for n, p in self.declared.items() if n not in whole}
        ranks |= {u.name: int(u.size is not None) for u in self.unknowns}
        ranks |= dict.fromkeys(self.matrices, 2)
        for i, (formula, unknown) in enumerate(zip(self.residual, self.unknowns, strict=True)):
            try:
                rank = formula.expression.check(  # type: ignore[attr-defined]
                    ranks, operators=self.matrices, elementwise=True
                )
            except ExpressionError as error:
                raise ExpressionError(error.message, path=f"residual.{i}") from None
            if rank != ranks[unknown.name]:
                needed = "a scalar" if unknown.size is None else f"a vector of {unknown.size}"
                raise SpecError(
                    f"the equation of {unknown.name!r} is {needed}", path=f"residual.{i}"
                )
        return self
