"""hnswlib's BFIndex on embedcore.exact_search.

A search works on the rows that were published when it began and that nobody changes any more: adding
appends behind them, deleting and replacing publish another array of labels in which the old row is dead.
So a search needs no lock. A few dead rows are searched along and dropped; more are copied away.
"""

from __future__ import annotations

import os
import threading
import warnings
import zipfile
from dataclasses import dataclass
from typing import Final, Never, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedcore.compat import _arguments as given
from embedcore.compat._arguments import METRICS, TOO_FEW, TOO_MANY, Filter, Refused
from embedcore.compat._files import opened, replace_file
from embedcore.compat._foreign import read_foreign_flat
from embedcore.errors import InvalidArgument
from embedcore.exact import exact_search

_DEAD: Final = -1
_MOST_DEAD: Final = 256  # what a search asks for beyond k; copying all rows once per that many is cheap
_FIELDS: Final = {"space", "max_elements", "labels", "vectors"}


@dataclass(frozen=True, slots=True)
class _Rows:
    """Published: vectors (n, dim), labels (n,) with _DEAD for replaced or deleted rows, and how many are."""

    vectors: NDArray[np.float32]
    labels: NDArray[np.int64]
    dead: int

    def live(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        if not self.dead:
            return self.vectors, self.labels
        keep = self.labels != _DEAD
        return self.vectors[keep], self.labels[keep]


class BFIndex:
    """An exact index with the interface of ``hnswlib.BFIndex``. Any number of threads may call anything.

    ``space`` and ``dim`` as for :class:`Index`. RuntimeError for an unknown space.
    """

    __module__ = "embedcore.compat.hnswlib"
    __slots__ = (
        "__weakref__",
        "_dim",
        "_label_room",
        "_limit",
        "_next",
        "_room",
        "_row_of",
        "_rows",
        "_space",
        "_threads",
        "_writing",
    )

    def __init__(self, space: str, dim: int) -> None:
        self._space, self._dim = given.space_of(space, dim)
        self._threads = os.cpu_count() or 1
        self._writing = threading.Lock()
        self._rows: _Rows | None = None

    def init_index(self, max_elements: int) -> None:
        """Must come first, once, unless ``load_index`` does. RuntimeError the second time."""
        limit = given.size_of(max_elements, "max_elements")
        with self._writing:
            if self._rows is not None:
                raise RuntimeError(given.TWICE)
            self._begin(np.empty((0, self._dim), np.float32), np.empty(0, np.int64), limit)

    def add_items(self, data: ArrayLike, ids: ArrayLike | None = None) -> None:
        """Adds items, or replaces those whose label exists.

        ``data``: (n, dim), or (dim,) for one. ``ids``: (n,), or a scalar for one; without them labels go on
        counting. RuntimeError, before anything changes, for wrong shapes, NaN or infinity, labels that are
        too large, and more than ``max_elements`` items.
        """
        self._made()
        rows = given.vectors_of(data, self._dim)
        count = len(rows)
        if self._space == "cosine":
            rows = given.normalised(rows)
        self._check(rows)
        labels = None if ids is None else given.labels_for(ids, count)
        with self._writing:
            if labels is None:
                labels = np.arange(self._next, self._next + count, dtype=np.int64)
            else:
                labels, rows = given.last_of_each(labels, rows)
            old = [row for row in map(self._row_of.get, labels.tolist()) if row is not None]
            total = len(self._row_of) + len(labels) - len(old)
            if total > self._limit:
                raise RuntimeError(f"{TOO_MANY}: {total} > {self._limit}")
            self._replace(old, labels, rows)
            self._next += count

    def delete_vector(self, label: int) -> None:
        """Removes an item; an unknown label is ignored."""
        self._made()
        number = given.label_of(label)
        with self._writing:
            row = self._row_of.pop(number, None)
            if row is not None:
                self._replace([row], np.empty(0, np.int64), np.empty((0, self._dim), np.float32))

    def knn_query(
        self,
        data: ArrayLike,
        k: int = 1,
        num_threads: int = -1,
        filter: Filter | None = None,  # noqa: A002 - hnswlib's name
    ) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
        """Labels, uint64 (n, k), and distances, float32 (n, k), of the nearest items, nearest first.

        ``filter`` is asked once per call for every item. RuntimeError for fewer than k results, wrong shapes,
        NaN or infinity.
        """
        published = self._made()
        queries = given.vectors_of(data, self._dim)
        k = given.size_of(k, "k")
        allowed = given.filter_of(filter)
        threads = given.thread_count(num_threads)
        threads = min(max(threads if threads > 0 else self._threads, 0), given.MOST_THREADS)
        count = len(queries)
        if k == 0 or count == 0:
            return np.empty((count, k), dtype=np.uint64), np.empty((count, k), dtype=np.float32)
        vectors, labels, dead = published.vectors, published.labels, published.dead
        if allowed is not None:
            vectors, labels = published.live()
            takes = allowed if callable(allowed) else allowed.__contains__
            keep = np.fromiter((bool(takes(label)) for label in labels.tolist()), np.bool_, len(labels))
            vectors, labels, dead = vectors[keep], labels[keep], 0
        if k > len(labels) - dead:
            raise RuntimeError(TOO_FEW)
        if self._space == "cosine":
            queries = given.normalised(queries)
        try:
            found = exact_search(vectors, queries, k + dead, METRICS[self._space], threads=threads)
        except InvalidArgument as error:
            raise Refused(error.message) from None
        nearest, distances = labels[found.ids], found.distances
        if dead:
            order = np.argsort(nearest == _DEAD, axis=1, kind="stable")[:, :k]
            nearest = np.take_along_axis(nearest, order, axis=1)
            distances = np.take_along_axis(distances, order, axis=1)
        return nearest.view(np.uint64), distances

    def get_max_elements(self) -> int:
        """How many items there may be."""
        self._made()
        return self._limit

    def get_current_count(self) -> int:
        """How many items there are."""
        self._made()
        return len(self._row_of)

    def set_num_threads(self, num_threads: int) -> None:
        """What queries use that name none: all cores at first and for <= 0."""
        self._threads = given.thread_count(num_threads)

    @property
    def num_threads(self) -> int:
        return self._threads

    @num_threads.setter
    def num_threads(self, num_threads: int) -> None:
        self.set_num_threads(num_threads)

    @property
    def space(self) -> str:
        return self._space

    @property
    def dim(self) -> int:
        return self._dim

    def __repr__(self) -> str:
        return f"<hnswlib.BFIndex(space='{self._space}', dim={self._dim})>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> Never:
        raise TypeError("a BFIndex cannot be copied or pickled, as in hnswlib; use save_index and load_index")

    def save_index(self, path_to_index: str | bytes | os.PathLike[str]) -> None:
        """Writes one checksummed file, a .npz of NumPy, whole or not at all."""
        vectors, labels = self._made().live()
        limit, space = self._limit, self._space

        def write(temporary: str) -> None:
            with open(temporary, "wb") as file:
                np.savez(file, space=space, max_elements=np.uint64(limit), labels=labels, vectors=vectors)
                file.flush()
                os.fsync(file.fileno())

        replace_file(given.path_of(path_to_index), write)

    def load_index(self, path_to_index: str | bytes | os.PathLike[str], max_elements: int = 0) -> None:
        """Takes what ``save_index`` wrote in place of what the index holds; ``max_elements`` is not used.

        Files of hnswlib itself are read, too. RuntimeError, and the index is as before, for a file that is
        missing, damaged, or of another dim or space.
        """
        path = given.path_of(path_to_index)
        given.size_of(max_elements, "max_elements")
        vectors, labels, limit = self._read(path)
        with self._writing:
            if self._rows is not None:
                warnings.warn(given.LOADED_OVER, RuntimeWarning, stacklevel=2)
            self._begin(vectors, labels, limit)

    def _read(self, path: str) -> tuple[NDArray[np.float32], NDArray[np.int64], int]:
        with opened(path) as file:
            if not zipfile.is_zipfile(file):
                items = read_foreign_flat(path, file, self._dim, self._space)
                return items.vectors.astype(np.float32), items.labels, items.max_elements
            file.seek(0)
            try:
                with np.load(file, allow_pickle=False) as fields:
                    if set(fields.files) != _FIELDS:
                        raise RuntimeError(f"{path} was not saved by BFIndex; give the file of save_index")
                    space, limit = str(fields["space"]), int(fields["max_elements"])
                    vectors, labels = fields["vectors"], fields["labels"]
            except (ValueError, EOFError, zipfile.BadZipFile) as error:
                raise RuntimeError(f"{path} is damaged: {error}; restore the file from a backup") from error
        if vectors.shape[1] != self._dim or METRICS[space] != METRICS[self._space]:
            raise RuntimeError(
                f"{path} holds vectors of dim {vectors.shape[1]} for {space!r}, this index is of dim "
                f"{self._dim} for {self._space!r}; make a BFIndex with the values that it was saved with"
            )
        return vectors, labels, limit

    def _check(self, rows: NDArray[np.float32]) -> None:
        """Refuses vectors that every later search would refuse."""
        try:
            exact_search(rows, rows[:1], 1, METRICS[self._space], threads=1)
        except InvalidArgument as error:
            raise Refused(error.message) from None

    # Writing, under the lock.

    def _begin(self, vectors: NDArray[np.float32], labels: NDArray[np.int64], limit: int) -> None:
        self._room, self._label_room = vectors, labels  # the published rows are the first of these
        self._limit = limit
        self._next = len(labels)
        self._row_of = {label: row for row, label in enumerate(labels.tolist())}
        self._rows = _Rows(vectors, labels, 0)

    def _replace(self, old: list[int], labels: NDArray[np.int64], rows: NDArray[np.float32]) -> None:
        """Publishes the rows without ``old`` and with the new ones behind."""
        now = self._made()
        start = len(now.labels)
        dead = now.dead + len(old)
        if dead > _MOST_DEAD:
            kept = now.labels.copy()
            kept[old] = _DEAD
            vectors, left = _Rows(now.vectors, kept, dead).live()
            start, dead = len(left), 0
            self._grow(vectors, left, start + len(labels))
            self._row_of = {label: row for row, label in enumerate(left.tolist())}
        else:
            if start + len(labels) > len(self._label_room):
                self._grow(now.vectors, now.labels, start + len(labels))
            elif old:
                self._label_room = self._label_room.copy()  # searches read the published one
            self._label_room[old] = _DEAD
        end = start + len(labels)
        self._room[start:end] = rows
        self._label_room[start:end] = labels
        self._row_of.update(zip(labels.tolist(), range(start, end), strict=True))
        self._rows = _Rows(self._room[:end], self._label_room[:end], dead)

    def _grow(self, vectors: NDArray[np.float32], labels: NDArray[np.int64], least: int) -> None:
        """Moves rows into room that doubles, so that adding one by one costs no more than adding at once."""
        size = max(least, min(2 * len(labels), self._limit + _MOST_DEAD))
        room, label_room = np.empty((size, self._dim), np.float32), np.empty(size, np.int64)
        room[: len(labels)], label_room[: len(labels)] = vectors, labels
        self._room, self._label_room = room, label_room

    def _made(self) -> _Rows:
        if self._rows is None:
            raise RuntimeError(given.NOT_YET)
        return self._rows
