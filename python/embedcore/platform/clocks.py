"""The clock of a data directory: scaled time goes on from where it was, also across restarts."""

from __future__ import annotations

import logging
import math

from embedcore.clock import Clock, ScaledClock, SystemClock, machine_now
from embedcore.errors import FailedPrecondition, InvalidArgument, ResourceExhausted
from embedcore.store.interface import Store

_logger = logging.getLogger(__name__)

_KEY = "clock"  # what the store keeps: scale, origin, reading at the origin


def clock_of(store: Store, time_scale: float) -> Clock:
    """FailedPrecondition for a scale other than 1 where the directory is not marked as simulated."""
    if not store.simulated:
        if time_scale != 1.0:
            raise FailedPrecondition(
                f"time scale {time_scale} needs a data directory marked as simulated: create a new one "
                f"with --simulated"
            )
        return SystemClock()
    now = machine_now()
    saved = store.get_meta(_KEY)
    base = now
    if saved is not None:
        scale, origin, origin_reads = (float(part) for part in saved.split())
        # Never back, though the machine's clock was set back while nobody ran.
        base = max(origin_reads, ScaledClock(scale, origin=origin, base=origin_reads).now())
    try:
        _keep(store, time_scale, now, base)
    except ResourceExhausted as error:
        _logger.warning("the next start will not know how time has passed in this one: %s", error.message)
    return ScaledClock(time_scale, origin=now, base=base)


def set_scale(store: Store, clock: Clock, scale: float) -> None:
    """Runs ``clock`` at another speed from now on, without a jump; FailedPrecondition
    outside a data directory marked as simulated."""
    if not isinstance(clock, ScaledClock):
        raise FailedPrecondition("the time scale can only be set in a simulated data directory")
    if not (math.isfinite(scale) and scale > 0):
        raise InvalidArgument(f"the time scale must be positive and finite, got {scale}")
    _keep(store, *clock.rescale(scale))


def _keep(store: Store, scale: float, origin: float, base: float) -> None:
    store.set_meta(_KEY, f"{scale!r} {origin!r} {base!r}")
