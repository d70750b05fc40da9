"""The state of the whole: status, snapshots, verification, backups, simulated time."""

from __future__ import annotations

from typing import Any

import embedcore
from embedcore.api import PlatformStatus, SnapshotTaken
from embedcore.clock import clock_error
from embedcore.errors import InvalidArgument
from embedcore.platform.clocks import set_scale
from embedcore.platform.core import PlatformCore, Progress
from embedcore.serving.counters import summarise
from embedcore.serving.verifying import Verifier
from embedcore.store.backup import SnapshotFile, write_backup


class UpkeepPart(PlatformCore):
    """See :class:`embedcore.api.PlatformApi`."""

    def status(self) -> PlatformStatus:
        return PlatformStatus(
            ready=bool(self.serving.routes) and self.serving.recovery.done,
            live_items=self.store.live_items(),
            repair_queue=self.store.repair_count(),
            simulated=self.store.simulated,
            now=self.clock.now(),
            time_scale=self.clock.scale,
            version=embedcore.__version__,
            details={
                "counters": {
                    name: summarise(self.serving.router.counters(slot))
                    for name, slot in self.serving.slots.items()
                    if name in self.serving.routes
                },
                "clock_error_seconds": round(clock_error(), 3),
                "lanes": self.serving.lanes.stats(),
                "recovery": self.serving.recovery.status(),
                "store": self.store.stats(),
            },
        )

    def snapshot(self) -> list[SnapshotTaken]:
        self._must_have_recovered()
        return [
            SnapshotTaken(lane.generation, lane.shard, int(path.stem), str(path), path.stat().st_size)
            for lane, path in self.serving.save_snapshots()
        ]

    def verify(self, sample: int = 1000) -> dict[str, Any]:
        if sample < 0:
            raise InvalidArgument(f"the sample must be 0 or more vectors, got {sample}")
        self._must_have_recovered()
        return Verifier(self.store, self.serving).run(sample).document()

    def backup(self, destination: str, *, progress: Progress | None = None) -> dict[str, Any]:
        """``progress`` is told what is done, how many bytes of it, of how many."""
        found = [
            SnapshotFile(generation.number, shard, *newest)
            for generation in self.store.generations()
            if generation.live
            for shard in range(generation.shards)
            if (newest := self.serving.snapshots.newest(generation.number, shard)) is not None
        ]
        return write_backup(self.store, destination, found, version=embedcore.__version__, progress=progress)

    def set_time_scale(self, scale: float) -> float:
        set_scale(self.store, self.clock, scale)
        return self.clock.now()
