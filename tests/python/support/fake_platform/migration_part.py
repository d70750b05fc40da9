"""One migration, whose phase is what it was last told; a cutover needs an override."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from embedcore.errors import GateNotMet, InvalidArgument, NotFound
from embedcore.migration_types import (
    ConsumerProgress,
    GateResult,
    Migration,
    MigrationEvent,
    MigrationStatus,
    Phase,
    Plan,
)
from support.fake_platform.core import NOW, FakeCore, gates


class MigrationPart(FakeCore):
    def __init__(self) -> None:
        super().__init__()
        self.running: Migration | None = None
        self.events: list[MigrationEvent] = []
        self.changed = threading.Event()
        self.watched = threading.Event()  # a watcher has been given its first status

    def _migration(self, migration_id: str) -> Migration:
        if self.running is None or migration_id not in ("", self.running.id):
            raise NotFound(f"no migration {migration_id!r}: start one")
        return self.running

    def _shown(self) -> MigrationStatus:
        assert self.running is not None
        return MigrationStatus(
            migration=self.running,
            now=NOW,
            coverage=0.625,
            live_items=len(self.items),
            backfilled=5,
            backfill_rate=12.5,
            eta_seconds=None,
            repair_queue=1,
            cutover_blockers=("coverage 62.5%",),
            window_left_seconds=600.0,
            last_event=len(self.events),
        )

    def _record(self, what: str, who: str, why: str, **changes: Any) -> MigrationStatus:
        self._enter(what)
        with self.lock:
            assert self.running is not None
            self.running = self.running.model_copy(update=changes)
            number = len(self.events) + 1
            evidence = {"value": float("nan"), "n": np.int64(3)}
            self.events.append(
                MigrationEvent(
                    migration=self.running.id,
                    number=number,
                    at=NOW + number,
                    who=who,
                    what=what,
                    why=why,
                    evidence=evidence,
                )
            )
            self.changed.set()
            return self._shown()

    def start_migration(
        self, target_model: str, plan: Plan | None = None, *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus:
        self._enter("start_migration")
        if target_model not in self.registered:
            raise NotFound(f"no model {target_model!r}: known are {', '.join(self.registered)}")
        gate = GateResult(gate="quality", passed=True, summary="+1.20 pp", evidence={"n": 500}, at=NOW)
        self.running = Migration(
            id="m1",
            source=1,
            target=2,
            target_model=target_model,
            phase=Phase.DUAL_WRITE,
            plan=plan or Plan(),
            created_at=NOW,
            created_by=who,
            consumers={"ads": ConsumerProgress(gates={"quality": gate}, held="canary runs")},
        )
        return self._record("start", who, why or override)

    def migration(self, migration_id: str = "") -> MigrationStatus:
        self._migration(migration_id)
        return self._shown()

    def migrations(self) -> list[MigrationStatus]:
        return [] if self.running is None else [self._shown()]

    def migration_events(self, migration_id: str = "", after: int = 0) -> list[MigrationEvent]:
        self._migration(migration_id)
        return [event for event in self.events if event.number > after]

    def watch_migration(self, migration_id: str = "") -> Iterator[MigrationStatus]:
        self._enter("watch_migration")
        self._migration(migration_id)
        while True:
            self.changed.clear()
            shown = self._shown()
            yield shown
            self.watched.set()
            if shown.migration.finished:
                return
            self.changed.wait(0.02)

    def set_weight(
        self, migration_id: str, consumer: str, weight: float, *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus:
        consumers = dict(self._migration(migration_id).consumers)
        if consumer not in consumers:
            raise NotFound(f"no consumer {consumer!r} in this migration")
        consumers[consumer] = consumers[consumer].model_copy(update={"weight": weight})
        return self._record("weight", who, override or why, consumers=consumers)

    def pause_migration(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus:
        self._migration(migration_id)
        return self._record("pause", who, why, paused=True)

    def resume_migration(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus:
        self._migration(migration_id)
        return self._record("resume", who, why, paused=False)

    def extend_window(self, migration_id: str, seconds: float, *, who: str, why: str) -> MigrationStatus:
        if not (seconds > 0 and why):
            raise InvalidArgument("the window is extended by a positive number of seconds, for a reason")
        return self._record("extend", who, why, window_until=NOW + seconds)

    def revert_consumer(
        self, migration_id: str, consumer: str, *, who: str, why: str = ""
    ) -> MigrationStatus:
        consumers = dict(self._migration(migration_id).consumers)
        consumers[consumer] = consumers[consumer].model_copy(update={"weight": 0.0, "reverted": True})
        return self._record("revert", who, why, consumers=consumers)

    def cutover(
        self, migration_id: str = "", *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus:
        self._migration(migration_id)
        if not override:
            raise GateNotMet("coverage is 62.5%, needs more than 99%", {"evidence": gates(4)})
        return self._record("cutover", who, override, phase=Phase.GRACE)

    def rollback(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus:
        self._migration(migration_id)
        return self._record("rollback", who, why, phase=Phase.ROLLED_BACK)

    def abort_migration(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus:
        self._migration(migration_id)
        return self._record("abort", who, why, phase=Phase.ABORTED)

    def decommission(
        self, migration_id: str = "", *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus:
        self._migration(migration_id)
        return self._record("decommission", who, override or why, phase=Phase.DONE)
