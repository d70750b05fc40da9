"""The platform in this process: writes, reads, refusals, restarts."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from embedcore.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from embedcore.platform import Platform
from embedcore.types import Consumer, Generation, Item, SearchRequest
from support.toys import NEW, OLD, toy_items, toy_old


@pytest.fixture
def platform(tmp_path: Path):
    with Platform.open(tmp_path / "data") as opened:
        opened.register_model(OLD)
        opened.create_generation("toy-old")
        yield opened


def search(platform, text: str, consumer: str = "search", **options):
    return platform.search(SearchRequest(consumer=consumer, text=text, **options))


def test_an_item_is_found_by_whoever_wrote_it(platform) -> None:
    items = toy_items(200)
    receipt = platform.upsert(items)
    assert receipt.repairs == 0
    assert list(receipt.versions) == [1] * 200
    for item in items[::20]:
        answer = search(platform, item.content, min_sequence=receipt.token)
        assert answer.hits[0].id == item.id
        assert answer.hits[0].score == pytest.approx(1.0, abs=1e-5)
        assert answer.provenance.models == ("toy-old",)
        assert not answer.provenance.partial


def test_an_update_replaces_and_a_delete_removes(platform) -> None:
    platform.upsert(toy_items(50))
    changed = platform.upsert([Item(id="item-7", content="w1 w2 w3 entirely other words")])
    assert list(changed.versions) == [2]
    answer = search(platform, "w1 w2 w3 entirely other words", min_sequence=changed.token)
    assert answer.hits[0].id == "item-7"
    gone = platform.delete(["item-7", "never-there"])
    assert list(gone.versions) == [3, 0]
    answer = search(platform, "w1 w2 w3 entirely other words", min_sequence=gone.token)
    assert "item-7" not in {hit.id for hit in answer.hits}
    with pytest.raises(NotFound, match="item-7"):
        platform.get_item("item-7")
    again = platform.upsert([Item(id="item-7", content="w9 back again")])
    assert list(again.versions) == [4]
    assert platform.get_item("item-7").content == "w9 back again"


def test_results_are_those_of_brute_force(platform) -> None:
    items = toy_items(300)
    token = platform.upsert(items).token
    base = toy_old([item.content for item in items])
    for item in toy_items(20, seed=5):
        query = toy_old([item.content])[0]
        expected = {items[i].id for i in np.argsort(-base @ query)[:10]}
        found = {h.id for h in search(platform, item.content, min_sequence=token).hits}
        assert len(found & expected) >= 9


def test_filter_and_namespace(platform) -> None:
    items = toy_items(100)
    platform.upsert(items)
    elsewhere = [Item(id=i.id, content=i.content, namespace="other") for i in items[:10]]
    token = platform.upsert(elsewhere).token
    odd = search(platform, items[4].content, filter={"parity": "odd"}, min_sequence=token)
    assert len(odd.hits) == 10
    assert all(int(hit.id.split("-")[1]) % 2 == 1 for hit in odd.hits)
    other = search(platform, items[4].content, namespace="other", min_sequence=token)
    assert {hit.namespace for hit in other.hits} == {"other"}
    assert len(other.hits) == 10
    nothing = search(platform, items[4].content, filter={"parity": "neither"}, min_sequence=token)
    assert not nothing.hits
    assert not nothing.provenance.partial


@pytest.mark.parametrize(
    ("request_", "error", "says"),
    [
        (SearchRequest("nobody", text="w1"), NotFound, "unknown consumer 'nobody'"),
        (SearchRequest("search", text="w1", k=0), InvalidArgument, "k must be"),
        (SearchRequest("search", text="w1", k=-3), InvalidArgument, "k must be"),
        (SearchRequest("search"), InvalidArgument, "needs text"),
        (SearchRequest("search", text="  "), InvalidArgument, "empty"),
        (SearchRequest("search", text="x" * 10_000_000), InvalidArgument, "limit"),
        (
            SearchRequest("search", vectors={OLD.fingerprint.digest: np.ones(31, np.float32)}),
            InvalidArgument,
            r"shape \(32,\)",
        ),
        (
            SearchRequest("search", vectors={"ec1-" + "0" * 32: np.ones(32, np.float32)}),
            InvalidArgument,
            "fingerprint",
        ),
        (
            SearchRequest("search", vectors={OLD.fingerprint.digest: np.full(32, np.nan, np.float32)}),
            InvalidArgument,
            "NaN",
        ),
        (
            SearchRequest("search", vectors={OLD.fingerprint.digest: np.zeros(32, np.float32)}),
            InvalidArgument,
            "zero vector",
        ),
    ],
)
def test_bad_queries_are_refused_with_a_reason(platform, request_, error, says) -> None:
    platform.upsert(toy_items(5))
    with pytest.raises(error, match=says) as caught:
        platform.search(request_)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (Item(id="", content="w1"), "id has 1 to"),
        (Item(id="x" * 600, content="w1"), "id has 1 to"),
        (Item(id="a"), "needs content"),
        (Item(id="a", content="x" * 2_000_000), "limit"),
        (Item(id="a", content="w1", created_at=float("inf")), "created_at"),
        (Item(id="a", content="w1", attributes={"x": float("nan")}), "attribute 'x'"),
        (Item(id="a", vectors={"ec1-ff": np.ones(32, np.float32)}), "fingerprint"),
        (Item(id="a", vectors={OLD.fingerprint.digest: np.ones(33, np.float32)}), "shape"),
        (Item(id="a", vectors={OLD.fingerprint.digest: np.full(32, np.inf, np.float32)}), "NaN"),
    ],
)
def test_a_bad_item_refuses_the_whole_batch(platform, item, says) -> None:
    with pytest.raises(InvalidArgument, match=says):
        platform.upsert([Item(id="good", content="w1 w2"), item])
    with pytest.raises(NotFound):
        platform.get_item("good")
    assert platform.status().live_items == 0


def test_vectors_may_come_with_the_item(platform) -> None:
    vector = toy_old(["some text of mine"])[0]
    token = platform.upsert([Item(id="v", vectors={OLD.fingerprint.digest: vector})]).token
    assert search(platform, "some text of mine", min_sequence=token).hits[0].id == "v"


def test_an_empty_platform_answers_with_nothing_rather_than_an_error(platform) -> None:
    answer = search(platform, "w1 w2")
    assert list(answer.hits) == []


def test_k_larger_than_the_index(platform) -> None:
    token = platform.upsert(toy_items(3)).token
    assert len(search(platform, "w1", k=50, min_sequence=token).hits) == 3


def test_without_a_generation_reads_and_writes_say_what_to_do(tmp_path: Path) -> None:
    with Platform.open(tmp_path / "data") as empty:
        with pytest.raises(Unavailable, match="create one"):
            search(empty, "w1")
        with pytest.raises(InvalidArgument, match="no generation"):
            empty.upsert(toy_items(1))
        with pytest.raises(NotFound, match="not registered"):
            empty.create_generation("no-such-model")


def test_a_second_generation_needs_a_migration(platform) -> None:
    with pytest.raises(FailedPrecondition, match="migrate start"):
        platform.create_generation("toy-old")


def test_of_two_who_create_the_first_generation_at_once_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Platform.open(tmp_path / "data") as opened:
        opened.register_model(OLD)
        both = threading.Barrier(2)
        generations = opened.store.generations

        def looked_at_together() -> list[Generation]:
            found = generations()
            with suppress(threading.BrokenBarrierError):
                both.wait(0.3)
            return found

        def create(_: int) -> str:
            try:
                return f"generation {opened.create_generation('toy-old').number}"
            except FailedPrecondition as error:
                return error.code

        monkeypatch.setattr(opened.store, "generations", looked_at_together)
        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(create, range(2))) == ["failed_precondition", "generation 1"]
        assert [g.number for g in generations()] == [1]


def test_a_directory_with_two_first_generations_recovers_with_the_first(tmp_path: Path) -> None:
    """As two callers at once could leave it in earlier versions."""
    items = toy_items(40)
    with Platform.open(tmp_path / "data") as opened:
        opened.register_model(OLD)
        opened.register_model(NEW)
        opened.create_generation("toy-old")
        opened.upsert(items[:20])
        opened.store.create_generation("toy-new", "serving", 0.0)
        opened.upsert(items[20:])
    with Platform.open(tmp_path / "data") as again:
        assert [g.generation.state for g in again.generations()] == ["serving", "retired"]
        for item in items[::7]:
            answer = search(again, item.content)
            assert answer.hits[0].id == item.id
            assert list(answer.provenance.generations) == [1]
        assert again.upsert(toy_items(41)[40:]).repairs == 0
        assert again.verify()["problems"] == []


def test_a_new_consumer_is_served_at_once(platform) -> None:
    token = platform.upsert(toy_items(30)).token
    platform.set_consumer(Consumer(name="fresh", k=3, quality_target=0.5))
    assert len(search(platform, "w1 w2", consumer="fresh", min_sequence=token).hits) == 3


@pytest.mark.parametrize("how", ["closed", "snapshots lost", "snapshots damaged"])
def test_a_restart_loses_nothing(tmp_path: Path, how: str) -> None:
    items = toy_items(120)
    with Platform.open(tmp_path / "data") as first:
        first.register_model(OLD)
        first.create_generation("toy-old")
        first.upsert(items)
        first.delete(["item-3"])
    snapshots = sorted((tmp_path / "data" / "snapshots").rglob("*.ecx"))
    assert snapshots
    for path in snapshots:
        if how == "snapshots lost":
            path.unlink()
        elif how == "snapshots damaged":
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 0x10
            path.write_bytes(bytes(data))
    with Platform.open(tmp_path / "data") as second:
        assert second.status().live_items == 119
        assert second.generations()[0].items == 119
        for item in items[10::30]:
            assert search(second, item.content).hits[0].id == item.id
        assert "item-3" not in {h.id for h in search(second, items[3].content).hits}


def test_time_scale_is_refused_outside_a_simulated_directory(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="simulated"):
        Platform.open(tmp_path / "data", time_scale=1000.0)
    with Platform.open(tmp_path / "other", simulated=True, time_scale=1000.0) as simulated:
        assert simulated.status().time_scale == 1000.0
        before = simulated.status().now
    with Platform.open(tmp_path / "other", time_scale=10.0) as again:
        assert again.status().now >= before, "scaled time never goes back, whatever the scale"


def test_simulated_time_changes_its_speed_without_a_jump(tmp_path: Path, platform) -> None:
    with pytest.raises(FailedPrecondition, match="simulated"):
        platform.set_time_scale(10.0)
    with Platform.open(tmp_path / "other", simulated=True, time_scale=50_000.0) as simulated:
        before = simulated.status().now
        after = simulated.set_time_scale(1.0)
        assert before <= after <= simulated.status().now < after + 60
        for bad in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(InvalidArgument, match="positive"):
                simulated.set_time_scale(bad)
        assert simulated.status().time_scale == 1.0
        last = simulated.status().now
    with Platform.open(tmp_path / "other", time_scale=3.0) as again:
        assert last <= again.status().now < last + 60, "the changed speed was remembered"


def test_a_second_owner_is_refused_and_the_first_is_unharmed(tmp_path: Path, platform) -> None:
    with pytest.raises(Unavailable, match="owned by process"):
        Platform.open(tmp_path / "data")
    token = platform.upsert(toy_items(2)).token
    assert search(platform, "w1", min_sequence=token).hits
