"""The ways out: each works, alone, from every phase that has it, also while everything else is broken."""

from __future__ import annotations

import pytest

from embedcore.errors import FailedPrecondition, GateNotMet, NotFound, Unavailable
from embedcore.evaluation.lift import LiftFit
from embedcore.migration.gates import result
from embedcore.migration_types import DAY, Phase, Plan
from migration.doubles import NAMES, bad, good
from migration.kit import World


def at_full(world: World) -> None:
    world.blended(Plan(window_seconds=30 * DAY))
    world.days(7, step=0.5)
    assert world.weights() == dict.fromkeys(NAMES, 1.0)


def break_everything(world: World) -> None:
    def broken(*_: object, **__: object) -> None:
        raise Unavailable("broken")

    for name in ("preflight", "offline", "blended", "engagement", "calibrate"):
        world.judge.fail[name] = Unavailable("broken")
    world.store.coverage = broken  # type: ignore[method-assign,assignment]
    world.store.missing_items = broken  # type: ignore[method-assign,assignment]
    world.store.engagement = broken  # type: ignore[method-assign,assignment]
    world.encoders.before = broken  # type: ignore[assignment]


def test_revert_moves_one_consumer_alone_and_dual_write_goes_on(world: World) -> None:
    world.blended()
    world.days(1.5)
    status = world.controller.revert("", "ads", who="tester", why="clicks fell")
    assert {n: p.weight for n, p in status.migration.consumers.items()} == {"ads": 0.0, "search": 0.1}
    assert world.reads("ads") == (1,)
    assert world.serving.routes["ads"].canary_share == 0.0
    assert world.serving.routes["search"].weight == 0.1
    event = world.events("revert")[0]
    assert (event.who, event.why) == ("tester", "clicks fell")
    world.write("after")
    assert world.number("after") in world.serving.held[1]
    assert world.number("after") in world.serving.held[2]
    cost = world.controller.status().dual_writes
    world.write("after2")
    assert world.controller.status().dual_writes == cost + 1, "its cost keeps counting"


def test_revert_works_while_everything_else_is_broken(world: World) -> None:
    world.blended()
    world.days(1.5)
    break_everything(world)
    world.clock.advance(5)
    status = world.controller.revert("", "ads", who="t")
    assert world.reads("ads") == (1,)
    assert "cannot be measured: broken" in status.cutover_blockers
    world.controller.rollback(who="t")
    assert world.reads("search") == (1,)


def test_revert_from_weight_1(world: World) -> None:
    at_full(world)
    world.controller.revert("", "ads", who="t")
    assert world.weights() == {"ads": 0.0, "search": 1.0}
    world.days(1)
    assert world.weights() == {"ads": 0.0, "search": 1.0}


def test_reverts_that_make_no_sense_are_refused(world: World) -> None:
    at_full(world)
    with pytest.raises(NotFound, match="'nobody' has no part"):
        world.controller.revert("", "nobody", who="t")
    world.controller.cutover(who="t")
    with pytest.raises(FailedPrecondition, match="migrate rollback"):
        world.controller.revert("", "ads", who="t")


def test_revert_in_a_unified_migration_moves_all(world: World) -> None:
    world.blended(Plan(unified=True))
    world.days(1.5)
    world.controller.revert("", "ads", who="t")
    assert world.weights() == dict.fromkeys(NAMES, 0.0)


def test_rollback_from_blended_and_back_by_hand(world: World) -> None:
    world.blended()
    world.days(3.5, step=0.5)
    world.controller.rollback(who="tester", why="day 5")
    assert world.phase is Phase.ROLLED_BACK
    assert all(world.reads(name) == (1,) for name in NAMES)
    world.days(1)
    assert world.phase is Phase.ROLLED_BACK, "the plan does not come back by itself"
    world.write("meanwhile")
    assert world.lacking(2) == []
    with pytest.raises(FailedPrecondition, match="phase rolled_back"):
        world.controller.rollback(who="t")
    world.controller.set_weight("", "ads", 0.1, who="t")
    assert world.phase is Phase.BLENDED
    assert world.weights() == {"ads": 0.1, "search": 0.0}
    world.days(1)
    assert world.weights()["search"] == 0.0, "each consumer is brought back by hand"


def test_rollback_in_grace_is_instant_and_keeps_dual_write(world: World) -> None:
    at_full(world)
    world.controller.cutover(who="t")
    world.write("in-grace")
    world.controller.rollback(who="t", why="complaints")
    assert world.phase is Phase.ROLLED_BACK
    assert world.migration.cutover_at is None
    assert world.reads("ads") == (1,)
    assert world.number("in-grace") in world.serving.held[1], "nothing is stale"
    world.write("after")
    for generation in (1, 2):
        assert world.number("after") in world.serving.held[generation]
    world.days(2)
    assert world.phase is Phase.ROLLED_BACK, "grace does not go on behind a rollback"
    assert {g.state for g in world.store.generations()} == {"serving", "filling"}


def test_rollback_from_phases_without_blending_is_refused(world: World) -> None:
    world.corpus(20)
    world.start()
    for phase in (Phase.DUAL_WRITE, Phase.BACKFILL):
        assert world.phase is phase
        with pytest.raises(FailedPrecondition, match=f"phase {phase}"):
            world.controller.rollback(who="t")
        world.tick()


