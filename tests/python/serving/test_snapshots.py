"""Snapshots of lanes: kept, pruned, skipped when damaged, refused when of another vector space."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from embedcore.clock import ManualClock
from embedcore.errors import FailedPrecondition
from embedcore.index import Index
from embedcore.serving.lanes import Lane, LaneSet
from embedcore.serving.snapshots import SnapshotDirectory
from embedcore.store import SqlStore, open_store
from embedcore.store.interface import ItemWrite
from embedcore.types import Fingerprint, ModelSpec

DIMENSION = 8
FINGERPRINT = Fingerprint(model="m", revision="1", dimension=DIMENSION)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = open_store(tmp_path, ManualClock())
    store.put_model(ModelSpec(name="m", backend="external", fingerprint=FINGERPRINT))
    store.create_generation("m", "serving", 0.0)
    yield store
    store.close()


@pytest.fixture
def lane(store: SqlStore) -> Lane:
    return Lane(store, 1, 0, Index(dim=DIMENSION))


def grow(store: SqlStore, lane: Lane, count: int = 10) -> None:
    """Writes, and lets the lane follow."""
    start = store.live_items()
    rng = np.random.default_rng(start)
    store.write_items(
        [
            ItemWrite(f"i{start + number}", vectors={1: rng.standard_normal(DIMENSION).astype(np.float32)})
            for number in range(count)
        ]
    )
    while lane.step():
        pass


def watermarks(directory: SnapshotDirectory) -> list[int]:
    return sorted(int(path.stem) for path in (directory.root / "g1-s0").glob("*.ecx"))


def test_a_snapshot_and_the_log_bring_the_index_back(store: SqlStore, lane: Lane) -> None:
    grow(store, lane)
    path = SnapshotDirectory(store.data_dir).save(lane, FINGERPRINT.digest)
    assert path == store.data_dir / "snapshots" / "g1-s0" / "10.ecx"
    grow(store, lane)
    store.delete_items(["i3"])
    lane.step()

    found = SnapshotDirectory(store.data_dir).load_newest(1, 0, FINGERPRINT.digest, head=store.head(0))
    assert found is not None
    index, watermark = found
    assert (watermark, len(index)) == (10, 10)
    restored = Lane(store, 1, 0, index, watermark)
    while restored.step():
        pass
    assert isinstance(lane.index, Index)
    assert index.ids().tolist() == lane.index.ids().tolist()
    np.testing.assert_array_equal(index.get(index.ids()), lane.index.get(index.ids()))


def test_the_last_two_are_kept(store: SqlStore, lane: Lane) -> None:
    directory = SnapshotDirectory(store.data_dir)
    for _ in range(4):
        grow(store, lane)
        directory.save(lane, FINGERPRINT.digest)
    assert watermarks(directory) == [30, 40]
    assert directory.load_newest(1, 1, FINGERPRINT.digest) is None
    assert directory.load_newest(2, 0, FINGERPRINT.digest) is None


def test_an_unchanged_lane_is_not_written_again(store: SqlStore, lane: Lane) -> None:
    directory = SnapshotDirectory(store.data_dir)
    grow(store, lane)
    path = directory.save(lane, FINGERPRINT.digest)
    written = path.stat().st_ino
    assert directory.save(lane, FINGERPRINT.digest) == path
    assert path.stat().st_ino == written
    # Another process does not know whether the file is whole.
    SnapshotDirectory(store.data_dir).save(lane, FINGERPRINT.digest)
    assert path.stat().st_ino != written


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "renamed"])
def test_a_damaged_snapshot_is_skipped_for_the_one_before(
    store: SqlStore, lane: Lane, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    directory = SnapshotDirectory(store.data_dir)
    for _ in range(2):
        grow(store, lane)
        path = directory.save(lane, FINGERPRINT.digest)
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.rename(path.with_name("25.ecx"))
    found = directory.load_newest(1, 0, FINGERPRINT.digest)
    assert found is not None
    assert (found[1], len(found[0])) == (10, 10)
    assert "skipped" in caplog.text
    (path.parent / "10.ecx").write_bytes(b"x")
    assert directory.load_newest(1, 0, FINGERPRINT.digest) is None


def test_another_vector_space_is_refused(store: SqlStore, lane: Lane) -> None:
    directory = SnapshotDirectory(store.data_dir)
    grow(store, lane)
    directory.save(lane, FINGERPRINT.digest)
    other = Fingerprint(model="m", revision="2", dimension=DIMENSION)
    with pytest.raises(FailedPrecondition, match=FINGERPRINT.digest):
        directory.load_newest(1, 0, other.digest)


def test_snapshots_ahead_of_a_restored_store_are_not_used_and_go_away(store: SqlStore, lane: Lane) -> None:
    directory = SnapshotDirectory(store.data_dir)
    for _ in range(2):
        grow(store, lane)
        directory.save(lane, FINGERPRINT.digest)
    assert directory.load_newest(1, 0, FINGERPRINT.digest, head=5) is None
    behind = Lane(store, 1, 0, Index(dim=DIMENSION))
    behind.step(limit=15)
    directory.save(behind, FINGERPRINT.digest)
    assert watermarks(directory) == [10, 15]


def test_a_dropped_generation_leaves_nothing(store: SqlStore, lane: Lane) -> None:
    directory = SnapshotDirectory(store.data_dir)
    grow(store, lane)
    directory.save(lane, FINGERPRINT.digest)
    directory.drop(1)
    assert list(directory.root.iterdir()) == []
    directory.drop(1)


def test_saving_under_a_running_lane_matches_its_watermark(store: SqlStore) -> None:
    """Neither waits for the other; each file holds everything up to its watermark, and maybe more."""
    directory = SnapshotDirectory(store.data_dir)
    lanes = LaneSet(store, ManualClock())
    lane = Lane(store, 1, 0, Index(dim=DIMENSION))
    lanes.attach(lane)
    try:
        for number in range(20):
            token = store.write_items([ItemWrite(f"i{number}", vectors={1: np.ones(DIMENSION, np.float32)})])
            if number % 5 == 4:
                path = directory.save(lane, FINGERPRINT.digest)
                # Every item is written once: as many items as sequence numbers.
                saved = Index.load(path)
                assert saved.check() == []
                assert int(path.stem) <= len(saved) <= number + 1
        assert lanes.wait(token.token, [1], deadline_s=30.0)
    finally:
        lanes.close()
