"""Consumers, blobs of the evaluation, and engagement totals."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sqlalchemy import Connection, select

from embedcore.errors import InvalidArgument
from embedcore.store import schema
from embedcore.store.prepared import Upsert
from embedcore.types import Consumer

_blobs = schema.blobs.c
_engagement = schema.engagement.c
SIMULATED = "simulated"

_PUT_CONSUMER = Upsert(schema.consumers, keys=[schema.consumers.c.name], update=[schema.consumers.c.document])
_PUT_BLOB = Upsert(schema.blobs, keys=[_blobs.kind, _blobs.name], update=[_blobs.value])
_PUT_TOTALS = Upsert(
    schema.engagement,
    keys=[_engagement.migration, _engagement.consumer, _engagement.arm, _engagement.metric],
    update=[_engagement.total],
)


def read_consumers(connection: Connection) -> list[Consumer]:
    rows = connection.scalars(select(schema.consumers.c.document).order_by(schema.consumers.c.name))
    return [Consumer.model_validate_json(document) for document in rows]


def put_consumer(connection: Connection, consumer: Consumer) -> None:
    _PUT_CONSUMER.execute(connection, [{"name": consumer.name, "document": consumer.model_dump_json()}])


def put_blob(connection: Connection, kind: str, name: str, value: bytes) -> None:
    rows = [{"kind": kind, "name": name, "value": value}]
    _PUT_BLOB.execute(connection, rows)


def get_blob(connection: Connection, kind: str, name: str) -> bytes | None:
    value: bytes | None = connection.scalar(
        select(_blobs.value).where(_blobs.kind == kind, _blobs.name == name)
    )
    return value


def blob_names(connection: Connection, kind: str) -> list[str]:
    return list(connection.scalars(select(_blobs.name).where(_blobs.kind == kind).order_by(_blobs.name)))


def add_engagement(
    connection: Connection,
    migration: str,
    consumer: str,
    arm: str,
    totals: Mapping[str, float],
    simulated: bool,
) -> None:
    """Adds to the arm's totals. InvalidArgument when one is not finite, or is named ``simulated``."""
    for metric, total in totals.items():
        if metric == SIMULATED or not math.isfinite(total):
            raise InvalidArgument(f"engagement total {metric!r} = {total} cannot be added: give finite sums")
    where = (
        _engagement.migration == migration,
        _engagement.consumer == consumer,
        _engagement.arm == arm,
    )
    before = {
        row.metric: row.total
        for row in connection.execute(select(_engagement.metric, _engagement.total).where(*where))
    }
    after = {metric: before.get(metric, 0.0) + total for metric, total in totals.items()}
    # Once simulated, always marked so: real clicks do not wash it off.
    after[SIMULATED] = 1.0 if simulated else before.get(SIMULATED, 0.0)
    key = {"migration": migration, "consumer": consumer, "arm": arm}
    _PUT_TOTALS.execute(
        connection, [{**key, "metric": metric, "total": total} for metric, total in after.items()]
    )


def read_engagement(connection: Connection, migration: str, consumer: str) -> dict[str, dict[str, float]]:
    totals: dict[str, dict[str, float]] = {}
    query = select(schema.engagement).where(
        _engagement.migration == migration, _engagement.consumer == consumer
    )
    for row in connection.execute(query):
        totals.setdefault(row.arm, {})[row.metric] = row.total
    return totals
