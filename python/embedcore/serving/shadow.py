"""The shadow run: a share of live queries is asked of the target as well, compared, never returned."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence

import numpy as np

from embedcore.errors import EmbedcoreError
from embedcore.serving.encoding import QueryEncoder
from embedcore.serving.serving import Serving
from embedcore.types import SearchRequest

log = logging.getLogger(__name__)


class ShadowRunner:
    """Samples answered queries with a seeded generator and compares them on one background thread.

    The queue is bounded and a full queue drops the sample: the shadow never holds up an answer.
    """

    def __init__(self, serving: Serving, encoder: QueryEncoder, *, seed: int, depth: int = 256) -> None:
        self._serving = serving
        self._encoder = encoder
        self._random = np.random.default_rng(seed)
        self._random_lock = threading.Lock()
        self._queue: queue.Queue[tuple[SearchRequest, int, int, tuple[int, ...]] | None] = queue.Queue(depth)
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    def offer(self, request: SearchRequest, k: int, source: int, ids: Sequence[int]) -> None:
        """Called after an answer that was not the target's alone; returns at once.

        ``ids``: what generation ``source`` answered, where it answered alone; else it is asked again.
        """
        shadow = self._serving.shadow
        if shadow is None or request.filter or request.namespace:
            return
        with self._random_lock:
            draw = self._random.random()
        if draw >= shadow[0]:
            return
        try:
            self._queue.put_nowait((request, k, source, tuple(ids)))
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None:
            try:
                self._compare(*entry)
            except EmbedcoreError as error:
                log.warning("shadow query of %s not compared: %s", entry[0].consumer, error)

    def _compare(self, request: SearchRequest, k: int, source: int, ids: tuple[int, ...]) -> None:
        shadow = self._serving.shadow
        consumer = self._serving.consumers.get(request.consumer)
        if shadow is None or consumer is None:
            return
        _, generation, record = shadow
        old = list(ids) or self._ask(request, source, k, consumer.ef_for(source))
        new = self._ask(request, generation, k, consumer.ef_for(generation))
        if not old:
            return
        common = len(set(old) & set(new)) / min(k, len(old))
        record(request.consumer, common, old[:1] == new[:1])

    def _ask(self, request: SearchRequest, generation: int, k: int, ef_search: int) -> list[int]:
        vector = self._encoder.vector_for(request, generation)
        found, _ = self._serving.search_generation(generation, vector[None, :], k, ef_search)
        return [int(item) for item in found[0] if item >= 0]
