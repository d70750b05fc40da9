"""Snapshots move the holds of their lanes: the log is as long as the oldest kept snapshot needs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from embedcore.platform import Platform
from embedcore.types import Item, SearchRequest
from support.toys import OLD, toy_items


@pytest.fixture
def data(tmp_path: Path) -> Path:
    with open_at(tmp_path / "data") as platform:
        platform.register_model(OLD)
        platform.create_generation("toy-old")
    return tmp_path / "data"


def open_at(data: Path) -> Platform:
    platform = Platform.open(data, threads=False)
    assert isinstance(platform, Platform)
    return platform


def kept(data: Path) -> list[int]:
    return sorted(int(path.stem) for path in (data / "snapshots" / "g1-s0").glob("*.ecx"))


def round_of(platform: Platform, number: int) -> None:
    items = toy_items(20, seed=number)
    platform.upsert([Item(id=f"{number}-{item.id}", content=item.content) for item in items])
    platform.delete([f"{number}-{items[0].id}"])
    platform.serving.lanes.drain()
    platform.snapshot()


def test_the_log_is_pruned_behind_the_oldest_kept_snapshot(data: Path) -> None:
    with open_at(data) as platform:
        for number in range(4):
            round_of(platform, number)
            assert platform.store.pruned(0) == kept(data)[0]
            assert platform.store.verify() == []
        assert kept(data) == [63, 84]
        # Tombstones have gone with the log that named them: three of the four deletes.
        gone = [
            platform.store.get_item(f"{number}-{toy_items(20, seed=number)[0].id}") for number in range(4)
        ]
        assert [item is None for item in gone] == [True, True, True, False]
        shard = platform.status().details["store"]["shards"][0]
        assert shard == {"shard": 0, "head": 84, "pruned": 63, "holds": {"lane/g1": 63}}
    with open_at(data) as platform:
        assert platform.generations()[0].items == 76


@pytest.mark.parametrize("lost", [1, 2])
def test_every_kept_snapshot_can_be_replayed_and_without_any_the_index_is_rebuilt(
    data: Path, lost: int
) -> None:
    with open_at(data) as platform:
        for number in range(3):
            round_of(platform, number)
        platform.upsert([Item(id="last", content="w1 w2 the last one")])
    for watermark in kept(data)[-lost:]:
        (data / "snapshots" / "g1-s0" / f"{watermark}.ecx").unlink()
    with open_at(data) as platform:
        platform.serving.lanes.drain()
        assert platform.generations()[0].items == 58
        answer = platform.search(SearchRequest(consumer="search", text="w1 w2 the last one"))
        assert answer.hits[0].id == "last"


def test_a_snapshot_from_before_what_was_pruned_is_not_used(data: Path, tmp_path: Path) -> None:
    """As an operator's copy of an old one: replaying it would miss deletes."""
    with open_at(data) as platform:
        round_of(platform, 0)
        old = data / "snapshots" / "g1-s0" / f"{kept(data)[-1]}.ecx"
        shutil.copy(old, tmp_path / old.name)
        for number in range(1, 4):
            round_of(platform, number)
    shutil.rmtree(data / "snapshots" / "g1-s0")
    (data / "snapshots" / "g1-s0").mkdir()
    shutil.copy(tmp_path / old.name, old)
    with open_at(data) as platform:
        platform.serving.lanes.drain()
        assert platform.generations()[0].items == 76


def test_a_search_that_found_what_has_gone_meanwhile_leaves_it_out(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_at(data) as platform:
        platform.upsert(toy_items(20))
        platform.serving.lanes.drain()
        items = toy_items(20)
        original: Callable[..., list[tuple[str, str] | None]] = platform.store.names
        gone = int(platform.store.items_of([items[3].id])[0])

        def names(wanted: list[int]) -> list[tuple[str, str] | None]:
            return [
                None if item == gone else name for item, name in zip(wanted, original(wanted), strict=True)
            ]

        monkeypatch.setattr(platform.store, "names", names)
        request = SearchRequest(consumer="search", text=items[3].content or "", k=20)
        hits = platform.search(request).hits
        assert len(hits) == 19
        assert items[3].id not in {hit.id for hit in hits}
