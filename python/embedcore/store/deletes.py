"""Deletes: versioned tombstones. The item row stays with its version, so that a late backfill of an older
version is void, and a re-added id goes on counting; vectors and repair entries go at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from embedcore.store import schema
from embedcore.store.attributes import Postings
from embedcore.store.checksum import item_digest
from embedcore.store.prepared import Row
from embedcore.store.repair import drop_item_repairs
from embedcore.store.rows import ItemRow, find_items, item_row, put_items
from embedcore.store.sequence import Sequencer
from embedcore.store.vectors import drop_items
from embedcore.types import WriteReceipt


def delete_items(connection: Connection, ids: Sequence[str], namespace: str, now: float) -> WriteReceipt:
    """Deletes inside the caller's transaction. Unknown and already deleted ids get version 0; the token
    covers the latter as well, so that a repeated delete can still be waited for."""
    known = find_items(connection, {(namespace, item_id) for item_id in ids})
    sequencer = Sequencer(connection)
    rows: dict[str, Row] = {}
    versions: list[int] = []
    by_shard: dict[int, list[int]] = {}
    postings = Postings()
    already: set[int] = set()
    for item_id in ids:
        old = known.get((namespace, item_id))
        if old is None or old.deleted or item_id in rows:
            versions.append(0)
            if old is not None:
                already.add(old.shard)
            continue
        rows[item_id] = _tombstone(sequencer, old, item_id, namespace, now)
        versions.append(old.version + 1)
        by_shard.setdefault(old.shard, []).append(old.item)
        postings.change(old.item, namespace, old.attributes, "{}")

    put_items(connection, list(rows.values()))
    postings.flush(connection)
    for shard, items in by_shard.items():
        drop_items(connection, shard, items)
        drop_item_repairs(connection, items)
    token = {shard: sequencer.head(shard) for shard in already} | dict(sequencer.flush())
    return WriteReceipt(token=dict(sorted(token.items())), versions=tuple(versions))


def _tombstone(sequencer: Sequencer, old: ItemRow, item_id: str, namespace: str, now: float) -> Row:
    version = old.version + 1
    sequence = sequencer.append(old.shard, old.item, version, schema.DELETE)
    digest = item_digest(item_id, namespace, version, None, deleted=True)
    sequencer.account(old.shard, digest_change=digest - old.digest, live_change=-1)
    return item_row(
        item=old.item,
        item_id=item_id,
        namespace=namespace,
        shard=old.shard,
        version=version,
        sequence=sequence,
        created_at=old.created_at,
        updated_at=now,
        content=None,
        attributes="{}",
        deleted=1,
        digest=digest,
    )
