"""The durable record of what an index refused, since neither the index nor its snapshots know of it.

Item numbers, as a checkpoint of the store: written by the lane before it moves past what was refused, so
the record is never behind a snapshot. A restart tries the items again and learns the reasons anew. What is
taken then (a refusal for want of memory was a passing one) stays on the durable record all the same, until
the log names it again: the snapshots of before lack it, and the next start may begin with one of them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from embedcore.store.interface import Store

NAME: Final = "refused"
# More are not named, since the record is written as a whole: a restart then rebuilds the index from the
# stored vectors, which tries all of them.
MOST: Final = 4096


class RefusalRecord:
    """Of one generation and shard. For one thread at a time."""

    def __init__(self, store: Store, generation: int, shard: int) -> None:
        self._store = store
        self._at = (NAME, generation, shard)

    def read(self) -> list[int] | None:
        """Ascending; None where there are too many to be named."""
        state = self._store.get_checkpoint(*self._at)
        return [] if state is None else state["items"]

    def write(self, items: Collection[int]) -> None:
        named = sorted(items) if len(items) <= MOST else None
        self._store.put_checkpoint(*self._at, {"items": named})
