"""Blended reads: the plan's steps, their gates, the periodic checks, calibration, weights by hand."""

from __future__ import annotations

import pytest

from embedcore.errors import (
    FailedPrecondition,
    GateNotMet,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from embedcore.migration_types import DAY, Phase, Plan
from migration.doubles import NAMES, bad
from migration.kit import World

CUSTOMARY = Plan()


def weight(world: World, name: str, value: float, **options: str) -> None:
    world.controller.set_weight("", name, value, who="tester", **options)


def test_a_step_is_measured_at_its_weight_before_it_is_taken(world: World) -> None:
    world.blended()
    world.judge.asked.clear()
    world.days(1.1)
    asked = [(name, value) for method, name, value in world.judge.asked if method == "blended"]
    assert asked[:2] == [("ads", 0.1), ("search", 0.1)]
    assert world.weights() == dict.fromkeys(NAMES, 0.1)


def test_a_step_waits_for_its_gate_alone(world: World) -> None:
    world.blended()
    world.judge.say["blended", "ads"] = [bad("blended", "loses 5 pp")]
    world.days(2)
    assert world.weights() == {"ads": 0.0, "search": 0.1}
    progress = world.migration.consumers["ads"]
    assert progress.held == "step to 0.1 held: blended: loses 5 pp"
    assert not progress.reverted
    del world.judge.say["blended", "ads"]
    world.days(0.1, step=0.05)
    assert world.weights() == dict.fromkeys(NAMES, 0.1)
    assert world.migration.consumers["ads"].held == ""


def test_a_failed_step_is_asked_again_only_when_an_evaluation_is_due(world: World) -> None:
    world.blended()
    world.judge.say["blended", "ads"] = [bad("blended")]
    world.days(1)
    world.judge.asked.clear()
    for _ in range(18):  # 90 minutes, ticked every 5
        world.tick(300)
    asked = [name for method, name, _ in world.judge.asked if method == "blended" and name == "ads"]
    assert len(asked) == 6, "every 15 minutes"


def test_blended_consumers_are_evaluated_every_15_minutes_and_idle_ones_never(world: World) -> None:
    world.blended()
    world.days(1.5)
    world.controller.revert("", "ads", who="t")
    world.judge.asked.clear()
    for _ in range(24):
        world.tick(300)
    assert [(n, w) for m, n, w in world.judge.asked if m == "blended"] == [("search", 0.1)] * 8
    assert len(set(world.judge.seeds[-8:])) == 8, "another subset each time"


def test_missed_evaluations_are_coalesced_and_counted(world: World) -> None:
    world.blended()
    world.days(1.5)
    world.tick(900)
    world.tick(10 * 900)
    evaluation = [e for e in world.events("evaluation") if e.evidence.get("coalesced", -1) >= 0]
    assert [e.evidence["coalesced"] for e in evaluation[-4:]] == [0, 0, 9, 9]


def test_a_failing_consumer_is_reverted_alone_and_stays_until_set_by_hand(world: World) -> None:
    world.blended()
    world.days(3.2)
    assert world.weights() == dict.fromkeys(NAMES, 0.5)
    world.judge.say["blended", "ads"] = [bad("blended", "loses 5 pp")]
    world.tick(900)
    assert world.weights() == {"ads": 0.0, "search": 0.5}
    assert world.reads("ads") == (1,)
    assert world.serving.routes["search"].weight == 0.5
    reverted = world.events("revert")[0]
    assert (reverted.who, reverted.evidence["consumer"]) == ("controller", "ads")
    assert reverted.evidence["gates"][0]["summary"] == "blended: loses 5 pp"
    del world.judge.say["blended", "ads"]
    world.days(2)
    assert world.weights()["ads"] == 0.0, "it does not come back by itself"
    weight(world, "ads", 0.1)
    world.tick()
    world.tick()
    assert world.weights()["ads"] == 0.5, "the plan takes over again"


def test_without_auto_revert_a_failure_holds(world: World) -> None:
    world.blended(Plan(auto_revert=False))
    world.days(1.5)
    world.judge.say["blended", "ads"] = [bad("blended", "loses 5 pp")]
    world.days(2)
    assert world.weights() == {"ads": 0.1, "search": 0.5}
    assert "loses 5 pp" in world.migration.consumers["ads"].held
    assert not world.events("revert")


def test_a_verdict_that_comes_after_a_revert_changes_nothing(world: World) -> None:
    """The operator reverts while the step's evaluation runs."""
    world.blended()
    blended = world.judge.blended

    def slow(*arguments: object) -> object:
        if arguments[0].name == "ads":  # type: ignore[attr-defined]
            world.controller.revert("", "ads", who="operator")
        return blended(*arguments)  # type: ignore[arg-type]

    world.judge.blended = slow  # type: ignore[method-assign,assignment]
    world.days(1.5)
    assert world.weights() == {"ads": 0.0, "search": 0.1}
    assert world.migration.consumers["ads"].reverted


def test_calibration_opens_blending_and_is_fitted_again_when_complete(world: World) -> None:
    world.corpus(20)
    world.start(Plan(backfill_chunk=1))
    world.tick()
    for _ in range(9):
        world.controller.backfill.step()
    world.tick()
    assert world.phase is Phase.BACKFILL
    assert world.migration.calibration == ""
    world.controller.backfill.step()
    world.tick()
    assert world.phase is Phase.BLENDED
    assert bytes.fromhex(world.migration.calibration) == b"calibration 1"
    world.tick()
    assert len(world.events("calibration")) == 1
    world.fill()
    for _ in range(3):
        world.tick()
    assert bytes.fromhex(world.migration.calibration) == b"calibration 2"
    assert len(world.events("calibration")) == 2
    world.reopen()
    world.tick()
    world.tick()
    assert len(world.events("calibration")) == 2, "a restart remembers"


def test_without_a_calibration_nothing_is_blended(world: World) -> None:
    world.judge.fail["calibrate"] = FailedPrecondition("needs 8 pairs")
    world.corpus(20)
    world.start()
    world.tick()
    world.fill()
    world.days(2)
    assert world.phase is Phase.BACKFILL
    with pytest.raises(GateNotMet, match="not comparable"):
        weight(world, "ads", 0.1)
    assert [e.why for e in world.events("error")] == ["calibrate: needs 8 pairs"], "recorded once"


def test_the_window_refuses_every_increase_until_it_is_extended(world: World) -> None:
    world.blended()
    world.days(6.9, traffic=False)
    assert world.weights() == dict.fromkeys(NAMES, 0.9)
    world.controller.revert("", "ads", who="t")
    world.days(0.5, traffic=False)
    assert world.events("window")
    with pytest.raises(GateNotMet, match="window: over"):
        weight(world, "ads", 0.1)
    weight(world, "search", 0.2)  # down is always allowed
    blockers = world.controller.status().cutover_blockers
    assert any(line.startswith("window: over since") for line in blockers)
    with pytest.raises(InvalidArgument, match="why is empty"):
        world.controller.extend_window("", DAY, who="t", why=" ")
    with pytest.raises(InvalidArgument, match="positive"):
        world.controller.extend_window("", -1, who="t", why="x")
    status = world.controller.extend_window("", 2 * DAY, who="t", why="holidays")
    assert status.window_left_seconds == 2 * DAY
    weight(world, "ads", 0.1)
    assert world.weights()["ads"] == 0.1
    assert world.events("extend")[0].why == "holidays"


def test_the_plan_takes_no_step_after_the_window(world: World) -> None:
    world.blended(Plan(window_seconds=2 * DAY))
    world.days(4)
    assert world.weights() == dict.fromkeys(NAMES, 0.1)
    assert "window is over" in world.migration.consumers["ads"].held
    assert len(world.events("window")) == 1


def test_a_pause_stops_the_steps_but_not_the_checks(world: World) -> None:
    world.blended()
    world.days(1.5)
    world.controller.pause(who="t")
    world.days(2)
    assert world.weights() == dict.fromkeys(NAMES, 0.1)
    world.judge.say["blended", "ads"] = [bad("blended")]
    world.tick(900)
    assert world.weights() == {"ads": 0.0, "search": 0.1}
    world.controller.unpause(who="t")
    world.tick(900)
    assert world.weights()["search"] == 0.5


def test_without_auto_advance_weights_are_set_by_hand(world: World) -> None:
    world.blended(Plan(auto_advance=False))
    world.days(4)
    assert world.weights() == dict.fromkeys(NAMES, 0.0)
    weight(world, "ads", 0.3, why="curious")
    assert world.weights() == {"ads": 0.3, "search": 0.0}
    assert world.serving.routes["ads"].weight == 0.3
    event = world.events("weight")[0]
    assert (event.who, event.why, event.evidence["weight"]) == ("tester", "curious", 0.3)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_weight_outside_0_to_1_is_refused(world: World, value: float) -> None:
    world.blended()
    with pytest.raises(InvalidArgument, match=r"\[0, 1\]"):
        weight(world, "ads", value)


def test_weights_that_make_no_sense_are_refused(world: World) -> None:
    with pytest.raises(NotFound, match="no migration yet"):
        weight(world, "ads", 0.1)
    world.corpus(20)
    world.start()
    with pytest.raises(NotFound, match=r"'nobody' has no part .* ads, search"):
        weight(world, "nobody", 0.1)
    with pytest.raises(NotFound, match="no migration 'm9'; known: m1"):
        world.controller.set_weight("m9", "ads", 0.1, who="t")
    with pytest.raises(GateNotMet, match=r"coverage: 0.0%, blending needs 50%"):
        weight(world, "ads", 0.1)
    world.controller.abort(who="t")
    with pytest.raises(FailedPrecondition, match="it has ended"):
        weight(world, "ads", 0.0)


def test_raising_by_hand_passes_the_gate_of_that_weight(world: World) -> None:
    world.blended()
    world.judge.say["blended", "ads"] = [bad("blended", "loses 5 pp", lower=-0.06)]
    with pytest.raises(GateNotMet, match=r"weight 0.4 for 'ads' refused: blended: loses 5 pp") as caught:
        weight(world, "ads", 0.4)
    assert caught.value.details["evidence"][0]["evidence"]["lower"] == -0.06
    assert world.weights()["ads"] == 0.0
    assert "refused" in [e.what for e in world.events()], "the refusal itself is on record"
    weight(world, "ads", 0.4, override="drill")
    assert world.weights()["ads"] == 0.4
    assert world.events("override")[0].evidence["skipped"] == ["blended"]


def test_what_was_lowered_by_hand_stays_lowered(world: World) -> None:
    world.blended()
    world.days(3.2)
    weight(world, "ads", 0.2)
    world.days(1)
    assert world.weights() == {"ads": 0.2, "search": 0.5}
    weight(world, "ads", 0.2, why="let the plan go on")
    world.days(0.5)
    assert world.weights()["ads"] == 0.5


def test_a_consumer_registered_meanwhile_takes_part(world: World) -> None:
    from embedcore.types import Consumer

    world.blended()
    world.store.put_consumer(Consumer(name="fresh", k=3, quality_target=0.5, engagement_min_count=10))
    world.days(1.5)
    assert world.weights() == {"ads": 0.1, "fresh": 0.1, "search": 0.1}
    assert world.events("consumer")[0].evidence == {"names": ["fresh"]}


def test_an_evaluation_that_cannot_run_is_recorded_once_and_tried_again(world: World) -> None:
    world.blended()
    world.judge.fail["blended"] = Unavailable("index not loaded")
    world.days(2)
    assert world.weights() == dict.fromkeys(NAMES, 0.0), "no evidence is a gate not met"
    assert [e.why for e in world.events("error")] == [
        "step of ads: index not loaded",
        "step of search: index not loaded",
    ]
    del world.judge.fail["blended"]
    world.days(0.5)
    assert world.weights() == dict.fromkeys(NAMES, 0.1)


def test_unified_consumers_move_together(world: World) -> None:
    world.blended(Plan(unified=True))
    world.judge.say["blended", "ads"] = [bad("blended")]
    world.days(2)
    assert world.weights() == dict.fromkeys(NAMES, 0.0)
    del world.judge.say["blended", "ads"]
    world.days(0.1, step=0.05)
    assert world.weights() == dict.fromkeys(NAMES, 0.1)
    world.judge.say["blended", "ads"] = [bad("blended")]
    world.tick(900)
    assert world.weights() == dict.fromkeys(NAMES, 0.0), "and back together"
    del world.judge.say["blended", "ads"]
    weight(world, "search", 0.2)
    assert world.weights() == dict.fromkeys(NAMES, 0.2)


def test_a_consumer_that_cannot_be_evaluated_does_not_shield_another(world: World) -> None:
    """ads comes first in every loop, and its golden set is gone."""
    world.blended()
    world.days(1.5)
    blended = world.judge.blended

    def lost(*arguments: object) -> object:
        if arguments[0].name == "ads":  # type: ignore[attr-defined]
            raise NotFound("ads has no golden set")
        return blended(*arguments)  # type: ignore[arg-type]

    world.judge.blended = lost  # type: ignore[method-assign,assignment]
    world.judge.say["blended", "search"] = [bad("blended", "loses 5 pp")]
    world.tick(900)
    assert world.weights() == {"ads": 0.1, "search": 0.0}
    del world.judge.say["blended", "search"]
    weight(world, "search", 0.1)
    world.days(2)
    assert world.weights() == {"ads": 0.1, "search": 0.5}, "without evidence ads goes no further"
