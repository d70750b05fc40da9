"""All lanes of a process: their threads, read-your-writes, and the bulk fill of an index."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

from embedcore.clock import Clock
from embedcore.errors import AlreadyExists, InvalidArgument, NotFound, Unavailable
from embedcore.serving.lane import STEP_LIMIT, Lane, LaneIndex, apply_vectors
from embedcore.store.interface import Store
from embedcore.types import SequenceToken

__all__ = ["STEP_LIMIT", "Lane", "LaneIndex", "LaneSet", "Progress"]

# Pause after an error of the store, in seconds of the machine: a disk does not follow a scaled clock.
_RETRY_S: Final = 0.5
# Vectors per read of a rebuild: 6 MiB at 384 dimensions.
_SCAN_ROWS: Final = 4096

_logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]  # done, total
_Key = tuple[int, int]  # (generation, shard)


class LaneSet:
    """One thread per lane, woken by the store's commits; nothing runs between them.

    All methods may be called from any thread, except that close, detach and swap wait for a lane's thread
    and so must not be called from within a lane's index. With ``threads=False`` nothing runs by itself:
    :meth:`step`, :meth:`drain` and :meth:`wait` step the lanes on the caller's thread, for simulation.
    """

    def __init__(self, store: Store, clock: Clock, *, threads: bool = True) -> None:
        self._store = store
        self._clock = clock
        self._threads = threads
        self._lock = threading.Lock()  # of the two below
        self._workers: dict[_Key, _Worker] = {}
        self._closed = False
        self._moved = threading.Condition()
        if threads:
            store.on_commit(self._wake)

    def attach(self, lane: Lane) -> None:
        """From now on every committed write reaches the lane's index. AlreadyExists when this generation
        and shard have a lane: see :meth:`swap`."""
        self._put(lane, replace=False)

    def swap(self, lane: Lane) -> Lane:
        """Puts the lane in the place of the one of its generation and shard, which is returned, stopped:
        the end of a rebuild. NotFound when there is none."""
        old = self._put(lane, replace=True)
        assert old is not None
        old.stop()
        return old.lane

    def detach(self, generation: int) -> None:
        """Stops and forgets the generation's lanes; waits for the step in progress. None: does nothing."""
        with self._lock:
            gone = [self._workers.pop(key) for key in list(self._workers) if key[0] == generation]
        for worker in gone:
            worker.stop()
        self._notify()

    def close(self) -> None:
        """Stops all lanes. Closing twice does nothing; the store may be closed afterwards."""
        with self._lock:
            self._closed = True
            gone = list(self._workers.values())
            self._workers.clear()
        for worker in gone:
            worker.stop()
        self._notify()

    def of(self, generation: int) -> list[Lane]:
        """The generation's lanes by ascending shard; empty when it is not attached."""
        with self._lock:
            return [worker.lane for key, worker in sorted(self._workers.items()) if key[0] == generation]

    def applied(self, generation: int) -> dict[int, int]:
        """Shard -> sequence number applied. NotFound when the generation is not attached."""
        lanes = self.of(generation)
        if not lanes:
            raise NotFound(f"generation {generation} has no lanes in this process: attach it first")
        return {lane.shard: lane.applied for lane in lanes}

    def wait(self, token: SequenceToken, generations: Iterable[int], deadline_s: float) -> bool:
        """Whether each of the generations has applied the token within ``deadline_s`` seconds (of the
        machine): read-your-writes. False at once when a generation is not attached, or is detached
        meanwhile. InvalidArgument for a shard that the store does not have."""
        if not token:
            return True
        for shard in token:
            if not 0 <= shard < self._store.shards:
                raise InvalidArgument(
                    f"sequence token names shard {shard}, the store has {self._store.shards}: use a token"
                    " that a write returned"
                )
        wanted = [(generation, shard) for generation in generations for shard in token]
        if not self._threads:
            while self._reached(wanted, token) is None and self.step():
                pass
        with self._moved:
            self._moved.wait_for(
                lambda: self._reached(wanted, token) is not None,
                timeout=max(0.0, deadline_s) if self._threads else 0.0,
            )
            return self._reached(wanted, token) is True

    def step(self, limit: int = STEP_LIMIT) -> int:
        """One step of every lane on the caller's thread; returns by how much they moved in all."""
        moved = sum(worker.step(limit) for worker in self._snapshot())
        if moved:
            self._notify()
        return moved

    def drain(self) -> None:
        """Steps on the caller's thread until every lane is at the head."""
        while self.step():
            pass

    def rebuild(
        self, generation: int, shard: int, index: LaneIndex, progress: Progress | None = None
    ) -> Lane:
        """Fills an index from the stored vectors; returns its lane, not attached, with the items that the
        index refused on its failure record.

        The lane is at the head as it was before the scan: what the scan saw of later writes is applied
        again by the lane, with the same result. progress(done, total): total is an estimate.
        """
        watermark = self._store.head(shard)
        total = self._store.coverage(generation, {shard: watermark}).covered
        failures: dict[int, str] = {}
        done = 0
        after = -1
        while True:
            if self._closed:
                raise Unavailable("the lanes were closed during a rebuild: open the platform again")
            ids, vectors = self._store.scan_vectors(generation, shard, after, _SCAN_ROWS)
            if not len(ids):
                break
            # All cores, except in a simulation, where the same seed must give the same graph.
            failures.update(apply_vectors(index, ids, vectors, 0 if self._threads else 1))
            after = int(ids[-1])
            done += len(ids)
            if progress is not None:
                progress(done, max(done, total))
        lane = Lane(self._store, generation, shard, index, watermark)
        lane.record_failures(failures)
        return lane

    def stats(self) -> dict[str, dict[str, Any]]:
        """Per lane its counters, the time it last moved (of the clock; 0: never since it was attached)
        and the error of the store that holds it up (empty: none)."""
        return {
            f"g{worker.lane.generation}-s{worker.lane.shard}": {
                **worker.lane.stats(),
                "moved_at": worker.moved_at,
                "error": worker.error,
            }
            for worker in self._snapshot()
        }

    # Inside.

    def _put(self, lane: Lane, *, replace: bool) -> _Worker | None:
        key = (lane.generation, lane.shard)
        name = f"generation {lane.generation}, shard {lane.shard}"
        with self._lock:
            if self._closed:
                raise Unavailable("the lanes are closed: open the platform again")
            old = self._workers.get(key)
            if replace and old is None:
                raise NotFound(f"{name} has no lane to replace: attach one")
            if not replace and old is not None:
                raise AlreadyExists(f"{name} has a lane already: swap it, or detach the generation first")
            worker = _Worker(lane, self._clock, self._notify)
            self._workers[key] = worker
        if self._threads:
            worker.start()
        self._notify()
        return old

    def _reached(self, wanted: Iterable[_Key], token: SequenceToken) -> bool | None:
        """True: all are there. False: one has no lane. None: not yet."""
        behind = False
        with self._lock:
            for key in wanted:
                worker = self._workers.get(key)
                if worker is None:
                    return False
                behind = behind or worker.lane.applied < token[key[1]]
        return None if behind else True

    def _snapshot(self) -> list[_Worker]:
        with self._lock:
            return [worker for _, worker in sorted(self._workers.items())]

    def _wake(self) -> None:
        for worker in self._snapshot():
            worker.wake()

    def _notify(self) -> None:
        with self._moved:
            self._moved.notify_all()


