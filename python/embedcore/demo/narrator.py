"""What the demo says while it runs: headings, progress bars, a live page of the migration."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.live import Live
from rich.text import Text

from embedcore.cli.migrate_view import headline, status_view
from embedcore.cli.output import Output
from embedcore.migration_types import MigrationStatus

# Without a terminal, a line at least this often while a migration runs (seconds).
_LINE_S = 10.0


class Narrator:
    """Everything goes to stderr when ``quiet``, so that stdout holds the JSON alone."""

    def __init__(self, *, quiet: bool) -> None:
        self._out = Output(as_json=False)
        self._quiet = quiet
        self._began = time.monotonic()
        self._live: Live | None = None
        self._last_line = (0.0, "")

    def step(self, text: str) -> None:
        """A line with the seconds since the start."""
        line = f"[{time.monotonic() - self._began:5.0f} s] {text}"
        if self._live is not None:
            self._live.console.print(Text(line))
        elif self._quiet:
            print(line, file=sys.stderr, flush=True)
        else:
            self._out.say(line)
            sys.stdout.flush()

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        with self._out.progress(what, total) as advance:
            yield advance

    @contextmanager
    def migration(self) -> Iterator[Callable[[MigrationStatus], None]]:
        """Gives a function that shows a status: live on a terminal, else a line now and then."""
        if self._quiet or not self._out.console.is_terminal:
            yield self._line
            return
        with Live(console=self._out.console, auto_refresh=False, transient=True) as live:
            self._live = live
            try:
                yield lambda status: live.update(status_view(status), refresh=True)
            finally:
                self._live = None

    def _line(self, status: MigrationStatus) -> None:
        weights = ", ".join(f"{n} {p.weight:.0%}" for n, p in status.migration.consumers.items())
        key = f"{status.migration.phase.value} [{weights}]"
        last, shown = self._last_line
        if key != shown or time.monotonic() - last > _LINE_S:
            self._last_line = (time.monotonic(), key)
            self.step(f"{headline(status)} [{weights}]")
