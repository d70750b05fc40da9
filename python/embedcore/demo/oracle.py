"""The oracle: what was acknowledged, kept outside the database and compared with it item by item.

One line per acknowledged write, appended by the process that got the acknowledgement. A write whose
acknowledgement never came is in doubt: it may have happened or not, and either is right.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from embedcore.errors import NotFound
from embedcore.types import StoredItem

_THREADS = 8


@dataclass(frozen=True, slots=True)
class Expected:
    """The last acknowledged state of one item. ``content`` None: deleted. ``doubt``: contents that later
    writes without acknowledgement may have left (None: deleted)."""

    version: int
    content: str | None
    doubt: tuple[str | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Loss:
    id: str
    what: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """``acknowledged``: writes; ``items``: distinct items compared, ``deleted`` of them gone for good."""

    acknowledged: int
    items: int
    deleted: int
    in_doubt: int
    losses: tuple[Loss, ...] = field(default=())


class OracleLog:
    """Appends acknowledgements to a file. Thread-safe; each line is handed to the system when written."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()
        self.acknowledged = 0

    def upserted(self, item_id: str, version: int, content: str) -> None:
        self._write("upsert", item_id, version, content)

    def deleted(self, item_id: str, version: int) -> None:
        self._write("delete", item_id, version, None)

    def in_doubt(self, item_id: str, content: str | None) -> None:
        """A write (``content`` None: a delete) that was sent and never acknowledged."""
        self._write("doubt", item_id, 0, content)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, op: str, item_id: str, version: int, content: str | None) -> None:
        line = json.dumps({"op": op, "id": item_id, "version": version, "content": content})
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()
            self.acknowledged += op != "doubt"


def read_expected(paths: Iterable[Path]) -> tuple[dict[str, Expected], int]:
    """(id -> expected state, acknowledged writes) of the logs, the earlier process first. Within an id the
    larger version wins, whatever the order of the lines."""
    expected: dict[str, Expected] = {}
    acknowledged = 0
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            item_id, version, content = record["id"], record["version"], record["content"]
            known = expected.get(item_id, Expected(0, None))
            if record["op"] == "doubt":
                expected[item_id] = Expected(known.version, known.content, (*known.doubt, content))
                continue
            acknowledged += 1
            if version > known.version:
                expected[item_id] = Expected(version, content)
    return expected, acknowledged


def touched(path: Path) -> set[str]:
    """Ids that a log, still being written, says anything about."""
    if not path.exists():
        return set()
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return {json.loads(line)["id"] for line in whole.splitlines()}


def compare(
    expected: Mapping[str, Expected],
    acknowledged: int,
    get_item: Callable[[str], StoredItem],
    generation: int,
) -> Verdict:
    """Asks for every item: content and version as acknowledged, deleted ones gone, and the version of the
    vector that ``generation`` holds. ``get_item`` raises NotFound, and is called from several threads."""

    def check(entry: tuple[str, Expected]) -> Loss | None:
        item_id, wanted = entry
        what = _difference(wanted, get_item, item_id, generation)
        return None if what is None else Loss(item_id, what)

    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(check, expected.items(), chunksize=64))
    return Verdict(
        acknowledged=acknowledged,
        items=len(expected),
        deleted=sum(e.content is None for e in expected.values()),
        in_doubt=sum(bool(e.doubt) for e in expected.values()),
        losses=tuple(loss for loss in found if loss is not None),
    )


def _difference(
    wanted: Expected, get_item: Callable[[str], StoredItem], item_id: str, generation: int
) -> str | None:
    try:
        found = get_item(item_id)
    except NotFound:
        if wanted.content is None or None in wanted.doubt:
            return None
        return f"acknowledged at version {wanted.version}, not found"
    if wanted.doubt and found.content in wanted.doubt:
        pass
    elif wanted.content is None:
        return f"deleted at version {wanted.version}, found at version {found.version}"
    elif found.content != wanted.content:
        return f"content differs from what was acknowledged at version {wanted.version}"
    elif found.version < wanted.version or (found.version != wanted.version and not wanted.doubt):
        return f"version {found.version}, acknowledged was {wanted.version}"
    held = found.held.get(generation)
    if held != found.version:
        return f"generation {generation} holds version {held}, the item is at {found.version}"
    return None
