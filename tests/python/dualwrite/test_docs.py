"""The example of docs/dual-write.md runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import embedcore

PAGE = Path(__file__).parents[3] / "docs" / "dual-write.md"


def test_the_example_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 1
    names: dict[str, object] = {}
    exec(compile(blocks[0], str(PAGE), "exec"), names)
    writer = names["writer"]
    assert isinstance(writer, embedcore.DualWriter)
    assert writer.closed
