"""What was asked for and what was acknowledged, in a file outside of everything under test.

The child appends a line before each call and one after it. A line that was written is in the page cache,
which survives the death of a process; nothing is synced, as nothing here cuts the power.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GONE = ""  # the content of an item that is deleted, or never was


@dataclass(frozen=True)
class Seen:
    """An item as the store has it: version 0 for one that never was."""

    version: int
    content: str


class Journal:
    """The child's end."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def intends(self, contents: Mapping[str, str]) -> None:
        """What the items are about to become."""
        self._line({"intent": dict(contents)})

    def acknowledged(self, versions: Mapping[str, int]) -> None:
        self._line({"ack": dict(versions)})

    def notes(self, text: str) -> None:
        """For whoever reads the file after a failure."""
        self._line({"note": text})

    def _line(self, value: Any) -> None:
        os.write(self._file, (json.dumps(value) + "\n").encode())


class Oracle:
    """The parent's end: what every item may be now."""

    def __init__(self) -> None:
        self.settled: dict[str, Seen] = {}  # as last acknowledged, or as last found after a kill
        self.acknowledged = 0
        self._read = 0

    def problems(self, journal: Path, found: Mapping[str, Seen]) -> list[str]:
        """Reads what the child has written since the last call, and compares. ``found``: every item that the
        store knows, deleted ones with their version."""
        pending = self._replay(journal)
        problems = [
            problem
            for name in sorted({*self.settled, *pending, *found})
            if (problem := self._problem(name, pending.get(name), found.get(name, Seen(0, GONE))))
        ]
        for name, seen in found.items():
            self.settled[name] = seen
        return problems

    def _replay(self, journal: Path) -> dict[str, str]:
        """Takes acknowledged calls over; what the one that was cut off intended."""
        with journal.open("rb") as file:
            file.seek(self._read)
            lines = file.read().splitlines(keepends=True)
        pending: dict[str, str] = {}
        for line in lines:
            if not line.endswith(b"\n"):
                break
            self._read += len(line)
            said = json.loads(line)
            if "intent" in said:
                pending = said["intent"]
            elif "ack" in said:
                versions: dict[str, int] = said["ack"]
                for name, version in versions.items():
                    if version:
                        self.settled[name] = Seen(version, pending[name])
                self.acknowledged += len(versions)
                pending = {}
        return pending

    def _problem(self, name: str, intended: str | None, found: Seen) -> str:
        last = self.settled.get(name, Seen(0, GONE))
        # Of an item that is gone the store forgets everything in time; its versions go on all the same.
        pruned = last.content == GONE and found == Seen(0, GONE)
        if found == last or pruned:
            return ""
        if intended is not None and found.content == intended:
            if found.version == last.version + 1 or (last.content == GONE and found.version > last.version):
                return ""
            if intended == GONE and found == Seen(0, GONE):  # deleted, and pruned since
                return ""
        if last.content == GONE and found.content != GONE:
            return f"{name}: came back as {found}, was deleted at {last}"
        if found.version < last.version:
            return f"{name}: lost: {found}, acknowledged {last}"
        return f"{name}: is {found}, acknowledged {last}, intended {intended!r}"


def merged(names: Sequence[str], versions: Sequence[int]) -> dict[str, int]:
    return dict(zip(names, versions, strict=True))
