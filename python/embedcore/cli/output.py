"""What commands print: tables for people, JSON for machines, progress bars on a terminal only."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any, TypeVar

import numpy as np
from pydantic import BaseModel
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from embedcore.errors import EmbedcoreError, GateNotMet

# Without a terminal there is no width to respect: lines are read by programs or kept in logs.
_PLAIN_WIDTH = 200

_T = TypeVar("_T")


def plain(value: Any) -> Any:
    """The value as JSON-serialisable plain data: documents, dataclasses and arrays included."""
    if isinstance(value, BaseModel):
        return plain(value.model_dump())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no form for it
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(inner) for inner in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)


def console_for(stream: IO[str]) -> Console:
    """Markup is off: texts of users may hold square brackets."""
    terminal = stream.isatty()
    return Console(
        file=stream,
        width=None if terminal else _PLAIN_WIDTH,
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=not terminal,
    )


def table_of(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> Table:
    """Numbers to the right, everything else as it is."""
    table = Table(title=title or None, box=None, pad_edge=False, title_justify="left", header_style="bold")
    for position, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[position], (int, float)) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


class Output:
    """Where a command writes. Not thread-safe; one per command."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.console = console_for(sys.stdout)
        self._errors = console_for(sys.stderr)

    @property
    def terminal(self) -> bool:
        """Progress bars and live displays make sense: a person looks, and no machine reads."""
        return self._errors.is_terminal and not self.as_json and os.environ.get("TERM") != "dumb"

    def document(self, value: Any, *, lines: bool = False) -> None:
        """JSON on stdout; ``lines``: one line per document, flushed, for streams of them."""
        text = json.dumps(plain(value), ensure_ascii=False, indent=None if lines else 2)
        print(text, flush=lines)

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, data: Any, title: str = ""
    ) -> None:
        """``data`` as JSON for machines, the rows as a table for people."""
        if self.as_json:
            self.document(data)
        else:
            self.console.print(table_of(columns, rows, title))

    def say(self, text: str) -> None:
        """A line for people; nothing for machines."""
        if not self.as_json:
            self.console.print(Text(text))

    def result(self, data: Any, text: str) -> None:
        """The outcome of a command that does one thing."""
        if self.as_json:
            self.document(data)
        else:
            self.say(text)

    def note(self, text: str) -> None:
        """A remark beside the result, on stderr."""
        if not self.as_json:
            self._errors.print(Text(text))

    def failure(self, error: EmbedcoreError) -> None:
        """One line on stderr; a gate that refused is followed by its evidence, one line per gate."""
        if self.as_json:
            body = {"code": error.code, "message": error.message, "details": plain(error.details)}
            print(json.dumps({"error": body}, ensure_ascii=False), file=sys.stderr, flush=True)
            return
        print(f"embedcore: {one_line(error.message)}", file=sys.stderr, flush=True)
        if isinstance(error, GateNotMet):
            for line in evidence_lines(error.details):
                print(f"  {line}", file=sys.stderr, flush=True)

    @contextmanager
    def progress(self, what: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Gives a function that is told how much is done so far. Shown on a terminal only."""
        if not self.terminal:
            yield lambda done: None
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._errors, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)

    def each(self, what: str, items: Sequence[_T]) -> Iterator[_T]:
        """The items, with a bar on a terminal that says how many are done."""
        with self.progress(what, len(items)) as advance:
            for done, item in enumerate(items, start=1):
                yield item
                advance(done)

    @contextmanager
    def transfer(self) -> Iterator[Callable[[str, int, int], None]]:
        """Gives a function that is told what is being moved, how many bytes of it, of how many. Shown on a
        terminal only."""
        if not self.terminal:
            yield lambda what, done, total: None
            return
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._errors, transient=True) as bar:
            task = bar.add_task("starting", total=None)

            def report(what: str, done: int, total: int) -> None:
                bar.update(task, description=what, completed=done, total=total)

            yield report


def one_line(text: str) -> str:
    return " ".join(text.split())


def evidence_lines(details: Mapping[str, Any]) -> list[str]:
    """``passed``/``NOT MET`` lines of the gates in an error's details."""
    lines: list[str] = []
    for gate in details.get("evidence", ()):
        if isinstance(gate, Mapping) and "gate" in gate:
            verdict = "passed " if gate.get("passed") else "NOT MET"
            lines.append(f"{verdict} {gate['gate']}: {one_line(str(gate.get('summary', '')))}")
    return lines
