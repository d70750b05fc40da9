"""The traffic: what it counts as failed, and that its oracle agrees with what it wrote."""

from __future__ import annotations

import io
import itertools
import json
import threading
import time
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from embedcore.client import Client
from embedcore.demo import workload as workloads
from embedcore.demo.oracle import OracleLog, compare, read_expected, touched
from embedcore.demo.traffic import Phase, Queries, Writes
from embedcore.demo.workload import Workload
from embedcore.errors import Unavailable
from embedcore.evaluation.golden import GoldenQuery
from embedcore.types import Hit, Provenance, SearchAnswer
from support.fake_platform import FakePlatform
from support.toys import toy_golden, toy_items

ITEMS = toy_items(60)
WORKLOAD = Workload(ITEMS[:50], ITEMS[50:], {"ads": toy_golden(ITEMS[:50], "ads", 20)}, "toys")
QUERY = GoldenQuery(id="q", text="Some Text", relevant={"a": 1.0, "b": 1.0, "c": 0.0}, exclude=("own",))


def answer(*ids: str, partial: bool = False) -> SearchAnswer:
    made = Provenance((1,), ("m",), ("f",), 0.5, "canary", 3, 1, 1, partial)
    return SearchAnswer([Hit(item_id, 1.0) for item_id in ids], made, 1.5)


def queries(deleted: set[str], fresh: float = 0.0) -> Queries:
    fake = FakePlatform()
    phase = Phase(cast(Client, fake))
    return Queries(
        WORKLOAD, phase, deleted.__contains__, {"ads": 5}, rate=10.0, fresh=fresh, seed=0, out=io.StringIO()
    )


def test_recall_of_an_answer_leaves_out_excluded_and_deleted_items() -> None:
    judged = queries(set())._judge(answer("own", "a", "x", "b"), QUERY, 3)
    assert (judged["num"], judged["den"], judged["weight"], judged["arm"]) == (2, 2, 0.5, "canary")
    assert "failed" not in judged
    assert queries(set())._judge(answer("own", "a", "x", "b"), QUERY, 2)["num"] == 1
    gone = queries({"b"})._judge(answer("a", "x"), QUERY, 3)
    assert (gone["num"], gone["den"]) == (1, 1)


@pytest.mark.parametrize(
    ("given", "why"), [(answer(), "empty answer"), (answer("a", partial=True), "partial answer")]
)
def test_empty_and_partial_answers_are_failures(given: SearchAnswer, why: str) -> None:
    assert queries(set())._judge(given, QUERY, 3)["failed"] == why


def test_a_respelled_text_is_the_same_to_a_model_that_lowers_it() -> None:
    made = queries(set())
    spellings = {made._respelled("a Small dog, Barking") for _ in range(20)}
    assert {text.lower() for text in spellings} == {"a small dog, barking"}
    assert len(spellings) == 20


def written(fake: FakePlatform, path: Path, count: int) -> OracleLog:
    """``count`` acknowledged writes of the demo's mix."""
    fake.upsert(WORKLOAD.items)
    with OracleLog(path) as log:
        writes = Writes(cast(Client, fake), WORKLOAD, log, rate=1e6, seed=1)
        stop = threading.Event()
        thread = threading.Thread(target=writes.run, args=(stop,))
        thread.start()
        deadline = time.monotonic() + 60
        while log.acknowledged < count and time.monotonic() < deadline:
            time.sleep(0.005)
        stop.set()
        thread.join()
    return log


def expected_of(path: Path) -> tuple[dict, int]:
    ingested = path.with_name("ingest.jsonl")
    with OracleLog(ingested) as log:
        for item in WORKLOAD.items:
            log.upserted(item.id, 1, item.content or "")
    return read_expected([ingested, path])


def test_the_oracle_agrees_with_what_was_written(tmp_path: Path) -> None:
    fake, path = FakePlatform(), tmp_path / "traffic.jsonl"
    written(fake, path, 80)
    expected, acknowledged = expected_of(path)
    verdict = compare(expected, acknowledged, fake.get_item, generation=1)
    assert verdict.losses == ()
    assert verdict.deleted > 0
    assert verdict.items > 50  # new ones arrived
    assert any("(revision" in (item.content or "") for item in fake.items.values())
    assert touched(path) <= set(expected)
    # An update keeps what it does not change.
    revised = next(item for item in fake.items.values() if "(revision" in (item.content or ""))
    assert "parity" in revised.attributes


def test_writes_are_sent_again_until_they_are_acknowledged(tmp_path: Path) -> None:
    fake, path = FakePlatform(), tmp_path / "traffic.jsonl"
    rng = np.random.default_rng(0)
    first = itertools.chain(
        [None], (Unavailable("down") if rng.random() < 0.05 else None for _ in itertools.count())
    )
    fake.failing["upsert"] = first
    written(fake, path, 40)
    del fake.failing["upsert"]
    expected, acknowledged = expected_of(path)
    assert compare(expected, acknowledged, fake.get_item, generation=1).losses == ()


def test_a_write_that_was_never_acknowledged_is_in_doubt(tmp_path: Path) -> None:
    fake, path = FakePlatform(), tmp_path / "traffic.jsonl"
    fake.upsert(WORKLOAD.items)
    fake.failing |= {"upsert": Unavailable("down"), "delete": Unavailable("down")}
    with OracleLog(path) as log:
        writes = Writes(cast(Client, fake), WORKLOAD, log, rate=1e6, seed=1)
        stop = threading.Event()
        thread = threading.Thread(target=writes.run, args=(stop,))
        thread.start()
        time.sleep(0.05)
        stop.set()
        thread.join()
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["op"] == "doubt"


def test_a_workload_survives_its_file(tmp_path: Path) -> None:
    workloads.save(WORKLOAD, tmp_path)
    read = workloads.load(tmp_path)
    assert list(read.items) == list(WORKLOAD.items)
    assert list(read.held_back) == list(WORKLOAD.held_back)
    assert read.golden["ads"].digest == WORKLOAD.golden["ads"].digest


def test_the_golden_sets_know_only_what_is_ingested() -> None:
    made = workloads.wordnet_workload(600, 100, seed=0, now=1_700_000_000.0)
    served, late = {item.id for item in made.items}, {item.id for item in made.held_back}
    assert (len(served), len(late)) == (600, 50)
    assert served.isdisjoint(late)
    labelled = {i for golden in made.golden.values() for query in golden.queries for i in query.relevant}
    assert labelled <= served
