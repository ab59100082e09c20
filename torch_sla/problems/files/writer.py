"""Plain data to YAML 1.2 text that reads back as the same data."""

from __future__ import annotations

from typing import Any

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
        """Quotes what the core schema would not read back as text."""

        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
            return True

        def represent_text(self, text: str) -> yaml.ScalarNode:
            try:
                plain = resolve(text) == text
            except ValueError:
                plain = False
            simple = plain and all(c.isalnum() or c in " _.*/()+-<>=,'" for c in text)
            risky = text[:1] in " *-,>'=" or text[-1:] in " " or text.startswith("---")
            tag = "tag:yaml.org,2002:str"
            if simple and not risky and text not in _OLD_WORDS:
                return self.represent_scalar(tag, text)
            return self.represent_scalar(tag, text, style='"')

    Dumper.add_multi_representer(str, Dumper.represent_text)
    Dumper.add_representer(str, Dumper.represent_text)
    text: str = yaml.dump(
        data,
        Dumper=Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=96,
    )
    return text


_OLD_WORDS = frozenset({"yes", "no", "on", "off", "y", "n", "Yes", "No", "On", "Off", "Y", "N"})
