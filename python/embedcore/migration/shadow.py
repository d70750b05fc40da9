"""Counts of the shadow run: a share of live queries asked of the target as well, compared, never returned."""

from __future__ import annotations

import threading
from typing import NamedTuple

from embedcore.migration_types import ConsumerProgress


class Compared(NamedTuple):
    queries: int
    overlap: float  # sum of the shares of common ids in the top k
    agreed: int  # same first id


class ShadowCounts:
    """Gathers what serving reports on its threads, until the controller writes it to the document.

    What was gathered and not yet written is lost in a crash: a second's worth of samples.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, Compared] = {}
        self.running_on = 0  # the generation that live queries are compared with; 0: none

    def record(self, consumer: str, overlap: float, same_first: bool) -> None:
        with self._lock:
            old = self._counts.get(consumer, Compared(0, 0.0, 0))
            self._counts[consumer] = Compared(
                old.queries + 1, old.overlap + overlap, old.agreed + int(same_first)
            )

    def drain(self) -> dict[str, Compared]:
        """What came since the last call."""
        with self._lock:
            counts, self._counts = self._counts, {}
        return counts

    def put_back(self, counts: dict[str, Compared]) -> None:
        """After a write that failed."""
        with self._lock:
            for name, old in counts.items():
                new = self._counts.get(name, Compared(0, 0.0, 0))
                self._counts[name] = Compared(
                    old.queries + new.queries, old.overlap + new.overlap, old.agreed + new.agreed
                )


def add(progress: ConsumerProgress, counts: Compared) -> ConsumerProgress:
    """A consumer's progress with more compared queries; ``shadow_overlap`` is the mean over all."""
    compared = progress.shadow_compared + counts.queries
    overlap = progress.shadow_overlap * progress.shadow_compared + counts.overlap
    return progress.model_copy(
        update={
            "shadow_compared": compared,
            "shadow_overlap": overlap / compared if compared else 0.0,
            "shadow_agreed": progress.shadow_agreed + counts.agreed,
        }
    )
