"""The consistency job: what diverged is found, re-queued and repaired; what only lags is no divergence."""

from __future__ import annotations

import numpy as np
import pytest

from embedcore.migration.consistency import lower_share
from embedcore.store.interface import ItemWrite
from migration.doubles import embed
from migration.kit import World

HOUR = 3_600.0


def test_diverged_items_are_requeued_at_high_priority_and_repaired(world: World) -> None:
    world.blended(items=150)
    world.tick()
    damaged = [world.number(f"item{n:03d}") for n in (3, 77)]
    world.serving.held[2][damaged[0]] = -world.serving.held[2][damaged[0]]
    del world.serving.held[2][damaged[1]]
    world.tick(HOUR)
    event = world.events("consistency")[0]
    assert sorted(event.evidence["diverged"]) == sorted(damaged)
    assert event.evidence["compared"] == 150, "1% is 2: at least 200 are compared"
    assert {entry.item for entry in world.store.repairs(2, 10)} == set(damaged)
    assert world.controller.backfill.step() == 2
    world.serving.drain()
    world.tick(HOUR)
    world.tick(HOUR)
    assert len(world.events("consistency")) == 1
    assert not world.events("alert"), "2 of 150 is above 0.5%, its 95% bound is not"


def test_an_alert_needs_its_bound_past_the_threshold(world: World) -> None:
    world.blended(items=150)
    world.tick()
    for n in range(8):
        del world.serving.held[2][world.number(f"item{n:03d}")]
    world.tick(HOUR)
    alert = world.events("alert")[0]
    assert alert.evidence["lower"] > 0.005
    assert "8 of 150 sampled items diverged" in alert.why


def test_a_lane_that_is_behind_is_not_diverged(world: World) -> None:
    world.blended(items=50)
    world.tick()
    world.store.delete_items(["item049"])
    # Committed, not applied by any lane yet.
    world.store.write_items(
        [
            ItemWrite(f"item{n:03d}", content="c", vectors={1: embed("old", "c"), 2: embed("new", "c")})
            for n in range(20)
        ]
    )
    world.clock.advance(HOUR)
    world.controller.tick()
    assert not world.events("consistency")
    world.tick(1)
    world.tick(1)
    assert not world.events("consistency")
    assert world.store.repair_count() == 0


def test_the_source_is_watched_without_a_migration(world: World) -> None:
    world.corpus(30)
    world.tick()
    del world.serving.held[1][world.number("item010")]
    world.tick(HOUR)
    assert [entry.id for entry in world.store.repairs(1, 10)] == ["item010"]


def test_lower_bound_against_a_simulation() -> None:
    """The bound is above the true share in at most about 5% of samples."""
    rng = np.random.default_rng(5)
    for share in (0.005, 0.02):
        hits = rng.binomial(2_000, share, size=4_000)
        above = np.mean([lower_share(int(h), 2_000) > share for h in hits])
        assert above < 0.065
    assert lower_share(0, 200) == 0.0
    assert lower_share(0, 0) == 0.0
    assert lower_share(100, 10_000) == pytest.approx(0.0085, abs=2e-4)


def test_a_clock_that_is_set_back_puts_no_comparison_off(world: World) -> None:
    world.blended(items=50)
    world.tick()
    del world.serving.held[2][world.number("item003")]
    world.clock.advance(-30 * 86_400)
    world.tick()
    world.tick(HOUR)
    assert world.events("consistency")
