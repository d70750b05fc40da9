"""The tables of the durable truth. Everything that follows the sequence is keyed (generation, shard).

Columns carry a comment each; 64-bit hashes are stored as signed integers (two's complement), since SQL has
no unsigned ones. Documents and attributes are JSON in text columns, so that every database can hold them.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    desc,
    text,
)

# Raised by one with every change of a table, together with a step in schema_steps.py that changes stores
# of the version before; a store of a newer version is refused.
SCHEMA_VERSION: Final = 2

WRITE: Final = "write"
DELETE: Final = "delete"
VECTOR: Final = "vector"

metadata = MetaData()

# A 64-bit integer which is SQLite's row id where it is the only primary key.
Number = BigInteger().with_variant(Integer(), "sqlite")

meta = Table(
    "meta",
    metadata,
    Column("key", String, primary_key=True, comment="name of a mark, e.g. schema_version, shards, simulated"),
    Column("value", Text, nullable=False, comment="its value as text"),
)

shards = Table(
    "shards",
    metadata,
    Column("shard", Integer, primary_key=True, autoincrement=False, comment="0 .. shards - 1"),
    Column("sequence", BigInteger, nullable=False, comment="last sequence number given out; 0: none yet"),
    Column("checksum", BigInteger, nullable=False, comment="sum modulo 2^64 of the digests of all its items"),
    Column("live", BigInteger, nullable=False, comment="items that are not deleted"),
    Column("pruned", BigInteger, nullable=False, comment="log entries up to this one are pruned; 0: none"),
    # Two maxima over pruned tombstones: what their rows would otherwise have to stay for.
    Column("pruned_item", BigInteger, nullable=False, comment="no dense number is given out twice"),
    Column("pruned_version", BigInteger, nullable=False, comment="an id that comes back counts on from it"),
)

log = Table(
    "log",
    metadata,
    Column("shard", Integer, nullable=False, comment="shard of the item"),
    Column("sequence", BigInteger, nullable=False, comment="without holes from shards.pruned + 1 on"),
    Column("item", BigInteger, nullable=False, comment="dense number of the item"),
    Column(
        "version", BigInteger, nullable=False, comment="the item's version that this entry made or filled"
    ),
    Column("op", String(8), nullable=False, comment="write, delete, or vector"),
    Column("generation", Integer, comment="the generation that got a vector; null: all live ones"),
    PrimaryKeyConstraint("shard", "sequence"),
    sqlite_with_rowid=False,
)

items = Table(
    "items",
    metadata,
    Column(
        "item",
        Number,
        primary_key=True,
        autoincrement=False,
        comment="dense number from 1, given out once and never again: the id inside indexes",
    ),
    Column("id", String, nullable=False, comment="the caller's id"),
    Column("namespace", String, nullable=False, comment="ids are unique within it"),
    Column("shard", Integer, nullable=False, comment="low bits of XXH64 of the id"),
    Column("version", BigInteger, nullable=False, comment="one more with every write or delete"),
    Column("sequence", BigInteger, nullable=False, comment="log entry that made this version"),
    Column("created_at", Float(53), nullable=False, comment="seconds since the epoch: recency order"),
    Column("updated_at", Float(53), nullable=False, comment="time of the last write or delete"),
    Column("content", Text, comment="text to embed; null: vectors only, or deleted"),
    Column("attributes", Text, nullable=False, comment="JSON object of scalars"),
    Column("deleted", SmallInteger, nullable=False, comment="1: a tombstone, which keeps the version"),
    Column("digest", BigInteger, nullable=False, comment="XXH64 over id, namespace, version, content"),
    # Named, since it also answers "which namespaces are there".
    UniqueConstraint("namespace", "id", name="items_by_id"),
    # Backfill order is this one read backwards: (created_at desc, item desc).
    Index("items_by_recency", "shard", "deleted", "created_at", "item"),
    Index("items_by_namespace", "deleted", "namespace", "item"),
    # Of tombstones alone: which of them are due to be pruned.
    Index("items_by_delete", "shard", "sequence", sqlite_where=text("deleted = 1")),
)

attributes = Table(
    "attributes",
    metadata,
    Column("namespace", String, nullable=False, comment="namespace of the item"),
    Column("key", String, nullable=False, comment="attribute name"),
    Column("value", String, nullable=False, comment="canonical JSON: 1 and 1.0 are equal, 1 and true differ"),
    Column("item", BigInteger, nullable=False, comment="a live item with this attribute"),
    PrimaryKeyConstraint("namespace", "key", "value", "item"),
    sqlite_with_rowid=False,
)

vectors = Table(
    "vectors",
    metadata,
    # Sequential, never a hash: rows are appended, and a backfill in any order costs the same.
    Column("row", Number, primary_key=True, comment="sequential row number"),
    Column("generation", Integer, nullable=False, comment="generation that the vector belongs to"),
    Column("shard", Integer, nullable=False, comment="shard of the item"),
    Column("item", BigInteger, nullable=False, comment="a live item"),
    Column("version", BigInteger, nullable=False, comment="version of the item that the vector was made of"),
    Column(
        "sequence",
        BigInteger,
        comment="log entry that made it the vector of the item's current version; null: the item moved on",
    ),
    Column("checksum", BigInteger, nullable=False, comment="CRC-32 of data"),
    Column(
        "data", LargeBinary, nullable=False, comment="float32, little-endian, dimension of the generation"
    ),
    UniqueConstraint("generation", "shard", "item", name="vectors_by_item"),
    # Coverage is a count over a range of this one.
    Index("vectors_by_sequence", "generation", "shard", "sequence"),
)

repair = Table(
    "repair",
    metadata,
    Column("generation", Integer, nullable=False, comment="generation that lacks the vector"),
    Column("item", BigInteger, nullable=False, comment="a live item"),
    Column("shard", Integer, nullable=False, comment="shard of the item"),
    Column("priority", Integer, nullable=False, comment="larger first"),
    Column("attempts", Integer, nullable=False, comment="failed repairs so far; fewer first"),
    Column("enqueued_at", Float(53), nullable=False, comment="seconds since the epoch; older first"),
    Column("reason", Text, nullable=False, comment="why there is no vector"),
    PrimaryKeyConstraint("generation", "item"),
    Index("repair_order", desc("priority"), "attempts", "enqueued_at", "item"),
)

checkpoint = Table(
    "checkpoint",
    metadata,
    Column("name", String, nullable=False, comment="whose position, e.g. backfill"),
    Column("generation", Integer, nullable=False, comment="generation it works for"),
    Column("shard", Integer, nullable=False, comment="shard it works on"),
    Column("state", Text, nullable=False, comment="JSON object"),
    PrimaryKeyConstraint("name", "generation", "shard"),
)

consumers = Table(
    "consumers",
    metadata,
    Column("name", String, primary_key=True, comment="name of the consumer"),
    Column("document", Text, nullable=False, comment="Consumer as JSON"),
)

models = Table(
    "models",
    metadata,
    Column("name", String, primary_key=True, comment="name of the model"),
    Column("document", Text, nullable=False, comment="ModelSpec as JSON"),
)

generations = Table(
    "generations",
    metadata,
    Column(
        "number", Integer, primary_key=True, autoincrement=False, comment="1, 2, ...: never given out again"
    ),
    Column("live", SmallInteger, nullable=False, comment="1: every write goes to it"),
    Column("document", Text, nullable=False, comment="Generation as JSON"),
)

generation_shards = Table(
    "generation_shards",
    metadata,
    Column("generation", Integer, nullable=False, comment="generation"),
    Column("shard", Integer, nullable=False, comment="shard"),
    Column("since", BigInteger, nullable=False, comment="head of the shard when the generation was created"),
    PrimaryKeyConstraint("generation", "shard"),
)

holds = Table(
    "holds",
    metadata,
    Column("name", String, nullable=False, comment="who holds, e.g. lane/g2"),
    Column("shard", Integer, nullable=False, comment="shard"),
    Column("sequence", BigInteger, nullable=False, comment="what comes after it is still needed"),
    Column("log", SmallInteger, nullable=False, comment="1: log and tombstones; 0: tombstones only"),
    Column("generation", Integer, comment="the hold ends when it retires; null: when it is released"),
    PrimaryKeyConstraint("name", "shard"),
)

migrations = Table(
    "migrations",
    metadata,
    Column("id", String, primary_key=True, comment="id of the migration"),
    Column("number", Integer, nullable=False, unique=True, comment="order of creation"),
    Column("document", Text, nullable=False, comment="Migration as JSON"),
)

migration_events = Table(
    "migration_events",
    metadata,
    Column("migration", String, nullable=False, comment="id of the migration"),
    Column("number", Integer, nullable=False, comment="1, 2, ... within the migration"),
    Column("document", Text, nullable=False, comment="MigrationEvent as JSON"),
    PrimaryKeyConstraint("migration", "number"),
    ForeignKeyConstraint(["migration"], ["migrations.id"]),
)

leader = Table(
    "leader",
    metadata,
    Column(
        "epoch", Integer, primary_key=True, autoincrement=False, comment="1, 2, ...: the largest one leads"
    ),
    Column("owner", String, nullable=False, comment="who took leadership"),
    Column("at", Float(53), nullable=False, comment="seconds since the epoch"),
)

blobs = Table(
    "blobs",
    metadata,
    Column("kind", String, nullable=False, comment="golden_set, evaluation, ..."),
    Column("name", String, nullable=False, comment="name within the kind"),
    Column("value", LargeBinary, nullable=False, comment="bytes of the evaluation's own format"),
    PrimaryKeyConstraint("kind", "name"),
)

engagement = Table(
    "engagement",
    metadata,
    Column("migration", String, nullable=False, comment="id of the migration; empty: outside of one"),
    Column("consumer", String, nullable=False, comment="name of the consumer"),
    Column("arm", String, nullable=False, comment="control or canary"),
    Column(
        "metric", String, nullable=False, comment="impressions, clicks, depth, ...; simulated: 1 when any was"
    ),
    Column("total", Float(53), nullable=False, comment="sum of what was reported"),
    PrimaryKeyConstraint("migration", "consumer", "arm", "metric"),
)
