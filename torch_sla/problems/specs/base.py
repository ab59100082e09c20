"""The base of every declaration: frozen, strict, tagged data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pydantic
from pydantic import ConfigDict, ValidationError, model_validator

from torch_sla.problems.specs.faults import spec_error, unbuilt_key, unknown_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch_sla.problems.specs.laws import Law

__all__ = ["Spec"]


class Spec(pydantic.BaseModel):
    """Frozen data that says what is wanted and holds no tensor.

    Fields marked ``kw_only=False`` may be given by position, in order. What does not validate raises
    `SpecError`, which names the path, what was received and the nearest valid spelling.
    """

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        revalidate_instances="always",
        allow_inf_nan=False,
        validate_default=True,
        ser_json_inf_nan="strings",
    )

    unbuilt: ClassVar[dict[str, str]] = {}
    """Fields that people will look for and that do not exist yet, with what to know about them."""
    apart: ClassVar[bool] = False
    """Whether it checks its own laws, wherever it stands."""
    ordered: ClassVar[frozenset[str]] = frozenset()
    """Fields whose mappings mean something else in another order."""

    def __init__(self, *args: Any, **data: Any) -> None:
        names = [n for n, f in type(self).model_fields.items() if f.kw_only is False]
        if len(args) > len(names):
            others = [
                self.spelling(n) for n in type(self).model_fields if n not in (*names, "type")
            ]
            raise TypeError(
                f"{type(self).__name__} takes {len(names)} positional arguments ({', '.join(names)}), but {len(args)} "
                f"were given; fields that are given by name: {' '.join(others) or 'none'}"
            )
        for name, value in zip(names, args, strict=False):
            if name in data:
                raise TypeError(f"{type(self).__name__} got {name!r} twice")
            data[name] = value
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise spec_error(error, data) from None

    # Nested declarations validate in one pass instead of calling __init__ for each.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    def more_laws(self) -> Iterable[Law]:
        """Yield the laws that stand in no field marked with a `Place`."""
        return ()

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            known = [cls.spelling(name) for name in cls.model_fields]
            for key in data:
                if key in cls.unbuilt:
                    raise unbuilt_key(key, cls.unbuilt[key])
                if key not in known:
                    raise unknown_key(str(key), known, str(data.get("type", "")))
            data = {key: _python(value) for key, value in data.items()}
        return data

    @classmethod
    def spelling(cls, name: str) -> str:
        """Return how a field is written: its name, or the alias of one that a method would hide."""
        return cls.model_fields[name].alias or name

    def given(self) -> dict[str, Any]:
        """Return the fields that were given, as they are written."""
        return {self.spelling(name): getattr(self, name) for name in self.model_fields_set}

    def updated(self, **changes: Any) -> Self:
        """Return a copy with some fields changed, checked as a new declaration.

        Examples
        --------
        >>> from torch_sla.problems.specs.boundary import Dirichlet
        >>> Dirichlet("left", 0.0).updated(value=2.0).value
        2.0
        """
        return type(self)(**{**self.given(), **changes})

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __repr__(self) -> str:
        shown = (
            f"{self.spelling(name)}={getattr(self, name)!r}"
            for name, field in type(self).model_fields.items()
            if name != "type"
            and getattr(self, name) != field.get_default(call_default_factory=True)
        )
        return f"{type(self).__name__}({', '.join(shown)})"

    __str__ = __repr__


def _python(value: Any) -> Any:
    """Turn integers of NumPy, alone or in a list, into those of Python, which is all that they are."""
    if isinstance(value, list | tuple) and any(isinstance(item, np.integer) for item in value):
        return [_python(item) for item in value]
    return int(value) if isinstance(value, np.integer) else value
