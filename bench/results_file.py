"""Where a command leaves its result."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import machine


def write_result(command: str, result: dict[str, Any], out: Path | None, console: Console) -> None:
    """result.json in ``out``, by default bench/results/COMMAND-DATE."""
    date = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    folder = out or machine.ROOT / "bench" / "results" / f"{command}-{date}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    console.print(f"wrote {folder / 'result.json'}", soft_wrap=True)
