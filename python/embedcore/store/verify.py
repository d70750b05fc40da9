"""Looks for damage and broken invariants: per shard by checksum, and the whole store by its rules."""

from __future__ import annotations

from sqlalchemy import Connection, and_, func, or_, select

from embedcore.errors import NotFound
from embedcore.store import schema
from embedcore.store.checksum import is_intact, item_digest, to_unsigned
from embedcore.store.generations import live_generations, read_generations
from embedcore.store.interface import ShardCheck
from embedcore.store.retention import lane_hold
from embedcore.store.vectors import of_item

_items = schema.items.c
_vectors = schema.vectors.c
_repair = schema.repair.c

# Problems of one kind that are listed one by one; beyond that one number says more.
_LISTED = 20
_ROWS = 2000


def check_shard(connection: Connection, shard: int) -> ShardCheck:
    """Recomputes the shard's checksum from its items. NotFound for a shard that does not exist."""
    stored = connection.scalar(select(schema.shards.c.checksum).where(schema.shards.c.shard == shard))
    if stored is None:
        raise NotFound(f"shard {shard} does not exist: the store has fewer")
    query = select(_items.id, _items.namespace, _items.version, _items.content, _items.deleted)
    computed = 0
    items = 0
    rows = connection.execution_options(yield_per=_ROWS).execute(query.where(_items.shard == shard))
    for item_id, namespace, version, content, deleted in rows:
        computed += item_digest(item_id, namespace, version, content, bool(deleted))
        items += 1
    return ShardCheck(shard=shard, items=items, stored=to_unsigned(stored), computed=to_unsigned(computed))


def find_problems(connection: Connection) -> list[str]:
    """Broken invariants, one line each; empty is good. Reads everything, vectors included."""
    return [
        *_shard_problems(connection),
        *_log_problems(connection),
        *_hold_problems(connection),
        *_orphans(connection),
        *_stale_marks(connection),
        *_holes(connection),
        *_damaged_vectors(connection),
    ]


def _shard_problems(connection: Connection) -> list[str]:
    problems = []
    for row in connection.execute(select(schema.shards)).all():
        check = check_shard(connection, row.shard)
        if not check.ok:
            problems.append(
                f"shard {row.shard}: checksum is {check.computed:016x}, expected {check.stored:016x}:"
                " an item was changed behind the store's back"
            )
        live = connection.scalar(
            select(func.count())
            .select_from(schema.items)
            .where(_items.shard == row.shard, _items.deleted == 0)
        )
        if live != row.live:
            problems.append(f"shard {row.shard}: {live} live items, the counter says {row.live}")
    return problems


def _log_problems(connection: Connection) -> list[str]:
    """The log runs without holes from what was pruned to the head, and names no item that is gone."""
    problems = []
    log = schema.log.c
    for row in connection.execute(select(schema.shards)).all():
        entries, first, last = connection.execute(
            select(func.count(), func.min(log.sequence), func.max(log.sequence)).where(log.shard == row.shard)
        ).one()
        expected = row.sequence - row.pruned
        found = (entries, first or row.pruned + 1, last or row.pruned)
        if found != (expected, row.pruned + 1, row.pruned + expected):
            problems.append(
                f"shard {row.shard}: log has {entries} entries from {first or 0} to {last or 0},"
                f" the counters say {row.pruned + 1} to {row.sequence}"
            )
    gone = (
        select(log.shard, log.sequence, log.item)
        .select_from(schema.log.outerjoin(schema.items, _items.item == log.item))
        .where(_items.item.is_(None))
        .limit(_LISTED)
    )
    return problems + [
        f"shard {row.shard}: log entry {row.sequence} names item {row.item}, which is gone: its tombstone was"
        " pruned before the log"
        for row in connection.execute(gone)
    ]


