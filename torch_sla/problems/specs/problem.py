"""The base of all problems: what every declaration shares, and the verbs."""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from torch_sla.errors import ArgumentError, GradientError, SpecError
from torch_sla.problems import registry
from torch_sla.problems.files.loader import Document
from torch_sla.problems.specs.base import Spec
from torch_sla.problems.specs.differentiable import Differentiable
from torch_sla.problems.specs.faults import located
from torch_sla.problems.specs.given import joined, state
from torch_sla.problems.specs.hashing import LiveObjectError, spec_hash
from torch_sla.problems.specs.laws import check_laws
from torch_sla.problems.specs.outputs import Output
from torch_sla.problems.specs.solver import Solver
from torch_sla.problems.specs.value import Parameter
from torch_sla.problems.specs.written import Listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from torch_sla.assembly.mesh import Mesh
    from torch_sla.problems.lowering.model import Model
    from torch_sla.problems.progress import ProgressCallback
    from torch_sla.problems.solution import Solution

__all__ = ["Problem"]

logger = logging.getLogger(__name__)


class Problem(Differentiable, Spec):
    """A problem as data. ``Problem(type="poisson", ...)`` builds the matching class.

    Examples
    --------
    >>> from torch_sla import IntervalMesh, Problem
    >>> problem = Problem(type="poisson", mesh=IntervalMesh(cells=4), source=1.0)
    >>> type(problem).__name__
    'PoissonProblem'
    """

    fields_of: ClassVar[dict[str, int]] = {}
    derived_of: ClassVar[dict[str, int]] = {}
    """Quantities that outputs may use, with their ranks."""
    seeing: ClassVar[frozenset[str]] = frozenset()
    """Where laws begin that may use the solution."""
    refused: ClassVar[dict[str, str]] = {}
    """Outputs that have no meaning here, with what to use instead."""
    kinds: ClassVar[frozenset[str] | None] = None
    """Outputs that have a meaning here; None means all that need a mesh."""
    is_complex: ClassVar[bool] = False
    apart: ClassVar[bool] = True
    timeless: ClassVar[str | None] = "this problem is steady"
    """Why no law may use the time, where that is so by nature."""
    evolves: ClassVar[frozenset[int]] = frozenset()
    """Orders of the time derivatives that have a meaning: 1 (a capacity), 2 (an inertia)."""
    still: ClassVar[str] = ""
    """Why other orders have none."""
    goes_on: ClassVar[bool] = False
    """Whether it is solved in parts, so that a run can be kept and gone on with."""
    no_modes: ClassVar[str | None] = None
    """Why it has no modes, where that is so."""

    type: str
    version: Literal[2] = Field(default=2, description="Version of this format.")
    name: str | None = Field(default=None, description="A title, for people.")
    parameters: Listed[Parameter] = Field(
        default=(), description="Parameters declared for use inside expressions."
    )
    outputs: Listed[Output] = Field(
        default=(), description="Quantities computed from the solution."
    )
    solver: Solver = Field(
        default=Solver(), description="Requests to the linear and nonlinear solvers."
    )

    _parameters: dict[str, Parameter] = PrivateAttr(default_factory=dict)
    _model: Any = PrivateAttr(default=None)
    _hash: str | None = PrivateAttr(default=None)
    _document: Document | None = PrivateAttr(default=None)

    if not TYPE_CHECKING:

        def __new__(cls, *_: Any, **data: Any) -> Self:  # noqa: D102
            if cls is Problem:
                cls = registry.problem_class(data.get("type"))
            return super().__new__(cls)

    def __init__(self, *args: Any, **data: Any) -> None:
        super().__init__(*args, **data)

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="after")
    def _check(self) -> Self:
        unseen = {} if self.timeless is None else {"t": self.timeless}
        inner = self._inherited
        self._parameters = check_laws(
            self, self.fields, unseen, self.derived_of, self.seeing, self.tests, inner
        )
        if inner is not None:
            self._check_outer()
        taken = set(self.fields)
        for i, output in enumerate(self.outputs):
            if output.name in taken:
                raise SpecError(
                    f"two outputs are called {output.name!r}"
                    if output.name not in self.fields
                    else f"{output.name!r} is the field itself; call the output something else",
                    path=f"outputs.{i}.name",
                )
            taken.add(output.name)
            allowed = (
                output.type != "component" if self.kinds is None else output.type in self.kinds
            )
            if not allowed:
                raise SpecError(
                    f"a {output.type} has no meaning in {self.type!r}", path=f"outputs.{i}.type"
                )
            if output.type in self.refused:
                raise SpecError(self.refused[output.type], path=f"outputs.{i}.type")
        for name, parameter in self._parameters.items():
            if "u" in parameter.of and (parameter.on != "quadrature" or parameter.shape):
                raise SpecError(
                    f"the parameter {name!r} is a law of u, which is a scalar on quadrature points"
                )
        return self

    def _check_outer(self) -> None:
        """Leave to the problem that an analysis is of what belongs to it."""
        if self.solver != Solver():
            raise SpecError("how it is solved is said by the problem: of.solver", path="solver")

    @property
    def inner(self) -> Problem | None:
        """The problem that an analysis is of."""
        return None

    @property
    def parts(self) -> dict[str, Problem]:
        """The problems that an analysis is of, by name; one alone is called ``""``."""
        return {} if self.inner is None else {"": self.inner}

    @property
    def _inherited(self) -> dict[str, Parameter] | None:
        """Parameters of what an analysis is of."""
        return None if self.inner is None else self.inner.declared

    @property
    def fields(self) -> dict[str, int]:
        """Rank of each unknown: 0 scalar, 1 vector."""
        return self.fields_of

    @property
    def called(self) -> tuple[str, ...]:
        """What people call the eigenvalues, by name among the results; nothing where there are none."""
        return ()

    @property
    def tests(self) -> dict[str, int]:
        """Rank of each test function that is written out."""
        return {}

    # -- files and identity ---------------------------------------------------------------------

    @staticmethod
    def from_yaml(path: str | Path, *, trust: bool = False) -> Problem:
        """Read a problem from a YAML or JSON file; see `load_problem`."""
        from torch_sla.problems.specs.files import load_problem

        return load_problem(path, trust=trust)

    def to_yaml(self, path: str | Path | None = None) -> str:
        """Return the problem as YAML, and write it to ``path`` where one is given.

        Long arrays are written beside the file; paths inside become relative to it.
        """
        from torch_sla.problems.specs import files

        if path is None:
            return files.to_text(self)
        files.write(self, path)
        return Path(path).read_text(encoding="utf-8")

    def remember(self, document: Document) -> None:
        """Keep where this was read from, so that later errors can name file and line."""
        self._document = document

    def __getstate__(self) -> dict[Any, Any]:
        """Return what is pickled: the declaration; what was compiled is made again where it is needed."""
        state = super().__getstate__()
        return {**state, "__pydantic_private__": {**state["__pydantic_private__"], "_model": None}}

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Return itself: frozen data needs no copy, so that modules that hold it can be copied."""
        return self

    def forget(self) -> None:
        """Drop what was compiled and derived from the fields, of a copy whose fields were changed."""
        self._model = self._hash = None

    @property
    def spec_hash(self) -> str:
        """Identifies what is declared, contents of files included; survives a trip through YAML."""
        if self._hash is None:
            self._hash = spec_hash(self)
        return self._hash

    @property
    def declared(self) -> dict[str, Parameter]:
        """Every parameter by name."""
        return dict(self._parameters)

    # -- verbs ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _located(self) -> Iterator[Model]:
        """Yield the lowered problem; what turns out to be wrong is located in the file it came from.

        What is compiled here is kept, so under inference mode it is made as ordinary tensors: a later
        solve may want to differentiate through it.
        """
        import torch
        from torch.autograd import forward_ad

        from torch_sla.linalg.checks import together
        from torch_sla.linalg.sparse.transforms import is_transformed, own_device, refuse_recording

        refuse_recording()
        if is_transformed() and self._untransformed:
            raise GradientError(
                f"torch.func does not go through a {self.type} problem: take derivatives by torch.autograd (backward, "
                "grad, forward_ad) or by the verbs value_and_grad, vjp, jvp and hvp, and give parameters batch "
                "dimensions instead of vmap"
            )
        try:
            with contextlib.ExitStack() as modes:
                modes.enter_context(own_device())
                if torch.is_inference_mode_enabled():
                    modes.enter_context(torch.inference_mode(mode=False))
                    modes.enter_context(torch.no_grad())
                elif forward_ad._current_level >= 0:
                    modes.enter_context(torch.enable_grad())  # see `moving`
                if self._model is None:
                    before = time.monotonic()
                    # Of a copy of the declaration: problem and model do not hold each other.
                    declared = self.model_copy()
                    declared.forget()
                    self._model = registry.verbs(self.type)(declared)
                    # Files are read now; what identifies them later must not be what is written to them meanwhile. One
                    # that was not needed may be gone, and live objects in the solver of a search have no hash.
                    with contextlib.suppress(OSError, LiveObjectError):
                        self._hash = declared.spec_hash
                    logger.info("compiled %s in %.3g s", self.type, time.monotonic() - before)
                modes.enter_context(together())
                yield self._model
        except SpecError as error:
            if error.file is not None or self._document is None:
                raise
            raise located(error, self._document) from None

    @property
    def _untransformed(self) -> bool:
        """Whether `torch.func` does not go through it, or through the problem that it is of."""
        return self.inner is not None and self.inner._untransformed

    @property
    def structural_hash(self) -> str:
        """Identifies the structure: mesh topology, selections, element, dtype; no values."""
        with self._located() as model:
            return model.compiled.key

    def compile(self) -> Model:
        """Do all work that values do not change, and hold on to it."""
        with self._located() as model:
            return model

    def check(self) -> Mesh:
        """Check all that needs no value: mesh, selections, tags, places, arrays, laws of places; return the mesh.

        Raises
        ------
        SpecError, MeshError, ArgumentError
            At the first thing that is wrong.
        """
        with self._located() as model:
            return model.check()

    def mesh_data(self) -> Mesh:
        """Return the mesh: points ``[n, dim]`` (a copy, yours to change), cells, facets, tags.

        Raises
        ------
        ArgumentError
            If there is none, or several.
        """
        return self._of_one("mesh").mesh_data()

    def sites(self, name: str) -> Tensor:
        """Return the coordinates ``[n, dim]`` where a parameter lives.

        Raises
        ------
        ArgumentError
            If there is no mesh, or several.
        """
        inner = self._of_one("mesh to live on")
        if name in inner.declared or name not in self.declared:
            return inner.sites(name)
        with self._located() as model:
            return model.sites(name).clone()

    def _of_one(self, what: str) -> Problem:
        if self.inner is None:
            where = " of its own; ask one of the problems it is of" if self.parts else ""
            raise ArgumentError(f"a {self.type} problem has no {what}{where}")
        return self.inner

    def solve(
        self,
        values: Mapping[str, Any] | None = None,
        /,
        *,
        points: Tensor | None = None,
        start: Tensor | None = None,
        info: bool = False,
        throw: bool = True,
        folder: str | Path | None = None,
        resume: str | Path | None = None,
        progress: ProgressCallback | None = None,
        **named: Any,
    ) -> Solution:
        """Solve for given parameters; one node in the autograd graph.

        Parameters
        ----------
        values, **named
            Tensors, numbers or modules by parameter name, ``[*batch, *sites, *shape]``. ``values`` is a
            mapping for names that are no Python words.
        points
            Moved mesh points ``[n_points, dim]``, differentiable; ``[*batch, n_points, dim]`` of a steady problem,
            whose batch dimensions broadcast with those of the parameters.
        start
            Where iterative methods begin ``[n_dofs]``, or as ``solution.u``; detached. Where there are several
            solutions, it chooses which one is found; a nonlinear problem takes a batch of starts, each with a solution
            of its own. Eigenpairs take one where the matrices are those about a solution.
        info
            Whether to record the residual history.
        throw
            Whether failure raises `SolveError`, or is left in ``solution.info``. Modes that are not found, and states
            that they are about, raise in any case.
        folder
            Keep a run in this folder while it goes on; of problems in time, sweeps and designs.
        resume
            Go on with the run in this folder, to the same bits as if it had never stopped.
        progress
            Called with a `Progress` after each part of long work; what it raises ends the work.

        Raises
        ------
        ArgumentError
            For an unknown name, a wrong shape, NaN, a coefficient that must be positive and is not, or a folder
            that holds another run.
        GradientError
            For a tensor that requires grad but reaches nothing.
        SolveError
            If the linear solve fails.
        """
        import torch

        if torch.compiler.is_compiling():  # which would trace minutes of set-up
            alone: Any = torch.compiler.disable(self.solve)
            options: dict[str, Any] = {"points": points, "start": start, "info": info}
            options |= {"throw": throw, "folder": folder, "resume": resume, "progress": progress}
            return alone(values, **options, **named)
        with self._located() as model, contextlib.ExitStack() as kept:
            given, points = joined(values, named), state("points", points)
            start = state("start", start)
            start = None if start is None else start.detach()
            long: dict[str, Any] = {}
            if folder is not None or resume is not None or progress is not None:
                from torch_sla.problems.analyses.watching import watching

                if not self.goes_on and (folder is not None or resume is not None):
                    raise ArgumentError(
                        f"a {self.type} problem is solved in one go, so there is nothing to go on with: folder and "
                        "resume are of transient, sweep and design problems"
                    )
                beside = {"points": points, "start": start}
                every = {**given, **{n: x for n, x in beside.items() if x is not None}}
                watch = kept.enter_context(watching(model, every, folder, resume, progress))
                long = {"watch": watch} if self.goes_on else {"progress": progress}
            before = time.monotonic()
            solution: Solution = model.solve(
                given, points=points, start=start, info=info, throw=throw, **long
            )
            logger.info("solved %s in %.3g s: %s", self.type, time.monotonic() - before, solution)
            return solution

    def explain(self, values: Mapping[str, Any] | None = None, /, **named: Any) -> str:
        """Return size, structure, chosen backend and method, and why."""
        from torch_sla.problems.report.explain import explain

        with self._located() as model:
            return explain(model, joined(values, named))
