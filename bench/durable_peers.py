"""Writes into another embedded store, for bench/durable.py: run by an interpreter that has it installed.

    python durable_peers.py NAME FOLDER VECTORS.npy SECONDS

Every item goes into two collections, as into two generations, with its text; each store as it comes, without
an index where it builds none by itself. Imports nothing of embedcore.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

COLLECTIONS = ("one", "two")
TEXT = "a text of some eighty characters, as a definition in a dictionary would have it "

Write = Callable[[int, Any], None]  # first id, rows


def chroma(folder: Path, dimension: int) -> tuple[Write, str, str]:
    import chromadb

    client = chromadb.PersistentClient(str(folder), chromadb.Settings(anonymized_telemetry=False))
    collections = [client.create_collection(name) for name in COLLECTIONS]

    def write(start: int, rows: Any) -> None:
        ids = [f"i{start + n}" for n in range(len(rows))]
        for collection in collections:
            collection.upsert(ids, embeddings=rows, documents=[TEXT] * len(rows))

    return write, version("chromadb"), "two transactions of SQLite; HNSW in memory, saved now and then"


def lancedb(folder: Path, dimension: int) -> tuple[Write, str, str]:
    import lancedb as lance
    import pyarrow as pa

    database = lance.connect(str(folder))
    schema = pa.schema(
        [
            pa.field("id", pa.string()),
            pa.field("text", pa.string()),
            pa.field("vector", pa.list_(pa.float32(), dimension)),
        ]
    )
    tables = [database.create_table(name, schema=schema) for name in COLLECTIONS]

    def write(start: int, rows: Any) -> None:
        flat = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), dimension)
        ids = pa.array([f"i{start + n}" for n in range(len(rows))])
        batch = pa.table([ids, pa.array([TEXT] * len(rows)), flat], schema=schema)
        for table in tables:
            table.add(batch)

    return write, version("lancedb"), "appends only, a file per write; no index"


def milvus_lite(folder: Path, dimension: int) -> tuple[Write, str, str]:
    from pymilvus import MilvusClient

    client = MilvusClient(str(folder / "milvus.db"))
    for name in COLLECTIONS:
        client.create_collection(name, dimension=dimension, metric_type="COSINE")

    def write(start: int, rows: Any) -> None:
        data = [{"id": start + n, "vector": row, "text": TEXT} for n, row in enumerate(rows)]
        for name in COLLECTIONS:
            client.upsert(name, data)

    return write, version("milvus-lite"), "through its own local server"


def sqlite_vec(folder: Path, dimension: int) -> tuple[Write, str, str]:
    import sqlite_vec as vec

    connection = sqlite3.connect(folder / "vec.sqlite", isolation_level=None)
    connection.enable_load_extension(True)
    vec.load(connection)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT UNIQUE, text TEXT)")
    for name in COLLECTIONS:
        connection.execute(f"CREATE VIRTUAL TABLE {name} USING vec0(embedding float[{dimension}])")

    def write(start: int, rows: Any) -> None:
        connection.execute("BEGIN IMMEDIATE")
        ids = range(start, start + len(rows))
        connection.executemany("INSERT INTO items VALUES (?, ?, ?)", [(i, f"i{i}", TEXT) for i in ids])
        for name in COLLECTIONS:
            values = [(i, row.tobytes()) for i, row in zip(ids, rows, strict=True)]
            connection.executemany(f"INSERT INTO {name} (rowid, embedding) VALUES (?, ?)", values)
        connection.execute("COMMIT")

    return write, version("sqlite-vec"), "one transaction, WAL with synchronous=FULL; no index"


def qdrant_edge(folder: Path, dimension: int) -> tuple[Write, str, str]:
    import qdrant_edge as qdrant

    shards = []
    for name in COLLECTIONS:
        (folder / name).mkdir()
        config = qdrant.EdgeConfig(
            vectors=qdrant.EdgeVectorParams(size=dimension, distance=qdrant.Distance.Cosine)
        )
        shards.append(qdrant.EdgeShard.create(str(folder / name), config))

    def write(start: int, rows: Any) -> None:
        points = [qdrant.Point(start + n, row.tolist(), {"text": TEXT}) for n, row in enumerate(rows)]
        for shard in shards:
            shard.update(qdrant.UpdateOperation.upsert_points(points))

    return write, version("qdrant-edge-py"), "a write-ahead log per shard, synced when it says"


PEERS = {
    "chroma": chroma,
    "lancedb": lancedb,
    "milvus-lite": milvus_lite,
    "sqlite-vec": sqlite_vec,
    "qdrant-edge": qdrant_edge,
}


def main(name: str, folder: Path, vectors: Path, seconds: float) -> None:
    rows = np.load(vectors)
    write, number, note = PEERS[name](folder, rows.shape[1])
    at = 0
    rates: dict[str, float] = {}
    for batch in (1, 64, 256):
        first, started = at, time.perf_counter()
        while time.perf_counter() - started < seconds:
            places = np.arange(at, at + batch) % len(rows)
            write(at + 1, rows[places])
            at += batch
        rates[str(batch)] = (at - first) / (time.perf_counter() - started)
    print(json.dumps({"version": number, "note": note, "items_per_s": rates}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4]))
