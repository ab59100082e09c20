"""Arrays inside a declaration: read-only numbers behind a content hash."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from torch_sla.errors import DTypeError, SpecError
from torch_sla.lazy import cached_property
from torch_sla.problems.specs.faults import fault

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

__all__ = ["Array", "file_digest", "load_array", "native", "numbers"]


class Array:
    """Read-only numbers, given as an array, nested lists or ``{file, key}``.

    Parameters
    ----------
    array
        The numbers; copied, so that later changes to the original do not reach the declaration.

    Examples
    --------
    >>> Array([[1, 2]]).array.flags.writeable
    False
    """

    def __init__(self, array: npt.ArrayLike) -> None:
        if np.ma.is_masked(array):
            raise fault("the array is masked, and a declaration has no gaps: fill them")
        copied = native(np.array(array))
        if copied.dtype.kind not in "biuf":
            raise fault(f"an array of numbers is needed; received dtype {copied.dtype}")
        if copied.dtype.kind == "f" and not np.isfinite(copied).all():
            raise fault("the array holds NaN or infinity")
        copied.flags.writeable = False
        self.array: npt.NDArray[Any] = copied

    @cached_property
    def digest(self) -> str:
        """Hash of shape, kind and content (whole numbers hash alike in any integer type)."""
        kind = "f8" if self.array.dtype.kind == "f" else "i8"
        content = np.ascontiguousarray(self.array, dtype=kind)
        digest = hashlib.blake2b(f"{kind} {content.shape}".encode(), digest_size=16)
        digest.update(content.tobytes())
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Array) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Array(shape={self.array.shape}, dtype={self.array.dtype})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(cls._validate)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        file = {
            "type": "object",
            "properties": {"file": {"type": "string"}, "key": {"type": "string"}},
            "required": ["file"],
            "additionalProperties": False,
        }
        return {"anyOf": [{"type": "array"}, file]}

    @classmethod
    def _validate(cls, value: Any, info: core_schema.ValidationInfo) -> Array:
        if isinstance(value, Array):
            return value
        if isinstance(value, dict) and "file" in value and set(value) <= {"file", "key"}:
            base = Path(info.context["base"]) if info.context else Path.cwd()
            return cls(load_array(base / str(value["file"]), value.get("key")))
        if hasattr(value, "requires_grad"):
            if value.requires_grad:
                raise fault(
                    "a declaration holds no tensor that requires grad; pass moving points to "
                    "solve(points=...)"
                )
            value = value.detach().cpu().numpy()
        if isinstance(value, np.ndarray | list | tuple):
            try:
                return cls(value)
            except ValueError as error:
                raise fault(f"an array of finite numbers is needed: {error}") from None
        raise fault(
            f"an array, nested lists or {{file, key}} is needed; received {type(value).__name__}"
        )


def native(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return numbers as torch holds them: bytes in the order of this machine, at most double precision.

    Examples
    --------
    >>> native(np.array([1.0], dtype=">f4")).dtype == np.float32
    True
    """
    kind, double = array.dtype.kind, {"f": 8, "c": 16}
    if array.dtype.itemsize > double.get(kind, array.dtype.itemsize):
        return array.astype(f"{kind}{double[kind]}")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def load_array(path: Path | str, key: str | None) -> npt.NDArray[Any]:
    """Read `native` numbers from ``.npy``, ``.npz`` or a ``.png`` image; pickled objects are refused.

    Raises
    ------
    PydanticCustomError
        If the file or the key is missing, or the content is not numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise fault(f"no such file: {str(path)!r}")
    if path.suffix == ".png":
        return _image(path)
    try:
        return native(_loaded(path, key))
    except (ValueError, EOFError, OSError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, PydanticCustomError):
            raise
        raise fault(f"{path.name} cannot be read as .npy or .npz: {error}") from None


def _loaded(path: Path, key: str | None) -> npt.NDArray[Any]:
    with path.open("rb") as file:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            if key is not None:
                raise fault(f"{path.name} holds one array and has no keys; received key {key!r}")
            return loaded
        if key is None and len(loaded.files) == 1:
            key = loaded.files[0]
        if key not in loaded.files:
            names = " ".join(loaded.files)
            asked = "says no key" if key is None else f"has no array {key!r}"
            raise fault(f"{path.name} {asked}; it holds: {names}")
        return loaded[key]


def numbers(
    file: str, key: str | None, path: str, *, allow_complex: bool = False
) -> npt.NDArray[Any]:
    """Return the numbers of a file that stands at a path of a declaration, as memory of its own.

    Raises
    ------
    SpecError
        If it cannot be read, or holds no numbers.
    DTypeError
        If they are complex where real ones are needed.
    """
    try:
        array = load_array(file, key)
    except PydanticCustomError as error:
        raise SpecError(error.message(), path=path) from None
    name = Path(file).name
    if array.dtype.kind not in "biufc":
        raise SpecError(f"{name} holds {array.dtype}; numbers are needed", path=path)
    if array.dtype.kind == "c" and not allow_complex:
        raise DTypeError(f"{path}: {name} holds complex numbers; real ones are needed")
    return array.copy()


def _image(path: Path) -> npt.NDArray[Any]:
    """Read an image as grey ``[nx, ny]`` between 0 and 1, y upwards."""
    try:
        from matplotlib import image
    except Exception as error:  # noqa: BLE001  (built for another NumPy, it fails in ways of its own)
        raise fault(
            f"reading an image needs matplotlib, which cannot be loaded ({type(error).__name__}: {error}): "
            "pip install matplotlib, for the NumPy that is there"
        ) from None
    try:
        pixels = np.asarray(image.imread(path), dtype=np.float64)
    except (OSError, ValueError, SyntaxError) as error:
        raise fault(f"{path.name} cannot be read as an image: {error}") from None
    grey = pixels if pixels.ndim == 2 else pixels[..., : min(3, pixels.shape[-1])].mean(-1)
    return np.ascontiguousarray(grey[::-1].T)


def file_digest(path: str | Path) -> str:
    """Hash of the bytes of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
