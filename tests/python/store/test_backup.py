"""Backups: consistent while everything goes on, whole or none, verified before anything is restored."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from embedcore.clock import ManualClock
from embedcore.errors import (
    DataLoss,
    EmbedcoreError,
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from embedcore.store import SqlStore, backup_folder, open_store, schema
from embedcore.store.backup import MANIFEST, SnapshotFile, digest_of, write_backup
from embedcore.store.restore import read_manifest, restore_backup
from embedcore.store.retention import lane_hold
from store.builders import follow, generation, raw, write


@pytest.fixture
def filled(open_at: Callable[..., SqlStore]) -> SqlStore:
    store = open_at(shards=2)
    generation(store)
    store.write_items(
        [write(f"i{number}", {1: float(number)}, content=f"text {number}") for number in range(40)]
    )
    store.delete_items(["i3"])
    return store


@pytest.fixture(params=["path", "file", "memory"])
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "backups" / "one"
    yield {"path": str(folder), "file": f"file://{folder}", "memory": f"memory://{folder.name}"}[
        request.param
    ]
    fsspec.filesystem("memory").store.clear()
    fsspec.filesystem("memory").pseudo_dirs[:] = [""]


def files_of(destination: str) -> dict[str, bytes]:
    fs, root = fsspec.core.url_to_fs(destination)
    return {name.removeprefix(root).lstrip("/"): fs.cat_file(name) for name in fs.find(root)}


def contents(store: SqlStore) -> dict[str, Any]:
    index: dict[int, float] = {}
    items, rows = [], []
    for shard in range(store.shards):
        items_, rows_ = store.scan_vectors(1, shard, -1, 1000)
        items += items_.tolist()
        rows += rows_[:, 0].tolist()
    index = dict(zip(items, rows, strict=True))
    return {
        "index": index,
        "heads": [store.head(shard) for shard in range(store.shards)],
        "items": store.get_items(sorted(index)),
    }


def test_a_backup_restores_to_the_same_store(
    filled: SqlStore, tmp_path: Path, destination: str, clock: ManualClock
) -> None:
    seen: list[tuple[str, int, int]] = []
    manifest = write_backup(
        filled,
        destination,
        version="1.2",
        progress=lambda what, done, total: seen.append((what, done, total)),
    )
    found = files_of(destination)
    assert set(found) == {"manifest.json", "store.sqlite"}
    assert json.loads(found["manifest.json"]) == manifest
    (entry,) = manifest["files"]
    assert entry == {
        "name": "store.sqlite",
        "bytes": len(found["store.sqlite"]),
        "sha256": hashlib.sha256(found["store.sqlite"]).hexdigest(),
    }
    assert manifest["heads"] == {str(shard): filled.head(shard) for shard in range(2)}
    assert (manifest["live_items"], manifest["problems"]) == (39, [])
    assert manifest["schema_version"] == schema.SCHEMA_VERSION
    assert manifest["generations"][0]["fingerprint"] == filled.generations()[0].fingerprint.digest
    assert seen
    assert all(0 <= done <= total for _, done, total in seen)
    assert seen[-1][1] == seen[-1][2]
    assert [hold.name for hold in filled.holds()] == ["lane/g1", "lane/g1"]
    assert read_manifest(destination) == manifest

    told: list[tuple[str, int, int]] = []
    restored = restore_backup(
        destination, tmp_path / "new" / "data", progress=lambda *report: told.append(report)
    )
    assert restored == manifest
    assert told[-1][1] == told[-1][2] == entry["bytes"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["data"]
    store = open_store(tmp_path / "new" / "data", clock)
    assert contents(store) == contents(filled)
    assert store.verify() == []
    store.write_items([write("more", {1: 1.0})])
    store.close()
    assert files_of(destination) == found


def test_a_backup_is_one_moment_while_writers_go_on(
    filled: SqlStore, tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pairs are written together, and pages are copied few at a time: no backup has half a pair, and all has
    what was acknowledged before it began."""
    monkeypatch.setattr("embedcore.store.dialect._COPIED_PAGES", 2)
    stop = threading.Event()
    written = [0]

    def run() -> None:
        while not stop.is_set():
            number = written[0]
            filled.write_items(
                [write(f"a{number}", {1: 1.0}), write(f"b{number}", {1: 1.0}, content="x" * 3000)]
            )
            written[0] = number + 1

    writer = threading.Thread(target=run)
    writer.start()
    try:
        for attempt in range(3):
            before = written[0]
            while written[0] < before + 5:
                pass
            acknowledged = written[0]
            manifest = write_backup(filled, str(tmp_path / f"b{attempt}"))
            assert manifest["problems"] == []
            restore_backup(str(tmp_path / f"b{attempt}"), tmp_path / f"d{attempt}")
            store = open_store(tmp_path / f"d{attempt}", clock)
            pairs = store.live_items() - 39
            assert pairs % 2 == 0
            assert pairs >= 2 * acknowledged
            assert store.verify() == []
            store.close()
    finally:
        stop.set()
        writer.join()


