"""Rates of the backfill: a token bucket that limits it, and a meter that measures it. Time is injected."""

from __future__ import annotations

import threading
from collections import deque

from embedcore.clock import Clock


class TokenBucket:
    """Limits items per second of the clock. For one thread.

    A chunk is taken whole and may leave a debt, which the next call waits for; so over any long time the
    rate holds, whatever the chunk size, and a chunk larger than the rate is not refused for ever.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tokens = 0.0
        self._filled_at = clock.now()

    def take(self, count: int, rate: float, stop: threading.Event) -> bool:
        """Waits until ``count`` items may go; False when ``stop`` was set meanwhile. rate <= 0: no limit."""
        if rate <= 0:
            return not stop.is_set()
        self._refill(rate)
        if self._tokens < 0 and self._clock.wait(stop, -self._tokens / rate):
            return False
        self._refill(rate)
        self._tokens -= count
        return not stop.is_set()

    def _refill(self, rate: float) -> None:
        now = self._clock.now()
        # A clock that was set back gives no tokens, and takes none.
        elapsed = max(0.0, now - self._filled_at)
        self._filled_at = now
        # One second's worth may be saved up: after a pause there is no burst.
        self._tokens = min(rate, self._tokens + elapsed * rate)


class RateMeter:
    """Items per second of the clock over the last minute of machine time. Thread-safe."""

    def __init__(self, clock: Clock, window: float = 60.0) -> None:
        self._clock = clock
        self._window = window * clock.scale
        self._lock = threading.Lock()
        self._counts: deque[tuple[float, int]] = deque()

    def add(self, count: int) -> None:
        now = self._clock.now()
        with self._lock:
            self._counts.append((now, count))
            self._drop(now)

    def rate(self) -> float:
        """0.0 when nothing was counted in the window."""
        now = self._clock.now()
        with self._lock:
            self._drop(now)
            if not self._counts:
                return 0.0
            span = now - self._counts[0][0]
            # The first count stands for work done before its time: leave it out unless it is alone.
            total = sum(count for _, count in self._counts)
            if span <= 0:
                return 0.0
            first = self._counts[0][1] if len(self._counts) > 1 else 0
            return (total - first) / span

    def _drop(self, now: float) -> None:
        # After a clock was set back, what lies ahead of it is of no known time.
        while self._counts and not now - self._window <= self._counts[0][0] <= now:
            self._counts.popleft()
