"""The query log: off by default, bounded, exact counts of a uniform sample; and what is drawn of it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from embedcore.errors import FailedPrecondition, InvalidArgument
from embedcore.evaluation.golden_sample import buckets_of, draw, to_label
from embedcore.evaluation.query_log import MAX_CHARS, QueryLog, Sketch
from embedcore.types import Consumer


def opted(store: Any, capacity: int) -> None:
    store.known_consumers = [
        Consumer(name="search", k=10, quality_target=0.5, query_log=capacity),
        Consumer(name="ads", k=5, quality_target=0.5),
    ]


def traffic(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [f"query {min(int(z), 3_000)}" for z in rng.zipf(1.3, count)]


def test_the_sketch_counts_what_it_keeps_exactly() -> None:
    asked = traffic(20_000)
    sketch = Sketch(200, seed=4)
    for text in asked:
        sketch.add(text)
    truth = Counter(asked)
    assert len(sketch.counts) == 200
    assert sketch.counts == {text: truth[text] for text in sketch.counts}
    assert sketch.asked == 20_000
    other = Sketch(200, seed=4)
    for text in sorted(asked):
        other.add(text)
    assert other.counts == sketch.counts, "the sample does not depend on the order of the traffic"
    assert Sketch.from_bytes(sketch.to_bytes()).counts == sketch.counts


def test_the_sample_is_uniform_over_distinct_texts() -> None:
    """Each of 50 texts, asked 1 to 50 times, is kept about as often. Keeping the frequent (a planted bug)
    is far off."""
    kept = np.zeros(50)
    for seed in range(400):
        sketch = Sketch(10, seed)
        for number in range(50):
            sketch.add(str(number), number + 1)
        for text in sketch.counts:
            kept[int(text)] += 1
    expected = 400 * 10 / 50
    assert np.abs(kept - expected).max() < 5 * np.sqrt(expected)
    assert np.corrcoef(kept, np.arange(50))[0, 1] < 0.4


def test_only_consumers_that_opted_in_are_logged(store: Any) -> None:
    opted(store, 100)
    log = QueryLog(store)
    for text in ("a  b", "a b", "c", "x" * (MAX_CHARS + 1)):
        log.offer("search", text)
    log.offer("ads", "secret")
    log.offer("unknown", "secret")
    assert log.counts("search") == {"a b": 2, "c": 1}
    assert log.counts("ads") == {}
    assert b"secret" not in b"".join(store.blobs.values())
    again = QueryLog(store)
    again.offer("search", "c")
    assert again.counts("search") == {"a b": 2, "c": 2}, "kept across restarts"


def test_opting_out_empties_the_log(store: Any) -> None:
    opted(store, 100)
    log = QueryLog(store)
    log.offer("search", "mine")
    assert log.counts("search") == {"mine": 1}
    opted(store, 0)
    log.flush()
    assert log.counts("search") == {}
    assert all(b"mine" not in blob for blob in store.blobs.values())


def test_a_smaller_log_keeps_a_part_and_a_larger_one_starts_anew(store: Any) -> None:
    opted(store, 50)
    log = QueryLog(store)
    for number in range(80):
        log.offer("search", f"q{number}")
    fifty = dict(log.counts("search"))
    opted(store, 20)
    assert set(log.counts("search")) < set(fifty)
    assert len(log.counts("search")) == 20
    opted(store, 60)
    assert log.counts("search") == {}


def test_threads_lose_nothing(store: Any) -> None:
    opted(store, 1_000)
    log = QueryLog(store)

    def ask(number: int) -> None:
        for turn in range(500):
            log.offer("search", f"q{turn % 10}")
            if number == 0 and turn % 50 == 0:
                log.flush()

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(log.counts("search").values()) == 2_000


def test_buckets_share_the_traffic_in_thirds() -> None:
    counts = {"a": 400, "b": 150, "c": 120, "d": 100, **{f"t{n}": 2 for n in range(200)}}
    found = buckets_of(counts)
    assert found["a"] == "head"
    assert found["d"] == "torso"
    assert found["t7"] == "tail"
    share = Counter(
        {name: sum(n for text, n in counts.items() if found[text] == name) for name in found.values()}
    )
    assert all(0.2 < share[name] / sum(counts.values()) < 0.5 for name in ("head", "torso", "tail"))
    assert buckets_of({"only": 9}) == {"only": "torso"}, "its middle is the middle of the traffic"


def test_queries_are_drawn_by_bucket_and_seed() -> None:
    counts = Counter(traffic(20_000))
    wanted = {"head": 3, "torso": 10, "tail": 40}
    drawn = draw(counts, wanted, seed=1)
    bucket = buckets_of(counts)
    assert all(bucket[text] == name and counts[text] == count for text, name, count in drawn)
    assert all(count >= 2 for _, _, count in drawn)
    assert Counter(name for _, name, _ in drawn)["tail"] == 40
    assert draw(counts, wanted, seed=1) == drawn
    assert draw(counts, wanted, seed=2) != drawn
    with pytest.raises(FailedPrecondition, match="asked 2 times or more"):
        draw({"once": 1}, wanted)
    for bad in ({"middle": 3}, {"head": 0}, {"head": -1, "tail": 3}):
        with pytest.raises(InvalidArgument, match="buckets are"):
            draw(counts, bad)


def test_candidates_are_pooled_and_shown_in_a_random_recorded_order() -> None:
    def pool(texts: Sequence[str]) -> list[Mapping[int, Sequence[tuple[str, str | None]]]]:
        old = [(f"i{n}", f"text {n}") for n in range(8)]
        new = [(f"i{n}", f"text {n}") for n in range(5, 13)]
        return [{1: old, 2: new} for _ in texts]

    drawn = [(f"query {n}", "head", 5) for n in range(200)]
    documents = to_label(drawn, pool, seed=3)
    assert to_label(drawn, pool, seed=3) == documents
    places = np.zeros((13, 13))
    for one in documents:
        assert sorted(c["position"] for c in one["candidates"]) == list(range(1, 14))
        assert {c["item"] for c in one["candidates"]} == {f"i{n}" for n in range(13)}
        for shown in one["candidates"]:
            places[int(shown["item"][1:]), shown["position"] - 1] += 1
    # Where a model put an item says nothing of where it is shown.
    mean_place = places @ np.arange(13) / 200
    assert np.abs(mean_place - 6).max() < 5 * np.sqrt(14 / 200)
