"""Writes to a store for ever and prints what was acknowledged: ``id version deleted``, until it is killed."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from embedcore.clock import ManualClock
from embedcore.store import SqlStore, open_store
from embedcore.store.interface import ItemWrite
from store.builders import generation, vector


def write_some(store: SqlStore, rng: random.Random, versions: dict[str, int]) -> None:
    names = rng.sample([f"i{number}" for number in range(20)], rng.randint(1, 6))
    deleted = rng.random() < 0.25
    if deleted:
        receipt = store.delete_items(names)
    else:
        writes = []
        for name in names:
            version = versions.get(name, 0) + 1
            writes.append(ItemWrite(name, content=f"{name} at {version}", vectors={1: vector(version)}))
        receipt = store.write_items(writes)
    for name, version in zip(names, receipt.versions, strict=True):
        if version:
            versions[name] = version
            print(name, version, int(deleted), flush=True)


def main(data_dir: Path, seed: int) -> None:
    store = open_store(data_dir, ManualClock())
    if not store.generations():
        generation(store)
    versions = {}
    for number in range(20):
        stored = store.get_item(f"i{number}")
        if stored is not None:
            versions[stored.id] = stored.version
    rng = random.Random(seed)
    while True:
        write_some(store, rng, versions)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
