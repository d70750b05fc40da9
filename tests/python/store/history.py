"""The history behind the stored fixtures ``tests/data/store-v*.sql``: one file per schema version.

A fixture is made once, by the code of its version, and never changed:

    python tests/python/store/history.py tests/data/store-v2.sql
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from embedcore.clock import ManualClock
from embedcore.store import SqlStore, open_store
from embedcore.store.interface import ItemWrite
from embedcore.types import Fingerprint, ModelSpec
from store.builders import DIMENSION, vector

SHARDS = 2


def write_history(store: SqlStore) -> None:
    """Two generations, rewrites, deletes, an id that came back, a late vector, a queued repair."""
    for name in ("old", "new"):
        fingerprint = Fingerprint(model=name, revision="1", dimension=DIMENSION)
        store.put_model(ModelSpec(name=name, backend="external", fingerprint=fingerprint))
    store.create_generation("old", "serving", created_at=1.0)
    store.write_items(
        [
            ItemWrite(
                f"i{number}",
                content=f"text {number}",
                attributes={"even": number % 2 == 0},
                vectors={1: vector(float(number))},
            )
            for number in range(12)
        ]
    )
    store.delete_items(["i3", "i4"])
    store.create_generation("new", "filling", created_at=2.0)
    store.write_items([ItemWrite("i3", content="back", vectors={1: vector(33.0), 2: vector(34.0)})])
    store.write_items([ItemWrite("i5", content="again", vectors={1: vector(55.0)}, failures={2: "refused"})])
    stored = store.get_item("i7")
    assert stored is not None
    store.write_vectors(2, [(stored.item, 1, vector(7.5))], ("backfill", stored.shard, {"item": stored.item}))
    store.write_items([ItemWrite("last", namespace="n", vectors={1: vector(90.0), 2: vector(91.0)})])
    store.delete_items(["last"], "n")  # the largest number ever given out is a tombstone's
    store.set_meta("note", "kept")
    store.put_blob("golden_set", "g/1", b"\x00\xff")
    store.acquire_epoch("history")


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder), ManualClock(), shards=SHARDS)
        write_history(store)
        assert store.verify() == []
        store.close()
        with closing(sqlite3.connect(store.database.path)) as connection:
            target.write_text("\n".join(connection.iterdump()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
