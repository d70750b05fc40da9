"""Seven days in a second: every phase in order, by the plan alone, with nothing lost."""

from __future__ import annotations

import numpy as np

from embedcore.migration_types import Phase, Plan
from migration.doubles import NAMES, embed
from migration.kit import World


def test_a_migration_goes_through_all_phases_by_its_plan(world: World) -> None:
    names = world.corpus(40)
    world.start(Plan(auto_cutover=True), why="better model")
    assert world.phase is Phase.DUAL_WRITE
    world.tick()
    world.fill()
    seen: list[tuple[Phase, float]] = []
    for _ in range(200):
        world.days(0.25)
        state = (world.phase, world.weights()["search"])
        if not seen or seen[-1] != state:
            seen.append(state)
        if world.migration.finished:
            break
    assert seen == [
        (Phase.BLENDED, 0.0),
        (Phase.BLENDED, 0.1),
        (Phase.BLENDED, 0.5),
        (Phase.BLENDED, 0.9),
        (Phase.GRACE, 1.0),
        (Phase.DONE, 1.0),
    ]
    generations = {g.number: g.state for g in world.store.generations()}
    assert generations == {1: "retired", 2: "serving"}
    assert world.serving.routes["search"].source == 2
    for name in names:
        item = world.store.get_item(name)
        assert item is not None
        assert item.held == {2: item.version}
        assert np.array_equal(world.serving.held[2][item.item], embed("new", item.content or ""))
    assert not world.store.verify()


def test_steps_are_taken_on_their_days(world: World) -> None:
    world.blended()
    begun = world.migration.dual_write_at
    assert begun is not None
    world.days(6.5)
    days = {
        event.evidence["weight"]: (event.at - begun) / 86_400
        for event in world.events("weight")
        if event.evidence["consumer"] == "search"
    }
    assert 1 <= days[0.1] < 1.5
    assert 3 <= days[0.5] < 3.5
    assert 6 <= days[0.9] < 6.5


def test_every_transition_is_recorded_with_who_when_why_and_evidence(world: World) -> None:
    world.start(why="cheaper")
    first = world.events()[0]
    assert (first.number, first.who, first.what, first.why) == (1, "tester", "start", "cheaper")
    world.corpus(20)
    world.tick()
    world.fill()
    world.days(7.9)
    events = world.events()
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert all(event.who and event.why for event in events)
    phases = [event.evidence["phase"] for event in events if event.what == "phase"]
    assert phases == ["dual_write", "backfill", "blended"]
    raised = [event for event in events if event.what == "weight"]
    assert {event.evidence["consumer"] for event in raised} == set(NAMES)
    assert all(event.evidence["gates"] for event in raised)


def test_days_count_from_the_first_dual_write_and_each_step_waits_for_coverage(world: World) -> None:
    world.corpus(40)
    world.start(Plan(backfill_chunk=4))
    world.tick()
    for _ in range(4):
        world.controller.backfill.step()
    world.days(2)
    assert world.phase is Phase.BACKFILL, "16 of 40 is below 50%"
    assert world.weights() == dict.fromkeys(NAMES, 0.0)
    world.controller.backfill.step()
    world.days(0.5)
    assert world.phase is Phase.BLENDED
    assert world.weights() == dict.fromkeys(NAMES, 0.1), "day 1 was overdue, day 3 has not come"
    world.days(1)
    assert world.weights() == dict.fromkeys(NAMES, 0.5)
