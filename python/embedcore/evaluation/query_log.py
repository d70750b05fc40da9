"""The query log: a bounded sample of what consumers were asked, for labelling. Off by default.

What is kept: the distinct texts whose seeded hash is smallest, at most ``Consumer.query_log`` of them, each
with how often it was asked since the log began. A text that is among them at the end was among them when it
was first asked, so its count is exact, and the sample is uniform over distinct texts whatever their frequency
(bottom-k sampling: Cohen & Kaplan, "Summarizing Data using Bottom-k Sketches", PODC 2007).

What is not kept: users, times, results, queries by vector, queries in a namespace or with a filter. Texts
can hold personal data all the same: the log is off by default, bounded, emptied by setting ``query_log`` to
0, and what was asked once only is not exported unless that is asked for.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import logging
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from embedcore.errors import EmbedcoreError

if TYPE_CHECKING:
    from embedcore.store.interface import Store

log = logging.getLogger(__name__)

BLOB_KIND = "query-log"  # consumer -> its sketch
MAX_CHARS = 512  # a longer text is no query that anybody labels
FLUSH_S = 5.0
PENDING = 8_192  # asked since the last flush; beyond it the oldest are lost


@dataclass
class Sketch:
    """Bottom-k sample of distinct texts with exact counts. Not thread-safe."""

    capacity: int
    seed: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    asked: int = 0  # queries seen, kept or not
    _heap: list[tuple[int, str]] = field(default_factory=list)  # largest hash first, negated

    def add(self, text: str, count: int = 1) -> None:
        self.asked += count
        if text in self.counts:
            self.counts[text] += count
            return
        rank = self._rank(text)
        if len(self._heap) < self.capacity:
            heapq.heappush(self._heap, (-rank, text))
        elif self.capacity and rank < -self._heap[0][0]:
            _, gone = heapq.heapreplace(self._heap, (-rank, text))
            del self.counts[gone]
        else:
            return
        self.counts[text] = count

    def resized(self, capacity: int) -> Sketch:
        """The same sample with room for ``capacity``. Growing starts anew: a larger sample would have kept
        texts that are gone."""
        if capacity >= self.capacity:
            return self if capacity == self.capacity else Sketch(capacity, self.seed)
        made = Sketch(capacity, self.seed)
        for text, count in self.counts.items():
            made.add(text, count)
        made.asked = self.asked
        return made

    def to_bytes(self) -> bytes:
        body = {"capacity": self.capacity, "seed": self.seed, "asked": self.asked, "counts": self.counts}
        return json.dumps(body, ensure_ascii=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Sketch:
        body = json.loads(data)
        made = cls(int(body["capacity"]), int(body["seed"]))
        for text, count in body["counts"].items():
            made.add(text, int(count))
        made.asked = int(body["asked"])
        return made

    def _rank(self, text: str) -> int:
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, salt=_salt(self.seed))
        return int.from_bytes(digest.digest(), "little")


def _salt(seed: int) -> bytes:
    return (seed & (1 << 64) - 1).to_bytes(8, "little")


class QueryLog:
    """The logs of all consumers that opted in. ``offer`` may be called from any thread and takes no lock;
    the other methods serialise among themselves."""

    def __init__(self, store: Store, seed: int = 0) -> None:
        self._store = store
        self._seed = seed
        self._pending: deque[tuple[str, str]] = deque(maxlen=PENDING)  # appends are atomic
        self._lock = threading.Lock()
        self._sketches: dict[str, Sketch] = {}
        self._unsaved: set[str] = set()

    def offer(self, consumer: str, text: str) -> None:
        """Called on the query path of a consumer that opted in."""
        if len(text) <= MAX_CHARS:
            self._pending.append((consumer, text))

    def flush(self) -> None:
        """Counts and saves what was asked since the last flush; empties the logs of those that opted out."""
        with self._lock:
            limits = {consumer.name: consumer.query_log for consumer in self._store.consumers()}
            changed = self._unsaved  # also what could not be saved before
            while self._pending:
                consumer, text = self._pending.popleft()
                if limits.get(consumer, 0) > 0:
                    self._sketch(consumer, limits[consumer]).add(" ".join(text.split()))
                    changed.add(consumer)
            for consumer in set(self._store.blob_names(BLOB_KIND)) - changed:
                kept = self._load(consumer)
                if kept is not None and kept.capacity != limits.get(consumer, 0):
                    self._sketch(consumer, limits.get(consumer, 0))
                    changed.add(consumer)
            for consumer in sorted(changed):
                self._store.put_blob(BLOB_KIND, consumer, self._sketches[consumer].to_bytes())
                changed.discard(consumer)

    def run(self, stop: threading.Event) -> None:
        """Flushes until told to stop: for a thread of its own."""
        while not stop.wait(FLUSH_S):
            if self._pending or self._unsaved:
                self.flush_or_log()

    def flush_or_log(self) -> None:
        """Flushes; what the store refuses, on a full disk, is logged: the log is a sample."""
        try:
            self.flush()
        except EmbedcoreError as error:
            log.warning("the query log could not be saved and will be again: %s", error)

    def counts(self, consumer: str) -> Mapping[str, int]:
        """Text -> how often it was asked; a uniform sample of the distinct texts."""
        self.flush()
        with self._lock:
            sketch = self._load(consumer)
            return {} if sketch is None else dict(sketch.counts)

    def _sketch(self, consumer: str, capacity: int) -> Sketch:
        sketch = self._load(consumer) or Sketch(capacity, self._seed)
        self._sketches[consumer] = sketch.resized(capacity)
        return self._sketches[consumer]

    def _load(self, consumer: str) -> Sketch | None:
        if consumer not in self._sketches:
            blob = self._store.get_blob(BLOB_KIND, consumer)
            if blob is None:
                return None
            self._sketches[consumer] = Sketch.from_bytes(blob)
        return self._sketches[consumer]
