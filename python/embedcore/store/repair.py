"""The durable repair queue: which item lacks its vector in which generation, and why."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, case, func, select

from embedcore.store import schema
from embedcore.store.generations import live_generations
from embedcore.store.interface import RepairEntry
from embedcore.store.prepared import Upsert
from embedcore.store.rows import chunks

_repair = schema.repair.c
_items = schema.items.c

_QUEUE = Upsert(
    schema.repair, keys=[_repair.generation, _repair.item], update=[_repair.attempts, _repair.reason]
)

# A reason may carry an encoder's whole traceback; the queue keeps what a person reads.
MAX_REASON = 500


def put_repairs(
    connection: Connection, generation: int, rows: Sequence[tuple[int, int, str]], now: float
) -> None:
    """Entries of (shard, item, reason) for a new version of the item: what was queued of it starts anew."""
    _QUEUE.execute(
        connection,
        [
            {
                "generation": generation,
                "item": item,
                "shard": shard,
                "priority": 0,
                "attempts": 0,
                "enqueued_at": now,
                "reason": reason[:MAX_REASON],
            }
            for shard, item, reason in rows
        ],
    )


def clear_repairs(connection: Connection, generation: int, items: Sequence[int]) -> None:
    for part in chunks(items):
        connection.execute(
            schema.repair.delete().where(_repair.generation == generation, _repair.item.in_(part))
        )


def drop_item_repairs(connection: Connection, items: Sequence[int]) -> None:
    """Removes the entries of deleted items in every generation."""
    generations = list(connection.scalars(select(schema.generations.c.number)))
    for part in chunks(items):
        connection.execute(
            schema.repair.delete().where(_repair.generation.in_(generations), _repair.item.in_(part))
        )


def drop_generation_repairs(connection: Connection, generation: int) -> None:
    connection.execute(schema.repair.delete().where(_repair.generation == generation))


def add_repairs(
    connection: Connection, generation: int, items: Sequence[int], reason: str, priority: int, now: float
) -> int:
    """Queues live items, e.g. diverged ones; returns how many were queued, deleted and unknown ones are
    not. An item already queued keeps its age, and the higher of both priorities."""
    added = 0
    for part in chunks(sorted(set(items))):
        found = connection.execute(
            select(_items.item, _items.shard).where(_items.item.in_(part), _items.deleted == 0)
        ).all()
        added += len(found)
        rows = [
            {
                "generation": generation,
                "item": row.item,
                "shard": row.shard,
                "priority": priority,
                "attempts": 0,
                "enqueued_at": now,
                "reason": reason[:MAX_REASON],
            }
            for row in found
        ]
        _raise_priority(connection, generation, [row.item for row in found], priority)
        _QUEUE.execute(connection, rows)
    return added


def _raise_priority(connection: Connection, generation: int, items: Sequence[int], priority: int) -> None:
    higher = case((_repair.priority > priority, _repair.priority), else_=priority)
    connection.execute(
        schema.repair.update()
        .where(_repair.generation == generation, _repair.item.in_(items))
        .values(priority=higher)
    )


def repair_failed(connection: Connection, generation: int, item: int, reason: str) -> None:
    """Counts an attempt; nothing when the item was repaired or deleted meanwhile."""
    connection.execute(
        schema.repair.update()
        .where(_repair.generation == generation, _repair.item == item)
        .values(attempts=_repair.attempts + 1, reason=reason[:MAX_REASON])
    )


def read_repairs(connection: Connection, generation: int | None, limit: int) -> list[RepairEntry]:
    """Highest priority, then fewest failed attempts, then oldest: one that always fails starves nobody."""
    query = (
        select(
            _repair.generation,
            _repair.item,
            _items.id,
            _items.version,
            _items.content,
            _repair.reason,
            _repair.attempts,
            _repair.enqueued_at,
        )
        .join_from(schema.repair, schema.items, _items.item == _repair.item)
        .order_by(_repair.priority.desc(), _repair.attempts, _repair.enqueued_at, _repair.item)
        .where(_repair.generation.in_(_generations(connection, generation)))
        .limit(limit)
    )
    return [RepairEntry(*row) for row in connection.execute(query)]


def count_repairs(connection: Connection, generation: int | None) -> int:
    query = select(func.count()).select_from(schema.repair)
    wanted = _generations(connection, generation)
    return int(connection.scalar(query.where(_repair.generation.in_(wanted))) or 0)


def _generations(connection: Connection, generation: int | None) -> list[int]:
    """The one, or all live ones: what a retired one lacks is no work any more."""
    return live_generations(connection) if generation is None else [generation]
