"""A migration over the real parts: native indexes and routes, the evaluation harness, toy models.

The scripted judge of the other tests says what it is told; here golden sets decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedcore.clock import ManualClock
from embedcore.errors import GateNotMet
from embedcore.migration_types import DAY, Phase, Plan
from embedcore.platform import Platform
from embedcore.types import Item, SearchRequest
from support.toys import BAD, LONG, NEW, OLD, toy_golden, toy_items, toy_new

ITEMS = toy_items(240)


class Real:
    """A platform that is stepped by hand."""

    def __init__(self, path: Path, clock: ManualClock) -> None:
        self.clock = clock
        opened = Platform.open(path, clock=clock, threads=False)
        assert isinstance(opened, Platform)
        self.platform = opened

    def tick(self, seconds: float = 1.0) -> None:
        self.clock.advance(seconds)
        self.platform.serving.lanes.drain()
        self.platform.controller.tick()

    def fill(self) -> None:
        while self.platform.controller.backfill.step():
            pass
        self.platform.serving.lanes.drain()

    def traffic(self, migration: str) -> None:
        """Engagement that rises with recall, and live queries for the shadow run to compare."""
        for consumer in self.platform.consumers():
            for arm, clicks in (("control", 2_000.0), ("canary", 2_900.0)):
                totals = {"impressions": 4_000.0, "clicks": clicks}
                self.platform.store.add_engagement(migration, consumer.name, arm, totals, False)
            shadow = self.platform.serving.shadow
            for _ in range(60 if shadow else 0):
                assert shadow is not None
                shadow[2](consumer.name, 0.8, True)


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Real]:
    made = Real(tmp_path / "data", ManualClock())
    platform = made.platform
    for spec in (OLD, NEW, BAD, LONG):
        platform.register_model(spec)
    for consumer in platform.consumers():
        # The registry starts with the four defaults; their targets are not those of a toy corpus.
        easy = {"quality_target": 0.0, "min_found_share": None, "engagement": "click_success"}
        platform.set_consumer(
            consumer.model_copy(update=easy | {"engagement_min_count": 100, "quality": "recall"})
        )
    platform.create_generation("toy-old")
    platform.upsert(ITEMS)
    platform.serving.lanes.drain()
    for consumer in platform.consumers():
        platform.import_golden_set(toy_golden(ITEMS, consumer.name, 150))
    yield made
    platform.close()


def test_the_golden_sets_refuse_bad_models(real: Real) -> None:
    with pytest.raises(GateNotMet) as caught:
        real.platform.start_migration("toy-bad", who="t")
    failed = {gate["gate"] for gate in caught.value.details["evidence"]}
    assert {"ads.quality", "search.quality"} <= failed
    with pytest.raises(GateNotMet, match="norm") as caught:
        real.platform.start_migration("toy-long", who="t")
    assert [gate["gate"] for gate in caught.value.details["evidence"]] == ["norms"]
    assert [g.generation.number for g in real.platform.generations()] == [1]
    assert {s.migration.phase for s in real.platform.migrations()} == {Phase.REFUSED}


def test_a_better_model_goes_all_the_way_and_nothing_is_lost(real: Real) -> None:
    platform = real.platform
    # A margin that 150 queries can see.
    plan = Plan(auto_cutover=True, margin=0.15, evaluation_queries=60, window_seconds=20 * DAY)
    migration = platform.start_migration("toy-new", plan, who="t").migration.id
    oracle: dict[str, str | None] = {item.id: item.content for item in ITEMS}
    rng = np.random.default_rng(11)
    real.tick()
    weights = {0.0}
    for step in range(34):
        name = f"item-{rng.integers(len(ITEMS))}"
        if step % 3 == 0:
            platform.delete([name])
            oracle[name] = None
        else:
            oracle[name] = f"version {step} w{step} w{step + 1} w{step + 2}"
            platform.upsert([Item(id=name, content=oracle[name])])
        real.fill()
        real.traffic(migration)
        real.tick(DAY / 4)
        status = platform.migration()
        weights.add(status.migration.consumers["search"].weight)
        if status.migration.finished:
            break
    assert status.migration.phase is Phase.DONE, status.cutover_blockers
    assert weights == {0.0, 0.1, 0.5, 0.9, 1.0}
    assert [g.generation.state for g in platform.generations()] == ["retired", "serving"]
    live = {name: text for name, text in oracle.items() if text is not None}
    assert platform.status().live_items == len(live)
    for name, text in list(live.items())[::6]:
        answer = platform.search(SearchRequest(consumer="search", text=text))
        assert answer.hits[0].id == name
        assert answer.provenance.models == ("toy-new",)
    held = platform.store.items_of(list(live))
    items, vectors = platform.store.stored_vectors(2, held)
    by_item = dict(zip(held.tolist(), live.values(), strict=True))
    assert np.allclose(vectors, toy_new([by_item[item] for item in items.tolist()]))
    assert platform.serving.index_vectors_agree(2, items, vectors).all()
    assert not platform.store.verify()
    assert not [event for event in platform.migration_events() if event.what == "error"]


def test_a_consumer_that_loses_on_the_target_is_held_and_the_other_goes_on(real: Real) -> None:
    """The labels of ads name items that the new model cannot find: only ads must be stopped."""
    platform = real.platform
    wrong = toy_golden(ITEMS, "ads", 150)
    plan = Plan(margin=0.15, evaluation_queries=60, window_seconds=20 * DAY)
    migration = platform.start_migration("toy-new", plan, who="t").migration.id
    real.tick()
    real.fill()
    # After the start the golden set of ads is replaced by one made from what the source answers.
    relabelled = []
    for query in wrong.queries:
        hits = platform.search(SearchRequest(consumer="ads", text=query.text)).hits
        relabelled.append(query.model_copy(update={"relevant": {hits[-1].id: 1.0}}))
    platform.import_golden_set(wrong.model_copy(update={"queries": tuple(relabelled)}))
    for _ in range(15):
        real.traffic(migration)
        real.tick(DAY / 2)
    progress: dict[str, Any] = platform.migration().migration.consumers
    assert progress["search"].weight == 1.0
    assert progress["ads"].weight < 1.0
    assert platform.migration().migration.phase is Phase.BLENDED
    with pytest.raises(GateNotMet) as caught:
        platform.cutover(who="t")
    assert any("ads" in gate["summary"] for gate in caught.value.details["evidence"])
