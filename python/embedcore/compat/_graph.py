"""An index and its labels: what init_index makes, load_index reads and a pickle carries.

Vectors come here checked and, under cosine, normalised. Thread safety is that of :mod:`._labels`.
"""

from __future__ import annotations

import os
import tempfile
import threading
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from embedcore import index as core
from embedcore.compat._arguments import METRICS, TOO_FEW, Refused
from embedcore.compat._files import Settings, opened, read_index, write_index
from embedcore.compat._foreign import Foreign, is_foreign, read_foreign
from embedcore.compat._labels import Labels
from embedcore.errors import InvalidArgument, NotFound
from embedcore.index_input import Filter

_LEAST_M, _MOST_M, _MOST_M_NAMED = 2, 512, 10_000  # of embedcore's graph; as hnswlib reports it
_MOST_EF: Final = 2**32 - 1
_MOST_EF_CONSTRUCTION: Final = 1_000_000
DEFAULT_SEED: Final = 100  # of levels; hnswlib's
_TIDY_FROM: Final = 1024  # tombstones below this are not worth a pause of the writers


@dataclass(frozen=True, slots=True)
class Graph:
    index: core.Index
    labels: Labels
    M: int
    ef_construction: int
    random_seed: int
    _tidying: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def new(cls, space: str, dim: int, settings: Settings, replaces: bool) -> Graph:
        named = min(settings.M, _MOST_M_NAMED)
        breadth = max(settings.ef_construction, named)
        index = core.Index(
            dim,
            METRICS[space],
            m=min(max(named, _LEAST_M), _MOST_M),
            ef_construction=min(max(breadth, 1), _MOST_EF_CONSTRUCTION),
            seed=settings.random_seed,
        )
        labels = Labels(index, settings.max_elements, replaces)
        return cls(index, labels, named, breadth, settings.random_seed)

    # Items.

    def add(
        self, labels: NDArray[np.int64], rows: NDArray[np.float32], threads: int, replace_deleted: bool
    ) -> None:
        """Labels none twice."""
        with self.labels.adding(labels, replace_deleted):
            try:
                self.index.add(labels, rows, threads=threads)
            except InvalidArgument as error:
                raise Refused(error.message) from None
        self._tidy()

    def mark_deleted(self, label: int) -> None:
        with self.labels.writing(label):
            if label in self.labels.deleted:
                raise RuntimeError(f"The requested to delete element is already deleted: {label}")
            vector = self.get(np.array([label]))[0]
            # In this order, so that get_ids_list finds it in one place at least.
            self.labels.delete(label, vector)
            self.index.remove([label])

    def unmark_deleted(self, label: int) -> None:
        with self.labels.writing(label):
            vector = self.labels.deleted.get(label)
            if vector is None:
                if label in self.index:
                    raise RuntimeError(f"The requested to undelete element is not deleted: {label}")
                raise RuntimeError(f"Label not found: {label}")
            self.index.add([label], vector, threads=1)
            self.labels.undelete(label)
        self._tidy()

    def get(self, labels: NDArray[np.int64]) -> NDArray[np.float32]:
        try:
            return self.index.get(labels)
        except NotFound as error:
            raise RuntimeError(f"Label not found: {error.message}") from None

    def search(
        self, rows: NDArray[np.float32], k: int, ef: int, allowed: Filter | None, threads: int
    ) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
        """``rows`` and ``k`` are not 0."""
        if k > self.labels.count:
            raise RuntimeError(TOO_FEW)
        try:
            found = self.index.search(rows, k, min(max(ef, 1), _MOST_EF), allowed, threads)
        except InvalidArgument as error:
            raise Refused(error.message) from None
        ids = found.ids
        # Rows are padded at their end.
        if ids[0, -1] < 0 or (len(ids) > 1 and ids[:, -1].min() < 0):
            raise RuntimeError(TOO_FEW)
        return ids.view(np.uint64), found.distances

    def _tidy(self) -> None:
        """Bounds the memory of replaced and removed items, which hnswlib reuses at once."""
        dead = self.index.tombstones
        if dead < _TIDY_FROM or dead < len(self.index) // 2 or not self._tidying.acquire(blocking=False):
            return
        try:
            self.index.compact()
        finally:
            self._tidying.release()

    # Files and pickles.

    def save(self, path: str) -> None:
        with self.labels.alone():
            self._save(path)

    @classmethod
    def load(cls, path: str, space: str, dim: int, limit: int, replaces: bool, threads: int) -> Graph:
        """``limit`` 0, or below the number of items, stands for the one that was saved.

        ``threads`` build the graph anew where the file is hnswlib's.
        """
        with opened(path) as file:
            if is_foreign(file):
                return cls._of_foreign(
                    read_foreign(path, file, dim, space), space, dim, limit, replaces, threads
                )
        index, settings, deleted = read_index(path)
        if (index.dim, index.metric) != (dim, METRICS[space]):
            raise RuntimeError(
                f"{path} holds vectors of dim {index.dim} for {index.metric!r}, this index is of dim {dim} "
                f"for {space!r}; make an Index with the values that it was saved with"
            )
        if limit == 0 or limit < len(index) + len(deleted):
            limit = settings.max_elements
        labels = Labels(index, limit, replaces, deleted)
        return cls(index, labels, settings.M, settings.ef_construction, settings.random_seed)

    @classmethod
    def _of_foreign(
        cls, items: Foreign, space: str, dim: int, limit: int, replaces: bool, threads: int
    ) -> Graph:
        """Deleted items stay deleted; which of them were deleted first such a file does not say."""
        limit = limit if limit >= max(1, len(items.labels)) else items.max_elements
        graph = cls.new(space, dim, Settings(limit, items.M, items.ef_construction, DEFAULT_SEED), replaces)
        for labels, rows in items.live():
            graph.index.add(labels, rows, threads=threads)
        dead = np.flatnonzero(items.deleted)
        vectors = items.vectors[dead].astype(np.float32)
        deleted = dict(zip(items.labels[dead].tolist(), vectors, strict=True))
        kept = Labels(graph.index, limit, replaces, deleted)
        return cls(graph.index, kept, graph.M, graph.ef_construction, graph.random_seed)

    def file_size(self) -> int:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "index")
            self.save(path)
            return os.path.getsize(path)

    def state(self) -> dict[str, Any]:
        """Under hnswlib's names where it has them, so that code that looks into a state finds them."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "index")
            with self.labels.alone():  # so that the numbers are those of the file
                self._save(path)
                state = {
                    "max_elements": self.labels.limit,
                    "cur_element_count": self.labels.count,
                    "M": self.M,
                    "ef_construction": self.ef_construction,
                    "has_deletions": bool(self.labels.deleted),
                    "allow_replace_deleted": self.labels.replaces,
                }
            with open(path, "rb") as file:
                return state | {"embedcore_file": file.read()}

    @classmethod
    def of_state(cls, state: dict[str, Any], space: str, dim: int) -> Graph:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "index")
            with open(path, "wb") as file:
                file.write(state["embedcore_file"])
            return cls.load(path, space, dim, state["max_elements"], state["allow_replace_deleted"], 1)

    def _save(self, path: str) -> None:
        settings = Settings(self.labels.limit, self.M, self.ef_construction, self.random_seed)
        write_index(path, self.index, settings, self.labels.deleted)
