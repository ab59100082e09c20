"""The README's code runs as it is written, and its two commands keep their markers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=[f"block {i}" for i in range(len(BLOCKS))])
def test_code_runs(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert "choice" in capsys.readouterr().out


def test_there_are_two_examples_and_two_commands() -> None:
    assert len(BLOCKS) == 2
    for mark in ("run-command", "test-command"):
        line = TEXT.split(f"<!-- {mark} -->\n```sh\n")[1].split("\n")[0]
        assert line.startswith("python3 -m venv")
        assert "constraints.txt" in line
