"""Which labels exist, which of them are deleted, and who is writing them now.

hnswlib counts deleted items as items, gives their labels back and can undelete them. The index below knows
live items only, so the rest is kept here.

Guarantees. A label has one writer at a time (:meth:`Labels.writing`, :meth:`Labels.adding`), writers of
different labels run in parallel, :meth:`Labels.alone` has none beside it and is not starved by them.
The lock is held for bookkeeping only, except by ``alone``. Searches do not come here; ``count``, ``limit``
and ``deleted`` may be read without the lock and are then of some moment.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from embedcore.compat._arguments import TOO_MANY
from embedcore.index import Index

_FEW: Final = 64  # labels that are cheaper to look up one by one, whatever the size of the index


class Labels:
    """The labels of one index: live ones are in ``index``, deleted ones here with their vectors."""

    __slots__ = ("_alone", "_busy", "_changed", "_index", "_next", "count", "deleted", "limit", "replaces")

    def __init__(
        self,
        index: Index,
        limit: int,
        replaces: bool,
        deleted: Mapping[int, NDArray[np.float32]] | None = None,
    ) -> None:
        self.deleted: dict[int, NDArray[np.float32]] = dict(deleted or {})  # in order of deletion
        self.count = len(index) + len(self.deleted)  # live, deleted and being added
        self.limit = limit
        self.replaces = replaces
        self._index = index
        self._next = self.count
        self._busy: set[int] = set()
        self._alone = 0  # callers of alone() that wait or run
        self._changed = threading.Condition()  # of _busy and _alone

    def take(self, count: int) -> int:
        """The first of ``count`` labels for rows without ids. Rows with ids use up numbers, too."""
        with self._changed:
            first = self._next
            self._next += count
            return first

    def give_back(self, first: int, count: int) -> None:
        """After a failed call: its labels come next again, unless others have been taken meanwhile."""
        with self._changed:
            if self._next == first + count:
                self._next = first

    def all(self) -> list[int]:
        """Live and deleted labels, ascending. A label that is just being replaced is in it."""
        with self._changed:  # a label moves between the two in such an order that it is in one of them now
            live: list[int] = self._index.ids().tolist()
            return sorted({*live, *self.deleted}) if self.deleted else live

    def resize(self, limit: int) -> None:
        with self._changed:
            if limit < self.count:
                raise RuntimeError(
                    "Cannot resize, max element is less than the current number of elements: "
                    f"{limit} against {self.count}"
                )
            self.limit = limit

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Waits for all writers; new ones wait until this is over."""
        with self._changed:
            self._alone += 1
            try:
                while self._busy:
                    self._changed.wait()
                yield
            finally:
                self._alone -= 1
                self._changed.notify_all()

    @contextmanager
    def writing(self, label: int) -> Iterator[None]:
        """The caller is the only writer of this label."""
        claimed = {label}
        self._claim(claimed)
        try:
            yield
        finally:
            self._release(claimed)

    @contextmanager
    def adding(self, labels: NDArray[np.int64], replace_deleted: bool) -> Iterator[None]:
        """Around the insertion of ``labels`` (none twice) into the index: room is found before, and what has
        come into the index, all or in case of an exception some, is booked after."""
        if replace_deleted and not self.replaces:
            raise RuntimeError("Replacement of deleted elements is disabled in constructor")
        claimed = set(labels.tolist())
        self._claim(claimed)
        try:
            absent = self._absent(labels)
            with self._changed:
                revived = claimed & self.deleted.keys() if self.deleted else set()
                if revived and self.replaces and not replace_deleted:
                    raise RuntimeError(
                        "Can't use addPoint to update deleted elements if replacement of deleted elements is "
                        "enabled; pass replace_deleted=True or call unmark_deleted first."
                    )
                new = len(absent) - len(revived)
                vacant = (label for label in self.deleted if label not in self._busy)
                replaced = list(islice(vacant, new if replace_deleted else 0))
                if self.count + new - len(replaced) > self.limit:
                    raise RuntimeError(f"{TOO_MANY}: {self.count} + {new - len(replaced)} > {self.limit}")
                self.count += new - len(replaced)
                self._busy.update(replaced)
                claimed.update(replaced)
            try:
                yield
            except BaseException:
                absent = [label for label in absent if label in self._index]
                raise
            finally:
                self._book(absent, revived, replaced, new)
        finally:
            self._release(claimed)

    def delete(self, label: int, vector: NDArray[np.float32]) -> None:
        with self._changed:  # so that nobody iterates meanwhile
            self.deleted[label] = vector

    def undelete(self, label: int) -> None:
        with self._changed:
            del self.deleted[label]

    def _book(self, came: list[int], revived: set[int], replaced: list[int], expected: int) -> None:
        """Each new label that came takes the place of a deleted one while there are any, then a free one."""
        with self._changed:
            new = 0
            for label in came:
                if label in revived:
                    del self.deleted[label]
                else:
                    new += 1
            for label in replaced[:new]:
                del self.deleted[label]
            free = max(new - len(replaced), 0)
            self.count += free - (expected - len(replaced))

    def _absent(self, labels: NDArray[np.int64]) -> list[int]:
        if not len(self._index):
            # Others may add meanwhile, but none of these labels, which the caller has claimed.
            return list(labels.tolist())
        if len(labels) <= max(_FEW, len(self._index) // 16):
            return [label for label in labels.tolist() if label not in self._index]
        known = np.isin(labels, self._index.ids(), assume_unique=True)
        return list(labels[~known].tolist())

    def _claim(self, labels: set[int]) -> None:
        with self._changed:
            while self._alone or not self._busy.isdisjoint(labels):
                self._changed.wait()
            self._busy |= labels

    def _release(self, labels: set[int]) -> None:
        with self._changed:
            self._busy -= labels
            self._changed.notify_all()
