"""Evaluation through the whole platform: native indexes and routes, real store, one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from embedcore.dual_write import ScoreCalibration
from embedcore.errors import FailedPrecondition, InvalidArgument, NotFound
from embedcore.evaluation.importing import ImportOptions, read_golden
from embedcore.evaluation.reporting.page import render
from embedcore.migration_types import Plan
from embedcore.platform import Platform
from embedcore.store.interface import ItemWrite
from embedcore.types import SearchRequest
from support.toys import BAD, NEW, OLD, toy_golden, toy_items, toy_new, toy_old

ITEMS = toy_items(400)


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    opened = Platform.open(tmp_path / "data", threads=False)
    assert isinstance(opened, Platform)
    for spec in (OLD, NEW, BAD):
        opened.register_model(spec)
    opened.create_generation("toy-old")
    opened.upsert(ITEMS)
    opened.serving.lanes.drain()
    yield opened
    opened.close()


def fill(platform: Platform, share: float = 1.0) -> None:
    """A second generation that holds a random share of the items, most of them not the newest."""
    generation = platform.store.create_generation("toy-new", "filling", platform.clock.now())
    platform.serving.attach_generation(generation)
    rng = np.random.default_rng(1)
    held = rng.permutation(len(ITEMS))[: round(share * len(ITEMS))]
    items = platform.store.items_of([ITEMS[row].id for row in held])
    vectors = toy_new([ITEMS[row].content or "" for row in held])
    stored = {item.item: item.version for item in platform.store.get_items(items.tolist())}
    rows = [(int(i), stored[int(i)], vector) for i, vector in zip(items, vectors, strict=True)]
    platform.store.write_vectors(2, rows)
    platform.serving.lanes.drain()


def test_from_the_query_log_to_a_golden_set_and_back(platform: Platform, tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="keeps no query log"):
        platform.sample_queries("search", {"head": 5})
    for text in ("w1 w2 private", "w3"):
        platform.search(SearchRequest(consumer="search", text=text, user_key="somebody"))
    search = next(c for c in platform.consumers() if c.name == "search")
    platform.set_consumer(search.model_copy(update={"query_log": 500}))
    asked = [" ".join((item.content or "").split()[1:5]) for item in ITEMS[:60]]
    for turn in range(3):
        for text in asked[: 60 - 20 * turn]:
            platform.search(SearchRequest(consumer="search", text=text, user_key="somebody"))
            platform.search(SearchRequest(consumer="ads", text="ads " + text))
    platform.search(SearchRequest(consumer="search", text="asked once w1"))
    platform.search(SearchRequest(consumer="search", text="filtered w1", filter={"parity": "even"}))
    sample = platform.sample_queries("search", {"head": 10, "torso": 10, "tail": 40}, depth=5)
    texts = {query["text"] for query in sample["queries"]}
    assert texts <= set(asked[:40]), "what was asked once, filtered, or before the opt-in is not given out"
    assert len(texts) >= 25
    everything = b"".join(
        platform.store.get_blob("query-log", name) or b"" for name in platform.store.blob_names("query-log")
    )
    assert b"somebody" not in everything
    assert b"ads " not in everything
    # A labeller fills in the grades.
    lines = ["query_id\ttext\tbucket\titem\tposition\trater\tgrade"]
    truth = {" ".join((item.content or "").split()[1:5]): item.id for item in ITEMS}
    for query in sample["queries"]:
        for shown in query["candidates"]:
            grade = int(shown["item"] == truth[query["text"]])
            row = (
                query["query_id"],
                query["text"],
                query["bucket"],
                shown["item"],
                shown["position"],
                "me",
                grade,
            )
            lines.append("\t".join(map(str, row)))
    path = tmp_path / "labelled.tsv"
    path.write_text("\n".join(lines) + "\n")
    imported = read_golden(path, ImportOptions(consumer="search", name="mine"))
    labelled = [q for q in imported.golden.queries if any(q.relevant.values())]
    golden = imported.golden.model_copy(update={"queries": tuple(labelled)})
    info = platform.import_golden_set(golden)
    assert info["labelling"]["evidence"]["position_recorded"] is True
    assert platform.evaluate("search")["n"] == len(labelled) > 5
    assert [one["name"] for one in platform.golden_sets()] == ["mine"]
    platform.set_consumer(
        next(c for c in platform.consumers() if c.name == "search").model_copy(update={"query_log": 0})
    )
    assert b"w1" not in (platform.store.get_blob("query-log", "search") or b""), "opting out empties the log"


def test_a_calibrated_ef_is_applied_to_its_generation_alone(platform: Platform) -> None:
    platform.import_golden_set(toy_golden(ITEMS, "search", 200))
    before = next(c for c in platform.consumers() if c.name == "search")
    shown = platform.calibrate_ef("search")
    assert not shown["applied"]
    assert next(c for c in platform.consumers() if c.name == "search") == before
    applied = platform.calibrate_ef("search", apply=True)
    after = next(c for c in platform.consumers() if c.name == "search")
    assert after.ef_for(1) == applied["ef_search"]
    assert after.ef_for(2) == before.ef_search
    assert platform.serving.routes["search"].breadths == {1: applied["ef_search"]}
    assert platform.evaluate("search")["index_recall"] >= 0.95
    with pytest.raises(NotFound, match="unknown generation 7"):
        platform.calibrate_ef("search", 7)


def test_the_report_of_two_generations(platform: Platform) -> None:
    for consumer in platform.consumers():
        easy = {"quality_target": 0.0, "quality": "recall", "min_found_share": None}
        platform.set_consumer(consumer.model_copy(update=easy))
        platform.import_golden_set(toy_golden(ITEMS, consumer.name, 150))
    fill(platform)
    report = platform.evaluation_report(1, 2, plan=Plan(margin=0.15))
    assert report["go"], report["headline"]
    assert list(report["consumers"]) == [consumer.name for consumer in platform.consumers()]
    assert "GO" in render(report)
    assert {len(one["curves"]["target"]) for one in report["consumers"].values()} <= {3, 4, 5}
    with pytest.raises(NotFound):
        platform.evaluation_report()
    with pytest.raises(InvalidArgument, match="name both, or neither"):
        platform.evaluation_report(1, 0)


def test_preflight_and_parity_without_a_migration(platform: Platform) -> None:
    for consumer in platform.consumers():
        platform.set_consumer(consumer.model_copy(update={"quality_target": 0.0, "quality": "recall"}))
        platform.import_golden_set(toy_golden(ITEMS, consumer.name, 150))
    plan = Plan(margin=0.15, preflight_items=300, canary_items=100)
    assert platform.preflight("toy-new", plan)["passed"]
    assert not platform.preflight("toy-bad", plan)["passed"]
    assert platform.preflight("toy-new", plan)["verdict"]["verdict"] == "full"
    assert platform.migrations() == []
    assert len(platform.generations()) == 1
    assert platform.check_parity()["equal"]
    pinned = platform.consumers()[0].model_copy(update={"tokenizer_pin": "other words"})
    platform.set_consumer(pinned)
    assert not platform.check_parity()["equal"]


def blended(platform: Platform, calibration: bytes, weight: float, queries: list[str], k: int) -> np.ndarray:
    """Answers (q, k) of the native router over both generations."""
    from embedcore import _native

    table = _native.RoutingTable(platform.serving.router.version() + 1)
    for number, indexes in platform.serving._indexes.items():
        table.add_generation(number, [index.native for index in indexes])
    table.add_consumer(
        source=1,
        target=2,
        weight=weight,
        ef_search={1: 400, 2: 400},
        calibration=_native.ScoreCalibration.from_bytes(calibration) if calibration else None,
    )
    router = _native.Router()
    router.publish(table)
    return router.search_batch(0, {1: toy_old(queries), 2: toy_new(queries)}, k, weight=weight)[0]


def test_blending_by_the_fitted_calibration(platform: Platform) -> None:
    """w = 0 and w = 1 are one side's exactly; between them an item gains nothing by being back-filled. The
    same blend by a regression (a planted bug) favours what is back-filled."""
    platform.import_golden_set(toy_golden(ITEMS, "search", 200))
    fill(platform, share=0.5)
    fitted = platform.calibrate_scores(1, 2)
    assert fitted["method"] == "pairs"
    data = bytes.fromhex(fitted["data"])
    curve = ScoreCalibration.from_bytes(data)
    assert np.all(np.diff(np.asarray(curve(np.linspace(0, 1.5, 200)))) >= 0)
    queries = [" ".join((item.content or "").split()[1:5]) for item in ITEMS[::2]]
    k = 20
    alone = [
        platform.serving.search_generation(number, encode(queries), k, 400)[0]
        for number, encode in ((1, toy_old), (2, toy_new))
    ]
    assert np.array_equal(blended(platform, data, 0.0, queries, k), alone[0])
    assert np.array_equal(blended(platform, data, 1.0, queries, k), alone[1])
    held = {int(item) for item in platform.store.scan_vectors(2, 0, -1, 1000)[0]}

    def share(ids: np.ndarray) -> float:
        """Of the answers, those that the target holds."""
        return float(np.mean([item in held for item in ids.ravel().tolist() if item >= 0]))

    fair = share(alone[0])
    for weight in (0.1, 0.5, 0.9):
        assert share(blended(platform, data, weight, queries, k)) == pytest.approx(fair, abs=0.08)
    # Each item's two distances regressed on one another: what only the source holds is drawn to the mean.
    items, source = platform.store.scan_vectors(1, 0, -1, 1000)
    both = np.isin(items, sorted(held))
    target = platform.store.stored_vectors(2, items[both])[1]
    near = [1 - toy_old(queries) @ source[both].T, 1 - toy_new(queries) @ target.T]
    planted = ScoreCalibration.fit(near[0].ravel(), near[1].ravel()).to_bytes()
    assert share(blended(platform, bytes(planted), 0.5, queries, k)) > fair + 0.2


def test_item_writes_between_evaluations_are_seen(platform: Platform) -> None:
    """Exact answers are kept only while nothing was written."""
    platform.import_golden_set(toy_golden(ITEMS, "search", 100))
    assert platform.evaluate("search")["index_recall"] == pytest.approx(1.0, abs=0.02)
    golden = platform.golden.get("search")
    twins = [
        ItemWrite(id=f"twin-{n}", content=q.text, vectors={1: toy_old([q.text])[0]})
        for n, q in enumerate(golden.queries)
    ]
    platform.store.write_items(twins)  # the index has not applied them yet
    behind = platform.evaluate("search")["index_recall"]
    platform.serving.lanes.drain()
    assert platform.evaluate("search")["index_recall"] > behind
