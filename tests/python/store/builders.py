"""What store tests build their input from."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import numpy as np
from sqlalchemy import Connection

from embedcore.store import SqlStore
from embedcore.store.interface import ItemWrite, LaneBatch
from embedcore.types import Fingerprint, Generation, ModelSpec, Vector

DIMENSION = 4


def model(name: str, dimension: int = DIMENSION) -> ModelSpec:
    fingerprint = Fingerprint(model=name, revision="1", dimension=dimension)
    return ModelSpec(name=name, backend="external", fingerprint=fingerprint)


def generation(
    store: SqlStore, name: str = "old", state: str = "serving", dimension: int = DIMENSION
) -> Generation:
    store.put_model(model(name, dimension))
    return store.create_generation(name, state, created_at=0.0)


def vector(*values: float, dimension: int = DIMENSION) -> Vector:
    """The given values, then zeros."""
    row = np.zeros(dimension, dtype=np.float32)
    row[: len(values)] = values
    return row


def write(item_id: str, vectors: Mapping[int, float] | None = None, **fields: Any) -> ItemWrite:
    """An upsert whose vector for a generation starts with the given number."""
    made = {number: vector(value) for number, value in (vectors or {}).items()}
    return ItemWrite(item_id, vectors=made, **fields)


def item_number(store: SqlStore, item_id: str, namespace: str = "") -> int:
    stored = store.get_item(item_id, namespace)
    assert stored is not None
    return stored.item


def apply(index: dict[int, float], batch: LaneBatch) -> None:
    """Applies a lane's batch to a plain dict: item -> first value of its vector."""
    for item in batch.removed.tolist():
        index.pop(item, None)
    for item, row in zip(batch.ids.tolist(), batch.vectors, strict=True):
        index[item] = float(row[0])


def follow(
    store: SqlStore, number: int, shard: int, index: dict[int, float], after: int = 0, limit: int = 3
) -> int:
    """Runs a lane over the dict up to the head; returns where it stands."""
    while (batch := store.read_lane(number, shard, after, limit)) is not None:
        apply(index, batch)
        after = batch.upto
    return after


def raw(store: SqlStore, statement: str, *values: Any) -> int:
    """Changes the file behind the store's back; returns how many rows."""
    with closing(sqlite3.connect(store.database.path)) as connection, connection:
        return connection.execute(statement, values).rowcount


def pragma(store: SqlStore, text: str) -> Any:
    """Runs a pragma on the writing connection; returns the first value of its answer, if any."""

    def run(connection: Connection) -> Any:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        row = driver.execute(f"PRAGMA {text}").fetchone()
        return None if row is None else row[0]

    return store.database.alone(run)
