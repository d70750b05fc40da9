"""The scaled clock: no jump when the scale changes, and whoever waits follows the change."""

from __future__ import annotations

import threading
import time

import pytest

from embedcore.clock import ScaledClock, SystemClock, clock_error


def test_rescaling_makes_no_jump() -> None:
    clock = ScaledClock(1_000.0, origin=time.time(), base=5_000.0)
    before = clock.now()
    clock.rescale(1.0)
    after = clock.now()
    assert before <= after < before + 1_000.0  # a second of the machine at the old scale
    assert clock.scale == 1.0


def test_a_wait_follows_a_change_of_scale() -> None:
    clock = ScaledClock(1.0, origin=time.time(), base=0.0)
    woken: list[bool] = []
    waiter = threading.Thread(target=lambda: woken.append(clock.wait(threading.Event(), 100_000.0)))
    waiter.start()
    clock.rescale(1_000_000.0)
    waiter.join(timeout=30)
    assert woken == [False]
    assert clock.now() >= 100_000.0


def test_an_event_ends_a_wait_at_once() -> None:
    clock = ScaledClock(1.0, origin=time.time(), base=0.0)
    event = threading.Event()
    event.set()
    assert clock.wait(event, 1e9)
    assert clock.wait(event, 0.0)


def test_a_scale_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        ScaledClock(0.0, origin=0.0, base=0.0)


@pytest.mark.parametrize("step", [-1e7, 1e7])
def test_a_wall_clock_that_is_set_moves_no_clock_of_the_process(
    step: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, scaled = SystemClock(), ScaledClock(10.0, origin=time.time(), base=5_000.0)
    assert abs(system.now() - time.time()) < 60
    before = (system.now(), scaled.now())
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + step)
    assert 0 <= system.now() - before[0] < 60
    assert 0 <= scaled.now() - before[1] < 600
    assert clock_error() == pytest.approx(step, abs=60)
    before_rescale = scaled.now()
    scaled.rescale(1.0)
    assert 0 <= scaled.now() - before_rescale < 60
    assert scaled.wait(threading.Event(), 0.01) is False  # and nobody waits for the step
