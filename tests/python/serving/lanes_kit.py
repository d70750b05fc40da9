"""What tests of lanes share: vectors, lanes over a store, and what both hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from embedcore.clock import ManualClock
from embedcore.index import Index
from embedcore.serving.lanes import Lane, LaneSet
from embedcore.store import SqlStore
from embedcore.store.interface import ItemWrite
from embedcore.types import Vector, Vectors

DIMENSION = 8


def vector(seed: int) -> Vector:
    return np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)


def put(store: SqlStore, *names: str, seed: int = 0, generations: tuple[int, ...] = (1,)) -> dict[int, int]:
    writes = [
        ItemWrite(name, vectors={number: vector(seed + at) for number in generations})
        for at, name in enumerate(names)
    ]
    return dict(store.write_items(writes).token)


def new_lanes(store: SqlStore, generation: int = 1) -> list[Lane]:
    return [Lane(store, generation, shard, Index(dim=DIMENSION)) for shard in range(store.shards)]


def attached(store: SqlStore, *, threads: bool) -> tuple[LaneSet, list[Lane]]:
    lanes = LaneSet(store, ManualClock(), threads=threads)
    made = new_lanes(store)
    for lane in made:
        lanes.attach(lane)
    return lanes, made


def contents(lane: Lane) -> dict[int, list[float]]:
    index: Any = lane.index
    ids = index.ids()
    return dict(zip(ids.tolist(), index.get(ids).tolist(), strict=True))


def stored(store: SqlStore, generation: int, shard: int) -> dict[int, list[float]]:
    items, rows = store.scan_vectors(generation, shard, -1, 10_000)
    return dict(zip(items.tolist(), rows.tolist(), strict=True))


def assert_follow(store: SqlStore, lanes: list[Lane]) -> None:
    for lane in lanes:
        assert contents(lane) == stored(store, lane.generation, lane.shard)
        assert lane.lag == 0


class PickyIndex:
    """Refuses some items; remembers the rest."""

    def __init__(self, refused: set[int]) -> None:
        self.refused = refused
        self.held: dict[int, Vector] = {}

    def add(self, ids: np.ndarray, vectors: Vectors, threads: int = 0) -> None:
        bad = self.refused.intersection(ids.tolist())
        if bad:
            raise ValueError(f"item {min(bad)} is refused")
        self.held.update(zip(ids.tolist(), vectors, strict=True))

    def remove(self, ids: np.ndarray) -> int:
        return sum(self.held.pop(item, None) is not None for item in ids.tolist())
