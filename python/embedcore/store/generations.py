"""Models and generations: who gives vectors, and which of them every write must go to."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, func, literal_column, select

from embedcore.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from embedcore.store import retention, schema
from embedcore.store.connection import Database
from embedcore.store.prepared import Statement, Upsert
from embedcore.types import Generation, ModelSpec

_STATES = ("serving", "filling", "retired")
_LIVE = Statement(
    select(schema.generations.c.number)
    .where(schema.generations.c.live == literal_column("1"))
    .order_by(schema.generations.c.number)
)
_PUT_MODEL = Upsert(schema.models, keys=[schema.models.c.name], update=[schema.models.c.document])
_PUT = Upsert(
    schema.generations,
    keys=[schema.generations.c.number],
    update=[schema.generations.c.live, schema.generations.c.document],
)


class Dimensions:
    """Generation number -> dimension, from memory: neither ever changes. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._known: dict[int, int] = {}

    def known(self, wanted: Sequence[int] | set[int]) -> Mapping[int, int]:
        """All known generations; the table is read again only when a wanted one is not among them."""
        with self._lock:
            if all(number in self._known for number in wanted):
                return self._known
        with self._database.read() as connection:
            found = {
                generation.number: generation.fingerprint.dimension
                for generation in read_generations(connection)
            }
        with self._lock:
            self._known = {**self._known, **found}
            return self._known

    def of(self, generation: int) -> int:
        """NotFound for a number that was never given out."""
        dimension = self.known((generation,)).get(generation)
        if dimension is None:
            raise NotFound(f"generation {generation} does not exist: list the generations")
        return dimension


def live_generations(connection: Connection) -> list[int]:
    """Numbers of the generations that every write must reach, ascending."""
    return [number for (number,) in _LIVE.rows(connection)]


def read_generations(connection: Connection) -> list[Generation]:
    table = schema.generations.c
    rows = connection.scalars(select(table.document).order_by(table.number))
    return [Generation.model_validate_json(document) for document in rows]


def create_generation(connection: Connection, model: str, state: str, created_at: float) -> Generation:
    """The next number for a registered model. NotFound for an unknown one."""
    if state not in _STATES:
        raise InvalidArgument(f"generation state {state!r} is not one of {', '.join(_STATES)}")
    spec = _model(connection, model)
    if spec is None:
        names = ", ".join(other.name for other in read_models(connection)) or "none yet"
        raise NotFound(f"model {model!r} is not registered (known: {names}): register it first")
    heads = {row.shard: row.sequence for row in connection.execute(select(schema.shards))}
    generation = Generation.model_validate(
        {
            "number": int(connection.scalar(select(func.max(schema.generations.c.number))) or 0) + 1,
            "model": model,
            "fingerprint": spec.fingerprint,
            "state": state,
            "shards": len(heads),
            "created_at": created_at,
        }
    )
    _put(connection, generation)
    connection.execute(
        schema.generation_shards.insert(),
        [
            {"generation": generation.number, "shard": shard, "since": sequence}
            for shard, sequence in heads.items()
        ],
    )
    if generation.live:
        retention.hold_generation(connection, generation.number, heads, generation.state == "filling")
    return generation


def put_generation(connection: Connection, generation: Generation) -> None:
    """Replaces the document of a generation that exists. Its model and vector space never change."""
    table = schema.generations.c
    text = connection.scalar(select(table.document).where(table.number == generation.number))
    if text is None:
        raise NotFound(f"generation {generation.number} does not exist: create it first")
    stored = Generation.model_validate_json(text)
    if (stored.model, stored.fingerprint, stored.shards) != (
        generation.model,
        generation.fingerprint,
        generation.shards,
    ):
        raise InvalidArgument(
            f"generation {generation.number} is of model {stored.model!r} with fingerprint"
            f" {stored.fingerprint.digest} and {stored.shards} shards, which cannot change: create another"
        )
    if generation.live and not stored.live:
        raise FailedPrecondition(
            f"generation {generation.number} is retired and missed the writes since: create another one"
        )
    _put(connection, generation)
    if not generation.live:
        retention.release_generation(connection, generation.number)
    elif generation.state != "filling":
        retention.release_hold(connection, retention.backfill_hold(generation.number))


def read_models(connection: Connection) -> list[ModelSpec]:
    table = schema.models.c
    rows = connection.scalars(select(table.document).order_by(table.name))
    return [ModelSpec.model_validate_json(document) for document in rows]


def put_model(connection: Connection, spec: ModelSpec) -> None:
    """Registers a model, or changes how it is loaded. AlreadyExists when a generation of this name has
    another fingerprint: its vectors could not be compared with what the changed model makes."""
    for generation in read_generations(connection):
        if generation.model == spec.name and generation.fingerprint != spec.fingerprint:
            raise AlreadyExists(
                f"model {spec.name!r} has generation {generation.number} with fingerprint"
                f" {generation.fingerprint.digest}, not {spec.fingerprint.digest}: use another name"
            )
    rows = [{"name": spec.name, "document": spec.model_dump_json()}]
    _PUT_MODEL.execute(connection, rows)


def _model(connection: Connection, name: str) -> ModelSpec | None:
    table = schema.models.c
    text = connection.scalar(select(table.document).where(table.name == name))
    return None if text is None else ModelSpec.model_validate_json(text)


def _put(connection: Connection, generation: Generation) -> None:
    rows = [
        {
            "number": generation.number,
            "live": int(generation.live),
            "document": generation.model_dump_json(),
        }
    ]
    _PUT.execute(connection, rows)
