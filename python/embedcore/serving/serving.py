"""The serving side of one process: every live generation's indexes, their lanes, and the routing table.

Implements :class:`embedcore.migration.interface.ServingControl` for the controller and
:class:`embedcore.evaluation.harness.SearchBackend` for evaluations.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcore import _native
from embedcore.background import background_threads
from embedcore.clock import Clock
from embedcore.errors import (
    CorruptSnapshotError,
    NotFound,
    Unavailable,
)
from embedcore.index import Index
from embedcore.serving.keeper import Keeper
from embedcore.serving.lanes import Lane, LaneSet
from embedcore.serving.recovery import Progress, Recovery
from embedcore.serving.routes import Route, routes_of, running_migration
from embedcore.serving.snapshots import SnapshotDirectory, SnapshotSettings
from embedcore.store.interface import Store
from embedcore.store.retention import lane_hold
from embedcore.types import Consumer, Generation, Vectors

log = logging.getLogger(__name__)

ShadowRecord = Callable[[str, float, bool], None]


def _index_of(lane: Lane) -> Index:
    assert isinstance(lane.index, Index)
    return lane.index


class Serving:
    """All methods may be called from any thread. The query path reads one immutable routing table."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        data_dir: Path,
        *,
        seed: int = 0,
        threads: bool = True,
        snapshots: SnapshotSettings | None = None,
    ) -> None:
        """With ``threads=False`` nothing runs by itself, and the same seed and writes make the same graphs:
        snapshots are read, not mapped, and replayed by one thread."""
        self._store = store
        # In this order. _filling: one generation is loaded, recovered or dropped at a time; may be held long.
        # _lock: what the tables below say, and publishing; never the query path, never long.
        self._filling = threading.RLock()
        self._lock = threading.RLock()
        self.lanes = LaneSet(store, clock, threads=threads)
        settings = snapshots or SnapshotSettings()
        self.snapshots = SnapshotDirectory(
            data_dir, settings if threads else replace(settings, mmap=False, interval_s=0.0)
        )
        self.recovery = Recovery(store, self.lanes, self.snapshots, seed=seed, threads=0 if threads else 1)
        self._keeper = Keeper(self.snapshots.settings.interval_s, self.save_snapshots)
        self.router = _native.Router()
        self.generations: dict[int, Generation] = {}  # every generation ever routed to, by number
        self._indexes: dict[int, list[Index]] = {}
        self.routes: Mapping[str, Route] = {}
        self.consumers: Mapping[str, Consumer] = {}
        self.slots: dict[str, int] = {}  # consumer -> slot, never reused
        self.shadow: tuple[float, int, ShadowRecord] | None = None

    # Start and stop.

    def expect(self) -> None:
        """Makes every live generation show as waiting for recovery; before :meth:`start`."""
        self.consumers = {consumer.name: consumer for consumer in self._store.consumers()}
        for generation in self._store.generations():
            if generation.live:
                self.recovery.expect(generation)

    def start(self, progress: Progress | None = None) -> None:
        """Brings every live generation to the head of the stream: newest valid snapshot, or a rebuild from
        the stored vectors, then the log. Reads are routed when this returns. Unavailable when the platform
        is closed meanwhile."""
        live = [generation for generation in self._store.generations() if generation.live]
        self.snapshots.tidy({generation.number for generation in live})
        for generation in live:
            self._attach(generation, progress)
        self.refresh_routes()
        for generation in live:
            self._in_use(generation)
        self._keeper.start()

    def stop(self) -> None:
        """Ends a start that is under way; closes nothing yet."""
        self._keeper.stop()
        self.recovery.stop()

    def save_last_snapshots(self) -> None:
        """At the end: for want of one the next start replays more of the log."""
        self._keeper.save_or_log("the next start replays the log instead")

    def close(self) -> None:
        self.stop()
        self.lanes.close()
        self._keeper.join()

    def save_snapshots(self) -> list[tuple[Lane, Path]]:
        """One file per live (generation, shard); searches and writes go on meanwhile. None of an index that
        was mapped from a damaged file: that is recovered in place, or at the next start."""
        with self._lock:
            lanes = [lane for number in self._indexes for lane in self.lanes.of(number)]
            fingerprints = {number: g.fingerprint.digest for number, g in self.generations.items()}
        saved: list[tuple[Lane, Path]] = []
        for lane in lanes:
            try:
                saved.append((lane, self.snapshots.save(lane, fingerprints[lane.generation])))
            except CorruptSnapshotError as error:
                log.error("generation %d, shard %d: no snapshot: %s", lane.generation, lane.shard, error)
            else:
                self._hold_log(lane)
        return saved

    def _hold_log(self, lane: Lane) -> None:
        """What the oldest snapshot would replay stays in the log, and nothing else does for this lane."""
        generation, shard, applied = lane.generation, lane.shard, lane.applied
        kept = self.snapshots.oldest(generation, shard, self._store.pruned(shard))
        needed = applied if kept is None else min(kept, applied)
        self._store.hold(lane_hold(generation), shard, needed, generation=generation)

    # Recovery in place.

    def _recover(self, generation: Generation, shard: int, damaged: Index, problem: str) -> None:
        log.error("generation %d, shard %d: %s; recovering", generation.number, shard, problem)
        with self._filling:
            indexes = self._indexes.get(generation.number)
            if self._keeper.stopping or indexes is None or indexes[shard] is not damaged:
                return
            self.recovery.damaged(generation.number, shard, problem)
            self.snapshots.set_aside(generation.number, shard, damaged)
            try:
                lane = self.recovery.bring_up(generation, shard, problem=problem)
            except Unavailable:  # closed meanwhile
                return
            index = _index_of(lane)
            self.lanes.swap(lane)
            with self._lock:
                indexes[shard] = index
                self.refresh_routes()
            self.recovery.finish(generation.number, shard)
            self._watch_over(generation, shard, index)

    def _watch_over(self, generation: Generation, shard: int, index: Index) -> None:
        self._keeper.watch(
            f"g{generation.number}-s{shard}", index, partial(self._recover, generation, shard, index)
        )

    # ServingControl.

    def attach_generation(self, generation: Generation) -> None:
        with self._filling:
            if self._attach(generation, None):
                self._in_use(generation)

    def _in_use(self, generation: Generation) -> None:
        """What was attached counts as recovered, and is watched over from now on."""
        self.recovery.finish(generation.number)
        for shard, index in enumerate(self._indexes.get(generation.number, [])):
            self._watch_over(generation, shard, index)

    def _attach(self, generation: Generation, progress: Progress | None) -> bool:
        """False where it is attached already."""
        with self._filling:
            if generation.number in self._indexes:
                self.generations[generation.number] = generation
                return False
            self.recovery.expect(generation)
            lanes = [
                self.recovery.bring_up(generation, shard, progress) for shard in range(generation.shards)
            ]
            indexes = [_index_of(lane) for lane in lanes]
            with self._lock:
                self.generations[generation.number] = generation
                for lane in lanes:
                    self.lanes.attach(lane)
                self._indexes[generation.number] = indexes
            return True

    def detach_generation(self, number: int) -> None:
        with self._filling:
            with self._lock:
                self.lanes.detach(number)
                self._indexes.pop(number, None)
                self.recovery.forget(number)
            self.snapshots.drop(number)

    def refresh_routes(self) -> None:
        with self._lock:
            generations = self._store.generations()
            consumers = self._store.consumers()
            migration = running_migration(self._store.migrations())
            routes = routes_of(consumers, generations, migration)
            for generation in generations:
                self.generations[generation.number] = generation
            for route in routes:
                self.slots.setdefault(route.consumer, len(self.slots))
            if routes:
                self._publish(routes)
            self.consumers = {c.name: c for c in consumers}
            self.routes = {r.consumer: r for r in routes}

    def _publish(self, routes: list[Route]) -> None:
        table = _native.RoutingTable(self.router.version() + 1)
        for number, indexes in self._indexes.items():
            table.add_generation(number, [index.native for index in indexes])
        by_slot = {self.slots[r.consumer]: r for r in routes}
        for slot in range(len(self.slots)):
            route = by_slot.get(slot)
            if route is None:
                table.add_closed_slot()
                continue
            calibration = (
                _native.ScoreCalibration.from_bytes(route.calibration) if route.calibration else None
            )
            table.add_consumer(
                source=route.source,
                target=route.target,
                weight=route.weight,
                ef_search=route.breadths,
                calibration=calibration,
                canary_share=route.canary_share,
                canary_salt=route.canary_salt,
            )
        self.router.publish(table)

    def applied(self, generation: int) -> Mapping[int, int]:
        return self.lanes.applied(generation)

    def lanes_at(self, generation: int) -> dict[int, int]:
        """The same, and nothing where the generation is retired or not loaded yet."""
        return {lane.shard: lane.applied for lane in self.lanes.of(generation)}

    def refused(self, generation: int) -> list[int]:
        return [item for lane in self.lanes.of(generation) for item in lane.failures]

    def index_size(self, generation: int) -> int:
        return sum(len(index) for index in self._indexes.get(generation, []))

    def index_holds(self, generation: int, items: NDArray[np.int64]) -> NDArray[np.bool_]:
        indexes = self._of(generation)
        return np.fromiter((any(int(i) in index for index in indexes) for i in items), np.bool_, len(items))

    def index_vectors_agree(
        self, generation: int, items: NDArray[np.int64], vectors: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        indexes = self._of(generation)
        agree = np.zeros(len(items), np.bool_)
        for row, item in enumerate(items):
            for index in indexes:
                try:
                    agree[row] = np.array_equal(index.get(np.array([item]))[0], vectors[row])
                except KeyError:
                    continue
                break
        return agree

    def set_shadow(self, share: float, generation: int, record: ShadowRecord | None) -> None:
        self.shadow = None if record is None or share <= 0 else (share, generation, record)

    # SearchBackend.

    def search_generation(
        self,
        generation: int,
        queries: Vectors,
        k: int,
        ef_search: int,
        allowed: NDArray[np.int64] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Dense ids (q, k), -1 padded, and distances (q, k), inf padded, over all shards; ``allowed``: of
        these items only."""
        found = [
            index.search(queries, k=k, ef_search=ef_search, filter=allowed, threads=background_threads())
            for index in self._of(generation)
        ]
        if len(found) == 1:
            return found[0].ids, found[0].distances
        ids = np.concatenate([f.ids for f in found], axis=1)
        distances = np.concatenate([f.distances for f in found], axis=1)
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(ids, order, 1), np.take_along_axis(distances, order, 1)

    def search_blended(
        self, consumer: str, queries: Mapping[int, Vectors], k: int, weight: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        slot = self.slots.get(consumer)
        if slot is None:
            raise NotFound(f"consumer {consumer!r} has no route: register it with `embedcore consumers set`")
        return self.router.search_batch(slot, dict(queries), k, weight=weight, threads=background_threads())

    def _of(self, generation: int) -> list[Index]:
        indexes = self._indexes.get(generation)
        if indexes is None:
            raise Unavailable(f"generation {generation} is not loaded in this process")
        return indexes