@pytest.mark.parametrize("days", [0.0, 3.5, 7.0])
def test_abort_drops_the_target_and_nothing_else(world: World, days: float) -> None:
    world.blended(Plan(window_seconds=30 * DAY))
    world.days(days, step=0.5)
    status = world.controller.abort(who="tester", why="bad idea")
    assert status.migration.phase is Phase.ABORTED
    assert status.migration.ended_at == world.clock.now()
    assert world.serving.held.keys() == {1}
    assert {g.number: g.state for g in world.store.generations()} == {1: "serving", 2: "retired"}
    item = world.store.get_item("item000")
    assert item is not None
    assert item.held == {1: 1}
    world.write("after")
    assert world.store.repair_count() == 0, "writes no longer pay for the target"
    with pytest.raises(FailedPrecondition, match="has ended"):
        world.controller.abort(who="t")
    world.start()  # and another may begin
    assert world.migration.id == "m2"
    assert world.migration.target == 3


def test_abort_from_grace(world: World) -> None:
    at_full(world)
    world.controller.cutover(who="t")
    world.controller.abort(who="t")
    assert world.phase is Phase.ABORTED
    assert world.reads("ads") == (1,)
    assert {g.number: g.state for g in world.store.generations()} == {1: "serving", 2: "retired"}


def parity(world: World, lower: float, upper: float, predicted: float = 0.05) -> None:
    at = world.clock.now()
    world.judge.say["offline", "ads"] = [good("quality", at, difference=predicted), good("long_tail", at)]
    world.judge.say["engagement", "ads"] = [
        result(
            "engagement", True, "ads: no fall", at, lower=lower, upper=upper, difference=(lower + upper) / 2
        )
    ]


def test_the_parity_gate_halts_for_an_audit(world: World) -> None:
    world.corpus(20)
    world.start()
    parity(world, -0.004, 0.004)
    world.tick()
    world.fill()
    world.days(0.5)
    assert world.phase is Phase.HALTED
    assert all(world.reads(name) == (1,) for name in NAMES)
    event = world.events("halted")[0]
    assert "offline predicts +5.0 pp against this control, the canary shows no lift" in event.why
    world.days(3)
    assert world.phase is Phase.HALTED
    with pytest.raises(GateNotMet, match="halted for an audit"):
        world.controller.set_weight("", "ads", 0.1, who="t")
    world.controller.set_weight("", "ads", 0.1, who="t", override="parity: labels were corrected")
    assert world.phase is Phase.BLENDED


def test_the_parity_gate_does_not_halt_where_past_canaries_showed_as_little(world: World) -> None:
    world.judge.fitted["ads"] = LiftFit(0.05, -0.001, 0.006, 5)
    world.corpus(20)
    world.start()
    parity(world, -0.004, 0.004)
    world.tick()
    world.fill()
    world.days(2, step=0.5)
    assert world.phase is Phase.BLENDED
    assert ("fitted_lift", "ads", 0.05) in world.judge.asked


@pytest.mark.parametrize(
    ("lower", "upper", "predicted"),
    [
        (0.001, 0.02, 0.05),  # a lift
        (-0.03, 0.06, 0.05),  # reaches both sides: decides nothing
        (-0.004, 0.004, 0.02),  # nothing was predicted that had to show
    ],
)
def test_the_parity_gate_does_not_halt_without_evidence(
    world: World, lower: float, upper: float, predicted: float
) -> None:
    world.corpus(20)
    world.start()
    parity(world, lower, upper, predicted)
    world.tick()
    world.fill()
    world.days(2, step=0.5)
    assert world.phase is Phase.BLENDED


def test_an_undecided_parity_gate_holds_a_consumer_at_a_low_last_step(world: World) -> None:
    from embedcore.migration_types import PlanStep

    world.corpus(20)
    world.start(Plan(steps=(PlanStep(day=1, weight=0.1),)))
    parity(world, -0.03, 0.06)
    world.tick()
    world.fill()
    world.days(3, step=0.5)
    assert world.weights() == {"ads": 0.1, "search": 1.0}
    assert "parity" in world.migration.consumers["ads"].held
    parity(world, 0.001, 0.06)
    world.days(0.5)
    assert world.weights()["ads"] == 1.0


def test_a_unified_migration_is_deferred_when_the_window_is_over(world: World) -> None:
    world.blended(Plan(unified=True))
    world.judge.say["engagement", "ads"] = [bad("engagement", "no evidence")]
    world.days(6.9, step=0.5)
    assert world.weights() == dict.fromkeys(NAMES, 0.9)
    world.days(0.5)
    assert world.phase is Phase.DEFERRED
    assert world.weights() == dict.fromkeys(NAMES, 0.0)
    assert "weight 1 waits for: engagement" in world.events("deferred")[0].why
    assert world.reads("search") == (1,)
    with pytest.raises(GateNotMet, match="window: over"):
        world.controller.set_weight("", "ads", 0.1, who="t")
    world.controller.extend_window("", 7 * DAY, who="t", why="second try")
    world.controller.set_weight("", "ads", 0.1, who="t")
    assert world.phase is Phase.BLENDED
    assert world.weights() == dict.fromkeys(NAMES, 0.1)


def test_a_unified_migration_goes_to_1_together(world: World) -> None:
    world.blended(Plan(unified=True, auto_cutover=True))
    world.judge.say["engagement", "ads"] = [bad("engagement", "no evidence")]
    world.days(6.5, step=0.5)
    assert world.weights() == dict.fromkeys(NAMES, 0.9)
    del world.judge.say["engagement", "ads"]
    world.days(0.3)
    assert world.phase is Phase.GRACE


def test_a_route_that_cannot_be_published_is_published_by_the_next_tick(world: World) -> None:
    world.blended()
    world.days(1.5)
    world.serving.fail["refresh"] = Unavailable("no table")
    with pytest.raises(Unavailable):
        world.controller.revert("", "ads", who="t")
    assert world.weights()["ads"] == 0.0, "decided and durable"
    world.serving.fail.clear()
    world.tick()
    assert world.reads("ads") == (1,)
