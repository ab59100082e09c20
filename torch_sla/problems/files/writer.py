"""Plain data to YAML 1.2 text that reads back as the same data."""

from __future__ import annotations

from typing import Any, ClassVar

from torch_sla.problems.files.scalars import resolve

__all__ = ["dump"]


def dump(data: dict[str, Any]) -> str:
    """Write mappings, lists and scalars as YAML; short lists stay on one line.

    Examples
    --------
    >>> print(dump({"tag": "left", "value": "1e-8", "at": [0.5, 1.0]}), end="")
    tag: left
    value: "1e-8"
    at: [0.5, 1.0]
    """
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes exactly what the core schema would not read back as the same text."""

        # Everything is emitted as text in its core-schema spelling, so nothing is left to resolve.
        yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]

        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
            return True

        def represent_text(self, text: str) -> yaml.ScalarNode:
            return self.represent_scalar(_TEXT, text, style=None if _plain(text) else '"')

        def represent_number(self, number: float | bool | None) -> yaml.ScalarNode:
            return self.represent_scalar(_TEXT, "null" if number is None else repr(number).lower())

    Dumper.add_representer(str, Dumper.represent_text)
    for kind in (float, int, bool, type(None)):
        Dumper.add_representer(kind, Dumper.represent_number)
    return yaml.dump(
        data,
        Dumper=Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=96,
    )


_TEXT = "tag:yaml.org,2002:str"


def _plain(text: str) -> bool:
    """Whether a text may stand without quotes."""
    try:
        if resolve(text) != text:
            return False
    except ValueError:
        return False
    return text[:1].isalnum() and all(c.isalnum() or c in "_.*/()+-<= " for c in text.rstrip())
