"""Writes to a store for ever, from three threads, and prints what was acknowledged: ``id version deleted``,
until it is killed. Each thread has ids of its own, so what was cut off is one write of each id at most."""

from __future__ import annotations

import os
import random
import sys
import threading
from pathlib import Path

from embedcore.clock import ManualClock
from embedcore.store import SqlStore, open_store
from embedcore.store.interface import ItemWrite
from store.builders import generation, vector

THREADS = 3
IDS = 8


def write_some(store: SqlStore, rng: random.Random, ids: list[str], versions: dict[str, int]) -> None:
    names = rng.sample(ids, rng.randint(1, 4))
    deleted = rng.random() < 0.25
    if deleted:
        receipt = store.delete_items(names)
    else:
        writes = []
        for name in names:
            version = versions.get(name, 0) + 1
            writes.append(ItemWrite(name, content=f"{name} at {version}", vectors={1: vector(version)}))
        receipt = store.write_items(writes)
    lines = []
    for name, version in zip(names, receipt.versions, strict=True):
        if version:
            versions[name] = version
            lines.append(f"{name} {version} {int(deleted)}\n")
    os.write(sys.stdout.fileno(), "".join(lines).encode())  # at once: other threads print as well


def write_for_ever(store: SqlStore, thread: int, seed: int) -> None:
    ids = [f"t{thread}-i{number}" for number in range(IDS)]
    found = [stored for name in ids if (stored := store.get_item(name)) is not None]
    versions = {stored.id: stored.version for stored in found}
    rng = random.Random(seed * THREADS + thread)
    while True:
        write_some(store, rng, ids, versions)


def main(data_dir: Path, seed: int) -> None:
    store = open_store(data_dir, ManualClock())
    if not store.generations():
        generation(store)
    for thread in range(THREADS):
        threading.Thread(target=write_for_ever, args=(store, thread, seed)).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
