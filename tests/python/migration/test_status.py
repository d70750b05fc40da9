"""What an operator sees: status, events, watching, and the loop with its threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from embedcore.clock import ScaledClock
from embedcore.errors import GateNotMet, Internal, InvalidArgument, NotFound
from embedcore.migration import blending
from embedcore.migration.context import Guard
from embedcore.migration_types import DAY, MigrationStatus, Phase, Plan, PlanStep
from embedcore.store.interface import ItemWrite
from migration.doubles import NAMES
from migration.kit import World

Make = Callable[..., World]


def test_before_any_migration(world: World) -> None:
    assert world.controller.list() == []
    with pytest.raises(NotFound, match="start one"):
        world.controller.status()
    with pytest.raises(NotFound, match="start one"):
        world.controller.watch()
    world.tick()


def test_status_through_the_phases(world: World) -> None:
    world.corpus(20)
    world.start(Plan(backfill_chunk=5))
    status = world.controller.status()
    assert (status.coverage, status.live_items, status.window_left_seconds) == (0.0, 20, 7 * DAY)
    assert "the migration is in phase dual_write" in status.cutover_blockers
    world.tick()
    world.fill()
    world.tick()
    status = world.controller.status()
    assert (status.coverage, status.backfilled, status.repair_queue) == (1.0, 20, 0)
    assert status.dual_writes == 20
    assert any(line.startswith("ads: shadow run lasted 0.0 of 24.0") for line in status.cutover_blockers)
    assert any("no evidence" in line for line in status.cutover_blockers)
    assert status.last_event == len(world.events())
    assert MigrationStatus.model_validate_json(status.model_dump_json()) == status
    world.controller.abort(who="t")
    status = world.controller.status()
    assert (status.coverage, status.cutover_blockers, status.window_left_seconds) == (0.0, (), None)
    assert [s.migration.id for s in world.controller.list()] == ["m1"]


def test_coverage_counts_what_the_index_has_applied(world: World) -> None:
    world.corpus(10)
    world.start()
    world.tick()
    world.controller.backfill.step()
    world.clock.advance(1)
    assert world.controller.status().coverage == 0.0, "stored, not applied"
    world.serving.drain()
    world.clock.advance(1)
    assert world.controller.status().coverage == 1.0


def test_what_the_index_refused_is_missing(world: World) -> None:
    """Although its vector is stored, and the lane is past it."""
    world.blended()
    refused = [world.number("item003"), world.number("item007")]
    world.serving.refusing[2] = refused
    world.clock.advance(1)
    assert world.controller.status().coverage == 0.9
    with pytest.raises(GateNotMet) as caught:
        world.controller.cutover(who="t")
    (gate,) = [found for found in caught.value.details["evidence"] if found["gate"] == "coverage"]
    assert not gate["passed"]
    assert {missing["id"] for missing in gate["evidence"]["missing"]} == {"item003", "item007"}
    # A version without a vector is missing once: it was not counted as covered.
    world.store.write_items([ItemWrite("item003", content="changed")])
    world.serving.drain()
    world.clock.advance(1)
    assert world.controller.status().coverage == 0.9
    world.store.delete_items(["item003", "item007"])
    world.clock.advance(1)
    assert world.controller.status().coverage == 1.0


def test_coverage_is_counted_at_most_twice_a_second(world: World) -> None:
    world.blended()
    counts = []
    original = world.store.coverage
    world.store.coverage = lambda *a: (counts.append(1), original(*a))[1]  # type: ignore[method-assign]
    for _ in range(20):
        world.clock.advance(0.1)
        world.controller.status()
    assert 3 <= len(counts) <= 5


def test_the_cost_of_the_window_survives_a_restart(world: World) -> None:
    world.corpus(10)
    world.start()
    world.tick()
    world.fill()
    world.write("a", "b")
    assert world.controller.status().dual_writes == 12
    world.reopen()
    assert world.controller.status().dual_writes == 12


def test_events_after(world: World) -> None:
    world.blended()
    events = world.controller.events()
    assert world.controller.events("", after=len(events) - 1) == events[-1:]
    assert world.controller.events("m1", after=len(events)) == []


def test_who_is_needed(world: World) -> None:
    world.blended()
    controller = world.controller
    for verb in (controller.rollback, controller.abort, controller.pause, controller.cutover):
        with pytest.raises(InvalidArgument, match="who is empty"):
            verb(who="")
    assert world.phase is Phase.BLENDED


def test_watching_shows_every_change_and_ends_with_the_migration(world: World) -> None:
    world.blended()
    seen: list[MigrationStatus] = []
    arrived = threading.Semaphore(0)

    def watch() -> None:
        for status in world.controller.watch():
            seen.append(status)
            arrived.release()

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert arrived.acquire(timeout=10), "one at once"
    world.controller.pause(who="t")
    while not seen[-1].migration.paused:
        assert arrived.acquire(timeout=10)
    world.controller.abort(who="t")
    watcher.join(timeout=10)
    assert not watcher.is_alive()
    assert seen[-1].migration.phase is Phase.ABORTED


def test_watchers_end_when_the_controller_is_closed(world: World) -> None:
    world.blended()
    statuses = world.controller.watch()
    next(statuses)
    world.controller.close()
    assert list(statuses) == []


def test_a_tick_never_raises_and_records_a_lasting_error_once(world: World) -> None:
    world.blended()

    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    world.store.consumers = broken  # type: ignore[method-assign,assignment]
    for _ in range(10):
        world.tick(5)
    steps = [e.evidence["step"] for e in world.events("error")]
    assert len(steps) == len(set(steps))
    assert "steps" in steps


def test_a_guard_waits_before_it_tries_again(world: World) -> None:
    guard = Guard(world.controller._context)
    calls = []

    def fail() -> None:
        calls.append(world.clock.now())
        raise Internal("no")

    for _ in range(30):
        guard.run("x", fail)
        world.clock.advance(0.1)
    assert 2 <= len(calls) <= 4
    assert guard.run("y", lambda: None)


def test_two_ticks_do_not_overlap(world: World) -> None:
    world.blended()
    inside = threading.Event()
    go = threading.Event()
    blended = world.judge.blended

    def slow(*arguments: object) -> object:
        inside.set()
        assert go.wait(10)
        return blended(*arguments)  # type: ignore[arg-type]

    world.judge.blended = slow  # type: ignore[method-assign,assignment]
    world.clock.advance(1.5 * DAY)
    first = threading.Thread(target=world.controller.tick)
    first.start()
    assert inside.wait(10)
    world.controller.tick()  # returns at once
    # And an operator does not wait for the evaluation.
    world.controller.revert("", "search", who="operator")
    assert world.migration.consumers["search"].reverted
    go.set()
    first.join(10)
    assert world.weights() == {"ads": 0.1, "search": 0.0}


def test_with_threads_and_scaled_time_a_migration_runs_by_itself(
    make_world: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop and the backfill on their threads: five hours of plan, an hour of grace, in seconds."""
    monkeypatch.setattr(blending, "EVALUATION_GAP", 0.2)
    now = time.time()
    clock = ScaledClock(20_000.0, origin=now, base=1_700_000_000.0)
    world = make_world(clock=clock)  # type: ignore[arg-type]
    world.corpus(300)
    stop = threading.Event()
    loop = threading.Thread(target=world.controller.run, args=(stop,))
    loop.start()
    try:
        world.start(
            Plan(
                steps=(PlanStep(day=0.1, weight=0.1), PlanStep(day=0.2, weight=0.9)),
                auto_cutover=True,
                shadow_seconds=600,
                grace_seconds=3_600,
                window_seconds=90 * DAY,
                backfill_chunk=16,
            )
        )
        deadline = time.monotonic() + 60
        while not world.migration.finished and time.monotonic() < deadline:
            world.serving.drain()
            world.traffic()
            time.sleep(0.02)
    finally:
        stop.set()
        loop.join(timeout=20)
    assert not loop.is_alive()
    assert world.phase is Phase.DONE, world.controller.status().cutover_blockers
    assert world.lacking(2) == []
    assert world.weights() == dict.fromkeys(NAMES, 1.0)
    assert len(set(world.encoders.encoded["new"])) == len(world.encoders.encoded["new"]) == 300
    phases = [e.evidence["phase"] for e in world.events("phase") if "phase" in e.evidence]
    assert phases == ["dual_write", "backfill", "blended", "grace"]
