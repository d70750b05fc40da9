"""How fast the week passes: never past the day by which something has to have happened."""

from __future__ import annotations

from typing import cast

import pytest

from demo import outcomes
from embedcore.client import Client
from embedcore.demo.pace import FASTEST, SLOWEST, Pace
from embedcore.demo.processes import ServerProcess
from embedcore.migration_types import DAY, MigrationStatus, Phase


class Clock:
    """Stands for client and server: takes the scale, and keeps the platform's time by it."""

    def __init__(self) -> None:
        self.now, self.scale, self.time_scale, self.calls = 0.0, 1.0, 1.0, 0

    def set_time_scale(self, scale: float) -> float:
        self.scale, self.calls = scale, self.calls + 1
        return self.now


def status(
    now: float, coverage: float, phase: Phase = Phase.BACKFILL, began: float | None = 0.0
) -> MigrationStatus:
    return outcomes.status(phase, now=now, coverage=coverage, began=began)


def pace(clock: Clock, fixed: float | None = None, backfill_s: float = 60.0) -> Pace:
    return Pace(cast(Client, clock), cast(ServerProcess, clock), fixed, backfill_s)


def play(seconds_to_fill: float, seconds_of_evidence: float, estimate: float) -> tuple[float, float, float]:
    """The days on which the backfill, the evidence and the last step came, on a machine so fast."""
    clock = Clock()
    made = pace(clock, backfill_s=estimate)
    filled = told = None
    for tick in range(100_000):
        real = tick * 0.5
        coverage = min(1.0, real / seconds_to_fill)
        day = clock.now / DAY
        if coverage == 1.0 and filled is None:
            filled = day
        waiting = real < seconds_to_fill + seconds_of_evidence
        if not waiting and told is None:
            told = day
        if filled is not None and told is not None and day > 6.0:
            return filled, told, day
        made.adjust(status(clock.now, coverage), real, waiting=waiting)
        clock.now += 0.5 * clock.scale
    raise AssertionError("the week never ended")


@pytest.mark.parametrize("fill", [5.0, 60.0, 900.0])
@pytest.mark.parametrize("evidence", [5.0, 120.0])
@pytest.mark.parametrize("estimate", [20.0, 200.0])
def test_work_never_misses_its_day(fill: float, evidence: float, estimate: float) -> None:
    filled, told, ended = play(fill, evidence, estimate)
    assert filled < 4.2
    assert told < 5.2
    assert ended < 6.5


def test_nothing_is_set_before_the_first_dual_write() -> None:
    clock = Clock()
    pace(clock).adjust(status(0.0, 0.0, Phase.PREFLIGHT, None), 0.0, waiting=True)
    assert clock.calls == 0


def test_grace_passes_as_fast_as_it_may() -> None:
    clock = Clock()
    pace(clock).adjust(status(6.5 * DAY, 1.0, Phase.GRACE), 0.0, waiting=False)
    assert clock.scale == clock.time_scale == FASTEST


def test_a_scale_that_was_asked_for_is_kept() -> None:
    clock = Clock()
    made = pace(clock, fixed=1_234.0)
    for real, coverage in ((0.0, 0.0), (100.0, 0.01), (5_000.0, 0.02)):
        made.adjust(status(real * 1_234, coverage), real, waiting=True)
    assert (clock.scale, clock.calls) == (1_234.0, 1)


def test_small_changes_are_left_alone_and_limits_hold() -> None:
    clock = Clock()
    made = pace(clock)
    for tick in range(100):
        made.adjust(status(0.0, tick / 1_000), tick, waiting=True)
    assert clock.calls <= 3
    assert all(SLOWEST <= scale <= FASTEST for scale in made.scales)
    made.adjust(status(30 * DAY, 0.5), 200.0, waiting=True)
    assert clock.scale == SLOWEST
