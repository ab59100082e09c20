"""Declarations to files and back."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from torch_sla.errors import SpecError
from torch_sla.linalg.sparse.whole import whole
from torch_sla.problems.files.loader import Document, load_document, parse_document
from torch_sla.problems.files.writer import dump
from torch_sla.problems.registry import problem_class
from torch_sla.problems.specs.arrays import Array
from torch_sla.problems.specs.base import Spec
from torch_sla.problems.specs.faults import located, spec_error
from torch_sla.problems.specs.hashing import stated
from torch_sla.problems.specs.migrations import migrate
from torch_sla.problems.specs.python import PythonFunction
from torch_sla.problems.specs.value import ArrayFile
from torch_sla.problems.specs.written import DataFile, FrozenMap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    import numpy.typing as npt

    from torch_sla.problems.specs.problem import Problem

__all__ = ["from_document", "load_problem", "parse_value", "to_text", "write"]

INLINE_NUMBERS = 64
FIRST = ("version", "type", "name", "mesh", "order")
LAST = ("boundary", "outputs", "parameters", "solver")


def load_problem(path: str | Path, *, trust: bool = False) -> Problem:
    """Read a declaration from a YAML or JSON file.

    Paths inside the file are relative to it.

    Parameters
    ----------
    path
        The file.
    trust
        Whether ``module:function`` in it may import that module, which runs its code.

    Raises
    ------
    SpecError
        With file, line, path, what was received and the nearest valid spelling.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from torch_sla import IntervalMesh, PoissonProblem
    >>> path = Path(tempfile.mkdtemp()) / "rod.yaml"
    >>> rod = PoissonProblem(mesh=IntervalMesh(cells=4), source=1.0)
    >>> _ = rod.to_yaml(path)
    >>> load_problem(path) == rod
    True
    """
    return from_document(load_document(path), base=Path(path).resolve().parent, trust=trust)


def from_document(document: Document, *, base: Path, trust: bool) -> Problem:
    """Validate a document; relative paths in it start at ``base``, and with trust it may name functions."""
    data = document.data
    if not isinstance(data, dict):
        message = f"a problem is a mapping of fields; received {type(data).__name__}"
        raise SpecError(message, file=document.file, line=1)
    try:
        data = migrate(data)
        kind = data.get("type")
        if kind is None:
            raise SpecError("'type' is required (such as type: poisson)")
        cls = problem_class(kind)
        problem = cls.model_validate(data, context={"base": str(base), "trust": trust})
        problem.remember(document)
    except ValidationError as error:
        raise spec_error(error, data, document) from None
    except SpecError as error:
        raise located(error, document) from None
    return problem


def to_text(problem: Spec) -> str:
    """Return the YAML of a declaration; arrays too long to write inline are refused."""

    def keep(name: str, array: npt.NDArray[np.generic]) -> dict[str, str]:
        raise SpecError(
            f"the array {name!r} has {array.size} numbers, too many for a line of YAML; "
            "to_yaml('file.yaml') writes them beside the file"
        )

    return dump(_plain(problem, Path.cwd(), keep, ""))


def write(problem: Spec, path: str | Path) -> None:
    """Write a declaration as YAML; long arrays go to one ``.npz`` beside it."""
    path = Path(path)
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    beside = path.with_name(path.stem + ".arrays.npz")

    def keep(name: str, array: npt.NDArray[np.generic]) -> dict[str, str]:
        arrays[name] = array
        return {"file": beside.name, "key": name}

    text = dump(_plain(problem, path.resolve().parent, keep, ""))
    if arrays:
        import numpy as np

        with whole(beside) as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
    with whole(path) as file:
        file.write_text(text, encoding="utf-8")


def parse_value(text: str) -> Any:
    """Read one YAML value, as ``--set path=value`` gives it."""
    return parse_document(text).data if text.strip() else ""


def _plain(
    value: Any,
    base: Path,
    keep: Callable[[str, npt.NDArray[np.generic]], Mapping[str, str]],
    name: str,
) -> Any:
    if isinstance(value, Spec):
        result: dict[str, Any] = {}
        fields = type(value).model_fields
        middle = [key for key in fields if key not in FIRST + LAST]
        for key in [key for key in (*FIRST, *middle, *LAST) if key in fields]:
            item = getattr(value, key)
            default = fields[key].get_default(call_default_factory=True)
            if key in ("version", "type") or item != default:
                key = type(value).spelling(key)
                plain = _plain(item, base, keep, f"{name}.{key}" if name else key)
                one = key == "on" and isinstance(plain, list) and len(plain) == 1
                result[key] = plain[0] if one else plain
        if isinstance(value, ArrayFile):
            del result["type"]
        return result
    if isinstance(value, PythonFunction):
        if value.reference is not None:
            return value.reference
        raise SpecError(
            f"the Python function {value.name} lives in this process only and cannot be written to a "
            "file; write an expression, or name it in the file as module:function",
            path=name,
        )
    if isinstance(value, DataFile):
        return Path(os.path.relpath(value, base)).as_posix()
    if isinstance(value, Array):
        if value.array.size <= INLINE_NUMBERS:
            return value.array.tolist()
        return dict(keep(name, value.array))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = stated(value)
    if isinstance(value, FrozenMap | dict):
        return {key: _plain(item, base, keep, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item, base, keep, f"{name}.{i}") for i, item in enumerate(value)]
    if isinstance(value, str):
        return str(value)
    return value
