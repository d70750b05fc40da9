"""Phase 4: every gate refuses with its evidence, all consumers must pass, the cutover is atomic."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from embedcore.errors import FailedPrecondition, GateNotMet
from embedcore.migration import cutover
from embedcore.migration.gates import OWN_GATES
from embedcore.migration_types import DAY, Phase, Plan
from migration.doubles import NAMES, bad, good
from migration.kit import World

LONG = Plan(window_seconds=30 * DAY)


def good_quality(world: World, name: str, difference: float) -> None:
    at = world.clock.now()
    world.judge.say["offline", name] = [
        good("quality", at, difference=difference),
        good("long_tail", at),
    ]


def drop_vectors(world: World) -> None:
    """Half of the corpus changes, and the target's encoder is down."""
    from embedcore.store.interface import ItemWrite

    world.store.write_items([ItemWrite(f"item{n:03d}", content="changed") for n in range(10)])


def no_traffic(world: World) -> None:
    world.judge.say["engagement", "ads"] = [bad("engagement", "no evidence: 3 events")]


BREAK: dict[str, Callable[[World], None]] = {
    "coverage": drop_vectors,
    "quality": lambda world: world.judge.say.update({("offline", "ads"): [bad("quality", "-3 pp")]}),
    "long_tail": lambda world: world.judge.say.update({("offline", "ads"): [bad("long_tail", "-9 pp")]}),
    "engagement": no_traffic,
    "window": lambda world: world.clock.advance(40 * DAY),
}


def at_full(world: World, plan: Plan = LONG) -> None:
    world.blended(plan)
    world.days(7, step=0.5)
    assert world.weights() == dict.fromkeys(NAMES, 1.0)
    assert world.phase is Phase.BLENDED, "the cutover is by hand"


@pytest.mark.parametrize("gate", sorted(BREAK))
def test_each_gate_stops_a_consumer_short_of_1(world: World, gate: str) -> None:
    world.blended(LONG)
    world.days(5.9, step=0.5)
    BREAK[gate](world)
    world.days(2)
    assert world.weights()["ads"] < 1
    # Only the consumer that fails is stopped, where the gate is its own.
    if gate in ("quality", "long_tail", "engagement"):
        assert world.weights()["search"] == 1.0
        assert gate in world.migration.consumers["ads"].held
    with pytest.raises(GateNotMet) as caught:
        world.controller.set_weight("", "ads", 1.0, who="t")
    failed = {found["gate"] for found in caught.value.details["evidence"]}
    assert gate in failed
    with pytest.raises(GateNotMet):
        world.controller.cutover(who="t")
    assert world.phase is Phase.BLENDED


@pytest.mark.parametrize("gate", sorted(BREAK))
def test_each_gate_is_asked_again_at_the_cutover(world: World, gate: str) -> None:
    at_full(world)
    BREAK[gate](world)
    world.clock.advance(3_600)  # what is on record is too old to decide
    world.serving.drain()
    with pytest.raises(GateNotMet, match="cutover refused") as caught:
        world.controller.cutover(who="tester")
    assert gate in {found["gate"] for found in caught.value.details["evidence"]}
    assert world.phase is Phase.BLENDED
    refused = world.events("refused")[-1]
    assert refused.who == "tester"
    assert gate in {found["gate"] for found in refused.evidence["evidence"]}


def test_the_shadow_run_must_have_lasted_and_compared_enough(world: World) -> None:
    world.blended(LONG)
    assert world.serving.shadow is not None
    assert world.serving.shadow[:2] == (0.01, 2)
    world.days(6.6, traffic=False)
    gates = {g["gate"]: g for g in _refused(world, "ads")}
    assert "compared 0 queries" in gates["shadow"]["summary"]
    for _ in range(99):
        world.serving.shadow[2]("ads", 1.0, True)
    world.tick(2)
    assert "shadow" in {g["gate"] for g in _refused(world, "ads")}, "99 in total are not 100"
    for _ in range(5):
        world.serving.shadow[2]("search", 0.4, False)
    world.tick(2)
    assert "shadow" not in {g["gate"] for g in _refused(world, "ads")}
    progress = world.migration.consumers["search"]
    assert (progress.shadow_compared, progress.shadow_agreed) == (5, 0)
    assert progress.shadow_overlap == pytest.approx(0.4)


