"""The consistency job: every hour a sample of the items is compared between the store and the indexes.

The store is the truth; an index that holds another vector than the current version's has diverged. Lanes
follow the store with a lag, so a difference is only a suspicion until the lane has applied everything that
was committed when it was seen, and the store's vector has not changed since.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcore.errors import EmbedcoreError
from embedcore.migration.context import Context, log
from embedcore.migration.deps import at_least
from embedcore.migration.journal import Note
from embedcore.types import Vectors

PERIOD = 3_600.0  # seconds of the clock
PERIOD_MACHINE = 5.0
SHARE = 0.01
LEAST = 200  # items; 1% of a small corpus says nothing
DIVERGED_ALERT = 0.005
REPAIR_PRIORITY = 1


@dataclass(frozen=True, slots=True)
class _Suspects:
    """Items of one generation that looked diverged, with what the store held and had committed then."""

    generation: int
    compared: int
    items: NDArray[np.int64]
    vectors: Vectors
    heads: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Divergence:
    """One generation's result. ``lower`` is the 95% lower bound of the diverged share."""

    generation: int
    compared: int
    diverged: tuple[int, ...]
    lower: float

    @property
    def alert(self) -> bool:
        return self.lower > DIVERGED_ALERT


class ConsistencyJob:
    """For one thread: the controller's loop."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._next: float | None = None
        self._runs = 0
        self._suspects: list[_Suspects] = []

    def tick(self) -> list[Divergence]:
        """Starts a comparison when one is due, and settles those whose lanes have caught up; returns what
        was settled."""
        now = self._context.now()
        if self._next is None:
            # The first run comes an hour after the start, when lanes have settled.
            self._next = now + self._period()
        self._next = min(self._next, now + self._period())  # a clock that was set back puts nothing off
        if now >= self._next and not self._suspects:
            self._next = now + self._period()
            self._runs += 1
            self._suspects = [
                self._compare(generation.number)
                for generation in self._context.store.generations()
                if generation.live
            ]
        settled: list[Divergence] = []
        waiting: list[_Suspects] = []
        for suspects in self._suspects:
            found = self._settle(suspects)
            if found is None:
                waiting.append(suspects)
            else:
                settled.append(found)
        self._suspects = waiting
        return settled

    def _compare(self, generation: int) -> _Suspects:
        store, serving = self._context.store, self._context.deps.serving
        count = max(LEAST, math.ceil(SHARE * store.live_items()))
        items, vectors = store.stored_vectors(generation, store.sample_items(count, self._seed(generation)))
        agree = serving.index_vectors_agree(generation, items, vectors)
        heads = {shard: store.head(shard) for shard in range(store.shards)}
        return _Suspects(generation, len(items), items[~agree], vectors[~agree], heads)

    def _settle(self, suspects: _Suspects) -> Divergence | None:
        """None while a lane is still behind what was committed when the suspicion arose."""
        store, serving = self._context.store, self._context.deps.serving
        generation = suspects.generation
        if generation in self._context.retired():
            return Divergence(generation, 0, (), 0.0)
        diverged: tuple[int, ...] = ()
        if len(suspects.items):
            applied = serving.applied(generation)
            if any(applied.get(shard, 0) < head for shard, head in suspects.heads.items()):
                return None
            diverged = self._still_diverged(suspects)
        result = Divergence(
            generation, suspects.compared, diverged, lower_share(len(diverged), suspects.compared)
        )
        if diverged:
            store.add_repairs(generation, list(diverged), "diverged from the store", REPAIR_PRIORITY)
            self._report(result)
        return result

    def _still_diverged(self, suspects: _Suspects) -> tuple[int, ...]:
        store, serving = self._context.store, self._context.deps.serving
        items, vectors = store.stored_vectors(suspects.generation, suspects.items)
        before = {int(item): row for item, row in zip(suspects.items, suspects.vectors, strict=True)}
        unchanged = np.array(
            [np.array_equal(before[int(item)], row) for item, row in zip(items, vectors, strict=True)],
            dtype=np.bool_,
        )
        if not unchanged.any():
            return ()
        items, vectors = items[unchanged], vectors[unchanged]
        agree = serving.index_vectors_agree(suspects.generation, items, vectors)
        return tuple(int(item) for item in items[~agree])

    def _report(self, result: Divergence) -> None:
        share = len(result.diverged) / result.compared
        why = (
            f"generation {result.generation}: {len(result.diverged)} of {result.compared} sampled items "
            f"diverged ({share:.2%}), re-queued"
        )
        log.warning("%s", why)
        evidence = {
            "generation": result.generation,
            "compared": result.compared,
            "diverged": list(result.diverged[:100]),
            "lower": result.lower,
        }
        notes = [Note("consistency", why, evidence=evidence)]
        if result.alert:
            alert = f"{why}; above {DIVERGED_ALERT:.1%} with 95% confidence (bound {result.lower:.2%})"
            notes.append(Note("alert", alert, evidence=evidence))
        running = self._context.journal.running()
        if running is not None:
            try:
                self._context.journal.note(running.id, *notes)
            except EmbedcoreError:
                log.exception("divergence could not be recorded")

    def _period(self) -> float:
        return at_least(self._context.clock, PERIOD, PERIOD_MACHINE)

    def _seed(self, generation: int) -> int:
        """Another sample each hour."""
        key = f"{self._context.deps.seed}/consistency/{generation}/{self._runs}/{self._context.now()!r}"
        return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest())


def lower_share(hits: int, total: int) -> float:
    """One-sided 95% lower bound of a share (Wilson 1927): rates fire only when it is past the threshold."""
    if total == 0:
        return 0.0
    z = 1.6448536269514722
    share = hits / total
    centre = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, (centre - half) / (1 + z * z / total))
