"""How fast the simulated week passes: as fast as what has to happen in it allows.

A plan counts in days; a machine backfills, evaluates and answers at its own speed. So the clock is slowed
where work would miss its day and let run where there is nothing to wait for: the week is as short as this
machine, with whatever else it does, can make it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from embedcore.client import Client
from embedcore.demo.processes import ServerProcess
from embedcore.migration_types import DAY, MigrationStatus, Phase

# Not faster than this, so that every step is seen and measured under traffic; not slower than that, so that
# a stuck demo ends.
FASTEST = 5_000.0
SLOWEST = 100.0
# Days of the plan by which the backfill, the evidence of the canary, and the last step shall be there. The
# shadow run lasts a day from the second on; the window is seven.
_FILLED_BY, _EVIDENCE_BY, _ENDED_BY = 4.0, 5.0, 6.9
_EVIDENCE_S, _END_S = 15.0, 10.0  # seconds of the machine that these take at least
_MARGIN = 1.2
_SEEN_S = 10.0  # seconds over which the backfill's speed is measured
_CHANGE = 0.15


@dataclass
class Pace:
    """``fixed``: a scale that was asked for, kept whatever happens. ``backfill_s``: first estimate of the
    backfill, in seconds of the machine."""

    client: Client
    server: ServerProcess
    fixed: float | None
    backfill_s: float
    scales: list[float] = field(default_factory=list)
    _seen: deque[tuple[float, float]] = field(default_factory=deque)

    def adjust(self, status: MigrationStatus, real: float, *, waiting: bool) -> None:
        """Sets the scale that this status asks for. ``waiting``: evidence is still to be reported."""
        scale = self.wanted(status, real, waiting=waiting)
        if scale is None or (self.scales and abs(scale / self.scales[-1] - 1) < _CHANGE):
            return
        self.client.set_time_scale(scale)
        self.server.time_scale = scale
        self.scales.append(scale)

    def wanted(self, status: MigrationStatus, real: float, *, waiting: bool) -> float | None:
        """Seconds of the plan per second of the machine; None before the first dual write."""
        migration = status.migration
        if migration.dual_write_at is None:
            return None
        if self.fixed is not None:
            return self.fixed
        if migration.finished or migration.phase is Phase.GRACE:
            return FASTEST
        day = (status.now - migration.dual_write_at) / DAY
        if migration.backfilled_at is None and status.coverage < 1.0:
            return _until(_FILLED_BY - day, _MARGIN * self._remaining(status.coverage, real))
        if waiting:
            return _until(_EVIDENCE_BY - day, _EVIDENCE_S)
        return _until(_ENDED_BY - day, _END_S)

    def _remaining(self, coverage: float, real: float) -> float:
        """Seconds of the machine until the target is complete, by the speed of the last ten."""
        self._seen.append((real, coverage))
        while real - self._seen[0][0] > _SEEN_S and len(self._seen) > 2:
            self._seen.popleft()
        began, before = self._seen[0]
        gained = coverage - before
        if real - began < 2.0 or gained <= 0:
            return self.backfill_s * (1 - coverage)
        return (1 - coverage) * (real - began) / gained


def _until(days: float, seconds: float) -> float:
    """The scale at which ``days`` last ``seconds``, within the limits."""
    return min(FASTEST, max(SLOWEST, days * DAY / max(seconds, 1e-3)))
