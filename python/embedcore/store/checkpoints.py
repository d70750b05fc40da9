"""Durable positions of work that goes through a generation, shard by shard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from embedcore.errors import InvalidArgument
from embedcore.store import schema
from embedcore.store.prepared import Upsert

_checkpoint = schema.checkpoint.c
_PUT = Upsert(
    schema.checkpoint,
    keys=[_checkpoint.name, _checkpoint.generation, _checkpoint.shard],
    update=[_checkpoint.state],
)


def get_checkpoint(connection: Connection, name: str, generation: int, shard: int) -> dict[str, Any] | None:
    text = connection.scalar(
        select(_checkpoint.state).where(
            _checkpoint.name == name, _checkpoint.generation == generation, _checkpoint.shard == shard
        )
    )
    if text is None:
        return None
    state: dict[str, Any] = json.loads(text)
    return state


def put_checkpoint(
    connection: Connection, name: str, generation: int, shard: int, state: Mapping[str, Any]
) -> None:
    """Replaces the state. InvalidArgument when it is not JSON."""
    try:
        text = json.dumps(dict(state), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(
            f"state of checkpoint {name!r} is not JSON ({error}): use plain values"
        ) from error
    _PUT.execute(connection, [{"name": name, "generation": generation, "shard": shard, "state": text}])


def drop_checkpoints(connection: Connection, generation: int) -> None:
    connection.execute(schema.checkpoint.delete().where(_checkpoint.generation == generation))
