"""What ``migrate status`` shows: the document, and what is measured now. It never fails to be shown."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from embedcore.errors import EmbedcoreError
from embedcore.migration.backfill import BackfillWorker
from embedcore.migration.context import Context
from embedcore.migration.plan import FILLING, window_left
from embedcore.migration.verdict import blockers
from embedcore.migration_types import Migration, MigrationStatus, Phase
from embedcore.store.interface import Coverage

log = logging.getLogger(__name__)

T = TypeVar("T")


def status_of(context: Context, migration: Migration, backfill: BackfillWorker) -> MigrationStatus:
    """Measurements that fail are left at their zero, and the status says so among the blockers: an
    operator who reverts must not be answered with the error that made him revert."""
    troubles: list[str] = []
    coverage = _try(lambda: _coverage(context, migration), Coverage(0, 0), troubles)
    running = not migration.finished
    rate = backfill.meter.rate() if running else 0.0
    missing = coverage.live - coverage.covered
    filling = running and migration.phase in FILLING and not migration.paused
    none: tuple[str, ...] = ()
    lines = _try(lambda: blockers(context, migration), none, troubles) if running else none
    return MigrationStatus(
        migration=migration,
        now=context.now(),
        coverage=coverage.share if coverage.live else 0.0,
        live_items=coverage.live,
        backfilled=coverage.covered,
        backfill_rate=rate,
        eta_seconds=missing / rate if filling and rate > 0 else None,
        repair_queue=_try(context.store.repair_count, 0, troubles),
        corrupt_shards=backfill.corrupt_shards if running else (),
        dual_writes=_try(lambda: context.measures.dual_writes(migration), 0, troubles) if running else 0,
        window_left_seconds=window_left(migration, context.now()),
        cutover_blockers=(*lines, *dict.fromkeys(f"cannot be measured: {t}" for t in troubles)),
        simulated_time=context.clock.scale != 1.0,
        last_event=context.journal.last_number(migration.id),
    )


def _coverage(context: Context, migration: Migration) -> Coverage:
    """Of the target, while there is one that serves or is being filled."""
    if not migration.target or migration.phase in (Phase.ABORTED, Phase.REFUSED):
        return Coverage(0, context.store.live_items())
    if migration.target in context.retired():
        return Coverage(0, context.store.live_items())
    return context.measures.coverage(migration)


def _try(measure: Callable[[], T], default: T, troubles: list[str]) -> T:
    try:
        return measure()
    except EmbedcoreError as error:
        log.warning("status: %s", error)
        troubles.append(error.message)
        return default
