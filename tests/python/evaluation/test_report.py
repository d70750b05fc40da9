"""The report: what it says is what was measured, the page holds it all, and nothing in it is trusted."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from embedcore.errors import NotFound
from embedcore.evaluation import ef_search
from embedcore.evaluation.reporting.charts import forest, recall_latency
from embedcore.evaluation.reporting.document import bucket_rows, build_report
from embedcore.evaluation.reporting.page import render
from embedcore.migration_types import Plan

PLAN = Plan(margin=0.15)  # what 300 queries can see


@pytest.fixture(autouse=True)
def few_timings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ef_search, "_TIMED", 2)


@pytest.fixture
def better(world: Any) -> dict[str, Any]:
    return build_report(world.harness, world.store, 1, 2, PLAN)


@pytest.fixture
def worse(world: Any) -> dict[str, Any]:
    return build_report(world.harness, world.store, 2, 3, PLAN)


def test_the_answer_is_that_of_the_gates(world: Any, better: Any, worse: Any) -> None:
    assert better["go"] is True
    assert better["headline"] == "every gate of all 2 consumers is met"
    assert worse["go"] is False
    assert worse["refused"] == ["search", "dedup"]
    assert "search: quality" in worse["headline"]
    for report, pair in ((better, (1, 2)), (worse, (2, 3))):
        json.dumps(report, allow_nan=False)
        for name, one in report["consumers"].items():
            said = world.harness.compare(name, *pair, PLAN)
            assert one["compared"]["comparison"] == said.comparison.to_document()
            assert one["passed"] == said.passed
            # Nothing is missing, so the models differ as the generations do.
            assert one["equal_freshness"]["comparison"] == said.comparison.to_document()
            assert one["equal_freshness"]["backfill_costs"] == 0.0


def test_one_consumers_loss_is_not_hidden_by_anothers_gain(world: Any) -> None:
    """Queries of dedup lose on generation 2, those of search gain."""
    golden = world.harness.golden.get("dedup")
    wrong = tuple(
        query.model_copy(update={"relevant": {f"item{(number * 7 + 3) % 400}": 1.0}})
        for number, query in enumerate(golden.queries)
    )
    world.harness.golden.put(golden.model_copy(update={"queries": wrong}))
    report = build_report(world.harness, world.store, 1, 2, PLAN)
    assert report["consumers"]["search"]["passed"]
    assert not report["go"]
    assert report["refused"] == ["dedup"]


def test_a_consumer_without_a_golden_set_is_no_evidence(world: Any) -> None:
    world.store.known_consumers.append(world.search.model_copy(update={"name": "new"}))
    report = build_report(world.harness, world.store, 1, 2, PLAN)
    assert not report["go"]
    assert "no golden set" in report["no_evidence"]["new"]
    assert "NO GO" in render(report)
    assert build_report(world.harness, world.store, 1, 2, PLAN, consumers=["search"])["go"]
    with pytest.raises(NotFound):
        build_report(world.harness, world.store, 1, 2, consumers=["nobody"])


def test_the_worst_regressions_are_the_worst(world: Any, worse: Any) -> None:
    rows = worse["consumers"]["search"]["regressions"]
    said = world.harness.compare("search", 2, 3)
    change = said.target.values.num - said.source.values.num
    assert len(rows) == min(20, int((change < 0).sum()))
    assert [row["target"] - row["source"] for row in rows] == pytest.approx(
        np.sort(change)[: len(rows)].tolist()
    )
    golden = {query.id: query for query in world.harness.golden.get("search").queries}
    for row in rows:
        query = golden[row["query_id"]]
        for side, generation in (("source_results", 2), ("target_results", 3)):
            vector = world.encoders.encode_bulk(("old", "new", "bad")[generation - 1], [query.text])
            ids, _ = world.backend.search_generation(generation, vector, 5, 40)
            assert [one["id"] for one in row[side]] == [world.store.items[int(i)].id for i in ids[0]]
            assert [one["relevant"] for one in row[side]] == [
                one["id"] in query.relevant for one in row[side]
            ]
    assert worse["consumers"]["search"]["compared"]["source"]["n"] == 300


def test_buckets_and_scatter_count_every_query(world: Any, better: Any) -> None:
    one = better["consumers"]["search"]
    assert [row["bucket"] for row in one["buckets"]] == ["head", "torso", "tail"]
    assert sum(row["n"] for row in one["buckets"]) == 300
    assert sum(point["count"] for point in one["scatter"]) == 300
    compared = world.harness.compare("search", 1, 2)
    tail = next(row for row in bucket_rows(compared) if row["bucket"] == "tail")
    mask = compared.source.tail
    gain = (compared.target.values.num - compared.source.values.num)[mask]
    assert tail["difference"] == pytest.approx(gain.mean())
    half = 1.959964 * gain.std(ddof=1) / np.sqrt(len(gain))
    assert tail["upper"] - tail["lower"] == pytest.approx(2 * half, rel=1e-6)


class Checker(HTMLParser):
    """Every tag closed in order, no script, nothing fetched from anywhere."""

    VOID = frozenset({"meta", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag not in {"script", "link", "img", "iframe"}
        for name, value in attrs:
            assert name not in {"src", "href", "onclick", "onload"}, (tag, name, value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in {"html", "li"} and (not self.open or self.open[-1] != tag):
            return
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_needs_nothing_else_and_says_it_first(better: Any, worse: Any) -> None:
    for report, verdict in ((better, "GO"), (worse, "NO GO")):
        page = render(report)
        checker = Checker()
        checker.feed(page)
        assert checker.open in ([], ["html"])
        words = " ".join(checker.text)
        shown = re.sub(r"\s+", " ", words.split("}", 1)[-1] if "}" in words else words)
        assert f"{verdict} " in shown[: shown.index("Generation")]
        assert "http" not in page.replace("http-equiv", "")
        for name in report["consumers"]:
            assert name in words
        for chart in re.findall(r"<svg.*?</svg>", page, flags=re.S):
            ET.fromstring(chart)
    assert "refused: quality" in render(worse)


def test_texts_from_outside_are_escaped(world: Any) -> None:
    nasty = '<script>alert("x")</script>'
    golden = world.harness.golden.get("search")
    queries = tuple(q.model_copy(update={"text": q.text + nasty}) for q in golden.queries)
    world.harness.golden.put(golden.model_copy(update={"queries": queries, "name": "search-set"}))
    page = render(build_report(world.harness, world.store, 2, 3, consumers=["search"]))
    assert "<script" not in page
    assert "&lt;script" in page


def test_the_interval_of_a_consumer_is_drawn_where_it_is() -> None:
    row = {
        "name": "ads",
        "passed": False,
        "loses": True,
        "difference": -0.01,
        "lower": -0.02,
        "upper": 0.0,
        "one_sided_lower": -0.018,
        "text": "t",
        "verdict": "v",
    }
    root = ET.fromstring(forest([row], 0.02))
    circle = root.find("{*}circle") if root.find("circle") is None else root.find("circle")
    lines = [one for one in root.iter() if one.tag.endswith("line")]
    assert circle is not None
    zero, margin = (float(line.get("x1", "0")) for line in lines[:2])
    assert float(circle.get("cx", "0")) == pytest.approx((zero + margin) / 2, abs=0.2)
    bar = next(line for line in lines if line.get("stroke-width") == "3")
    assert float(bar.get("x1", "0")) == pytest.approx(margin, abs=0.2)
    assert float(bar.get("x2", "0")) == pytest.approx(zero, abs=0.2)
    assert recall_latency({"source": [], "target": []}, {}, 0.95) == ""


def test_the_policy_and_margin_are_settings(world: Any) -> None:
    report = build_report(world.harness, world.store, 1, 2, Plan(policy="non-inferior", margin=0.03))
    assert (report["policy"], report["margin"]) == ("non-inferior", 0.03)
    gate = report["consumers"]["search"]["compared"]["gates"]["quality"]
    assert gate["evidence"]["margin"] == 0.03
    assert "margin 3 pp" in render(report)
