"""``embedcore verify``: the store, the snapshots and the indexes against each other.

An index, or a snapshot's, with the watermark w must hold what the store holds, except for items that the log
names after w. So it can be checked beside writes: first the watermark, then the index, then the store, then
which items the log has named since.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from embedcore.errors import EmbedcoreError
from embedcore.index import Index
from embedcore.serving.serving import Serving
from embedcore.serving.snapshots import DAMAGED
from embedcore.store.interface import Store
from embedcore.types import Generation, Vectors

_SCAN_ROWS: Final = 4096
_LOG_ROWS: Final = 4096
# Of one kind, of one index; beyond that one number says more.
_LISTED: Final = 20


@dataclass(slots=True)
class _Stored:
    """What the store holds of one generation and shard: all items, and the vectors of a sample of them."""

    items: NDArray[np.int64]
    sampled: NDArray[np.int64]
    vectors: Vectors


@dataclass(slots=True)
class Report:
    """``problems``: one line each, empty is good. ``checked``: what was looked at, with its counts."""

    problems: list[str] = field(default_factory=list)
    checked: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def document(self) -> dict[str, Any]:
        """JSON-serialisable."""
        return {"problems": self.problems, "checked": self.checked, "seconds": round(self.seconds, 3)}


class Verifier:
    """May run beside searches and writes, which wait while an index is checked for reachability (a second or
    so a million items)."""

    def __init__(
        self, store: Store, serving: Serving, *, machine_time: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._serving = serving
        self._time = machine_time

    def run(self, sample: int = 1000, seed: int = 0) -> Report:
        """``sample``: vectors compared per index, bit by bit; their stored checksums are checked all."""
        began = self._time()
        report = Report()
        report.problems += [f"store: {problem}" for problem in self._store.verify()]
        report.checked.append(
            {"what": "store", "items": self._store.live_items(), "shards": self._store.shards}
        )
        if line := self._serving.recovery.line():
            report.problems.append(f"not recovered yet: {line}")
        for generation in self._store.generations():
            if generation.live:
                for shard in range(generation.shards):
                    self._shard(report, generation, shard, sample, np.random.default_rng([seed, shard]))
        report.seconds = self._time() - began
        return report

    def _shard(
        self, report: Report, generation: Generation, shard: int, sample: int, rng: np.random.Generator
    ) -> None:
        number = generation.number
        name = f"index of generation {number}, shard {shard}"
        refused: set[int] = set()
        lane = next((lane for lane in self._serving.lanes.of(number) if lane.shard == shard), None)
        if lane is None:
            report.problems.append(f"{name}: not loaded")
        else:
            assert isinstance(lane.index, Index)
            applied = lane.applied
            failures = lane.failures
            refused = set(failures)
            report.problems += [
                f"{name}: refused item {self._named(item)}: {why}" for item, why in failures.items()
            ]
            self._index(report, name, lane.index, (number, shard, applied), sample, rng, refused)
        snapshots = self._serving.snapshots
        for watermark, path in snapshots.files(number, shard):
            self._snapshot(report, generation, shard, watermark, path, sample, rng, refused)
        report.problems += [
            f"snapshot {path}: damage was found in it, it is out of use"
            for path in sorted(snapshots.folder(number, shard).glob(f"*{DAMAGED}"))
        ]

    def _snapshot(
        self,
        report: Report,
        generation: Generation,
        shard: int,
        watermark: int,
        path: Path,
        sample: int,
        rng: np.random.Generator,
        refused: set[int],
    ) -> None:
        name = f"snapshot {path}"
        try:
            index = Index.load(path, mmap=True)
            index.wait_verified()
        except FileNotFoundError:
            return  # pruned meanwhile
        except (EmbedcoreError, OSError) as error:
            report.problems.append(f"{name}: {error}")
            return
        head = self._store.head(shard)
        digest = generation.fingerprint.digest
        for wrong, says in (
            (index.fingerprint != digest, f"is of vector space {index.fingerprint}, not {digest}"),
            (index.watermark != watermark, f"holds watermark {index.watermark}"),
            (watermark > head, f"is ahead of the store, whose shard {shard} ends at {head}"),
        ):
            if wrong:
                report.problems.append(f"{name}: {says}")
                return
        self._index(report, name, index, (generation.number, shard, watermark), sample, rng, refused)

    def _index(
        self,
        report: Report,
        name: str,
        index: Index,
        at: tuple[int, int, int],  # generation, shard, watermark
        sample: int,
        rng: np.random.Generator,
        failing: set[int],
    ) -> None:
        number, shard, watermark = at
        problems: list[str] = []
        held = index.ids()
        stored = self._stored(number, shard, sample, rng)
        compared = 0
        try:
            compared, different = _differing(index, stored)
            changed = self._changed(number, shard, watermark)
        except EmbedcoreError as error:  # damage in what is mapped, or a log that does not reach back
            report.problems.append(f"{name}: {error}")
            return
        settled = changed | failing
        for items, what in (
            (np.setdiff1d(stored.items, held), "lacks item"),
            (np.setdiff1d(held, stored.items), "holds an item that the store does not,"),
            (different, "holds another vector than the store of item"),
        ):
            problems += self._listed(what, [int(item) for item in items if int(item) not in settled])
        problems += index.check()
        report.problems += [f"{name}: {problem}" for problem in problems]
        report.checked.append(
            {
                "what": name,
                "watermark": watermark,
                "items": len(held),
                "stored": len(stored.items),
                "compared": compared,
                "changed_since": len(changed),
                "tombstones": index.tombstones,
                "problems": len(problems),
            }
        )

    def _stored(self, generation: int, shard: int, sample: int, rng: np.random.Generator) -> _Stored:
        items: list[NDArray[np.int64]] = []
        sampled: list[NDArray[np.int64]] = []
        vectors: list[Vectors] = []
        share = min(1.0, sample / max(1, self._store.live_items() // self._store.shards))
        after = -1
        while True:
            ids, rows = self._store.scan_vectors(generation, shard, after, _SCAN_ROWS)
            if not len(ids):
                break
            after = int(ids[-1])
            items.append(ids)
            drawn = rng.random(len(ids)) < share
            sampled.append(ids[drawn])
            vectors.append(rows[drawn])
        if not items:
            nothing = np.empty(0, np.int64)
            return _Stored(nothing, nothing, np.empty((0, 0), np.float32))
        return _Stored(np.concatenate(items), np.concatenate(sampled), np.concatenate(vectors))

    def _changed(self, generation: int, shard: int, after: int) -> set[int]:
        changed: set[int] = set()
        while (batch := self._store.read_lane(generation, shard, after, _LOG_ROWS)) is not None:
            changed.update(batch.ids.tolist(), batch.removed.tolist())
            after = batch.upto
        return changed

    def _listed(self, what: str, items: list[int]) -> Iterator[str]:
        for item in items[:_LISTED]:
            yield f"{what} {self._named(item)}"
        if len(items) > _LISTED:
            yield f"{what}: {len(items) - _LISTED} more"

    def _named(self, item: int) -> str:
        found = self._store.get_items([item])
        return f"{item} ({found[0].id!r})" if found else str(item)


def _differing(index: Index, stored: _Stored) -> tuple[int, NDArray[np.int64]]:
    """How many of the sampled items the index holds, and those whose vectors differ."""
    index.check_health()
    here = np.fromiter((int(item) in index for item in stored.sampled), np.bool_, len(stored.sampled))
    items, rows = stored.sampled[here], stored.vectors[here]
    different = []
    for item, row in zip(items.tolist(), rows, strict=True):
        try:
            if not np.array_equal(index.get([item])[0], row):
                different.append(item)
        except KeyError:  # removed meanwhile: the log says so
            continue
    return len(items), np.array(different, np.int64)