def test_the_shadow_run_needs_its_24_hours(world: World) -> None:
    world.corpus(20)
    world.start(LONG)
    world.tick()
    world.days(5.8, step=1)
    world.fill()
    world.days(0.7)
    summary = {g["gate"]: g["summary"] for g in _refused(world, "ads")}["shadow"]
    assert "of 24.0 hours" in summary
    world.days(1)
    assert world.weights() == dict.fromkeys(NAMES, 1.0)


def _refused(world: World, name: str) -> list[dict[str, object]]:
    with pytest.raises(GateNotMet) as caught:
        world.controller.set_weight("", name, 1.0, who="t")
    evidence: list[dict[str, object]] = caught.value.details["evidence"]
    return evidence


def test_the_canary_starts_after_coverage_and_the_offline_gate(world: World) -> None:
    world.corpus(20)
    world.start(Plan(backfill_chunk=5))
    world.tick()
    for _ in range(3):
        world.controller.backfill.step()
    world.days(1, traffic=False)
    assert world.phase is Phase.BLENDED
    assert not any(method == "offline" for method, _, _ in world.judge.asked), "75% is not complete"
    assert world.serving.shadow is None, "nor is it a target to compare decisions with"
    world.judge.say["offline", "ads"] = [bad("quality", "-3 pp")]
    world.fill()
    world.days(0.3)
    canaries = {name: p.canary_since is not None for name, p in world.migration.consumers.items()}
    assert canaries == {"ads": False, "search": True}
    assert world.serving.routes["search"].canary_share == 0.05
    assert world.serving.routes["ads"].canary_share == 0.0
    del world.judge.say["offline", "ads"]
    world.days(0.3)
    assert world.serving.routes["ads"].canary_share == 0.05


def test_the_cutover_is_one_transaction_and_keeps_writing_the_source(world: World) -> None:
    at_full(world)
    puts = []
    put = world.store.put_migration
    world.store.put_migration = lambda *a: (puts.append(a[0].phase), put(*a))[1]  # type: ignore[method-assign]
    world.controller.cutover(who="tester", why="go")
    assert puts.count(Phase.GRACE) == 1
    assert world.phase is Phase.GRACE
    assert {g.number: g.state for g in world.store.generations()} == {1: "serving", 2: "serving"}
    assert {name: world.reads(name) for name in NAMES} == {
        "ads": (2,),
        "search": (2,),
    }
    assert world.serving.shadow is None or (world.tick() is None and world.serving.shadow is None)
    world.write("after")
    assert world.number("after") in world.serving.held[1]
    assert world.number("after") in world.serving.held[2]


def test_without_every_consumer_there_is_no_cutover(world: World) -> None:
    at_full(world)
    world.controller.set_weight("", "ads", 0.5, who="t")
    with pytest.raises(GateNotMet, match=r"weights: not at 1 yet: ads at 0.5"):
        world.controller.cutover(who="t")
    assert "weights: not at 1 yet: ads at 0.5" in world.controller.status().cutover_blockers


def test_auto_cutover_waits_for_the_slowest(world: World) -> None:
    world.blended(Plan(auto_cutover=True, window_seconds=30 * DAY))
    no_traffic(world)
    world.days(9, step=0.5)
    assert world.weights() == {"ads": 0.9, "search": 1.0}
    assert world.phase is Phase.BLENDED
    blockers = world.controller.status().cutover_blockers
    assert "engagement: no evidence: 3 events" in blockers
    assert all("\n" not in line for line in blockers)
    del world.judge.say["engagement", "ads"]
    world.days(0.5)
    assert world.phase is Phase.GRACE


