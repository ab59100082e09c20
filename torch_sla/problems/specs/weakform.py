"""Any weak form, written out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from annotated_types import MinLen
from pydantic import Field, model_validator

from torch_sla.errors import ExpressionError, SpecError
from torch_sla.problems.expression.functions import FUNCTIONS
from torch_sla.problems.expression.measures import Integral, degrees
from torch_sla.problems.specs.base import Spec
from torch_sla.problems.specs.field_problem import FieldProblem
from torch_sla.problems.specs.laws import Law
from torch_sla.problems.specs.place import Place
from torch_sla.problems.specs.python import PythonFunction
from torch_sla.problems.specs.residual import Residual, ResidualText
from torch_sla.problems.specs.value import RESERVED_NAMES
from torch_sla.problems.specs.written import Formula, Listed, Text

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Unknown", "WeakFormProblem"]

RESERVED = RESERVED_NAMES | {"normal", "dx", "ds", "grad", "div", "sym_grad"}


class Unknown(Spec):
    """A field to be found.

    Examples
    --------
    >>> Unknown("u", shape="vector", order=2, test="v")
    Unknown(name='u', shape='vector', order=2)
    """

    type: Literal["unknown"] = "unknown"
    name: Text = Field(kw_only=False, description="Its name in the residual.")
    shape: Literal["scalar", "vector"] = Field(
        default="scalar", description="A vector has one component per dimension of the mesh."
    )
    order: Literal[1, 2] | None = Field(
        default=None, description="Polynomial order; that of the problem when left out."
    )
    test: Text = Field(default="v", description="Name of its test function.")


class WeakFormProblem(FieldProblem):
    """Find the unknowns with residual = 0 for all test functions.

    The residual is a sum of terms, each linear in one test function, over all cells unless it is
    multiplied by ``dx("cells")``, ``ds`` or ``ds("facets")``; on facets there is a ``normal``. What is
    linear, symmetric and positive is found out.

    Examples
    --------
    >>> from torch_sla import (
    ...     Dirichlet,
    ...     Integral,
    ...     Parameter,
    ...     RectangleMesh,
    ...     Unknown,
    ...     WeakFormProblem,
    ... )
    >>> bratu = WeakFormProblem(
    ...     mesh=RectangleMesh(cells=(8, 8)),
    ...     unknowns=[Unknown("u", test="v")],
    ...     residual="dot(grad(u), grad(v)) - lam*exp(u)*v",
    ...     parameters=[Parameter("lam", default=1.0)],
    ...     boundary=[Dirichlet(["left", "right", "bottom", "top"], 0.0)],
    ...     outputs=[Integral("mean", "u")],
    ... )
    >>> round(float(bratu.solve()["mean"]), 4)
    0.0351
    """

    conditions: ClassVar[tuple[str, ...]] = ("dirichlet", "point_load", "periodic")
    refused: ClassVar[dict[str, str]] = {
        "energy": "a weak form has no energy of its own; write integral: with its density",
        "flux": "a weak form has no flux of its own; reaction says what a Dirichlet value takes",
    }
    seeing: ClassVar[frozenset[str]] = frozenset({"residual"})

    evolves: ClassVar[frozenset[int]] = frozenset({1, 2})

    type: Literal["weak_form"] = "weak_form"
    unknowns: Annotated[Listed[Unknown], MinLen(1)] = Field(
        default=(Unknown(name="u"),),
        description="The fields to be found, with their test functions.",
    )
    form: Annotated[Any, ResidualText()] = Field(
        alias="residual",
        description="Expression of unknowns and test functions that vanishes, or a Python function.",
    )

    @property
    def fields(self) -> dict[str, int]:
        """Rank of each unknown."""
        return {u.name: int(u.shape == "vector") for u in self.unknowns}

    @property
    def tests(self) -> dict[str, int]:
        """Rank of each test function."""
        return {u.test: int(u.shape == "vector") for u in self.unknowns}

    @property
    def integrals(self) -> list[Integral]:
        """The integrals of a residual that is text; none of a function."""
        return self.form.integrals if isinstance(self.form, Residual) else []

    def more_laws(self) -> Iterator[Law]:
        """Yield each integrand as a law."""
        places = {"dx": Place("cells"), "ds": Place("facets")}
        for integral in self.integrals:
            text = Formula(integral.expression.canonical)
            yield Law(("residual",), text, places[integral.over])
        if isinstance(self.form, PythonFunction):
            # A function may use every declared parameter.
            for i, parameter in enumerate(self.parameters):
                yield Law(("parameters", i), parameter, Place("cells", (0, 1, 2)))

    @model_validator(mode="before")
    @classmethod
    def _names(cls, data: Any) -> Any:
        """Check names before laws are, which need them."""
        unknowns = data.get("unknowns") if isinstance(data, dict) else None
        names: list[str] = []
        for u in unknowns if isinstance(unknowns, list | tuple) else ():
            for key, default in (("name", None), ("test", "v")):
                name = u.get(key, default) if isinstance(u, dict) else getattr(u, key, None)
                if isinstance(name, str):
                    names.append(name)
        for name in names:
            if name in RESERVED | FUNCTIONS.keys() or not name.isidentifier() or "__" in name:
                raise ValueError(f"an unknown or test function cannot be called {name!r}")
            if names.count(name) > 1:
                raise ValueError(
                    f"two unknowns or test functions are called {name!r}; test functions need names of their own "
                    "(test: q)"
                )
        return data

    @property
    def linear(self) -> bool:
        """Whether no term is of higher degree than one in the unknowns; functions are not looked into."""
        if not isinstance(self.form, Residual):
            return False
        return all(degrees(i.expression.root, self.fields)[1] <= 1 for i in self.integrals)

    @model_validator(mode="after")
    def _compliance(self) -> Self:
        for i, output in enumerate(self.outputs):
            if output.type == "compliance" and not self.linear:
                raise SpecError(
                    "a residual that is not linear does not say which terms are loads; write integral: with them",
                    path=f"outputs.{i}.type",
                )
        return self

    @model_validator(mode="after")
    def _linear_in_tests(self) -> Self:
        for integral in self.integrals:
            text, root = integral.expression.text, integral.expression.root
            if degrees(root, self.tests) != (1, 1):
                raise ExpressionError(
                    f"each term is linear in one test function ({' '.join(self.tests)}); this one is not: {text}",
                    path="residual",
                )
        return self
