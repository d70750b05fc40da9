"""Recovery of a platform: from snapshots, from the one before, from the stored vectors, in place."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedcore.errors import CorruptSnapshotError, DataLoss, Unavailable
from embedcore.index import Index
from embedcore.platform import Platform
from embedcore.serving.recovery import Recovery
from embedcore.serving.snapshots import SnapshotSettings
from embedcore.types import Item, SearchRequest
from support.toys import OLD, toy_items

NEVER = SnapshotSettings(interval_s=0, at_close=False)
FOLDER = Path("snapshots") / "g1-s0"


def opened(data: Path, **options: Any) -> Platform:
    platform = Platform.open(data, **options)
    assert isinstance(platform, Platform)
    return platform


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two snapshots, at 40 and at 60, then writes after the last: 100 in all, three deleted."""
    items = toy_items(100)
    with opened(tmp_path / "data", snapshots=NEVER) as platform:
        platform.register_model(OLD)
        platform.create_generation("toy-old")
        platform.upsert(items[:40])
        settle(platform)
        platform.snapshot()
        platform.upsert(items[40:60])
        settle(platform)
        platform.snapshot()
        platform.upsert(items[60:])
        platform.delete([items[number].id for number in (1, 50, 70)])
        settle(platform)
    return tmp_path / "data"


def settle(platform: Platform) -> None:
    token = {0: platform.store.head(0)}
    assert platform.serving.lanes.wait(token, [1], 30.0)


