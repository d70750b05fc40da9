"""The serving side of one process: every live generation's indexes, their lanes, and the routing table.

Implements :class:`embedcore.migration.interface.ServingControl` for the controller and
:class:`embedcore.evaluation.harness.SearchBackend` for evaluations.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcore import _native
from embedcore.background import background_threads
from embedcore.clock import Clock
from embedcore.errors import NotFound, Unavailable
from embedcore.index import Index
from embedcore.serving.lanes import Lane, LaneSet
from embedcore.serving.routes import Route, routes_of, running_migration
from embedcore.serving.snapshots import SnapshotDirectory
from embedcore.store.interface import Store
from embedcore.store.retention import lane_hold
from embedcore.types import Consumer, Generation, Vectors

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]  # what, done, total
ShadowRecord = Callable[[str, float, bool], None]


class Serving:
    """All methods may be called from any thread. The query path reads one immutable routing table."""

    def __init__(
        self, store: Store, clock: Clock, data_dir: Path, *, seed: int = 0, threads: bool = True
    ) -> None:
        self._store = store
        self._seed = seed
        self._lock = threading.RLock()  # attach, detach, publish; never the query path
        self.lanes = LaneSet(store, clock, threads=threads)
        self.snapshots = SnapshotDirectory(data_dir)
        self.router = _native.Router()
        self.generations: dict[int, Generation] = {}  # every generation ever routed to, by number
        self._indexes: dict[int, list[Index]] = {}
        self.routes: Mapping[str, Route] = {}
        self.consumers: Mapping[str, Consumer] = {}
        self.slots: dict[str, int] = {}  # consumer -> slot, never reused
        self.shadow: tuple[float, int, ShadowRecord] | None = None

    # Start and stop.

    def start(self, progress: Progress | None = None) -> None:
        """Brings every live generation to the head of the stream: newest valid snapshot, or a rebuild from
        the stored vectors, then the log. Reads are routed when this returns."""
        for generation in self._store.generations():
            if generation.live:
                self._attach(generation, progress)
        self.refresh_routes()

    def close(self) -> None:
        self.lanes.close()

    def save_snapshots(self) -> list[Path]:
        """One file per live (generation, shard); searches go on meanwhile."""
        with self._lock:
            lanes = [lane for number in self._indexes for lane in self.lanes.of(number)]
        fingerprints = {number: g.fingerprint.digest for number, g in self.generations.items()}
        saved = [self.snapshots.save(lane, fingerprints[lane.generation]) for lane in lanes]
        for lane in lanes:
            self._hold_log(lane)
        return saved

    def _hold_log(self, lane: Lane) -> None:
        """What the oldest snapshot would replay stays in the log, and nothing else does for this lane."""
        generation, shard, applied = lane.generation, lane.shard, lane.applied
        kept = self.snapshots.oldest(generation, shard, self._store.pruned(shard))
        needed = applied if kept is None else min(kept, applied)
        self._store.hold(lane_hold(generation), shard, needed, generation=generation)

    # ServingControl.

    def attach_generation(self, generation: Generation) -> None:
        self._attach(generation, None)

    def _attach(self, generation: Generation, progress: Progress | None) -> None:
        with self._lock:
            self.generations[generation.number] = generation
            if generation.number in self._indexes:
                return
            indexes: list[Index] = []
            for shard in range(generation.shards):
                index, applied = self._load(generation, shard, progress)
                lane = Lane(self._store, generation.number, shard, index, applied)
                self.lanes.attach(lane)
                indexes.append(index)
            self._indexes[generation.number] = indexes

    def _load(self, generation: Generation, shard: int, progress: Progress | None) -> tuple[Index, int]:
        fingerprint = generation.fingerprint
        found = self.snapshots.load_newest(generation.number, shard, fingerprint.digest)
        if found is not None and self._store.pruned(shard) <= found[1] <= self._store.head(shard):
            return found
        index = Index(dim=fingerprint.dimension, metric=fingerprint.metric, seed=self._seed)
        report = None
        if progress is not None:
            report = lambda done, total: progress(  # noqa: E731
                f"generation {generation.number} shard {shard}", done, total
            )
        return index, self.lanes.rebuild(generation.number, shard, index, report)

    def detach_generation(self, number: int) -> None:
        with self._lock:
            self.lanes.detach(number)
            self._indexes.pop(number, None)
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
