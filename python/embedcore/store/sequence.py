"""The sequence of each shard inside one write transaction: numbers, log entries, checksum, live count.

There is one sequence per shard, taken from its counter row in the transaction that writes, so numbers
become visible in commit order and without holes.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, bindparam, select

from embedcore.store import schema
from embedcore.store.checksum import to_signed
from embedcore.types import SequenceToken

_ADVANCE = (
    schema.shards.update()
    .where(schema.shards.c.shard == bindparam("of_shard"))
    .values(sequence=bindparam("sequence"), checksum=bindparam("checksum"), live=bindparam("live"))
)


class Sequencer:
    """Counters of all shards, read when the transaction begins and written once by :meth:`flush`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sequence: dict[int, int] = {}
        self._checksum: dict[int, int] = {}
        self._live: dict[int, int] = {}
        self._touched: set[int] = set()
        self._entries: list[dict[str, Any]] = []
        for row in connection.execute(select(schema.shards)):
            self._sequence[row.shard] = row.sequence
            self._checksum[row.shard] = row.checksum
            self._live[row.shard] = row.live

    def append(self, shard: int, item: int, version: int, op: str, generation: int | None = None) -> int:
        """A log entry; returns its sequence number."""
        sequence = self._sequence[shard] + 1
        self._sequence[shard] = sequence
        self._touched.add(shard)
        self._entries.append(
            {
                "shard": shard,
                "sequence": sequence,
                "item": item,
                "version": version,
                "op": op,
                "generation": generation,
            }
        )
        return sequence

    def account(self, shard: int, *, digest_change: int, live_change: int) -> None:
        """Moves the shard's checksum (modulo 2^64) and its count of live items."""
        self._checksum[shard] = to_signed(self._checksum[shard] + digest_change)
        self._live[shard] += live_change

    def head(self, shard: int) -> int:
        return self._sequence[shard]

    def flush(self) -> SequenceToken:
        """Writes log and counters; the token names the shards that advanced."""
        if self._entries:
            self._connection.execute(schema.log.insert(), self._entries)
            self._connection.execute(
                _ADVANCE,
                [
                    {
                        "of_shard": shard,
                        "sequence": self._sequence[shard],
                        "checksum": self._checksum[shard],
                        "live": self._live[shard],
                    }
                    for shard in sorted(self._touched)
                ],
            )
        return {shard: self._sequence[shard] for shard in sorted(self._touched)}
