"""The plan's pure functions, and the rates of the backfill."""

from __future__ import annotations

import threading

import pytest

from embedcore.clock import ManualClock, ScaledClock
from embedcore.errors import InvalidArgument
from embedcore.migration.plan import check_plan, due_step, final_weight, ticks_due
from embedcore.migration.rate import RateMeter, TokenBucket
from embedcore.migration_types import DAY, Plan, PlanStep


@pytest.mark.parametrize(
    ("day", "weight", "due"),
    [
        (0.99, 0.0, None),
        (1.0, 0.0, 0.1),
        (1.0, 0.1, None),
        (3.0, 0.1, 0.5),
        (30.0, 0.0, 0.1),  # steps are never skipped, however late
        (30.0, 0.05, 0.1),
        (30.0, 0.9, None),
        (30.0, 1.0, None),
    ],
)
def test_which_step_is_due(day: float, weight: float, due: float | None) -> None:
    step = due_step(Plan(), 1_000.0, 1_000.0 + day * DAY, weight)
    assert (None if step is None else step.weight) == due


def test_final_weight() -> None:
    assert final_weight(Plan()) == 0.9
    assert final_weight(Plan(steps=())) == 0.0


def test_missed_evaluations_are_counted() -> None:
    assert ticks_due(None, 5.0, 900) == 1
    assert ticks_due(0.0, 899.0, 900) == 0
    assert ticks_due(0.0, 900.0, 900) == 1
    assert ticks_due(0.0, 9_001.0, 900) == 10
    assert ticks_due(10_000.0, 0.0, 900) == 0, "a clock that was set back is not behind"


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (Plan(steps=(PlanStep(day=2, weight=0.1), PlanStep(day=1, weight=0.5))), "rise in day"),
        (Plan(steps=(PlanStep(day=1, weight=0.5), PlanStep(day=2, weight=0.5))), "rise in day and in weight"),
        (Plan(steps=(PlanStep(day=1, weight=1.0),)), "below weight 1"),
        (Plan(window_seconds=0), "window_seconds must be above 0"),
        (Plan(backfill_chunk=0), "backfill_chunk"),
        (Plan(margin=float("nan")), "margin"),
        (Plan(shadow_seconds=-1), "shadow_seconds"),
        (Plan(cutover_coverage=1.0), "cutover_coverage"),
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused(plan: Plan, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        check_plan(plan)


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_the_bucket_holds_the_rate_for_any_chunk(chunk: int) -> None:
    clock = ManualClock()
    bucket, stop = TokenBucket(clock), threading.Event()
    begin, taken = clock.now(), 0
    while clock.now() - begin < 1_000:
        assert bucket.take(chunk, 5.0, stop)
        taken += chunk
    assert taken / (clock.now() - begin) == pytest.approx(5.0, rel=0.02)


def test_the_bucket_saves_no_more_than_a_second() -> None:
    clock = ManualClock()
    bucket, stop = TokenBucket(clock), threading.Event()
    clock.advance(3_600)
    begin = clock.now()
    for _ in range(21):
        bucket.take(1, 10.0, stop)
    assert clock.now() - begin == pytest.approx(1.0)


def test_the_bucket_ends_with_the_work() -> None:
    stop = threading.Event()
    bucket = TokenBucket(ManualClock())
    assert bucket.take(10, 0.0, stop)
    stop.set()
    assert not bucket.take(1, 0.0, stop)
    bucket.take(1, 1.0, stop)
    assert not bucket.take(1, 1.0, stop)


def test_the_meter_counts_the_last_minute_of_the_machine() -> None:
    clock = ManualClock()
    meter = RateMeter(clock)
    assert meter.rate() == 0.0
    for _ in range(30):
        meter.add(20)
        clock.advance(2)
    assert meter.rate() == pytest.approx(20 * 29 / 60)
    clock.advance(61)
    assert meter.rate() == 0.0
    meter.add(20)
    clock.advance(-3_600)  # set back: what was counted then is of no known time
    meter.add(20)
    clock.advance(2)
    meter.add(20)
    assert meter.rate() == pytest.approx(20 / 2)
    assert RateMeter(ScaledClock(100.0, origin=0.0, base=0.0))._window == 6_000.0
