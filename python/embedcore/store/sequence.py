"""The sequence of each shard inside one write transaction: numbers, log entries, checksum, live count.

There is one sequence per shard, taken from its counter row in the transaction that writes, so numbers
become visible in commit order and without holes.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, select

from embedcore.store import schema
from embedcore.store.checksum import to_signed
from embedcore.store.prepared import Insert, Row, Statement
from embedcore.types import SequenceToken

_shards = schema.shards.c
_COUNTERS = ("sequence", "checksum", "live", "pruned_item", "pruned_version")
_ADVANCE = Statement(
    schema.shards.update()
    .where(_shards.shard == bindparam("of_shard"))
    .values({name: bindparam(name) for name in _COUNTERS}),
    *_COUNTERS,
    "of_shard",
)
_ALL = Statement(select(_shards.shard, *(_shards[name] for name in _COUNTERS)))
_LARGEST_ITEM = Statement(select(func.max(schema.items.c.item)))
_APPEND = Insert(schema.log)


@dataclass(slots=True)
class _Counters:
    """One row of the shards table."""

    sequence: int
    checksum: int
    live: int
    pruned_item: int
    pruned_version: int
    touched: bool = False


class Sequencer:
    """Counters of all shards, read when the transaction begins and written once by :meth:`flush`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._entries: list[Row] = []
        self._advanced: set[int] = set()
        self._shards: dict[int, _Counters] = {
            shard: _Counters(*counters) for shard, *counters in _ALL.rows(connection)
        }

    def append(self, shard: int, item: int, version: int, op: str, generation: int | None = None) -> int:
        """A log entry; returns its sequence number."""
        counters = self._shards[shard]
        counters.sequence += 1
        counters.touched = True
        self._advanced.add(shard)
        self._entries.append((shard, counters.sequence, item, version, op, generation))
        return counters.sequence

    def account(self, shard: int, *, digest_change: int, live_change: int) -> None:
        """Moves the shard's checksum (modulo 2^64) and its count of live items."""
        counters = self._shards[shard]
        counters.checksum = to_signed(counters.checksum + digest_change)
        counters.live += live_change
        counters.touched = True

    def forget(self, shard: int, item: int, version: int) -> None:
        """Tombstones up to this number and version were pruned."""
        counters = self._shards[shard]
        counters.pruned_item = max(counters.pruned_item, item)
        counters.pruned_version = max(counters.pruned_version, version)
        counters.touched = True

    def head(self, shard: int) -> int:
        return self._shards[shard].sequence

    def next_item(self) -> int:
        """The next dense number: larger than every number given out, also to items that are gone."""
        [(largest,)] = _LARGEST_ITEM.rows(self._connection)
        stored = int(largest or 0)
        return max(stored, *(counters.pruned_item for counters in self._shards.values())) + 1

    def first_version(self, shard: int) -> int:
        """Of an id that is new to the shard. It may have been deleted and pruned: its versions go on."""
        return self._shards[shard].pruned_version + 1

    def flush(self) -> SequenceToken:
        """Writes log and counters; the token names the shards whose sequence advanced."""
        _APPEND.many(self._connection, self._entries)
        _ADVANCE.many(
            self._connection,
            [
                (
                    counters.sequence,
                    counters.checksum,
                    counters.live,
                    counters.pruned_item,
                    counters.pruned_version,
                    shard,
                )
                for shard, counters in self._shards.items()
                if counters.touched
            ],
        )
        return {shard: self._shards[shard].sequence for shard in sorted(self._advanced)}
