"""The power fails at any moment: under ``fsync`` every acknowledged write is there, under ``os`` what is
there is whole. The disk is simulated from the writes and syncs that SQLite really made; see power.py."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from embedcore.clock import ManualClock
from embedcore.store import SqlStore, log_folding, open_store, opening
from embedcore.store.dialect import Durability
from embedcore.store.files import sync_directory
from embedcore.store.interface import ItemWrite
from embedcore.store.sql_store import DATABASE_FILE
from store.builders import generation, pragma, vector
from store.power import Event, FolderSynced, Mark, NoRecorder, Recorder, Synced, image

# More of both in `make torture`.
SEED = int(os.environ.get("EMBEDCORE_SEED", "20261"))
IMAGES = 24 * int(os.environ.get("EMBEDCORE_STRESS", "1"))


@dataclass(frozen=True, slots=True)
class Acknowledged:
    item_id: str
    version: int
    deleted: bool


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    try:
        made = Recorder()
    except NoRecorder as error:
        pytest.skip(str(error))

    def sync(folder: Path) -> None:
        sync_directory(folder)
        made.events.append(FolderSynced(str(folder)))

    monkeypatch.setattr(opening, "sync_directory", sync)
    with made.recording():
        yield made


def write_much(folder: Path, recorder: Recorder, durability: Durability, by: str) -> None:
    """Single writes, batches, deletes, three threads at once; the log is folded into the file meanwhile
    ``by`` the writers or the thread."""
    store = open_store(folder, ManualClock(), durability=durability)
    generation(store)
    recorder.mark("created")
    pragma(store, f"wal_autocheckpoint={40 if by == 'writers' else 0}")
    rng = random.Random(SEED)
    # Each writer has names of its own, so that the order of its acknowledgements is that of its versions.
    with ThreadPoolExecutor(3) as pool:
        seeds = [rng.randrange(1 << 30) for _ in range(3)]
        list(pool.map(lambda n: _writer(store, recorder, f"w{n}-", random.Random(seeds[n])), range(3)))
    store.close()


def _writer(store: SqlStore, recorder: Recorder, prefix: str, rng: random.Random) -> None:
    versions: dict[str, int] = {}
    for _ in range(12):
        names = [f"{prefix}{number}" for number in rng.sample(range(8), rng.randint(1, 4))]
        deleted = rng.random() < 0.25
        if deleted:
            receipt = store.delete_items(names)
        else:
            receipt = store.write_items(
                [
                    ItemWrite(
                        name,
                        content=f"{name} at {versions.get(name, 0) + 1} " + "x" * rng.randrange(3000),
                        vectors={1: vector(versions.get(name, 0) + 1.0)},
                    )
                    for name in names
                ]
            )
        for name, version in zip(names, receipt.versions, strict=True):
            if version:
                versions[name] = version
                recorder.mark(Acknowledged(name, version, deleted))


def moments(events: list[Event]) -> list[int]:
    """Right after an acknowledgement, right before a sync, and anywhere."""
    created = events.index(Mark("created"))
    rng = random.Random(SEED)
    places = range(created + 1, len(events) + 1)
    after = [place for place in places if isinstance(events[place - 1], Mark)]
    before = [place for place in places if place < len(events) and isinstance(events[place], Synced)]
    third = IMAGES // 3
    return [place for some in (after, before, places) for place in rng.choices(some, k=third)]


def lost(events: list[Event], folder: Path) -> list[str]:
    """Acknowledged writes that are gone after some loss of power; a store that cannot be opened, or that is
    not whole, fails at once."""
    problems: list[str] = []
    for number, upto in enumerate(moments(events)):
        disk = folder / f"disk-{number}"
        disk.mkdir()
        image(events, upto, disk, random.Random(SEED + number))
        expected: dict[str, Acknowledged] = {}
        for event in events[:upto]:
            if isinstance(event, Mark) and isinstance(event.what, Acknowledged):
                expected[event.what.item_id] = event.what
        store = open_store(disk, ManualClock())
        try:
            assert store.verify() == [], f"power lost after {upto} of {len(events)} events"
            problems += [
                f"after {upto} events: {problem}"
                for one in expected.values()
                if (problem := _problem(store, one))
            ]
        finally:
            store.close()
    return problems


def _problem(store: SqlStore, expected: Acknowledged) -> str:
    """Empty when the store holds what was acknowledged, or what was being written over it."""
    stored = store.get_item(expected.item_id)
    if stored is None or stored.version < expected.version:
        found = "nothing" if stored is None else f"version {stored.version}"
        return f"{expected.item_id} is acknowledged at version {expected.version}, there is {found}"
    assert stored.version <= expected.version + 1
    if stored.version == expected.version:
        assert stored.deleted == expected.deleted
    if not stored.deleted:
        assert stored.content is not None
        assert stored.content.startswith(f"{stored.id} at {stored.version} ")
        _, rows = store.stored_vectors(1, np.array([stored.item]))
        assert rows[:, 0].tolist() == [stored.version]
    return ""


@pytest.fixture(params=["writers", "thread"])
def by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(log_folding, "FOLD_PAGES", 40 if request.param == "thread" else 1 << 20)
    return str(request.param)


def test_every_acknowledged_write_survives_a_loss_of_power(
    tmp_path: Path, recorder: Recorder, by: str
) -> None:
    write_much(tmp_path / "data", recorder, "fsync", by)
    syncs = {Path(event.path).name for event in recorder.events if isinstance(event, Synced)}
    assert syncs >= {DATABASE_FILE, f"{DATABASE_FILE}-wal"}  # the log was folded into the file: both matter
    assert lost(recorder.events, tmp_path) == []


def test_without_fsync_writes_are_lost_and_what_is_left_is_whole(
    tmp_path: Path, recorder: Recorder, by: str
) -> None:
    """The promise of ``os``, and the proof that the test above would notice a sync that is left out."""
    write_much(tmp_path / "data", recorder, "os", by)
    found = lost(recorder.events, tmp_path)
    assert found
    assert all("is acknowledged at version" in problem for problem in found)