def _hold_problems(connection: Connection) -> list[str]:
    """What a hold needs is there, and every live generation has spoken for what it needs."""
    holds = schema.holds.c
    shards = schema.shards.c
    broken = (
        select(holds.name, holds.shard, holds.sequence, shards.pruned)
        .join_from(schema.holds, schema.shards, holds.shard == shards.shard)
        .where(holds.log == 1, holds.sequence < shards.pruned)
    )
    problems = [
        f"shard {row.shard}: {row.name} holds the log from {row.sequence}, it is pruned up to {row.pruned}"
        for row in connection.execute(broken)
    ]
    held = {(row.name, row.shard) for row in connection.execute(select(holds.name, holds.shard))}
    every = list(connection.scalars(select(shards.shard).order_by(shards.shard)))
    for generation in live_generations(connection):
        name = lane_hold(generation)
        problems += [
            f"shard {shard}: live generation {generation} has no hold {name}"
            for shard in every
            if (name, shard) not in held
        ]
    return problems


def _orphans(connection: Connection) -> list[str]:
    """Vectors and repair entries without a live item."""
    problems = []
    for table, name in ((schema.vectors, "vector"), (schema.repair, "repair entry")):
        query = (
            select(table.c.generation, table.c.item)
            .select_from(table.outerjoin(schema.items, _items.item == table.c.item))
            .where(or_(_items.item.is_(None), _items.deleted == 1, _items.shard != table.c.shard))
        )
        problems += [
            f"generation {row.generation}, item {row.item}: {name} without a live item"
            for row in connection.execute(query.limit(_LISTED))
        ]
    return problems


def _stale_marks(connection: Connection) -> list[str]:
    """Vector rows of live generations whose sequence disagrees with their version."""
    live = live_generations(connection)
    query = (
        select(_vectors.generation, _vectors.item, _vectors.version, _items.version.label("current"))
        .select_from(schema.vectors.join(schema.items, _items.item == _vectors.item))
        .where(
            _vectors.generation.in_(live),
            or_(
                and_(_vectors.version == _items.version, _vectors.sequence.is_(None)),
                and_(_vectors.version != _items.version, _vectors.sequence.is_not(None)),
                _vectors.version > _items.version,
            ),
        )
        .limit(_LISTED)
    )
    return [
        f"generation {row.generation}, item {row.item}: vector of version {row.version} is marked wrongly,"
        f" the item is at {row.current}"
        for row in connection.execute(query)
    ]


def _holes(connection: Connection) -> list[str]:
    """Items written while a generation was live which have neither their vector nor a repair entry there.

    Items that are older than the generation are the backfill's, and no problem.
    """
    since = schema.generation_shards.c
    problems: list[str] = []
    for generation in read_generations(connection):
        if not generation.live:
            continue
        number = generation.number
        same_repair = and_(_repair.generation == number, _repair.item == _items.item)
        query = (
            select(_items.item, _items.id, _items.version)
            .select_from(
                schema.items.join(
                    schema.generation_shards, and_(since.generation == number, since.shard == _items.shard)
                )
                .outerjoin(schema.vectors, of_item(number, current=True))
                .outerjoin(schema.repair, same_repair)
            )
            .where(
                _items.deleted == 0,
                _items.sequence > since.since,
                _vectors.row.is_(None),
                _repair.item.is_(None),
            )
        )
        problems += [
            f"generation {number}, item {row.item} ({row.id!r}): version {row.version} has neither a vector"
            " nor a repair entry"
            for row in connection.execute(query.limit(_LISTED))
        ]
    return problems


def _damaged_vectors(connection: Connection) -> list[str]:
    dimensions = {
        generation.number: generation.fingerprint.dimension for generation in read_generations(connection)
    }
    query = select(_vectors.generation, _vectors.item, _vectors.checksum, _vectors.data)
    problems: list[str] = []
    for generation, item, checksum, data in connection.execution_options(yield_per=_ROWS).execute(query):
        if not is_intact(data, checksum, dimensions[generation]):
            problems.append(f"generation {generation}, item {item}: vector fails its checksum or length")
            if len(problems) == _LISTED:
                break
    return problems
