"""Which generations answer a consumer: derived from the documents in the store, by one pure function.

Nothing else decides a route. The migration controller changes documents and asks for a refresh; after a
crash the same documents give the same routes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from embedcore.hashing import item_hash
from embedcore.migration_types import Migration, Phase
from embedcore.types import Consumer, Generation

_ON_SOURCE = frozenset(
    {Phase.DUAL_WRITE, Phase.BACKFILL, Phase.ROLLED_BACK, Phase.HALTED, Phase.DEFERRED, Phase.PREFLIGHT}
)


@dataclass(frozen=True, slots=True)
class Route:
    """One consumer's row of the routing table. ``target`` 0: none."""

    consumer: str
    ef_search: int
    source: int
    target: int = 0
    weight: float = 0.0
    calibration: bytes = b""
    canary_share: float = 0.0
    canary_salt: int = 0
    ef_by_generation: tuple[tuple[int, int], ...] = ()  # calibrated breadths that win over ef_search

    @property
    def breadths(self) -> dict[int, int]:
        """Generation -> ef_search."""
        calibrated = dict(self.ef_by_generation)
        return {number: calibrated.get(number, self.ef_search) for number in self.generations}

    @property
    def generations(self) -> tuple[int, ...]:
        return (self.source, self.target) if self.target else (self.source,)


def running_migration(migrations: Iterable[Migration]) -> Migration | None:
    """The one migration that has not finished."""
    return next((m for m in migrations if not m.finished), None)


def routes_of(
    consumers: Sequence[Consumer], generations: Sequence[Generation], migration: Migration | None
) -> list[Route]:
    """Routes for every consumer; empty while there is no serving generation."""
    live = {g.number: g for g in generations if g.live}
    if migration is None or migration.source not in live:
        serving = [g.number for g in live.values() if g.state == "serving"]
        if not serving:
            return []
        # Of several without a migration, the first one has all writes; the controller retires the others.
        return [_single(c, serving[-1 if migration else 0]) for c in consumers]
    if migration.phase in _ON_SOURCE or migration.target not in live:
        return [_single(c, migration.source) for c in consumers]
    if migration.phase is Phase.GRACE:
        return [_single(c, migration.target) for c in consumers]
    return [_blended(c, migration) for c in consumers]


def _single(consumer: Consumer, generation: int) -> Route:
    return Route(consumer.name, consumer.ef_search, generation, ef_by_generation=_calibrated(consumer))


def _calibrated(consumer: Consumer) -> tuple[tuple[int, int], ...]:
    return tuple(sorted(consumer.ef_by_generation.items()))


def _blended(consumer: Consumer, migration: Migration) -> Route:
    progress = migration.consumers.get(consumer.name)
    if progress is None:  # registered after the migration began
        return _single(consumer, migration.source)
    canary = progress.canary_since is not None and progress.weight < 1.0
    # The target is named at weight 0 too (where the router searches the source alone): a step of the plan
    # is evaluated at its weight before it is taken.
    return Route(
        consumer.name,
        consumer.ef_search,
        source=migration.source,
        target=migration.target,
        weight=progress.weight,
        calibration=bytes.fromhex(migration.calibration),
        canary_share=migration.plan.canary_share if canary else 0.0,
        # A salt per migration: the same users are not the canary of every migration.
        canary_salt=item_hash(migration.id),
        ef_by_generation=_calibrated(consumer),
    )
