"""The harness on 500 vectors, with whatever is installed: what it reports, never how fast that was."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench.breadth import Chooser
from bench.machine import describe
from bench.ratios import NOT_MEASURED, Ratio, order_of_round, ratio
from rich.console import Console

import embedcore
from bench import (
    ann,
    churn,
    compare,
    datasets,
    dualwrite,
    durable,
    engines,
    evaluation,
    plots,
    recovery,
    recovery_platform,
    summary,
    sweep,
    truth,
    worker,
)

LEVEL = 0.9
NAMES = ("embedcore", "hnswlib", "exact")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> datasets.Dataset:
    return datasets.load(
        datasets.Wanted("wordnet", n=500, queries=120, depth=20), tmp_path_factory.mktemp("data")
    )


@pytest.fixture(scope="module")
def result(data: datasets.Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """hnswlib is made to be missing, whether it is installed or not."""
    blocked = tmp_path_factory.mktemp("blocked")
    (blocked / "hnswlib.py").write_text("raise ImportError('blocked by the test')\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(blocked)  # spawned workers take it over
        plan = ann.plan_of(
            NAMES, [10], [LEVEL, 1.0], curve=False, yardstick=False, rounds=2, pass_s=0.01, most_ef=300
        )
        done = sweep.run(data, plan, lambda text: None)
    return summary.document(describe(), data, plan, done)


def test_every_engine_has_a_row(result: dict[str, Any]) -> None:
    states = {name: row["status"] for name, row in result["engines"].items()}
    assert states == {"embedcore": "measured", "hnswlib": NOT_MEASURED, "exact": "measured"}
    assert "blocked by the test" in result["engines"]["hnswlib"]["reason"]
    built = result["engines"]["embedcore"]["build"]
    assert built["cpu_s"] > 0
    assert built["memory_bytes"] >= 500 * 384 * 4


def test_a_missing_peer_gives_no_ratio(result: dict[str, Any]) -> None:
    assert {row["to"] for row in result["ratios"]} == {"hnswlib", "best peer"}
    for row in result["ratios"]:
        assert row["status"] == NOT_MEASURED
        assert "median" not in row


def test_ef_is_chosen_on_one_half_and_recall_reported_on_the_other(
    data: datasets.Dataset, result: dict[str, Any]
) -> None:
    points = [row for row in result["points"] if row["engine"] == "embedcore" and row["level"] == LEVEL]
    assert {row["mode"] for row in points} == {"single", "batch"}
    index = engines.make("embedcore", engines.Configuration(data.dim, data.metric, data.n))
    index.build(data.base)  # one thread and one seed: the graph of the worker
    middle = len(data.queries) // 2
    halves = {"tune": slice(None, middle), "test": slice(middle, None)}

    def recall(half: str, ef: int) -> float:
        searcher = index.searcher(10, ef)
        assert searcher.many is not None
        queries, nearest = data.queries[halves[half]], data.truth[halves[half]]
        return truth.recall(data.base, queries, nearest, searcher.ids(searcher.many(queries)), data.metric)

    for row in points:
        assert row["recall_tuned"] >= LEVEL
        assert row["recall"] == pytest.approx(recall("test", row["ef"]))
        if row["mode"] == "batch":
            assert row["recall_tuned"] == pytest.approx(recall("tune", row["ef"]))
            assert row["ef"] == 10 or recall("tune", row["ef"] - 1) < LEVEL
        assert len(row["passes"]) == 2


def test_exact_search_is_measured_and_extrapolated(result: dict[str, Any]) -> None:
    rows = {row["engine"]: row for row in result["exact"]}
    assert rows["exact"]["items_at"]["50 ms"] > rows["exact"]["items_at"]["30 ms"] > 500
    assert all(row["recall"] == 1.0 for row in result["points"] if row["engine"] == "exact")
    assert rows["faiss-flat"]["status"] == NOT_MEASURED


def test_files_are_written(result: dict[str, Any], tmp_path: Path) -> None:
    written = plots.write(result, tmp_path)
    names = {path.name for path in written}
    assert {"result.json", "report.html"} <= names
    read = json.loads((tmp_path / "result.json").read_text())
    assert read["machine"]["commit"] == result["machine"]["commit"]
    page = (tmp_path / "report.html").read_text()
    assert "not measured" in page
    assert ("data:image/png" in page) == ("recall.png" in names)


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_truth_agrees_with_exact_search(metric: Any) -> None:
    rng = np.random.default_rng(3)
    base = rng.standard_normal((700, 24), dtype=np.float32)
    queries = rng.standard_normal((150, 24), dtype=np.float32)
    if metric == "cosine":
        base /= np.linalg.norm(base, axis=1, keepdims=True)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    nearest = truth.exact_neighbours(base, queries, 15, metric)
    assert (nearest == embedcore.exact_search(base, queries, 15, metric).ids).mean() > 0.999


def test_recall_counts_ties_once_and_gaps_not_at_all() -> None:
    base = np.array([[0.0], [1.0], [1.0], [5.0]], dtype=np.float32)
    queries = np.array([[0.0]], dtype=np.float32)
    nearest = truth.exact_neighbours(base, queries, 2, "l2")
    assert nearest.tolist() == [[0, 1]]
    for answer, expected in (([0, 2], 1.0), ([0, 3], 0.5), ([0, 0], 0.5), ([0, -1], 0.5), ([-1, -1], 0.0)):
        assert truth.recall(base, queries, nearest, np.array([answer]), "l2") == expected


def test_the_smallest_ef_is_found_and_no_recall_is_measured_twice() -> None:
    calls: list[int] = []

    def recall_at(ef: int) -> float:
        calls.append(ef)
        return 1 - 1 / ef

    chooser = Chooser(recall_at, 10, 500)
    assert [chooser.choose(level).ef for level in (0.5, 0.95, 0.97, 0.999)] == [10, 20, 34, None]
    assert chooser.choose(0.95, guess=20).ef == 20
    assert chooser.choose(0.97, guess=300).ef == 34
    assert len(calls) == len(set(calls))


def test_ratios_are_taken_within_a_round() -> None:
    assert ratio([10, 2, 30], [5, 1, 10]) == Ratio(2.0, 2.0, 3.0, 3.0)
    assert ratio([10], None) == ratio(None, [1]) == ratio([], []) == NOT_MEASURED
    orders = [order_of_round(["a", "b", "c"], number) for number in range(3)]
    assert orders == [["a", "b", "c"], ["a", "c", "b"], ["c", "a", "b"]]


def test_a_planted_slowdown_is_found_and_noise_is_not() -> None:
    rng = np.random.default_rng(1)
    drift = np.exp(rng.normal(0, 0.2, 20))  # of the machine: on both sides of a pair
    first, second = (drift * np.exp(rng.normal(0, 0.02, 20)) for _ in range(2))
    same = compare.paired("same", first.tolist(), second.tolist())
    slower = compare.paired("slower", first.tolist(), (1.1 * second).tolist())
    assert same["low"] < 1 < same["high"]
    assert 1 < slower["low"] < 1.1 < slower["high"]
    assert compare.paired("few", [1.0, 1.0], [1.0, 1.1])["low"] is None


def test_a_configuration_that_is_refused_is_not_available() -> None:
    with pytest.raises(engines.NotAvailable, match="refuses"):
        engines.own.Embedcore(engines.Configuration(8, "l2", 10), {"dtype": "float13"})
    assert worker._problem(engines.NotAvailable("why")) == ("refused", "why")


def test_dual_write_is_compared_with_two_adds(data: datasets.Dataset, tmp_path: Path) -> None:
    found = dualwrite.dual_write(np.asarray(data.base)[:100], data.metric, rounds=2, batch=30)
    assert set(found["cpu_s"]) == {"at once", "in batches", "dual"}
    for name in ("at once", "in batches"):
        assert found["ratios"][name]["least"] > 0
    program = tmp_path / "program"
    row = '{"case": "ring", "lanes": 1, "batch": 64, "accepted_per_s": 3, "applied_per_s": %s}'
    program.write_text(f"#!/bin/sh\necho '{row % 1}'\necho '{row % 2}'\n")
    program.chmod(0o755)
    (case,) = dualwrite.empty_operations(128, 2, program)
    assert case["applied_per_s"] == {"median": 1.5, "least": 1.0, "most": 2.0}


def test_a_churned_index_is_sound_and_its_recall_is_that_of_what_is_left(data: datasets.Dataset) -> None:
    found = churn.tombstones(data, 200, rounds=1)
    assert found["problems"] == []
    # At that breadth nothing is missed but ties: so truth and ids are those of the live items alone.
    assert min(found[key] for key in ("fresh", "dead", "compacted")) > 0.98
    assert found["recall lost, compacted"] == found["fresh"] - found["compacted"]
    turned = churn.turnover(data, 200, 2, Console(quiet=True))
    assert turned["problems"] == []
    assert min(turned["fresh"], turned["turned"]) > 0.98


def test_recovery_is_measured_against_one_add(data: datasets.Dataset, tmp_path: Path) -> None:
    base = np.asarray(data.base)[:400]
    index = embedcore.Index(base.shape[1], data.metric)
    index.add(np.arange(len(base)), base)
    saved = recovery.saving(index, tmp_path / "a.ecx", 1)
    assert saved["bytes"] == (tmp_path / "a.ecx").stat().st_size
    loaded = recovery.loading(tmp_path / "a.ecx", 1)
    assert all(each["first_answer_ms"]["least"] > 0 for way, each in loaded.items() if way != "bytes")
    replayed = recovery.replaying(base, data.metric, tmp_path / "data", 1)
    assert replayed["ratio"]["least"] > 0
    assert set(replayed["open_s"]) == {"snapshot", "stored vectors"}


def test_the_store_is_measured_alone_and_beside_indexes(
    data: datasets.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = np.asarray(data.base)[:60]
    quiet = Console(quiet=True)
    rate = durable._rate(tmp_path, vectors, "fsync", 5, 2, 0.05, 1, quiet)
    assert rate["items_per_s"]["median"] > 0
    assert rate["writes_per_commit"]["median"] >= 1
    share = durable._share(tmp_path, vectors, data.metric, 20, 2, quiet)
    assert 0 < share["share_wall"]["least"] <= share["share_wall"]["most"] < 1
    assert list(tmp_path.iterdir()) == []
    missing = durable._peer("chroma", tmp_path, vectors, 0.1, None, quiet)
    assert missing["result"] == "not measured"
    nowhere = durable._peer("nosuch", tmp_path, vectors, 0.1, Path(sys.executable), quiet)
    assert nowhere["reason"] == "KeyError: 'nosuch'"


def test_the_evaluation_bench_times_what_it_says(tmp_path: Path) -> None:

    from embedcore.datasets import wordnet

    corpus = wordnet.load(300, 1)
    sets = wordnet.golden_sets(corpus, 40)
    rng = np.random.default_rng(0)
    texts = [query.text for golden in sets.values() for query in golden.queries]

    def unit(rows: int) -> np.ndarray:
        made = rng.standard_normal((rows, 16)).astype(np.float32)
        return made / np.linalg.norm(made, axis=1, keepdims=True)

    tables = tuple(dict(zip(texts, unit(len(texts)), strict=True)) for _ in range(2))
    items = [(entry.id, entry.text) for entry in corpus]
    found = evaluation._measure(
        tmp_path, items, (unit(300), unit(300)), tables, sets, False, Console(quiet=True)
    )
    assert found["items"] == 300
    assert set(found["seconds"]) == {
        "compare, labels and exact search",
        "compare, labels alone",
        "compare at equal freshness",
        "report",
    }
    assert set(found["consumers"]) == set(sets)
    assert all(0 <= one["target"] <= 1 for one in found["consumers"].values())


def test_a_killed_server_is_measured_until_it_serves(data: datasets.Dataset, tmp_path: Path) -> None:
    base = np.asarray(data.base)[:300]
    quiet = Console(quiet=True)
    plan = recovery_platform.Plan(tail=40, rounds=1)
    made = recovery_platform.make(tmp_path, base, data.metric, plan, quiet)
    assert set(made) == {"write_s", "index_s", "tail_s"}
    for way in ("snapshot, cold", "stored vectors"):
        found = recovery_platform.measure(tmp_path, way, plan, quiet)
        parts = sum(found[name]["median"] for name in ("store_s", "loading_s", "replay_s"))
        assert found["serving_s"]["median"] > parts > 0
        # Half of the writes after the snapshot were new items.
        assert found["replayed"]["median"] == (40 if way.startswith("snapshot") else 320)
