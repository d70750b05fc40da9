"""The harness over brute force and toy encoders, against metrics computed again in plain Python."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from embedcore.errors import DataLoss, Internal, InvalidArgument, NotFound
from embedcore.evaluation.exact import exact_lists, index_recall
from embedcore.evaluation.golden import GoldenQuery, GoldenSet
from embedcore.evaluation.result import Evaluation
from embedcore.migration_types import Plan


def lists_of(world: Any, model: str, generation: int, text: str) -> list[tuple[float, int]]:
    """(distance, item) ascending, one query at a time from the stored vectors."""
    query = world.encoders.encode_bulk(model, [text])[0].astype(np.float64)
    held = world.store.vectors[generation]
    found = [(1 - float(query @ held[item].astype(np.float64)), item) for item in sorted(held)]
    return sorted(found)


def oracle_recall(world: Any, model: str, generation: int, k: int, left_out: str = "") -> list[float]:
    golden = world.harness.golden.get("search")
    values = []
    for query in golden.queries:
        relevant = {world.store.numbers[("", name)] for name in query.relevant if name != left_out}
        excluded = {world.store.numbers[("", name)] for name in query.exclude}
        ranked = [item for _, item in lists_of(world, model, generation, query.text) if item not in excluded]
        if relevant:
            values.append(len(relevant & set(ranked[:k])) / min(k, len(relevant)))
    return values


def test_recall_is_that_of_the_generation(world: Any) -> None:
    got = world.harness.evaluate("search", 1)
    expected = oracle_recall(world, "old", 1, 5)
    assert np.abs(got.values.num - expected).max() < 1e-9
    assert abs(got.metric - np.mean(expected)) < 1e-9
    assert 0.3 < got.metric < 0.99, "a case in which there is something to find and to miss"
    assert (got.metric_name, got.generation, got.model, got.n, got.left_out) == ("recall@5", 1, "old", 300, 0)
    assert got.lower < got.metric < got.upper
    assert got.at == world.clock.now()
    assert world.backend.calls == [("generation", 1, 300, 5, 40)], "the consumer's ef_search and k"


def test_excluded_items_are_asked_for_on_top_of_k(world: Any) -> None:
    golden = world.harness.golden.get("search")
    rng = np.random.default_rng(0)
    others = [f"item{n}" for n in rng.integers(0, 400, 300)]
    queries = tuple(
        query.model_copy(update={"exclude": () if other in query.relevant else (other,)})
        for query, other in zip(golden.queries, others, strict=True)
    )
    world.harness.golden.put(golden.model_copy(update={"queries": queries}))
    got = world.harness.evaluate("search", 2)
    assert world.backend.calls[-1][3] == 6
    assert np.abs(got.values.num - oracle_recall(world, "new", 2, 5)).max() < 1e-9


def test_dedup_chooses_on_one_half_and_reports_on_the_other(world: Any) -> None:
    got = world.harness.evaluate("dedup", 2)
    golden = world.harness.golden.get("dedup")
    tops = []
    for query in golden.queries:
        distance, item = lists_of(world, "new", 2, query.text)[0]
        tops.append((distance, world.store.items[item].id in query.relevant))
    even, odd = tops[0::2], tops[1::2]
    correct = sorted(distance for distance, right in even if right)
    threshold = correct[math.ceil(0.6 * len(even)) - 1]
    accepted = [right for distance, right in odd if distance <= threshold + 1e-6]
    assert got.threshold == pytest.approx(threshold, abs=1e-6)
    assert got.threshold_reached is True
    assert abs(got.metric - sum(accepted) / len(accepted)) < 1e-9
    assert got.found_share == pytest.approx(sum(accepted) / len(odd), abs=1e-9)
    assert got.rows.tolist() == list(range(1, 300, 2))


def test_a_share_that_cannot_be_reached_accepts_all_and_says_so(world: Any) -> None:
    strict = world.dedup.model_copy(update={"min_found_share": 1.0})
    compared = world.harness.compare(strict, 2, 3)
    assert compared.target.threshold == math.inf
    assert compared.target.threshold_reached is False
    assert compared.gates["quality"].evidence["target_threshold"] is None
    assert compared.gates["quality"].evidence["target_threshold_reached"] is False
    assert "accepts all" in compared.gates["quality"].summary


def test_compare_passes_the_better_model_and_refuses_the_worse(world: Any) -> None:
    better = world.harness.compare("search", 1, 2)
    source, target, comparison, gates = better.source, better.target, better.comparison, better.gates
    assert set(gates) == {"quality", "sufficient", "target", "long_tail"}
    assert gates["quality"].passed
    assert comparison.difference == pytest.approx(target.metric - source.metric, abs=1e-12)
    worse = world.harness.compare("search", 1, 3)
    assert not worse.gates["quality"].passed
    assert not worse.passed
    assert world.harness.compare("search", 1, 2).comparison == comparison, "the seed fixes the verdict"
    assert not world.harness.compare("dedup", 1, 3).gates["quality"].passed


def test_the_target_is_judged_as_it_stands(world: Any) -> None:
    """The better model on 60% of the items loses: what it does not hold yet is a miss."""
    world.fill(2, share=0.6)
    compared = world.harness.compare("search", 1, 2)
    assert not compared.gates["quality"].passed
    assert compared.target.metric < 0.7
    # The oldest items are the ones missing (the fake backfills by number, and age grows with it).
    assert not compared.gates["long_tail"].passed or compared.target.long_tail_n < 30


def test_deleted_items_leave_their_queries_out(world: Any) -> None:
    golden = world.harness.golden.get("search")
    victim = next(iter(golden.queries[0].relevant))
    concerned = sum(victim in query.relevant for query in golden.queries)
    world.store.delete(victim)
    got = world.harness.evaluate("search", 1)
    assert got.left_out == concerned >= 1
    assert got.n == 300 - concerned
    assert np.abs(got.values.num - oracle_recall(world, "old", 1, 5, left_out=victim)).max() < 1e-9


def test_queries_are_encoded_once_per_model_and_set(world: Any) -> None:
    world.harness.compare("search", 1, 2)
    before = dict(world.encoders.calls)
    world.harness.compare("search", 1, 2)
    world.harness.evaluate_blended("search", 1, 2, 0.5, queries=50)
    assert world.encoders.calls == before
    golden = world.harness.golden.get("search")
    changed = golden.queries[0].model_copy(update={"text": "w1 w2 w3"})
    world.harness.golden.put(golden.model_copy(update={"queries": (changed, *golden.queries[1:])}))
    world.harness.compare("search", 1, 2)
    assert world.encoders.calls["old"] == before["old"] + 300, "other labels, other vectors"


def test_blended_check_on_a_seeded_subset(world: Any) -> None:
    got = world.harness.evaluate_blended("search", 1, 2, 0.5, queries=80)
    again = world.harness.evaluate_blended("search", 1, 2, 0.5, queries=80)
    assert np.array_equal(got.source.rows, again.source.rows)
    assert got.comparison == again.comparison
    other = world.harness.evaluate_blended("search", 1, 2, 0.5, queries=80, rng=np.random.default_rng(1))
    assert not np.array_equal(got.source.rows, other.source.rows)
    assert got.target.n == got.source.n == 80
    assert (got.target.weight, got.target.generation, got.target.model) == (0.5, None, "old+new")
    assert got.gates["blended"].passed
    assert ("blended", "search", 80, 5, 0.5) in world.backend.calls
    at_zero = world.harness.evaluate_blended("search", 1, 2, 0.0, queries=80)
    assert np.array_equal(at_zero.source.values.num, at_zero.target.values.num)
    whole = world.harness.evaluate_blended("search", 1, 2, 1.0, queries=10_000)
    assert whole.target.metric == pytest.approx(world.harness.evaluate("search", 2).metric, abs=1e-12)
    bad = world.harness.evaluate_blended("search", 1, 3, 0.9, queries=200)
    assert not bad.gates["blended"].passed


def test_recall_against_exact_search_is_reported_apart(world: Any) -> None:
    assert world.harness.evaluate("search", 1, exact_queries=0).index_recall is None
    assert world.harness.evaluate("search", 1, exact_queries=40).index_recall == 1.0
    whole = world.backend.search_generation

    def worse(generation: int, queries: Any, k: int, ef_search: int) -> Any:
        ids, distances = whole(generation, queries, k + 1, ef_search)
        keep = [0, *range(2, k + 1)]  # loses the second nearest
        return ids[:, keep], distances[:, keep]

    world.backend.search_generation = worse
    assert world.harness.evaluate("search", 1, exact_queries=40).index_recall == pytest.approx(0.8)


def test_exact_lists_in_blocks_against_the_whole(
    world: Any, monkeypatch: pytest.MonkeyPatch, brute_force: Any
) -> None:
    queries = world.encoders.encode_bulk("new", [f"w{n} w{n + 1}" for n in range(20)])
    whole = exact_lists(world.store, 2, queries, 7, "cosine", brute_force)
    monkeypatch.setattr("embedcore.evaluation.exact._BLOCK", 33)
    blocks = exact_lists(world.store, 2, queries, 7, "cosine", brute_force)
    assert np.array_equal(whole[0], blocks[0])
    assert np.abs(whole[1] - blocks[1]).max() < 1e-6
    expected = world.backend.search_generation(2, queries, 7, 1)[0]
    assert np.array_equal(whole[0], expected)
    few = exact_lists(world.store, 2, queries, 500, "cosine", brute_force)
    assert (few[0] >= 0).sum(axis=1).tolist() == [400] * 20
    assert index_recall(few, few).tolist() == [1.0] * 20


def test_documents_round_trip(world: Any) -> None:
    for consumer, generation in (("search", 1), ("dedup", 2)):
        got = world.harness.evaluate(consumer, generation)
        document = json.loads(json.dumps(got.to_document(), allow_nan=False))
        back = Evaluation.from_document(document)
        assert back.to_document() == got.to_document()
        assert np.array_equal(back.values.num, got.values.num)
        assert np.array_equal(back.rows, got.rows)
        assert len(json.dumps(document)) < 8_000
        assert "per_query" not in got.to_document(arrays=False)
        with pytest.raises(InvalidArgument, match="without"):
            Evaluation.from_document(got.to_document(arrays=False))
        document["per_query"]["num"] = document["per_query"]["num"][:-8]
        with pytest.raises(DataLoss, match="damaged"):
            Evaluation.from_document(document)
    strict = world.dedup.model_copy(update={"min_found_share": 1.0})
    accepts_all = world.harness.evaluate(strict, 3)
    assert Evaluation.from_document(accepts_all.to_document()).threshold == math.inf
    compared = world.harness.compare("search", 1, 2)
    json.dumps(compared.to_document(), allow_nan=False)


def test_unknown_names_are_refused(world: Any) -> None:
    with pytest.raises(NotFound, match="unknown consumer 'ads'; known: search, dedup"):
        world.harness.evaluate("ads", 1)
    with pytest.raises(NotFound, match="unknown generation 9; known: 1, 2, 3"):
        world.harness.evaluate("search", 9)
    with pytest.raises(NotFound, match="no golden set"):
        world.harness.evaluate(world.search.model_copy(update={"name": "ads"}), 1)
    with pytest.raises(NotFound, match="unknown model"):
        world.harness.preflight(["search"], 1, "nowhere")


def test_a_backend_that_answers_other_queries_is_caught(world: Any) -> None:
    world.backend.search_generation = lambda g, q, k, ef: (
        np.zeros((len(q) - 1, k), np.int64),
        np.zeros((len(q) - 1, k), np.float32),
    )
    with pytest.raises(Internal, match="300 queries"):
        world.harness.evaluate("search", 1)


def test_progress_is_reported_and_can_cancel(world: Any) -> None:
    seen: list[tuple[str, int, int]] = []
    world.harness.evaluate("search", 1, progress=lambda *step: seen.append(step))
    assert seen[-1] == ("search: generation 1", 300, 300)
    assert ("search: queries by old", 300, 300) in seen

    class StoppedError(Exception):
        pass

    def stop(what: str, done: int, total: int) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        world.harness.evaluate("search", 2, progress=stop)
    assert world.harness.evaluate("search", 2).n == 300, "nothing half-done is kept"


def test_long_tail_bucket_is_the_oldest_items(world: Any) -> None:
    got = world.harness.evaluate("search", 1)
    golden = world.harness.golden.get("search")
    oldest = {f"item{n}" for n in range(360, 400)}
    expected = [set(query.relevant) <= oldest for query in golden.queries]
    assert got.tail.tolist() == expected
    assert got.long_tail_n == sum(expected)
    assert got.long_tail == pytest.approx(np.mean(got.values.num[np.array(expected)]), abs=1e-12)


def test_labels_of_one_consumer_do_not_touch_another(make_world: Callable[..., Any]) -> None:
    world = make_world(items=60, queries=40)
    before = world.harness.evaluate("search", 1).to_document()
    world.harness.golden.put(
        GoldenSet(
            name="other",
            consumer="dedup",
            queries=(GoldenQuery(id="q", text="w1 w2", relevant={"item1": 1.0}),),
        )
    )
    assert world.harness.evaluate("search", 1).to_document() == before
    assert world.harness.evaluate("dedup", 1).n == 0
    gate = world.harness.compare("dedup", 1, 2, Plan()).gates["quality"]
    assert not gate.passed
    assert "no evidence" in gate.summary