def await_that(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def watermarks(data: Path) -> list[int]:
    return sorted(int(path.stem) for path in (data / FOLDER).glob("*.ecx"))


def assert_whole(platform: Platform) -> None:
    assert platform.serving.index_size(1) == 97
    assert platform.verify()["problems"] == []
    item = toy_items(100)[90]
    answer = platform.search(SearchRequest(consumer="search", text=item.content))
    assert answer.hits[0].id == item.id


def flip(path: Path, at: int) -> None:
    damaged = bytearray(path.read_bytes())
    damaged[at] ^= 1
    path.write_bytes(damaged)


def last_vector(path: Path) -> int:
    """Where the last vector of a snapshot lies: in what is verified in the background when it is mapped."""
    index = Index.load(path)
    row = index.get(index.ids()[-1:])
    return path.read_bytes().rindex(row.astype(np.float32).tobytes())


@pytest.mark.parametrize("mmap", [False, True])
def test_the_newest_snapshot_and_the_log_after_it(data: Path, mmap: bool) -> None:
    assert watermarks(data) == [40, 60]
    with opened(data, snapshots=SnapshotSettings(mmap=mmap)) as platform:
        state = platform.status().details["recovery"]["g1-s0"]
        assert (state["phase"], state["source"], state["done"], state["total"]) == (
            "ready",
            "snapshot 60",
            43,
            43,
        )
        assert_whole(platform)
    assert watermarks(data) == [60, 103]  # one at the end, and the last two are kept


@pytest.mark.parametrize("damage", ["header", "cut", "empty"])
def test_a_damaged_snapshot_is_reported_and_the_one_before_used(
    data: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = data / FOLDER / "60.ecx"
    if damage == "header":
        flip(path, 100)
    else:
        path.write_bytes(path.read_bytes()[: 5000 if damage == "cut" else 0])
    with opened(data, snapshots=NEVER) as platform:
        state = platform.status().details["recovery"]["g1-s0"]
        assert (state["source"], state["done"]) == ("snapshot 40", 63)
        assert str(path) in caplog.text
        problems = platform.verify()["problems"]
        assert len(problems) == 1
        assert str(path) in problems[0]
        path.unlink()
        assert_whole(platform)


def test_without_a_snapshot_the_stored_vectors_are_read(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    for path in (data / FOLDER).iterdir():
        path.write_bytes(b"damaged")
    reported: list[tuple[str, int, int]] = []
    with opened(data, snapshots=NEVER, progress=lambda *told: reported.append(told)) as platform:
        assert platform.status().details["recovery"]["g1-s0"]["source"] == "stored vectors"
        shutil.rmtree(data / "snapshots")
        assert_whole(platform)
    assert "rebuilding" in caplog.text
    assert reported[-1] == ("generation 1 shard 0", 97, 97)


def test_damage_found_in_the_background_is_recovered_from_in_place(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = data / FOLDER / "60.ecx"
    flip(path, last_vector(path))
    caplog.set_level(logging.INFO)
    with opened(data, snapshots=NEVER) as platform:
        await_that(lambda: platform.status().details["recovery"]["g1-s0"]["source"] == "snapshot 40")
        await_that(lambda: platform.status().ready)
        state = platform.status().details["recovery"]["g1-s0"]
        assert "fails its checksum" in state["problem"]
        assert "chunk 0 of its" in caplog.text
        assert platform.serving.index_size(1) == 97
        # It says so until the file is pruned.
        (problem,) = platform.verify()["problems"]
        assert "60.ecx.damaged" in problem
        platform.snapshot()
        assert_whole(platform)
    assert not list((data / FOLDER).glob("*.damaged"))


def test_searches_are_refused_while_nothing_sound_is_there(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writes go on; what is found is never damage."""
    path = data / FOLDER / "60.ecx"
    flip(path, last_vector(path))
    go_on = threading.Event()
    bring_up = Recovery.bring_up

    def slow(self: Recovery, *args: Any, problem: str = "", **options: Any) -> Any:
        if problem:
            assert go_on.wait(30)
        return bring_up(self, *args, problem=problem, **options)

    monkeypatch.setattr(Recovery, "bring_up", slow)
    query = SearchRequest(consumer="search", text=toy_items(100)[90].content)
    with opened(data, snapshots=NEVER) as platform:
        await_that(lambda: not platform.status().ready)
        with pytest.raises(DataLoss, match="out of service"):
            platform.search(query)
        with pytest.raises(DataLoss, match="out of service"):
            platform.serving.search_blended("search", {1: np.ones((3, 32), np.float32)}, 5, 0.0)
        index = platform.serving.lanes.of(1)[0].index
        assert isinstance(index, Index)
        with pytest.raises(CorruptSnapshotError):
            index.check_health()
        assert platform.snapshot() == []  # none of damage
        receipt = platform.upsert([Item(id="late", content="w1 w2 w3")])
        go_on.set()
        await_that(lambda: platform.status().ready)
        answer = platform.search(
            SearchRequest(consumer="search", text="w1 w2 w3", min_sequence=receipt.token)
        )
        assert answer.hits[0].id == "late"


def test_writes_are_taken_before_the_indexes_are_there(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    bring_up = Recovery.bring_up

    def slow(self: Recovery, *args: Any, **options: Any) -> Any:
        assert go_on.wait(30)
        return bring_up(self, *args, **options)

    monkeypatch.setattr(Recovery, "bring_up", slow)
    with opened(data, snapshots=NEVER, wait=False) as platform:
        assert not platform.status().ready
        assert not platform.wait_recovered(0)
        assert platform.serving.recovery.line() == "generation 1, shard 0: waiting"
        assert platform.generations()[0].applied == {}
        for refused in (
            lambda: platform.search(SearchRequest(consumer="search", text="w1")),
            platform.migration,
            platform.snapshot,
            platform.verify,
        ):
            with pytest.raises(
                Unavailable, match=r"recovering \(generation 1, shard 0: waiting\); try again"
            ):
                refused()
        receipt = platform.upsert([Item(id="early", content="w1 w2 w3")])
        go_on.set()
        assert platform.wait_recovered(30)
        assert platform.status().ready
        answer = platform.search(
            SearchRequest(consumer="search", text="w1 w2 w3", min_sequence=receipt.token)
        )
        assert answer.hits[0].id == "early"


def test_closing_ends_a_recovery(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(data / "snapshots")
    begun = threading.Event()
    closing = threading.Event()
    from_vectors = Recovery._from_vectors

    def slow(self: Recovery, *args: Any) -> Any:
        begun.set()
        assert closing.wait(30)
        return from_vectors(self, *args)

    monkeypatch.setattr(Recovery, "_from_vectors", slow)
    platform = opened(data, wait=False)
    assert begun.wait(30)
    stop = platform.serving.stop
    monkeypatch.setattr(platform.serving, "stop", lambda: (stop(), closing.set()))
    platform.close()
    assert not (data / "snapshots").exists()


def test_snapshots_are_taken_from_time_to_time_and_litter_goes(data: Path) -> None:
    (data / FOLDER / "60.ecx.tmp-1-0").write_bytes(b"left by a kill")
    (data / "snapshots" / "g7-s0").mkdir()  # of a generation that is gone
    with opened(data, snapshots=SnapshotSettings(interval_s=0.02, kept=3, at_close=False)) as platform:
        await_that(lambda: watermarks(data) == [40, 60, 103])
        platform.upsert([Item(id="more", content="w5")])
        await_that(lambda: watermarks(data) == [60, 103, 104])
    assert sorted(path.name for path in (data / FOLDER).iterdir()) == ["103.ecx", "104.ecx", "60.ecx"]
    assert [path.name for path in (data / "snapshots").iterdir()] == ["g1-s0"]


def test_verify_fires_on_planted_faults(data: Path) -> None:
    with opened(data, snapshots=NEVER) as platform:
        assert platform.verify()["problems"] == []
        lane = platform.serving.lanes.of(1)[0]
        index = lane.index
        assert isinstance(index, Index)
        ids = index.ids()
        vector = index.get(ids[:1])

        def problems() -> str:
            return "\n".join(platform.verify()["problems"])

        index.remove(ids[:1])
        assert "index of generation 1, shard 0: lacks item 1 ('item-0')" in problems()
        index.add(ids[:1], -vector)
        assert "holds another vector than the store of item 1 ('item-0')" in problems()
        index.add(ids[:1], vector)
        assert problems() == ""
        index.add([999_999], vector)
        assert "holds an item that the store does not, 999999" in problems()
        index.remove([999_999])
        shutil.copy(data / FOLDER / "60.ecx", data / FOLDER / "61.ecx")
        assert "61.ecx: holds watermark 60" in problems()
        (data / FOLDER / "61.ecx").rename(data / FOLDER / "999.ecx")
        assert "999.ecx" in problems()
        (data / FOLDER / "999.ecx").unlink()
        assert problems() == ""
