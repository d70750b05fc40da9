"""Upserts: one transaction brings items, log, checksums, and for every live generation a vector or a
repair entry. This is the dual write of the migration protocol, phase 1, as the writer sees it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from embedcore.hashing import shard_of
from embedcore.store import schema
from embedcore.store.attributes import Postings
from embedcore.store.checks import check_generations, check_vectors, check_write
from embedcore.store.checksum import Encoded, encode_vectors, item_digest
from embedcore.store.generations import live_generations
from embedcore.store.interface import ItemWrite
from embedcore.store.prepared import Row
from embedcore.store.repair import clear_repairs, put_repairs
from embedcore.store.rows import ItemRow, Key, find_items, item_row, put_items
from embedcore.store.sequence import Sequencer
from embedcore.store.vectors import forget_current, put_vectors
from embedcore.types import WriteReceipt

NO_VECTOR = "no vector given"


@dataclass(slots=True)
class _Change:
    """What a batch makes of one item; several writes of one id add up, and the last one wins."""

    old: ItemRow | None
    item: int
    shard: int
    version: int
    created_at: float
    sequence: int = 0
    position: int = 0  # of the last write, in the batch


# Position in the batch -> vector, per generation.
CheckedVectors = Mapping[int, Mapping[int, Encoded]]


def check_writes(writes: Sequence[ItemWrite], dimensions: Mapping[int, int]) -> CheckedVectors:
    """Refuses the batch, or returns its vectors as they are stored. ``dimensions``: all known generations."""
    positions: dict[int, list[int]] = defaultdict(list)
    failing: set[int] = set()
    for position, write in enumerate(writes):
        check_write(write)
        failing.update(write.failures)
        for generation in write.vectors:
            positions[generation].append(position)
    check_generations({**positions, **dict.fromkeys(failing)}, dimensions)
    checked: dict[int, dict[int, Encoded]] = {}
    for generation, at in positions.items():
        matrix = check_vectors(
            [writes[position].vectors[generation] for position in at],
            dimensions[generation],
            generation,
            (writes[position].id for position in at),
        )
        checked[generation] = dict(zip(at, encode_vectors(matrix), strict=True))
    return checked


def write_items(
    connection: Connection, writes: Sequence[ItemWrite], vectors: CheckedVectors, shards: int, now: float
) -> WriteReceipt:
    """Applies a checked batch inside the caller's transaction. Generations that are live *in this
    transaction* count: one that retired meanwhile is left out, one that went live gets repair entries."""
    known = find_items(connection, {(write.namespace, write.id) for write in writes})
    sequencer = Sequencer(connection)
    number = sequencer.next_item()
    changes: dict[Key, _Change] = {}
    versions: list[int] = []
    for position, write in enumerate(writes):
        key = (write.namespace, write.id)
        change = changes.get(key)
        if change is None:
            change = _begin(sequencer, known.get(key), number, shard_of(write.id, shards), now)
            number += change.old is None
            changes[key] = change
        change.version += 1
        change.position = position
        if write.created_at is not None:
            change.created_at = write.created_at
        change.sequence = sequencer.append(change.shard, change.item, change.version, schema.WRITE)
        versions.append(change.version)

    _put_item_rows(connection, writes, changes, sequencer, now)
    repairs = _put_generations(connection, writes, changes, vectors, now)
    return WriteReceipt(token=sequencer.flush(), versions=tuple(versions), repairs=repairs)


def _begin(sequencer: Sequencer, old: ItemRow | None, number: int, shard: int, now: float) -> _Change:
    if old is None:
        return _Change(None, number, shard, sequencer.first_version(shard) - 1, now)
    # An id that comes back after a delete is a new item by age, and continues its version.
    created_at = now if old.deleted else old.created_at
    return _Change(old, old.item, old.shard, old.version, created_at)


def _put_item_rows(
    connection: Connection,
    writes: Sequence[ItemWrite],
    changes: Mapping[Key, _Change],
    sequencer: Sequencer,
    now: float,
) -> None:
    rows: list[Row] = []
    postings = Postings()
    for change in changes.values():
        write = writes[change.position]
        old = change.old
        digest = item_digest(write.id, write.namespace, change.version, write.content, deleted=False)
        sequencer.account(
            change.shard,
            digest_change=digest - (old.digest if old else 0),
            live_change=1 if old is None or old.deleted else 0,
        )
        text = (
            json.dumps(dict(write.attributes), ensure_ascii=False, sort_keys=True)
            if write.attributes
            else "{}"
        )
        postings.change(change.item, write.namespace, old.attributes if old else "{}", text)
        rows.append(
            item_row(
                item=change.item,
                item_id=write.id,
                namespace=write.namespace,
                shard=change.shard,
                version=change.version,
                sequence=change.sequence,
                created_at=change.created_at,
                updated_at=now,
                content=write.content,
                attributes=text,
                deleted=0,
                digest=digest,
            )
        )
    put_items(connection, rows)
    postings.flush(connection)


def _put_generations(
    connection: Connection,
    writes: Sequence[ItemWrite],
    changes: Mapping[Key, _Change],
    vectors: CheckedVectors,
    now: float,
) -> int:
    """Vectors and repair entries of every live generation; returns how many entries were made."""
    repairs = 0
    for generation in live_generations(connection):
        given = vectors.get(generation, {})
        held: list[tuple[int, int, int, int, Encoded]] = []
        replaced: list[int] = []
        lacking: list[_Change] = []
        for change in changes.values():
            vector = given.get(change.position)
            if vector is None:
                lacking.append(change)
            else:
                held.append((change.shard, change.item, change.version, change.sequence, vector))
                if change.old is not None:
                    replaced.append(change.item)
        put_vectors(connection, generation, held)
        clear_repairs(connection, generation, replaced)
        forget_current(
            connection, generation, [(change.shard, change.item) for change in lacking if change.old]
        )
        put_repairs(
            connection,
            generation,
            [
                (change.shard, change.item, writes[change.position].failures.get(generation, NO_VECTOR))
                for change in lacking
            ],
            now,
        )
        repairs += len(lacking)
    return repairs
