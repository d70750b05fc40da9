"""Phase 0: what it refuses, that a refusal leaves nothing behind but its record, and what a crash leaves."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from embedcore.errors import (
    FailedPrecondition,
    GateNotMet,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from embedcore.migration.resources import estimate
from embedcore.migration_types import DAY, GateResult, Phase, Plan, PlanStep
from embedcore.resources import SystemProbe
from migration.doubles import bad
from migration.kit import World


def nothing_attached(world: World) -> None:
    assert [g.number for g in world.store.generations()] == [1]
    assert world.serving.held.keys() == {1}
    world.write("after")
    assert world.store.repair_count() == 0


def test_a_gate_that_is_not_met_refuses_with_all_its_evidence(world: World) -> None:
    world.write("a")
    world.judge.say["preflight", ""] = [
        bad("ads.quality", "loses 4 pp", lower=-0.05),
        bad("search.quality", "loses 1 pp"),
    ]
    with pytest.raises(GateNotMet, match=r"ads.quality: loses 4 pp \(and 1 more\)") as caught:
        world.start()
    assert [gate["gate"] for gate in caught.value.details["evidence"]] == ["ads.quality", "search.quality"]
    assert caught.value.details["evidence"][0]["evidence"] == {"lower": -0.05}
    assert world.phase is Phase.REFUSED
    assert world.migration.ended_at is not None
    gates = {gate["gate"]: gate["passed"] for gate in world.events("phase")[-1].evidence["gates"]}
    assert gates == {"memory": True, "disk": True, "ads.quality": False, "search.quality": False}
    nothing_attached(world)
    assert world.events("refused")[0].who == "tester"


@pytest.mark.parametrize("what", ["memory", "disk"])
def test_too_little_room_refuses(world: World, what: str) -> None:
    world.corpus(50)
    need = estimate(50, 12)
    setattr(world.probe, what, getattr(need, what) - 1)
    with pytest.raises(GateNotMet, match=f"{what}: .* needed for 50 items"):
        world.start()
    nothing_attached(world)
    setattr(world.probe, what, getattr(estimate(51, 12), what))
    world.start()
    assert world.phase is Phase.DUAL_WRITE


def test_an_override_needs_a_reason_and_is_recorded_with_the_evidence(world: World) -> None:
    world.judge.say["preflight", ""] = [bad("ads.quality")]
    with pytest.raises(GateNotMet):
        world.start(override="  ")
    world.start(override="ads is being shut down")
    assert world.phase is Phase.DUAL_WRITE
    event = world.events("override")[0]
    assert (event.who, event.why) == ("tester", "ads is being shut down")
    assert event.evidence["skipped"] == ["ads.quality"]


def test_an_override_that_names_gates_skips_no_other(world: World) -> None:
    world.judge.say["preflight", ""] = [bad("ads.quality"), bad("search.quality")]
    with pytest.raises(GateNotMet, match=r"search.quality") as caught:
        world.start(override="ads.quality: being shut down")
    assert [gate["gate"] for gate in caught.value.details["evidence"]] == ["search.quality"]


def test_an_evaluation_that_fails_refuses_and_is_on_record(world: World) -> None:
    world.judge.fail["preflight"] = Unavailable("model package is missing: pip install it")
    with pytest.raises(Unavailable, match="pip install"):
        world.start()
    assert world.phase is Phase.REFUSED
    assert world.events("refused")[0].evidence == {"error": "unavailable"}
    nothing_attached(world)


def test_starts_that_are_refused_before_anything_is_recorded(world: World) -> None:
    start = world.controller.start
    with pytest.raises(NotFound, match=r"'nothing' is not registered .known: new, old, other"):
        start("nothing", who="t")
    with pytest.raises(FailedPrecondition, match="fingerprint of the serving generation"):
        start("old", who="t")
    with pytest.raises(InvalidArgument, match="who is empty"):
        start("new", who=" ")
    with pytest.raises(InvalidArgument, match="below weight 1"):
        start("new", Plan(steps=(PlanStep(day=1, weight=1.0),)), who="t")
    assert world.store.migrations() == []


def test_one_migration_at_a_time(world: World) -> None:
    first = world.start()
    with pytest.raises(FailedPrecondition, match=f"migration {first} to 'new' is running"):
        world.controller.start("other", who="t")
    world.controller.abort(who="t")
    world.controller.start("other", who="t")
    assert world.migration.target_model == "other"


def test_dual_write_begins_with_the_record(world: World) -> None:
    world.write("before")
    world.start()
    migration = world.migration
    assert migration.target == 2
    assert migration.dual_write_at == world.clock.now()
    assert migration.window_until == world.clock.now() + 7 * DAY
    assert migration.baseline == {"ads": 0.8, "search": 0.8}
    assert migration.verdict == "full"
    assert "attach 2" in world.serving.calls
    world.write("after")
    assert world.lacking(2) == ["before"]
    assert world.reads("search") == (1,)


def test_a_crash_between_two_transactions_leaves_no_generation_behind(world: World) -> None:
    world.write("a")

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    original = world.store.put_migration
    calls = []

    def put(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        original(*arguments)  # type: ignore[arg-type]

    world.store.put_migration = put  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyboardInterrupt):
        world.start()
    assert [g.state for g in world.store.generations()] == ["serving", "filling"]
    world.reopen()
    assert [g.state for g in world.store.generations()] == ["serving", "retired"]
    # The pre-flight that was cut off is judged again, and this time begins.
    world.tick()
    assert world.phase is Phase.BACKFILL
    assert world.migration.target == 3


def test_a_pre_flight_cut_off_keeps_its_override(world: World) -> None:
    world.judge.say["preflight", ""] = [bad("ads.quality")]
    original = world.judge.preflight

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    world.judge.preflight = die  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyboardInterrupt):
        world.start(override="known")
    world.judge.preflight = original  # type: ignore[method-assign]
    assert world.phase is Phase.PREFLIGHT
    world.reopen()
    world.tick()
    assert world.phase is Phase.BACKFILL
    assert world.events("override")[0].why == "known"


def test_a_pre_flight_cut_off_may_also_refuse(world: World) -> None:
    world.judge.fail["preflight"] = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        world.start()
    del world.judge.fail["preflight"]
    world.judge.say["preflight", ""] = [bad("ads.quality")]
    world.reopen()
    world.tick()
    assert world.phase is Phase.REFUSED
    nothing_attached(world)


def test_an_abort_during_the_pre_flight_wins(world: World) -> None:
    original = world.judge.preflight

    def aborted(*arguments: object) -> Sequence[GateResult]:
        world.controller.abort(who="other")
        return original(*arguments)  # type: ignore[arg-type,return-value]

    world.judge.preflight = aborted  # type: ignore[method-assign,assignment]
    with pytest.raises(FailedPrecondition, match=r"ended .aborted. during its pre-flight"):
        world.start()
    assert world.phase is Phase.ABORTED
    assert [g.live for g in world.store.generations()] == [True, False]
    world.write("after")
    assert world.store.repair_count() == 0


def test_a_target_that_cannot_be_created_is_refused_and_not_tried_for_ever(world: World) -> None:
    create = world.store.create_generation

    def full(*_: object) -> None:
        raise ResourceExhausted("disk full")

    world.store.create_generation = full  # type: ignore[method-assign,assignment]
    with pytest.raises(ResourceExhausted):
        world.start()
    assert world.phase is Phase.REFUSED
    world.store.create_generation = create  # type: ignore[method-assign]
    world.tick()
    nothing_attached(world)


def test_a_bug_in_the_judgement_is_no_evidence(world: World) -> None:
    world.judge.fail["preflight"] = RuntimeError("a bug")
    with pytest.raises(RuntimeError):
        world.start()
    assert world.phase is Phase.REFUSED
    nothing_attached(world)


def test_an_attach_that_fails_is_tried_again(world: World) -> None:
    world.serving.fail["attach"] = Unavailable("no memory")
    with pytest.raises(Unavailable):
        world.start()
    assert world.phase is Phase.DUAL_WRITE
    world.tick()
    assert world.phase is Phase.DUAL_WRITE, "nothing is read or filled while the target has no index"
    world.serving.fail.clear()
    world.tick(5)
    assert world.phase is Phase.BACKFILL


def test_the_machine_can_be_asked() -> None:
    probe = SystemProbe()
    assert probe.free_memory() > 0
    assert probe.free_disk() > 0