class _Worker:
    """A lane with the thread that steps it."""

    def __init__(self, lane: Lane, clock: Clock, moved: Callable[[], None]) -> None:
        self.lane = lane
        self.error = ""
        self.moved_at = 0.0
        self._clock = clock
        self._moved = moved
        self._event = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def step(self, limit: int = STEP_LIMIT) -> int:
        moved = self.lane.step(limit)
        if moved:
            self.moved_at = self._clock.now()
        return moved

    def start(self) -> None:
        self._event.set()  # it starts behind: at its snapshot, or at nothing
        name = f"lane-g{self.lane.generation}-s{self.lane.shard}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        self._event.set()

    def stop(self) -> None:
        """Waits for the step in progress."""
        self._stopping.set()
        self._event.set()
        if self._thread is not None and self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._event.wait()
            self._event.clear()
            try:
                moved = STEP_LIMIT
                # A shorter step has reached the head; whoever commits after it was read sets the event again.
                while moved >= STEP_LIMIT and not self._stopping.is_set():
                    if moved := self.step():
                        self._moved()
                self.error = ""
            except Exception as error:
                # The lane stands where it stood; what it missed is still in the log.
                self.error = str(error) or type(error).__name__
                _logger.exception(
                    "lane of generation %d, shard %d stopped at %d; trying again",
                    self.lane.generation,
                    self.lane.shard,
                    self.lane.applied,
                )
                self._stopping.wait(_RETRY_S)
                self._event.set()
            if self._stopping.is_set():
                return
