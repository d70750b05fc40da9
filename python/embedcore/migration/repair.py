"""Drains the repair queue: vectors that could not be made when their item was written, or that diverged."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from embedcore.errors import EmbedcoreError, InvalidArgument, NotFound
from embedcore.migration.context import Context
from embedcore.migration.deps import at_least
from embedcore.store.interface import RepairEntry, Store
from embedcore.types import Vectors

log = logging.getLogger(__name__)

BACK_OFF = 30.0  # seconds of the clock before the second attempt; doubled with each further one
BACK_OFF_MACHINE = 1.0  # the same, in seconds of the machine, however time is scaled
LONGEST = 3_600.0
_Key = tuple[int, int, int]  # generation, item, version: a new version starts anew


class RepairWorker:
    """For one thread. Attempts are counted in the store; when the next one is due is kept here, so a
    restart tries everything at once and then backs off again.

    Entries of items without content cannot be made by any encoder: they stay in the queue until their
    vectors are sent, and are counted in ``without_content``.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._clock = context.clock
        self._encoders = context.deps.encoders
        self._not_before: dict[_Key, float] = {}
        self.without_content = 0
        self.repaired = 0

    @property
    def _store(self) -> Store:
        return self._context.store

    def step(self, limit: int = 64) -> int:
        """Tries up to ``limit`` entries that are due; returns how many were tried. Raises what the store
        raises; what an encoder raises is counted as a failed attempt."""
        now = self._clock.now()
        # Entries that wait here may stand before those that are due: look past them.
        entries = self._store.repairs(None, limit + len(self._not_before))
        listed = {_key(entry) for entry in entries}
        self._not_before = {key: at for key, at in self._not_before.items() if key in listed}
        live = {g.number: g.model for g in self._store.generations() if g.live}
        due: dict[int, list[RepairEntry]] = {}
        self.without_content = 0
        for entry in entries:
            if entry.content is None:
                self.without_content += 1
                self._not_before[_key(entry)] = now + self._delay(6)
            elif entry.generation in live and self._is_due(entry, now):
                due.setdefault(entry.generation, []).append(entry)
        tried = 0
        for generation, group in sorted(due.items()):
            tried += self._repair(generation, live[generation], group[: limit - tried])
        return tried

    def _repair(self, generation: int, model: str, entries: Sequence[RepairEntry]) -> int:
        if not entries:
            return 0
        try:
            rows = list(zip(entries, self._encode(model, entries), strict=True))
        except InvalidArgument:
            rows = self._one_by_one(generation, model, entries)
        except EmbedcoreError as error:
            for entry in entries:
                self._failed(entry, error.message)
            return len(entries)
        if rows:
            _, void = self._store.write_vectors(
                generation, [(entry.item, entry.version, vector) for entry, vector in rows]
            )
            self.repaired += len(rows) - void
            # A void row belongs to an item that was written meanwhile: its entry, if any, is another one.
            for entry, _ in rows:
                self._not_before.pop(_key(entry), None)
        return len(entries)

    def _one_by_one(
        self, generation: int, model: str, entries: Sequence[RepairEntry]
    ) -> list[tuple[RepairEntry, Vectors]]:
        """One bad text must not keep its neighbours from being repaired."""
        rows = []
        for entry in entries:
            try:
                rows.append((entry, self._encode(model, [entry])[0]))
            except EmbedcoreError as error:
                self._failed(entry, error.message)
        return rows

    def _encode(self, model: str, entries: Sequence[RepairEntry]) -> Vectors:
        return self._encoders.encode_bulk(model, [entry.content or "" for entry in entries])

    def _failed(self, entry: RepairEntry, reason: str) -> None:
        log.warning("item %r of generation %d not repaired: %s", entry.id, entry.generation, reason)
        self._not_before[_key(entry)] = self._clock.now() + self._delay(entry.attempts)
        try:
            self._store.repair_failed(entry.generation, entry.item, reason)
        except NotFound:  # repaired or deleted by a live write meanwhile
            self._not_before.pop(_key(entry), None)

    def _is_due(self, entry: RepairEntry, now: float) -> bool:
        left = self._not_before.get(_key(entry), now) - now
        return left <= 0 or left > self._longest()  # longer than any wait: the clock was set back

    def _delay(self, attempts: int) -> float:
        factor = 2.0 ** min(attempts, 20)
        return min(at_least(self._clock, BACK_OFF * factor, BACK_OFF_MACHINE * factor), self._longest())

    def _longest(self) -> float:
        return at_least(self._clock, LONGEST, LONGEST / 60)


def _key(entry: RepairEntry) -> _Key:
    return entry.generation, entry.item, entry.version
