"""Items: writes, deletes, late vectors, and everything that is read by item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcore.errors import InvalidArgument
from embedcore.store import deletes, late_vectors, vectors, writes
from embedcore.store import items as item_reads
from embedcore.store.checks import check_attributes, check_generations, check_id, check_vectors
from embedcore.store.checksum import encode_vectors
from embedcore.store.connection import WriteTransaction
from embedcore.store.core import StorePart
from embedcore.store.interface import ItemWrite
from embedcore.types import Attributes, StoredItem, Vector, Vectors, WriteReceipt


class ItemPart(StorePart):
    """See :class:`embedcore.store.interface.Store`."""

    def write_items(self, items: Sequence[ItemWrite]) -> WriteReceipt:
        """ResourceExhausted, before anything changes, when it would reach into the reserve."""
        if not items:
            return WriteReceipt(token={}, versions=())
        named = {number for write in items for number in (*write.vectors, *write.failures)}
        checked = writes.check_writes(items, self._core.dimensions.known(named))
        self._core.reserve.check_items(items, checked)
        namespaces = frozenset(write.namespace for write in items)

        def work(transaction: WriteTransaction) -> WriteReceipt:
            receipt = writes.write_items(
                transaction.connection, items, checked, self._core.marks.shards, self._now()
            )
            if not namespaces <= self._core.namespaces:
                transaction.after.append(lambda: self._core.add_namespaces(namespaces))
            self._notify_after(transaction, receipt.token)
            return receipt

        return self._write(work, len(items))

    def delete_items(self, ids: Sequence[str], namespace: str = "") -> WriteReceipt:
        """Never refused for want of resources: deleting is a way out."""
        if isinstance(ids, str):
            raise InvalidArgument(f"ids is the string {ids!r}: give a sequence of ids")
        for item_id in ids:
            check_id(item_id, namespace)
        if not ids:
            return WriteReceipt(token={}, versions=())

        def work(transaction: WriteTransaction) -> WriteReceipt:
            receipt = deletes.delete_items(transaction.connection, ids, namespace, self._now())
            self._notify_after(transaction, receipt.token if any(receipt.versions) else {})
            return receipt

        return self._write(work, len(ids))

    def write_vectors(
        self,
        generation: int,
        rows: Sequence[tuple[int, int, Vector]],
        checkpoint: tuple[str, int, Mapping[str, Any]] | None = None,
    ) -> tuple[int, int]:
        known = self._core.dimensions.known((generation,))
        check_generations((generation,), known)
        matrix = check_vectors(
            [vector for _, _, vector in rows],
            known[generation],
            generation,
            (f"number {item}" for item, _, _ in rows),
        )
        if checkpoint is not None:
            self._check_shard(checkpoint[1])
        self._core.reserve.check_vectors(matrix)
        checked = [
            (int(item), int(version), encoded)
            for (item, version, _), encoded in zip(rows, encode_vectors(matrix), strict=True)
        ]

        def work(transaction: WriteTransaction) -> tuple[int, int]:
            written, void, token = late_vectors.write_vectors(
                transaction.connection, generation, checked, checkpoint
            )
            self._notify_after(transaction, token)
            return written, void

        return self._write(work, len(checked))

    def get_item(self, item_id: str, namespace: str = "") -> StoredItem | None:
        """A deleted item is returned as its tombstone (``deleted`` is true) until that is pruned."""
        with self._read() as connection:
            return item_reads.get_item(connection, item_id, namespace)

    def get_items(self, items: Sequence[int]) -> list[StoredItem]:
        with self._read() as connection:
            return item_reads.get_items(connection, [int(item) for item in items])

    def names(self, items: Sequence[int]) -> list[tuple[str, str] | None]:
        return self._core.names.of(items)

    def items_of(self, ids: Sequence[str], namespace: str = "") -> NDArray[np.int64]:
        with self._read() as connection:
            return item_reads.items_of(connection, ids, namespace)

    def matching(self, namespace: str, attributes: Attributes) -> NDArray[np.int64] | None:
        check_attributes(attributes)
        if not attributes and self._core.namespaces == {namespace}:
            return None
        with self._read() as connection:
            return item_reads.matching(connection, namespace, attributes)

    def live_items(self) -> int:
        with self._read() as connection:
            return item_reads.count_live(connection)

    def sample_items(self, count: int, seed: int) -> NDArray[np.int64]:
        with self._read() as connection:
            live = item_reads.live_numbers(connection)
        if count >= live.size:
            return live
        chosen = np.random.default_rng(seed).choice(live.size, size=max(0, count), replace=False)
        return live[np.sort(chosen)]

    def stored_vectors(self, generation: int, items: NDArray[np.int64]) -> tuple[NDArray[np.int64], Vectors]:
        dimension = self._core.dimensions.of(generation)
        wanted = np.asarray(items, dtype=np.int64).tolist()
        with self._read() as connection:
            found = vectors.current_vectors(connection, generation, dimension, wanted)
        self._queue_damaged(generation, found.damaged)
        return found.items, found.vectors
