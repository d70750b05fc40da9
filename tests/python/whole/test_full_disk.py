"""A platform whose disk is full to the last byte: it answers, ends in order, and has lost nothing."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from embedcore.errors import ResourceExhausted
from embedcore.platform import Platform
from embedcore.store.ownership import Ownership
from embedcore.store.reserve import ReserveSettings
from embedcore.types import SearchRequest
from support.toys import OLD, toy_items


def fill(disk: Path) -> Path:
    path = disk / "filler"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return path


def test_a_full_disk_ends_no_platform(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = small_disk / "data"
    query = SearchRequest(consumer="search", text="w1 w2 w3")
    with Platform.open(data, reserve=ReserveSettings(disk=0, memory=0)) as platform:
        assert isinstance(platform, Platform)
        platform.register_model(OLD)
        platform.create_generation("toy-old")
        (consumer,) = (each for each in platform.consumers() if each.name == "search")
        platform.set_consumer(consumer.model_copy(update={"query_log": 100}))
        receipt = platform.upsert(toy_items(50))
        filler = fill(small_disk)
        with pytest.raises(ResourceExhausted, match="no space left"):
            platform.upsert(toy_items(60))
        assert len(platform.search(replace(query, min_sequence=receipt.token)).hits) == 10
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
        assert len(platform.search(query).hits) == 10


def test_queries_that_could_not_be_saved_are_saved_when_there_is_room(small_disk: Path) -> None:
    with Platform.open(small_disk / "data", reserve=ReserveSettings(disk=0, memory=0)) as platform:
        assert isinstance(platform, Platform)
        platform.register_model(OLD)
        platform.create_generation("toy-old")
        (consumer,) = (each for each in platform.consumers() if each.name == "search")
        platform.set_consumer(consumer.model_copy(update={"query_log": 100}))
        platform.search(SearchRequest(consumer="search", text="w1 w2 w3"))
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
