"""Vectors of golden queries, encoded once per model and golden set.

Evaluations run every few seconds in a blended phase; after the first one they encode nothing.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np

from embedcore.errors import Internal
from embedcore.evaluation.golden import GoldenSet
from embedcore.evaluation.interface import Ints, Progress, QueryEncoders, no_progress
from embedcore.types import Fingerprint, Vectors

CACHED_SETS = 16  # some 6 MB each for 4,000 queries of 384 dimensions
_CHUNK = 128


class _Entry:
    """One model's vectors of one golden set; rows are filled when first asked for."""

    def __init__(self, queries: int, dimension: int) -> None:
        self.lock = threading.Lock()
        self.vectors = np.zeros((queries, dimension), np.float32)
        self.known = np.zeros(queries, np.bool_)


class QueryVectors:
    """Safe to call from any thread; a set that one thread encodes is waited for, not encoded twice."""

    def __init__(self, encoders: QueryEncoders) -> None:
        self._encoders = encoders
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[str, str, str], _Entry] = OrderedDict()

    def get(
        self,
        model: str,
        fingerprint: Fingerprint,
        golden: GoldenSet,
        digest: str,
        rows: Ints,
        progress: Progress = no_progress,
    ) -> Vectors:
        """float32 (len(rows), dimension) for these positions in ``golden.queries``.

        Encodes as bulk work, so that live queries keep their cache. A batch that the encoder refuses
        leaves what was encoded before it.
        """
        entry = self._entry((model, fingerprint.digest, digest), len(golden.queries), fingerprint.dimension)
        with entry.lock:
            missing = rows[~entry.known[rows]]
            for start in range(0, len(missing), _CHUNK):
                part = missing[start : start + _CHUNK]
                vectors = self._encoders.encode_bulk(model, [golden.queries[row].text for row in part])
                if vectors.shape != (len(part), fingerprint.dimension):
                    raise Internal(
                        f"model {model!r} gave vectors {vectors.shape} for {len(part)} queries, "
                        f"expected {(len(part), fingerprint.dimension)}"
                    )
                entry.vectors[part] = vectors
                entry.known[part] = True
                progress(f"{golden.consumer}: queries by {model}", start + len(part), len(missing))
            return entry.vectors[rows]

    def _entry(self, key: tuple[str, str, str], queries: int, dimension: int) -> _Entry:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                entry = self._entries[key] = _Entry(queries, dimension)
            self._entries.move_to_end(key)
            while len(self._entries) > CACHED_SETS:
                self._entries.popitem(last=False)
            return entry
