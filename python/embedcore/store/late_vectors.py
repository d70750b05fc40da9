"""Vectors that come after their item: backfill and repair. A live write always wins over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, literal_column, select

from embedcore.store import schema
from embedcore.store.checkpoints import put_checkpoint
from embedcore.store.checksum import Encoded
from embedcore.store.generations import live_generations
from embedcore.store.prepared import ByKeys
from embedcore.store.repair import clear_repairs
from embedcore.store.rows import chunks
from embedcore.store.sequence import Sequencer
from embedcore.store.vectors import put_vectors
from embedcore.types import SequenceToken

_items = schema.items.c

_CURRENT = ByKeys(
    lambda items: select(_items.item, _items.shard, _items.version).where(
        _items.item.in_(items), _items.deleted == literal_column("0")
    )
)


def write_vectors(
    connection: Connection,
    generation: int,
    rows: Sequence[tuple[int, int, Encoded]],
    checkpoint: tuple[str, int, Mapping[str, Any]] | None,
) -> tuple[int, int, SequenceToken]:
    """Rows of (item, version, checked vector), void where that version is no longer current, the
    item is deleted or the generation is not live. Returns (written, void, token).

    The last of several rows of one item and version wins. The checkpoint is saved either way: a void row
    is done as well.
    """
    sequencer = Sequencer(connection)
    accepted: dict[int, tuple[int, int, Encoded]] = {}
    written = 0
    if generation in live_generations(connection):
        current: dict[int, tuple[int, int]] = {}
        for part in chunks(sorted({item for item, _, _ in rows})):
            for item, shard, version in _CURRENT.rows(connection, part):
                current[item] = (shard, version)
        for item, version, vector in rows:
            shard, wanted = current.get(item, (0, 0))
            if version == wanted:
                accepted[item] = (shard, version, vector)
                written += 1
    put_vectors(
        connection,
        generation,
        [
            (
                shard,
                item,
                version,
                sequencer.append(shard, item, version, schema.VECTOR, generation),
                vector,
            )
            for item, (shard, version, vector) in accepted.items()
        ],
    )
    clear_repairs(connection, generation, list(accepted))
    if checkpoint is not None:
        name, shard, state = checkpoint
        put_checkpoint(connection, name, generation, shard, state)
    return written, len(rows) - written, sequencer.flush()
