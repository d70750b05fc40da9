"""Documents of the controller: migrations and their events, under a leader epoch.

Whoever leads has taken the largest epoch. Each transaction of a controller checks its epoch first, so a
leader that was replaced while it slept cannot change anything any more.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, func, select

from embedcore.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from embedcore.migration_types import Migration, MigrationEvent
from embedcore.store import schema
from embedcore.store.generations import put_generation
from embedcore.store.prepared import Upsert
from embedcore.types import Generation

_migrations = schema.migrations.c
_events = schema.migration_events.c
_PUT = Upsert(schema.migrations, keys=[_migrations.id], update=[_migrations.document])


def acquire_epoch(connection: Connection, owner: str, now: float) -> int:
    epoch = _largest_epoch(connection) + 1
    connection.execute(schema.leader.insert(), [{"epoch": epoch, "owner": owner, "at": now}])
    return epoch


def check_epoch(connection: Connection, epoch: int) -> None:
    """The first thing in every transaction of a controller. FailedPrecondition when another one leads."""
    current = _largest_epoch(connection)
    if epoch != current:
        raise FailedPrecondition(
            f"leader epoch {epoch} is not the current one, {current}: another controller leads;"
            " acquire the epoch again"
        )


def read_migrations(connection: Connection) -> list[Migration]:
    """In order of creation."""
    rows = connection.scalars(select(_migrations.document).order_by(_migrations.number))
    return [Migration.model_validate_json(document) for document in rows]


def read_migration(connection: Connection, migration_id: str) -> Migration | None:
    text = connection.scalar(select(_migrations.document).where(_migrations.id == migration_id))
    return None if text is None else Migration.model_validate_json(text)


def put_migration(
    connection: Connection,
    migration: Migration,
    events: Sequence[MigrationEvent],
    epoch: int,
    generations: Sequence[Generation],
) -> None:
    """FailedPrecondition for any epoch but the current one. Event numbers continue without holes, and a
    recorded event never changes: AlreadyExists for a number that is taken."""
    check_epoch(connection, epoch)
    number = connection.scalar(select(_migrations.number).where(_migrations.id == migration.id))
    if number is None:
        number = int(connection.scalar(select(func.max(_migrations.number))) or 0) + 1
    _PUT.execute(
        connection, [{"id": migration.id, "number": number, "document": migration.model_dump_json()}]
    )
    _append_events(connection, migration.id, events)
    for generation in generations:
        put_generation(connection, generation)


def read_events(connection: Connection, migration_id: str, after: int) -> list[MigrationEvent]:
    rows = connection.scalars(
        select(_events.document)
        .where(_events.migration == migration_id, _events.number > after)
        .order_by(_events.number)
    )
    return [MigrationEvent.model_validate_json(document) for document in rows]


def _append_events(connection: Connection, migration_id: str, events: Sequence[MigrationEvent]) -> None:
    last = connection.scalar(select(func.max(_events.number)).where(_events.migration == migration_id)) or 0
    for event in events:
        if event.migration != migration_id:
            raise InvalidArgument(f"event of migration {event.migration!r} given with {migration_id!r}")
        if event.number != last + 1:
            what = AlreadyExists if event.number <= last else InvalidArgument
            raise what(
                f"event {event.number} of migration {migration_id!r} does not follow event {last}:"
                f" number it {last + 1}"
            )
        last = event.number
    if events:
        connection.execute(
            schema.migration_events.insert(),
            [
                {"migration": migration_id, "number": event.number, "document": event.model_dump_json()}
                for event in events
            ],
        )


def _largest_epoch(connection: Connection) -> int:
    return int(connection.scalar(select(func.max(schema.leader.c.epoch))) or 0)