def test_the_last_step_stands_one_check_before_1(world: World) -> None:
    world.blended(LONG)
    world.days(5.9)
    world.traffic()
    world.tick(0.2 * DAY)
    assert world.weights() == dict.fromkeys(NAMES, 0.9)
    world.tick(60)
    assert world.weights() == dict.fromkeys(NAMES, 0.9)
    world.tick(900)
    assert world.weights() == dict.fromkeys(NAMES, 1.0)


def test_an_override_is_recorded_with_every_gate(world: World) -> None:
    world.corpus(20)
    world.start()
    world.tick()
    world.controller.cutover(who="boss", override="the old model was recalled")
    assert world.phase is Phase.GRACE
    assert world.reads("ads") == (2,)
    event = world.events("override")[0]
    assert (event.who, event.why) == ("boss", "the old model was recalled")
    assert {"coverage", "quality", "engagement", "shadow", "weights", "phase"} <= set(
        event.evidence["skipped"]
    )
    assert {gate["gate"] for gate in event.evidence["gates"]} >= set(event.evidence["skipped"])


def test_an_override_of_one_gate_leaves_the_others(world: World) -> None:
    world.blended(LONG)
    world.days(6.5, traffic=False)
    with pytest.raises(GateNotMet) as caught:
        world.controller.set_weight("", "ads", 1.0, who="t", override="engagement: nobody clicks at night")
    assert {gate["gate"] for gate in caught.value.details["evidence"]} == {"shadow"}
    world.controller.set_weight("", "ads", 1.0, who="t", override="engagement, shadow: no traffic at night")
    assert world.weights()["ads"] == 1.0


def test_cutover_twice_or_after_the_end_is_refused(world: World) -> None:
    at_full(world)
    world.controller.cutover(who="t")
    with pytest.raises(FailedPrecondition, match="phase grace"):
        world.controller.cutover(who="t")
    world.controller.rollback(who="t")
    world.controller.abort(who="t")
    with pytest.raises(FailedPrecondition, match="phase aborted"):
        world.controller.cutover(who="t", override="really")


def test_missing_items_are_listed_by_age(world: World) -> None:
    at_full(world)
    drop_vectors(world)
    world.clock.advance(1)
    with pytest.raises(GateNotMet) as caught:
        world.controller.cutover(who="t")
    evidence = next(g for g in caught.value.details["evidence"] if g["gate"] == "coverage")["evidence"]
    ages = [item["age_days"] for item in evidence["missing"]]
    assert len(ages) == 10
    assert ages == sorted(ages, reverse=True)


# Bugs planted: what these tests are worth.


def test_planted_a_cutover_that_ignores_one_consumer_is_caught(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_full(world)
    world.judge.say["offline", "ads"] = [bad("quality", "-3 pp")]
    world.clock.advance(3_600)
    world.serving.drain()
    real = cutover.cutover_gates
    monkeypatch.setattr(
        cutover,
        "cutover_gates",
        lambda *a: {name: gates for name, gates in real(*a).items() if name != "ads"},
    )
    world.controller.cutover(who="t")  # the planted bug lets it through ...
    assert world.phase is Phase.GRACE
    world.controller.rollback(who="t")
    monkeypatch.undo()
    with pytest.raises(GateNotMet) as caught:  # ... and without it the same state is refused
        world.controller.cutover(who="t", override="phase, weights: rolled back by this test")
    assert "quality" in {gate["gate"] for gate in caught.value.details["evidence"]}


def test_own_gates_never_pass_for_offline_ones() -> None:
    assert not OWN_GATES & {"quality", "sufficient", "target", "long_tail"}


def test_a_revert_while_the_cutover_is_judged_wins(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    at_full(world)
    real = cutover.cutover_gates

    def then_reverted(*arguments: object) -> object:
        gates = real(*arguments)  # type: ignore[arg-type]
        world.controller.revert("", "ads", who="operator")
        return gates

    monkeypatch.setattr(cutover, "cutover_gates", then_reverted)
    with pytest.raises(FailedPrecondition, match="changed meanwhile"):
        world.controller.cutover(who="t")
    assert world.phase is Phase.BLENDED
    assert world.weights() == {"ads": 0.0, "search": 1.0}
