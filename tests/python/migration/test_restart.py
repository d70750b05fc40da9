"""A new controller over the same store goes on, in every phase and between any two steps of an ending."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from embedcore.errors import FailedPrecondition, GateNotMet
from embedcore.migration_types import DAY, Phase, Plan
from embedcore.store.interface import ItemWrite
from migration.doubles import NAMES, embed
from migration.kit import World

AUTO = Plan(auto_cutover=True, window_seconds=30 * DAY)


def test_a_restart_every_half_day_changes_nothing(world: World) -> None:
    world.corpus(20)
    world.start(AUTO)
    phases = [world.phase]
    encoded = []
    for _ in range(30):
        world.reopen()
        world.controller.backfill.step()
        encoded.append(len(world.encoders.encoded["new"]))
        world.days(0.5)
        if world.phase is not phases[-1]:
            phases.append(world.phase)
        if world.migration.finished:
            break
    assert phases == [
        Phase.DUAL_WRITE,
        Phase.BACKFILL,
        Phase.BLENDED,
        Phase.GRACE,
        Phase.DONE,
    ]
    assert encoded[-1] == 20, "nothing is encoded twice"
    shadow = world.migration.consumers["ads"]
    assert shadow.shadow_compared >= 30
    assert not world.store.verify()


@pytest.mark.parametrize(
    ("reach", "phase"),
    [
        (lambda world: world.controller.rollback(who="t"), Phase.ROLLED_BACK),
        (lambda world: world.controller.pause(who="t"), Phase.BLENDED),
        (lambda world: world.controller.revert("", "ads", who="t"), Phase.BLENDED),
    ],
)
def test_what_an_operator_decided_survives(
    world: World, reach: Callable[[World], object], phase: Phase
) -> None:
    world.blended()
    world.days(3.5, step=0.5)
    reach(world)
    before = world.migration
    world.reopen()
    world.serving.drain()
    world.tick(10)
    assert world.phase is phase
    assert world.weights() == {n: p.weight for n, p in before.consumers.items()}
    assert world.migration.paused == before.paused


class Died(KeyboardInterrupt):
    pass


def dying(world: World, at: str) -> None:
    """The process dies in the named call, before it does anything."""

    def die(*_: object, **__: object) -> None:
        raise Died

    owner = world.serving if hasattr(world.serving, at) else world.store
    setattr(owner, at, die)


ENDS: dict[str, tuple[Callable[[World], object], Phase, int]] = {
    "decommission": (lambda world: world.controller.decommission(who="t"), Phase.DONE, 1),
    "abort": (lambda world: world.controller.abort(who="t"), Phase.ABORTED, 2),
}


@pytest.mark.parametrize("call", ["refresh_routes", "detach_generation", "drop_generation_vectors"])
@pytest.mark.parametrize("end", sorted(ENDS))
def test_a_crash_between_any_two_steps_of_an_ending_is_healed(world: World, end: str, call: str) -> None:
    verb, phase, gone = ENDS[end]
    world.blended(Plan(window_seconds=30 * DAY))
    world.days(7, step=0.5)
    world.controller.cutover(who="t")
    world.clock.advance(2 * DAY)
    dying(world, call)
    with pytest.raises(Died):
        verb(world)
    assert not world.migration.finished
    world.reopen()
    kept = 3 - gone
    assert {name: world.reads(name) for name in NAMES} == dict.fromkeys(NAMES, (kept,)), (
        "read right from the first query after the restart"
    )
    for forbidden in (world.controller.rollback, world.controller.cutover):
        with pytest.raises(FailedPrecondition):
            forbidden(who="t")
    world.tick()
    assert world.phase is phase
    assert {g.number: g.live for g in world.store.generations()} == {kept: True, gone: False}
    assert world.serving.held.keys() == {kept}
    item = world.store.get_item("item000")
    assert item is not None
    assert item.held == {kept: 1}
    assert not world.store.verify()


def test_a_crash_at_the_last_record_of_an_ending(world: World) -> None:
    world.blended()
    put = world.store.put_migration

    def die_at_end(*arguments: object) -> None:
        if arguments[0].finished:  # type: ignore[attr-defined]
            raise Died
        put(*arguments)  # type: ignore[arg-type]

    world.store.put_migration = die_at_end  # type: ignore[method-assign,assignment]
    with pytest.raises(Died):
        world.controller.abort(who="t")
    world.reopen()
    world.tick()
    assert world.phase is Phase.ABORTED


def test_a_controller_that_was_replaced_changes_nothing(world: World) -> None:
    from embedcore.migration.controller import MigrationController, MigrationDeps

    world.blended()
    old = world.controller
    newer = MigrationController(
        MigrationDeps(
            store=world.store,
            clock=world.clock,
            encoders=world.encoders,
            harness=None,
            serving=world.serving,
            judge=world.judge,
        )
    )
    newer.resume()
    with pytest.raises(FailedPrecondition, match="another controller leads"):
        old.rollback(who="t")
    world.clock.advance(2 * DAY)
    old.tick()
    assert world.weights() == dict.fromkeys(NAMES, 0.0)
    newer.tick()
    assert world.weights() == dict.fromkeys(NAMES, 0.1)


# Decommission.


def test_decommission_waits_for_grace_or_an_override(world: World) -> None:
    world.blended(Plan(window_seconds=30 * DAY))
    world.days(7, step=0.5)
    with pytest.raises(FailedPrecondition, match="after cutover only"):
        world.controller.decommission(who="t")
    world.controller.cutover(who="t")
    world.days(0.9)
    with pytest.raises(GateNotMet, match=r"grace: 21.6 of 24.0 hours"):
        world.controller.decommission(who="t")
    world.days(2)
    assert world.phase is Phase.GRACE, "without auto_cutover it is by hand"
    world.controller.decommission(who="tester")
    assert world.phase is Phase.DONE
    assert world.events("decommission")[0].who == "tester"
    world.write("after")
    assert world.store.get_item("after").held == {2: 1}  # type: ignore[union-attr]


@pytest.mark.parametrize("set_by", [30 * DAY, -30 * DAY], ids=["forward", "back"])
def test_a_clock_that_is_set_before_a_restart_does_not_move_the_end_of_grace(
    world: World, set_by: float
) -> None:
    world.blended(AUTO)
    world.days(6.9, step=0.5)
    assert world.phase is Phase.GRACE
    world.days(0.5)
    before = world.migration.grace_lasted
    assert 0.5 * DAY <= before <= 0.9 * DAY
    world.clock.advance(set_by)
    world.reopen()
    world.tick()
    assert world.phase is Phase.GRACE
    with pytest.raises(GateNotMet, match=f"grace: {before / 3600:.1f} of 24.0 hours"):
        world.controller.decommission(who="t")
    world.days((DAY - before) / DAY - 0.05, step=0.05)
    assert world.phase is Phase.GRACE
    world.days(0.1, step=0.05)
    assert world.phase is Phase.DONE


def test_grace_begins_anew_with_a_second_cutover(world: World) -> None:
    world.blended(AUTO)
    world.days(6.9, step=0.5)
    world.days(0.5)
    assert world.migration.grace_lasted >= 0.5 * DAY
    world.controller.rollback(who="t")
    for name in NAMES:
        world.controller.set_weight("", name, 1.0, who="t", override="again")
    world.controller.cutover(who="t", override="again")
    assert (world.phase, world.migration.grace_lasted) == (Phase.GRACE, 0.0)
    world.days(0.9, step=0.1)
    assert world.phase is Phase.GRACE
    world.days(0.2, step=0.1)
    assert world.phase is Phase.DONE


def test_decommission_does_not_lose_what_only_the_source_holds(world: World) -> None:
    """Vectors that came without content cannot be made again by any encoder."""
    world.blended(Plan(auto_cutover=True), items=200)
    world.days(6.9, step=0.5)
    assert world.phase is Phase.GRACE
    world.store.write_items([ItemWrite("bare", vectors={1: embed("old", "x")})])
    world.days(2, step=0.5)
    assert world.phase is Phase.GRACE, "not by itself"
    with pytest.raises(GateNotMet, match=r"irreplaceable: 1 items .* 'bare'"):
        world.controller.decommission(who="t")
    world.store.write_vectors(2, [(world.number("bare"), 1, embed("new", "x"))])
    world.tick()
    assert world.phase is Phase.DONE


def test_a_second_serving_generation_is_retired_unless_it_alone_holds_an_item(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.corpus(4)
    world.store.create_generation("new", "serving", 0.0)
    world.store.write_items([ItemWrite("bare", vectors={2: embed("new", "bare")})])
    world.reopen()
    states = {g.number: g.state for g in world.store.generations()}
    assert states == {1: "serving", 2: "serving"}
    assert "generations 1 and 2 both serve: irreplaceable: 1 items without content" in caplog.text
    assert world.reads("ads") == (1,)
    with pytest.raises(FailedPrecondition, match="one serving generation"):
        world.start()
    world.store.write_items([ItemWrite("bare", vectors={1: embed("old", "bare")})])
    world.reopen()
    assert {g.number: g.state for g in world.store.generations()} == {1: "serving", 2: "retired"}
    assert world.lacking(1) == []
    assert not world.store.verify()
