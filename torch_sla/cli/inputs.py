"""From arguments to a problem and its parameters."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

from torch_sla.errors import ArgumentError, SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torch_sla.problems.specs.design import DesignProblem
    from torch_sla.problems.specs.problem import Problem

__all__ = [
    "check_file",
    "check_folder",
    "read_parameters",
    "read_problem",
    "refuse_design",
    "require_design",
]

# What results are written as.
_ENDINGS = (".vtu", ".pvd", ".xdmf", ".npz", ".json", ".csv", ".html", ".png")

# What a bare type may stand for.
_BARE = ("optimizer",)


def read_problem(
    path: Path,
    settings: Sequence[str] | None = None,
    device: str | None = None,
    *,
    trust: bool = False,
) -> Problem:
    """Read a file, change what ``--set`` says, and validate.

    Raises
    ------
    SpecError
        If the file, a path or a value is wrong.
    """
    from torch_sla.problems.files.loader import load_document
    from torch_sla.problems.specs.files import from_document, parse_value

    document = load_document(path)
    for setting in settings or ():
        where, separator, text = setting.partition("=")
        if not separator or not where:
            raise ArgumentError(f"--set {setting!r}: expected PATH=VALUE, as in mesh.cells=[64,64]")
        try:
            value = parse_value(text)
        except SpecError as error:
            raise SpecError(f"--set {where}: {error.message}") from None
        _set(document.data, where, value)
        document.replaced[tuple(where.split("."))] = "--set"
    if device is not None:
        for where in _innermost(document.data):
            _set(document.data, f"{where}solver.device", device)
    return from_document(document, base=path.resolve().parent, trust=trust)


def refuse_design(problem: Problem, path: Path) -> None:
    """Refuse what is no problem to solve.

    Raises
    ------
    SpecError
        For a design problem, with the command that searches.
    """
    if problem.type == "design":
        raise SpecError(
            f"{path} declares a design problem; search with torch-sla optimize {path}", path="type"
        )


def require_design(problem: Problem, path: Path) -> DesignProblem:
    """Return a problem that is a search; a `SpecError` says where it is none."""
    from torch_sla.problems.specs.design import DesignProblem

    if isinstance(problem, DesignProblem):
        return problem
    raise SpecError(
        f"{path} declares a {problem.type} problem, and only those of type design are optimized",
        path="type",
    )


def check_folder(path: Path, stem: str | None = None) -> None:
    """Refuse a folder that nothing can be written to, before the work and not after it.

    Parameters
    ----------
    stem
        What the names of the results begin with; none of them may be a folder.

    Raises
    ------
    ArgumentError
        Says what is in the way.
    """
    _check_writable(path, path)
    for ending in () if stem is None else _ENDINGS:
        if (path / f"{stem}{ending}").is_dir():
            raise ArgumentError(
                f"-o {path}: {path / f'{stem}{ending}'} is a folder, in the way of a result; name another folder"
            )


def check_file(path: Path) -> None:
    """Refuse a file that cannot be written, before the work and not after it.

    Raises
    ------
    ArgumentError
        Says what is in the way.
    """
    if path.is_dir():
        raise ArgumentError(f"-o {path} is a folder; name a file")
    _check_writable(path, path.parent)


def _check_writable(path: Path, folder: Path) -> None:
    here = folder.absolute()
    while not here.exists() and here != here.parent:
        here = here.parent
    if not here.is_dir():
        raise ArgumentError(f"-o {path}: {here} is a file; name a folder")
    try:
        # What permissions say is not all: the disk may be read-only, and root is asked for none.
        with tempfile.TemporaryDirectory(prefix=".", dir=here):
            pass
    except OSError as error:
        raise ArgumentError(
            f"-o {path}: {here} cannot be written to ({error.strerror}); name another folder"
        ) from None


def _innermost(data: Any, where: str = "") -> Iterator[str]:
    """Yield where the problems are that analyses are of, as prefixes of paths."""
    of = data.get("of") if isinstance(data, dict) else None
    if not isinstance(of, dict):
        yield where
    elif "type" in of:
        yield from _innermost(of, f"{where}of.")
    else:
        for name, part in of.items():
            yield from _innermost(part, f"{where}of.{name}.")


def _set(data: Any, where: str, value: Any) -> None:
    parts = where.split(".")
    here = data
    for i, part in enumerate(parts):
        last = i == len(parts) - 1
        if isinstance(here, list):
            if not part.isdigit() or int(part) >= len(here):
                at = ".".join(parts[:i])
                raise SpecError(
                    f"--set {where}: {at} is a list of {len(here)}; {part!r} is no index of it"
                )
            if last:
                here[int(part)] = value
            here = here[int(part)]
        elif isinstance(here, dict):
            if last:
                here[part] = value
            elif part not in here:
                here[part] = {}
            elif isinstance(here[part], str) and part in _BARE:
                here[part] = {"type": here[part]}
            here = here[part]
        else:
            raise SpecError(f"--set {where}: {'.'.join(parts[:i])} is a single value")


def read_parameters(given: Sequence[str] | None) -> dict[str, Any]:
    """Read ``NAME=VALUE`` pairs: numbers, ``.npy`` files, ``.npz`` files with a key.

    Raises
    ------
    ArgumentError
        If a pair is malformed, or a file cannot be read.
    """
    found: dict[str, Any] = {}
    for text in given or ():
        name, value = _parameter(text)
        if name in found:
            raise ArgumentError(f"--param {name} is given twice")
        found[name] = value
    return found


def _parameter(text: str) -> tuple[str, Any]:
    from pydantic_core import PydanticCustomError

    from torch_sla.problems.specs.arrays import load_array

    name, separator, value = text.partition("=")
    if not separator or not name or not value:
        raise ArgumentError(f"--param {text!r}: expected NAME=VALUE, as in kappa=k.npy or h=12.5")
    try:
        return name, float(value)
    except ValueError:
        path, _, key = value.partition(".npz:")
    try:
        array = load_array(f"{path}.npz" if key else value, key or None)
    except PydanticCustomError as error:
        raise ArgumentError(
            f"--param {name}: {error.message()}; give a number, or a file of them: k.npy or k.npz:key"
        ) from None
    if array.dtype.kind not in "fiuc":
        raise ArgumentError(f"--param {name}: {value} holds {array.dtype}; numbers are needed")
    return name, array
