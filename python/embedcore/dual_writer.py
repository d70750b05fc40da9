"""Dual write: one stream of writes, brought to any number of indexes, each at its own pace.

The typed face of the native ``DualWriter``. Any number of threads may call anything here at once; calls that
wait or work release the GIL and answer Ctrl-C. ValueErrors are :class:`embedcore.errors.InvalidArgument` and
are raised before anything has changed.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedcore import _native
from embedcore.dual_write_input import (
    Source,
    Target,
    Write,
    dim_of,
    lane_of,
    seconds_of,
    sequences_of,
    source_of,
    target_of,
)
from embedcore.errors import EmbedcoreError, InvalidArgument, NotFound, Unavailable
from embedcore.index import Index
from embedcore.index_input import ids_of, number, rows_of, whole

__all__ = ["DualWriter", "Failure", "Source", "Target", "Write"]

_LAST: Final = 2**63 - 1  # sequence number to ask for


class Failure(NamedTuple):
    """Why a lane does not hold an item as the stream has it, and the sequence number of that write."""

    sequence: int
    reason: str


class DualWriter:
    """Brings every write to every one of its indexes, atomically as the stream sees it.

    ``indexes``: one :class:`Index` per lane, numbered from 0; vectors are handed in per lane. Writes enter a
    bounded ring of ``capacity`` entries, which keeps ``capacity`` vectors per lane in memory once it has gone
    round, and each lane applies them in order. After ``wait(ticket)`` every lane answers with the write, or
    has its failure on record: nothing in between.

    ``threads`` apply the writes of each lane; 0: nothing is applied but by :meth:`step`. ``sources``: per
    lane None, or a callable ``source(from_sequence, limit)`` -> writes of the log from there on, in ascending
    order (:class:`Write`). A lane with a source that falls a whole ring behind is *parked*: it holds nobody
    up, catches up from its source and joins the ring again. A source must hold a write before the writer is
    given it; where the writer numbers, it must show writes in order, none while a lower one is to come. A
    lane without a source, and every lane with ``park=False``, makes writers wait. ``gap_threshold``: seconds
    after which a write that was begun and is not finished counts as a publish gap.

    An item that a lane has no vector for, or cannot apply, is removed from that lane and put on its failure
    record, since an older vector of it would be wrong. A later write that succeeds takes it off again.

    Close it when done; it is a context manager. Raises ValueError for arguments out of range.
    """

    def __init__(
        self,
        indexes: Sequence[Index | Target],
        capacity: int = 65536,
        *,
        threads: int = 1,
        sources: Sequence[Source | None] | None = None,
        park: bool = True,
        gap_threshold: float = 1.0,
    ) -> None:
        given = list(indexes)
        callers = [None] * len(given) if sources is None else list(sources)
        if len(callers) != len(given):
            raise InvalidArgument(
                f"{len(callers)} sources came for {len(given)} indexes; give one each, or None"
            )
        seconds = number(gap_threshold, "gap_threshold")
        if not 0 < seconds <= 1e6:
            raise InvalidArgument(f"gap_threshold is {gap_threshold}; it must be above 0, in seconds")
        lanes = [
            (*target_of(index), source_of(source, index))
            for index, source in zip(given, callers, strict=True)
        ]
        self._capacity = whole(capacity, "capacity", 1, 2**30)
        self._native = _native.DualWriter(
            capacity=self._capacity,
            threads=whole(threads, "threads", 0, 65535),
            park=bool(park),
            gap_s=seconds,
        )
        # One change of lanes at a time, here as in the core. Readers take no lock: a target or source of the
        # caller may ask for the index of a lane while a change waits for it.
        self._control = threading.Lock()
        self._indexes: dict[int, Index | Target] = {}
        self._dims: dict[int, int] = {}
        self._threads = int(threads)
        self._process = os.getpid()
        for index, (native, dim, metric, source) in zip(given, lanes, strict=True):
            self._known(self._native.attach(native, dim, metric, source, None, None), index)
        _open.add(self)

    # Writing.

    def upsert(
        self,
        ids: ArrayLike,
        vectors: Sequence[ArrayLike | None],
        timeout: float | None = None,
        sequences: ArrayLike | None = None,
        lanes: Sequence[int] | None = None,
    ) -> int:
        """Adds or replaces items in every lane, and returns the ticket: the call's last sequence number.

        ``ids``: (n,) whole numbers in 0..2^63-1, none twice. ``vectors``: per lane, by its number, an array
        (n, dim) or None: that lane has no vector yet (also where the list ends early). Arrays are copied and
        are the caller's again at once. The array of a detached lane is ignored, unless another lane takes it.

        ``timeout``: seconds to wait for room in the ring; 0 does not wait, None waits. When it has passed,
        WouldBlock is raised and nothing was accepted. Without a timeout more than ``capacity`` items may be
        given: they go in pieces, and Ctrl-C between two leaves the first ones accepted.

        ``sequences``: (n,) the caller's sequence numbers, ascending, from a log; a write older than what a
        lane has of the item is ignored by it. None: the writer numbers from 1. Either always or never.

        ``lanes``: only these take the write, e.g. to repair one; the others do not see it.

        Raises ValueError (shape, non-finite values, zero vector under cosine, duplicate ids, sequences out of
        order), WouldBlock, FailedPrecondition (numbered now this way, now that) and Unavailable (closed).
        """
        numbers = ids_of(ids)
        self._usable()
        if isinstance(vectors, str | bytes) or not isinstance(vectors, Sequence | np.ndarray):
            raise InvalidArgument(f"vectors is {type(vectors).__name__}; give a list with one array per lane")
        rows = [self._rows(lane, array, len(numbers)) for lane, array in enumerate(vectors)]
        return self._write(False, numbers, rows, timeout, sequences, lanes)

    def remove(
        self,
        ids: ArrayLike,
        timeout: float | None = None,
        sequences: ArrayLike | None = None,
        lanes: Sequence[int] | None = None,
    ) -> int:
        """Removes items from every lane, as :meth:`upsert` adds them; unknown ids are ignored."""
        numbers = ids_of(ids)
        self._usable()
        return self._write(True, numbers, [], timeout, sequences, lanes)

    def wait(self, ticket: int, timeout: float | None = None) -> None:
        """Waits until every lane has applied the write of this ticket, or has it on its failure record.

        Raises TimeoutError (DeadlineExceeded) after ``timeout`` seconds, ValueError for a ticket that was not
        given out, and Unavailable where the writer was closed first. With ``threads=0`` another thread has to
        step meanwhile. Where callers' numbers came out of order, it waits for all that was accepted so far.
        """
        self._usable(closed=True)
        self._native.wait(whole(ticket, "ticket", 0, 2**64 - 1), seconds_of(timeout))

    # Reading.

    @property
    def applied(self) -> list[int]:
        """By lane number: the sequence number up to which all is applied or recorded; -1 once detached."""
        found = [-1] * (max(self._dims, default=-1) + 1)
        for lane in self._native.lanes():
            with contextlib.suppress(NotFound):  # detached just now
                found[lane] = self._native.lane_stats(lane)["applied"]
        return found

    @property
    def lanes(self) -> list[int]:
        """The numbers of the lanes attached now; a number is never given twice."""
        return self._native.lanes()

    def index(self, lane: int) -> Index | Target:
        """The index that this lane writes to now: what readers should search, so that a swap reaches them."""
        found = self._indexes.get(lane)
        if found is None:
            raise NotFound(f"there is no lane {lane}; lanes are {self.lanes}")
        return found

    def failures(self, lane: int) -> dict[int, Failure]:
        """The items that this lane does not hold as the stream has them, by id, oldest failure first."""
        found = self._native.failures(lane_of(lane))
        return {item: Failure(sequence, reason) for item, sequence, reason in found}

    def stats(self, lane: int | None = None) -> dict[str, Any]:
        """Counts of a lane, or of the writer.

        Of a lane: "applied" (sequence number), "lag" (entries not applied yet); writes: "successes",
        "failures", "missing" (of those, without a vector), "ignored" (older than what it had), "caught_up"
        (taken from its source); "recorded" (items on the failure record now), "parked", "parkings",
        "source_error" ("": none).

        Of the writer: "capacity", "accepted" (last sequence number), "entries" (ever accepted), "in_flight"
        (begun and not published), "waits" (calls that found the ring full), "refusals" (WouldBlock),
        "publish_gaps".
        """
        if lane is not None:
            return self._native.lane_stats(lane_of(lane))
        return {"capacity": self._capacity, **self._native.stats()}

    # Lanes.

    def attach(
        self,
        index: Index | Target,
        from_sequence: int | None = None,
        *,
        source: Source | None = None,
        vectors_of: int | None = None,
    ) -> int:
        """Adds a lane while writes go on, and returns its number. From now on it receives every write.

        ``from_sequence``: it also receives what came from there on. If that has left the ring, it begins
        parked and catches up from its ``source``; without one ValueError says from where the ring can replay.

        ``vectors_of``: it takes the vectors handed in for this lane (a rebuild, a replica), and no array of
        its own. Otherwise producers hand in an array for its number; until they do it has no vectors yet.
        """
        self._usable()
        native, dim, metric = target_of(index)
        with self._control:
            lane = self._native.attach(
                native,
                dim,
                metric,
                source_of(source, index),
                None if from_sequence is None else whole(from_sequence, "from_sequence", 1, _LAST),
                None if vectors_of is None else lane_of(vectors_of),
            )
            self._known(lane, index)
        return lane

    def detach(self, lane: int) -> None:
        """Takes a lane off while writes go on. Its index gets no more writes once this returns."""
        self._usable()
        lane = lane_of(lane)
        with self._control:
            try:
                self._native.detach(lane)
            finally:  # after Ctrl-C it is detached, too
                if lane not in self._native.lanes():
                    self._indexes.pop(lane, None)

    def swap(self, lane: int, index: Index | Target) -> int:
        """Puts another index in a lane's place, between two writes, while writes go on.

        Returns the sequence number up to which writes went to the old index; later ones go to the new. The
        new one must hold what was written until then, and have the same dimension and metric. Where another
        lane feeds it (``attach(index, vectors_of=lane)``), it is taken over from that lane as both stand at
        the same write, and that lane goes on with the old index: for a way back, or to be detached. Waits for
        the writes being applied, at most 64. Readers that search the old index finish on it; see
        :meth:`index`.
        """
        self._usable()
        native, dim, metric = target_of(index)
        lane = lane_of(lane)
        with self._control:
            sequence = self._native.swap(lane, native, dim, metric)
            feeder = next((n for n, held in self._indexes.items() if held is index and n != lane), None)
            if feeder is not None:
                self._indexes[feeder] = self._indexes[lane]
            self._indexes[lane] = index
        return sequence

    # Running.

    def step(self, lane: int, n: int = 1) -> int:
        """Applies up to ``n`` writes of a lane on the calling thread, and returns how many there were.

        Only with ``threads=0``: then the same calls do the same things in the same order. A parked lane takes
        them from its source.
        """
        self._usable()
        return self._native.step(lane_of(lane), whole(n, "n", 0, 2**63 - 1))

    def close(self, drain: bool = True) -> None:
        """Accepts no more writes, lets the lanes finish, and ends their threads. A second call does nothing.

        ``drain=False``: what is not applied yet goes on the failure records instead. A parked lane that its
        source has nothing more for stays as it is. Counts, failures and tickets can be asked for afterwards.
        """
        self._usable(closed=True)
        self._native.close(bool(drain), None)
        _open.discard(self)

    @property
    def closed(self) -> bool:
        return self._native.closed

    def __enter__(self) -> DualWriter:
        self._usable()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"capacity={self._capacity} applied={self.applied}"
        return f"<embedcore.DualWriter lanes={self.lanes} {state}>"

    # Inside.

    def _usable(self, closed: bool = False) -> None:
        if self._process != os.getpid():
            raise Unavailable(f"this writer belongs to process {self._process}; open one after the fork")
        if not closed and self._native.closed:
            raise Unavailable("the writer is closed; open a new one")

    def _known(self, lane: int, index: Index | Target) -> None:
        self._indexes[lane] = index
        self._dims[lane] = dim_of(index)

    def _rows(self, lane: int, array: ArrayLike | None, n: int) -> NDArray[np.float32] | None:
        if array is None:
            return None
        dim = self._dims.get(lane)
        if dim is None:
            raise InvalidArgument(
                f"an array came for lane {lane}, but lanes are {self.lanes}; give one per lane"
            )
        rows, _ = rows_of(array, dim, f"vectors of lane {lane}")
        if len(rows) != n:
            raise InvalidArgument(
                f"{n} ids came with {len(rows)} vectors of lane {lane}; give one vector per id"
            )
        return rows

    def _write(
        self,
        removes: bool,
        ids: NDArray[np.int64],
        rows: list[NDArray[np.float32] | None],
        timeout: float | None,
        sequences: ArrayLike | None,
        lanes: Sequence[int] | None,
    ) -> int:
        return self._native.write(
            removes,
            ids,
            rows,
            None if sequences is None else sequences_of(sequences),
            None if lanes is None else [lane_of(lane) for lane in lanes],
            seconds_of(timeout),
        )

    def _end(self) -> None:
        """At the interpreter's end: quickly, and whatever state it is in."""
        if self._process == os.getpid():
            # A lane that hangs in its index is left: its thread ends with the process.
            with contextlib.suppress(EmbedcoreError):
                self._native.close(False, 0.5)


_open: weakref.WeakSet[DualWriter] = weakref.WeakSet()


# Before the interpreter goes: a lane's thread that calls Python later would never come back.
@atexit.register
def _end_all() -> None:
    for writer in list(_open):
        writer._end()
