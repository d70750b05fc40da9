"""Time, injected: nothing in embedcore reads the system clock except through a :class:`Clock`.

A 7-day migration runs in a test in a second (:class:`ManualClock`) and in a demo in minutes
(:class:`ScaledClock`).

In a process time goes on steadily. The machine's wall clock is read once, when this module is loaded; from
then on a clock follows the time that has passed, suspended machines included. A wall clock that is set, by
hand or by a virtual machine that wakes up elsewhere, would otherwise end a grace period, or stop every retry
until it has caught up. What it says by then counts from the next start on.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Final, Protocol


class Clock(Protocol):
    """Seconds, as floats. All methods may be called from any thread."""

    @property
    def scale(self) -> float:
        """Seconds of this clock per second of the machine's clock; 1 for real time."""

    def now(self) -> float:
        """Wall time in seconds since the Unix epoch, in this clock's time."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Waits until the event is set or this clock has moved on by ``seconds``; True when set."""


# Of Linux: goes on while the machine is suspended. Slewed with the wall clock, never set.
_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_STARTED: Final = time.time() - time.clock_gettime(_STEADY)


def machine_now() -> float:
    """Wall time of the machine as this process sees it: seconds since the Unix epoch, steadily."""
    return _STARTED + time.clock_gettime(_STEADY)


def clock_error() -> float:
    """Seconds by which the machine's wall clock was set forward (or back) since this process started."""
    return time.time() - machine_now()


class SystemClock:
    """The machine's clock, see :func:`machine_now`."""

    scale = 1.0

    def now(self) -> float:
        return machine_now()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(max(0.0, seconds))


_SLICE_S = 0.2  # machine time


class ScaledClock:
    """A clock that runs ``scale`` times as fast as the machine's, from a stated origin.

    ``origin`` is the machine time at which this clock read ``base``; the same three numbers give the same
    reading in every process and after every restart, as long as nobody sets the machine's clock.
    """

    def __init__(self, scale: float, *, origin: float, base: float) -> None:
        self._state = (_positive(scale), origin, base)  # replaced as one: readers see all of it or nothing

    @property
    def scale(self) -> float:
        return self._state[0]

    def now(self) -> float:
        scale, origin, base = self._state
        return base + (machine_now() - origin) * scale

    def rescale(self, scale: float) -> tuple[float, float, float]:
        """Runs at another speed from now on, without a jump; returns (scale, origin, base)."""
        machine = machine_now()
        old, origin, base = self._state
        self._state = (_positive(scale), machine, base + (machine - origin) * old)
        return self._state

    def wait(self, event: threading.Event, seconds: float) -> bool:
        # In slices: the scale may change while somebody waits for a moment of this clock.
        until = self.now() + max(0.0, seconds)
        while (left := until - self.now()) > 0:
            if event.wait(min(left / self.scale, _SLICE_S)):
                return True
        return event.is_set()


def _positive(scale: float) -> float:
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"time scale must be positive and finite, got {scale}")
    return float(scale)


class ManualClock:
    """A clock that moves only when told to, for tests."""

    scale = 1.0

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Moves the clock; negative values move it back, as an operator's correction would."""
        self._now += seconds

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self._now += max(0.0, seconds)
        return event.is_set()
