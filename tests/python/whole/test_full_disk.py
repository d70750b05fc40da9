"""A platform whose disk is full to the last byte: it answers, ends in order, and has lost nothing."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from embedcore.errors import EmbedcoreError, ResourceExhausted
from embedcore.platform import Platform
from embedcore.store.ownership import Ownership
from embedcore.store.reserve import ReserveSettings
from embedcore.types import SearchRequest
from support.toys import OLD, toy_items

NO_RESERVE = ReserveSettings(disk=0, memory=0)
QUERY = SearchRequest(consumer="search", text="w1 w2 w3")


def fill(disk: Path) -> Path:
    path = disk / "filler"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return path


def test_a_full_disk_ends_no_platform(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = small_disk / "data"
    with Platform.open(data, reserve=NO_RESERVE) as platform:
        assert isinstance(platform, Platform)
        platform.register_model(OLD)
        platform.create_generation("toy-old")
        (consumer,) = (each for each in platform.consumers() if each.name == "search")
        platform.set_consumer(consumer.model_copy(update={"query_log": 100}))
        receipt = platform.upsert(toy_items(50))
        filler = fill(small_disk)
        with pytest.raises(ResourceExhausted, match="no space left"):
            platform.upsert(toy_items(60))
        assert len(platform.search(replace(QUERY, min_sequence=receipt.token)).hits) == 10
        with pytest.raises(ResourceExhausted, match="No space left"):
            platform.snapshot()
        platform.desk.query_log.flush_or_log()
        assert "query log could not be saved" in caplog.text
    assert "a snapshot could not be taken" in caplog.text
    assert not list(data.glob("snapshots/*/*"))
    filler.unlink()
    with Platform.open(data) as platform:
        assert isinstance(platform, Platform)
        assert platform.store.live_items() == 50
        assert platform.verify()["problems"] == []
        assert len(platform.search(QUERY).hits) == 10


def test_queries_that_could_not_be_saved_are_saved_when_there_is_room(small_disk: Path) -> None:
    with Platform.open(small_disk / "data", reserve=NO_RESERVE) as platform:
        assert isinstance(platform, Platform)
        platform.register_model(OLD)
        platform.create_generation("toy-old")
        (consumer,) = (each for each in platform.consumers() if each.name == "search")
        platform.set_consumer(consumer.model_copy(update={"query_log": 100}))
        platform.search(QUERY)
        filler = fill(small_disk)
        with pytest.raises(ResourceExhausted):
            platform.desk.query_log.flush()
        filler.unlink()
        platform.desk.query_log.flush()
        assert b"w1 w2 w3" in (platform.store.get_blob("query-log", "search") or b"")


def test_a_directory_on_a_full_disk_is_refused_in_one_line(small_disk: Path) -> None:
    owned = Ownership.acquire(small_disk / "owned")
    filler = fill(small_disk)
    with pytest.raises(ResourceExhausted, match=r"owner\.lock: free disk space"):
        Ownership.acquire(small_disk / "new")
    with pytest.raises(ResourceExhausted, match=r"server\.json: free disk space"):
        owned.publish_address("127.0.0.1:1")
    filler.unlink()
    Ownership.acquire(small_disk / "new").release()
    owned.release()


def served(data: Path) -> list[str]:
    """Fifty items under the toy model, closed in order; what a query finds."""
    with Platform.open(data, reserve=NO_RESERVE) as platform:
        assert isinstance(platform, Platform)
        platform.register_model(OLD)
        platform.create_generation("toy-old")
        receipt = platform.upsert(toy_items(50))
        return [hit.id for hit in platform.search(replace(QUERY, min_sequence=receipt.token)).hits]


@pytest.mark.parametrize("snapshot", [True, False], ids=["from its snapshot", "rebuilt"])
def test_a_directory_opens_on_a_full_disk_for_reading_and_searching(
    small_disk: Path, caplog: pytest.LogCaptureFixture, snapshot: bool
) -> None:
    data = small_disk / "data"
    found = served(data)
    if not snapshot:
        shutil.rmtree(data / "snapshots")
    filler = fill(small_disk)
    with Platform.open(data) as platform:
        assert isinstance(platform, Platform)
        assert "full to the last byte: reads and searches work" in caplog.text
        assert "no migration goes on" in caplog.text
        assert [hit.id for hit in platform.search(QUERY).hits] == found
        assert platform.get_item("item-7").content == toy_items(50)[7].content
        assert platform.status().live_items == 50
        assert platform.status().details["store"]["read_only"]
        assert platform.verify()["problems"] == []
        platform.publish_address("127.0.0.1:1", "127.0.0.1:2")
        assert "name 127.0.0.1:1 to those who open this directory" in caplog.text
        for refused in (
            lambda: platform.upsert(toy_items(1)),
            lambda: platform.delete(["item-7"]),
            lambda: platform.start_migration("toy-old", who="t"),
        ):
            with pytest.raises(EmbedcoreError) as caught:
                refused()
            assert "\n" not in str(caught.value)
        with pytest.raises(ResourceExhausted, match="free disk space and open it again"):
            platform.upsert(toy_items(1))
        # Searches of several threads take turns at the one connection.
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: [hit.id for hit in platform.search(QUERY).hits], range(40)))
        assert answers == [found] * 40
    filler.unlink()
    with Platform.open(data, reserve=NO_RESERVE) as platform:
        assert isinstance(platform, Platform)
        assert not platform.status().details["store"]["read_only"]
        platform.delete(["item-7"])
        assert platform.store.live_items() == 49
        assert platform.verify()["problems"] == []


def test_what_a_killed_owner_left_in_the_log_is_read_on_a_full_disk(small_disk: Path) -> None:
    data = small_disk / "data"
    found = served(data)
    with Platform.open(data, reserve=NO_RESERVE) as platform:
        assert isinstance(platform, Platform)
        platform.upsert(toy_items(60)[50:])
        copied = small_disk / "killed"  # as the files lie while it runs
        copied.mkdir()
        for name in ("store.sqlite", "store.sqlite-wal", "owner.lock"):
            shutil.copyfile(data / name, copied / name)
    fill(small_disk)
    with Platform.open(copied) as platform:
        assert isinstance(platform, Platform)
        assert platform.status().details["store"]["read_only"]
        assert platform.status().live_items == 60
        assert [hit.id for hit in platform.search(QUERY).hits] != []
    assert len(found) == 10


def test_simulated_time_goes_on_on_a_full_disk(small_disk: Path) -> None:
    data = small_disk / "data"
    with Platform.open(data, simulated=True, time_scale=100.0, reserve=NO_RESERVE) as platform:
        assert isinstance(platform, Platform)
        before = platform.clock.now()
    fill(small_disk)
    with Platform.open(data, time_scale=100.0) as platform:
        assert isinstance(platform, Platform)
        assert platform.clock.now() >= before
