"""Bringing an index to the head of its shard's sequence: at the start, and in place when damage is found.

    newest valid snapshot -> replay of the log after it        seconds
    no snapshot           -> rebuild from the stored vectors   minutes, never wrong

Lanes apply state, so a replay may begin anywhere at or before what the index holds. Items that an index had
refused are tried again either way.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from embedcore.errors import FailedPrecondition, Unavailable
from embedcore.failpoints import failpoint
from embedcore.index import Index
from embedcore.serving.lane import Lane
from embedcore.serving.lanes import LaneSet
from embedcore.serving.refusals import RefusalRecord
from embedcore.serving.snapshots import SnapshotDirectory
from embedcore.store.interface import Store
from embedcore.types import Generation

# Log entries per step of a replay, which nobody reads beside: 12 MiB of vectors at 384 dimensions.
REPLAY_STEP: Final = 8192

Progress = Callable[[str, int, int], None]  # what, done, total

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ShardRecovery:
    """How far one (generation, shard) is. ``done`` and ``total`` are log entries of a replay, vectors of a
    rebuild; ``seconds`` of the machine, since it began or in all."""

    phase: str = "waiting"  # loading, replaying, rebuilding, ready; damaged: out of service, about to recover
    source: str = ""  # the snapshot's file name, or "stored vectors"
    done: int = 0
    total: int = 0
    seconds: float = 0.0
    loading_seconds: float = 0.0  # of these, until the snapshot was there
    problem: str = ""  # what made it recover in place

    @property
    def line(self) -> str:
        if self.phase in ("replaying", "rebuilding"):
            return f"{self.phase} {self.done:,} of {self.total:,} from {self.source}"
        return self.phase


class Recovery:
    """Thread-safe; shards are brought up by whoever calls :meth:`bring_up`, one thread each."""

    def __init__(
        self,
        store: Store,
        lanes: LaneSet,
        snapshots: SnapshotDirectory,
        *,
        seed: int = 0,
        threads: int = 0,
        machine_time: Callable[[], float] = time.monotonic,
    ) -> None:
        """``threads`` per add of a replay; 0: all cores, 1: the same graph every time."""
        self._time = machine_time
        self._store = store
        self._lanes = lanes
        self._snapshots = snapshots
        self._seed = seed
        self._threads = threads
        self._lock = threading.Lock()
        self._shards: dict[tuple[int, int], ShardRecovery] = {}
        self._begun: dict[tuple[int, int], float] = {}
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Ends what is under way: bring_up raises Unavailable."""
        self._stopped.set()

    def expect(self, generation: Generation) -> None:
        """Makes the generation's shards show as waiting, so that nothing counts as done before they are."""
        for shard in range(generation.shards):
            self._set(generation.number, shard, ShardRecovery())

    def forget(self, generation: int) -> None:
        with self._lock:
            for key in [key for key in self._shards if key[0] == generation]:
                del self._shards[key]

    def bring_up(
        self, generation: Generation, shard: int, progress: Progress | None = None, problem: str = ""
    ) -> Lane:
        """A lane at the head, as it was during the call, not yet attached. :meth:`finish` is to follow, once
        what it brought up is in use."""
        number = generation.number
        self._begun[number, shard] = self._time()
        self._set(number, shard, ShardRecovery("loading", problem=problem))
        lane = self._from_snapshot(generation, shard, progress) or self._from_vectors(
            generation, shard, progress
        )
        self._advance(number, shard)
        state = self._shards[number, shard]
        _logger.info(
            "generation %d, shard %d: ready at %d after %.1f s, from %s",
            number, shard, lane.applied, state.seconds, state.source,
        )  # fmt: skip
        return lane

    def finish(self, generation: int, shard: int | None = None) -> None:
        """Shards of the generation (all, when None) are in use."""
        with self._lock:
            for key, state in self._shards.items():
                if key[0] == generation and shard in (None, key[1]):
                    self._shards[key] = replace(state, phase="ready")

    def damaged(self, generation: int, shard: int, problem: str) -> None:
        """The shard's index is out of service until :meth:`bring_up` has replaced it."""
        self._set(generation, shard, ShardRecovery("damaged", problem=problem))

    @property
    def done(self) -> bool:
        with self._lock:
            return all(state.phase == "ready" for state in self._shards.values())

    def status(self) -> dict[str, dict[str, Any]]:
        """Per shard, JSON-serialisable."""
        with self._lock:
            return {
                f"g{generation}-s{shard}": {
                    "phase": state.phase,
                    "source": state.source,
                    "done": state.done,
                    "total": state.total,
                    "seconds": round(state.seconds, 3),
                    "loading_seconds": round(state.loading_seconds, 3),
                    "problem": state.problem,
                }
                for (generation, shard), state in sorted(self._shards.items())
            }

    def line(self) -> str:
        """What is still to be done, in one line; empty when all is."""
        with self._lock:
            return "; ".join(
                f"generation {generation}, shard {shard}: {state.line}"
                for (generation, shard), state in sorted(self._shards.items())
                if state.phase != "ready"
            )

    def _from_snapshot(self, generation: Generation, shard: int, progress: Progress | None) -> Lane | None:
        number = generation.number
        refused = RefusalRecord(self._store, number, shard).read()
        if refused is None:
            _logger.warning(
                "generation %d, shard %d: its index had refused too many items to name them", number, shard
            )
            return None
        found = self._snapshots.load_newest(
            number,
            shard,
            generation.fingerprint.digest,
            head=self._store.head(shard),
            pruned=self._store.pruned(shard),
        )
        if found is None:
            return None
        failpoint("recovery-after-load")
        index, watermark = found
        self._advance(number, shard, loading_seconds=self._time() - self._begun[number, shard])
        lane = Lane(self._store, number, shard, index, watermark)
        if refused:
            lane.retry(refused)
        head = self._store.head(shard)
        self._advance(
            number, shard, phase="replaying", source=f"snapshot {watermark}", total=head - watermark
        )
        while lane.step(REPLAY_STEP, self._threads):
            failpoint("recovery-mid-replay")
            self._go_on()
            self._advance(number, shard, done=lane.applied - watermark)
            if progress is not None:
                progress(f"generation {number} shard {shard}", lane.applied - watermark, head - watermark)
        return lane

    def _from_vectors(self, generation: Generation, shard: int, progress: Progress | None) -> Lane:
        number, fingerprint = generation.number, generation.fingerprint
        if self._snapshots.files(number, shard):
            _logger.warning(
                "generation %d, shard %d: no snapshot can be used, rebuilding from the stored vectors",
                number, shard,
            )  # fmt: skip
        record = RefusalRecord(self._store, number, shard)
        if record.read() is None:
            self._snapshots.drop_shard(number, shard)  # they lack items that nobody will name any more
            record.write(())
        self._advance(number, shard, phase="rebuilding", source="stored vectors")

        def report(done: int, total: int) -> None:
            self._go_on()
            self._advance(number, shard, done=done, total=total)
            if progress is not None:
                progress(f"generation {number} shard {shard}", done, total)

        index = Index(dim=fingerprint.dimension, metric=fingerprint.metric, seed=self._seed)
        lane = self._lanes.rebuild(number, shard, index, report)
        while lane.step(REPLAY_STEP, self._threads):
            self._go_on()
        return lane

    def _go_on(self) -> None:
        if self._stopped.is_set():
            raise Unavailable("the platform was closed while it recovered: open it again")

    def _set(self, generation: int, shard: int, state: ShardRecovery) -> None:
        with self._lock:
            self._shards[generation, shard] = state

    def _advance(self, generation: int, shard: int, **changed: Any) -> None:
        seconds = self._time() - self._begun[generation, shard]
        with self._lock:
            state = self._shards.get((generation, shard))
            if state is None:
                raise FailedPrecondition(f"generation {generation} was detached while it recovered")
            self._shards[generation, shard] = replace(state, seconds=seconds, **changed)
