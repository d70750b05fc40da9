"""Bulk work gives way to queries: it waits while the queries being encoded could use every core."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np

from embedcore.encoders.interface import Encoder
from embedcore.types import Fingerprint, Vectors

CHUNK: Final = 64  # texts between two looks for waiting queries
# Longest wait before a chunk, in seconds of the machine: under a lasting flood of queries bulk work still
# moves, by some 64 texts a second, so that a migration ends.
PATIENCE_S: Final = 1.0


class QueryGate:
    """Counts the queries being encoded. Thread-safe; ``room``: as many as leave nothing for bulk work."""

    def __init__(self, room: int, patience_s: float = PATIENCE_S) -> None:
        self._room = max(1, room)
        self._patience_s = patience_s
        self._changed = threading.Condition()
        self._running = 0

    @contextmanager
    def query(self) -> Iterator[None]:
        with self._changed:
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def give_way(self) -> bool:
        """Waits while queries fill the room; False when patience ran out first."""
        with self._changed:
            return self._changed.wait_for(lambda: self._running < self._room, timeout=self._patience_s)


class CountedEncoder:
    """The encoder as queries see it: what it encodes is counted at the gate."""

    def __init__(self, inner: Encoder, gate: QueryGate) -> None:
        self._inner = inner
        self._gate = gate

    @property
    def fingerprint(self) -> Fingerprint:
        return self._inner.fingerprint

    def encode(self, texts: Sequence[str]) -> Vectors:
        with self._gate.query():
            return self._inner.encode(texts)


class YieldingEncoder:
    """The encoder as bulk work sees it: in chunks, each after the queries."""

    def __init__(self, inner: Encoder, gate: QueryGate) -> None:
        self._inner = inner
        self._gate = gate

    @property
    def fingerprint(self) -> Fingerprint:
        return self._inner.fingerprint

    def encode(self, texts: Sequence[str]) -> Vectors:
        parts = []
        for start in range(0, len(texts), CHUNK):
            self._gate.give_way()
            parts.append(self._inner.encode(texts[start : start + CHUNK]))
        if len(parts) == 1:
            return parts[0]
        empty = np.empty((0, self.fingerprint.dimension), np.float32)
        return np.concatenate([empty, *parts])