def test_snapshots_travel_and_the_log_they_need_with_them(
    filled: SqlStore, tmp_path: Path, destination: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The retention moves on in the middle of the backup: what the copied snapshots need is held."""
    snapshots = []
    for shard in range(2):
        path = tmp_path / f"g1-s{shard}" / "2.ecx"
        path.parent.mkdir()
        path.write_bytes(b"snapshot" * (shard + 1))
        filled.hold(lane_hold(1), shard, 2, generation=1)
        snapshots.append(SnapshotFile(1, shard, 2, path))
    snapshots.append(SnapshotFile(1, 0, 1, tmp_path / "unreplayable.ecx"))
    snapshots.append(SnapshotFile(1, 0, 5, tmp_path / "gone" / "5.ecx"))
    original = backup_folder.BackupFolder.put

    def put(folder: backup_folder.BackupFolder, name: str, path: Path, report: Any) -> Any:
        entry = original(folder, name, path, report)
        if name.startswith("snapshots/g1-s1"):
            for shard in range(2):
                filled.hold(lane_hold(1), shard, filled.head(shard), generation=1)
        return entry

    monkeypatch.setattr(backup_folder.BackupFolder, "put", put)
    manifest = write_backup(filled, destination, snapshots)
    assert [entry["name"] for entry in manifest["files"]] == [
        "store.sqlite",
        "snapshots/g1-s0/2.ecx",
        "snapshots/g1-s1/2.ecx",
    ]
    restore_backup(destination, tmp_path / "data2")
    assert (tmp_path / "data2" / "snapshots" / "g1-s1" / "2.ecx").read_bytes() == b"snapshot" * 2
    store = open_store(tmp_path / "data2", clock)
    for shard in range(2):
        follow(store, 1, shard, {}, after=2)
    # And only there: here the hold has ended with the backup.
    assert filled.prune().entries > 0
    assert {hold.name for hold in (*filled.holds(), *store.holds())} == {"lane/g1"}
    store.close()


def test_a_backup_goes_to_an_empty_place_only(filled: SqlStore, destination: str) -> None:
    write_backup(filled, destination)
    before = files_of(destination)
    with pytest.raises(FailedPrecondition, match="is not empty") as caught:
        write_backup(filled, destination)
    assert "\n" not in str(caught.value)
    assert files_of(destination) == before


def test_bad_destinations_are_refused(filled: SqlStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(FailedPrecondition, match=r"is a file|is not empty"):
        write_backup(filled, str(tmp_path / "file"))
    with pytest.raises(InvalidArgument, match="fsspec"):
        write_backup(filled, "nosuch://bucket/x")
    with pytest.raises((FailedPrecondition, Unavailable), match=r"is a file|cannot be used"):
        write_backup(filled, str(tmp_path / "file" / "below"))
    assert [hold.name for hold in filled.holds()] == ["lane/g1", "lane/g1"]


@pytest.mark.parametrize("at", ["copy_database", "finish"])
def test_a_backup_that_fails_leaves_nothing(
    filled: SqlStore, destination: str, at: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    snapshot = tmp_path / "40.ecx"
    snapshot.write_bytes(b"s")

    def full(*_: Any) -> None:
        raise ResourceExhausted("no space left")

    if at == "finish":
        monkeypatch.setattr(backup_folder.BackupFolder, "finish", full)
    else:
        monkeypatch.setattr("embedcore.store.backup.copy_database", full)
    with pytest.raises(ResourceExhausted):
        write_backup(filled, destination, [SnapshotFile(1, 0, 2, snapshot)])
    assert files_of(destination) == {}
    assert [hold.name for hold in filled.holds()] == ["lane/g1", "lane/g1"]
    assert not list(filled.data_dir.glob("backup-*"))
    monkeypatch.undo()
    write_backup(filled, destination)


def test_whatever_is_damaged_is_found_before_anything_is_in_place(filled: SqlStore, tmp_path: Path) -> None:
    """Each file cut short, changed in one byte, or missing; the manifest too."""
    snapshot = tmp_path / "2.ecx"
    snapshot.write_bytes(b"snapshot")
    source = tmp_path / "backup"
    write_backup(filled, str(source), [SnapshotFile(1, 0, 2, snapshot)])
    files = [path for path in source.rglob("*") if path.is_file()]
    assert len(files) == 3
    for path in files:
        data = path.read_bytes()
        middle = len(data) // 2
        for damaged in (
            data[:-1],
            data + b"x",
            data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
            None,
        ):
            path.unlink() if damaged is None else path.write_bytes(damaged)
            with pytest.raises(DataLoss) as caught:
                restore_backup(str(source), tmp_path / "data2")
            assert "\n" not in str(caught.value)
            assert not (tmp_path / "data2").exists()
        path.write_bytes(data)
    restore_backup(str(source), tmp_path / "data2")
    assert not list(tmp_path.glob(".*restoring*"))


def test_a_backup_without_its_manifest_is_none(filled: SqlStore, destination: str, tmp_path: Path) -> None:
    """As a killed process leaves it."""
    write_backup(filled, destination)
    fs, root = fsspec.core.url_to_fs(destination)
    fs.rm(f"{root}/{MANIFEST}")
    with pytest.raises(DataLoss, match="never finished"):
        restore_backup(destination, tmp_path / "data2")
    with pytest.raises(FailedPrecondition, match="is not empty"):
        write_backup(filled, destination)


def sealed(source: Path, **changes: Any) -> None:
    manifest = json.loads((source / MANIFEST).read_text())
    manifest.update(changes)
    manifest["digest"] = digest_of(manifest)
    (source / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"schema_version": 99}, FailedPrecondition, "newer"),
        ({"format": "embedcore-backup/2"}, FailedPrecondition, "newer"),
        ({"live_items": 1}, DataLoss, "differs from its manifest in live_items"),
        ({"files": []}, DataLoss, "names no store.sqlite"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(
    filled: SqlStore, tmp_path: Path, changes: dict[str, Any], error: type[EmbedcoreError], says: str
) -> None:
    write_backup(filled, str(tmp_path / "backup"))
    sealed(tmp_path / "backup", **changes)
    with pytest.raises(error, match=says):
        restore_backup(str(tmp_path / "backup"), tmp_path / "data2")
    assert not (tmp_path / "data2").exists()


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "snapshots/g1-s0/../../../x", "owner.lock"])
def test_a_manifest_cannot_name_files_elsewhere(filled: SqlStore, tmp_path: Path, name: str) -> None:
    write_backup(filled, str(tmp_path / "backup"))
    files = read_manifest(str(tmp_path / "backup"))["files"]
    sealed(tmp_path / "backup", files=[*files, {"name": name, "bytes": 0, "sha256": ""}])
    with pytest.raises(InvalidArgument, match="no file of a backup"):
        restore_backup(str(tmp_path / "backup"), tmp_path / "data2")


def test_a_restore_goes_to_an_empty_place_only(filled: SqlStore, tmp_path: Path, clock: ManualClock) -> None:
    write_backup(filled, str(tmp_path / "backup"))
    target = tmp_path / "target"
    target.mkdir()
    (target / "note").write_text("mine")
    with pytest.raises(FailedPrecondition, match="is not empty"):
        restore_backup(str(tmp_path / "backup"), target)
    with pytest.raises(FailedPrecondition, match="is a file"):
        restore_backup(str(tmp_path / "backup"), target / "note")
    with pytest.raises(FailedPrecondition, match="is not empty"):
        restore_backup(str(tmp_path / "backup"), filled.data_dir)
    (target / "note").unlink()
    restore_backup(str(tmp_path / "backup"), target)
    open_store(target, clock).close()


def test_a_backup_of_a_damaged_store_says_so(filled: SqlStore, tmp_path: Path) -> None:
    raw(filled, "UPDATE items SET content = 'forged' WHERE id = 'i5'")
    manifest = write_backup(filled, str(tmp_path / "backup"))
    assert len(manifest["problems"]) == 1
    assert "checksum" in manifest["problems"][0]
    # It is what there is, and restores to the same.
    assert restore_backup(str(tmp_path / "backup"), tmp_path / "data2") == manifest
