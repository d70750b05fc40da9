"""hnswlib's Index on embedcore.Index: its names, arguments and defaults. The work is in :mod:`._graph`."""

from __future__ import annotations

import os
import threading
import warnings
from typing import Any, Final, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedcore.compat import _arguments as given
from embedcore.compat._arguments import Filter, Refused
from embedcore.compat._files import Settings
from embedcore.compat._graph import DEFAULT_SEED, Graph
from embedcore.errors import InvalidArgument

_DEFAULT_EF: Final = 10
_STATE_VERSION: Final = 1


class Index:
    """An approximate index with the interface of ``hnswlib.Index``. Any number of threads may call anything.

    ``space``: "l2" (squared distances), "ip" (1 - dot) or "cosine" (1 - cos; vectors are kept normalised).
    ``dim``: 1 to 65535. Or ``index``, an Index to copy, or ``params``, the dict of its ``__getstate__``.

    RuntimeError for an unknown space, TypeError for arguments of a wrong type.
    """

    __module__ = "embedcore.compat.hnswlib"
    __slots__ = ("__weakref__", "_dim", "_ef", "_graph", "_space", "_starting", "_threads")

    @overload
    def __init__(self, space: str, dim: int) -> None: ...
    @overload
    def __init__(self, index: Index) -> None: ...
    @overload
    def __init__(self, params: dict[str, Any]) -> None: ...
    def __init__(self, *args: Any, **named: Any) -> None:
        if len(args) + len(named) == 1 and named.keys() <= {"index", "params"}:
            (source,) = (*args, *named.values())
            if isinstance(source, Index):
                source = source.__getstate__()[0]
            if isinstance(source, dict):
                self.__setstate__((source,))
                return
        taken = dict(zip(("space", "dim"), args, strict=False)) | named
        if len(args) > 2 or taken.keys() != {"space", "dim"}:
            raise TypeError("Index takes space and dim, or another Index, or the params of one")
        self._start(*given.space_of(**taken))

    def _start(self, space: str, dim: int) -> None:
        self._space, self._dim = space, dim
        self._ef = _DEFAULT_EF
        self._threads = os.cpu_count() or 1
        self._graph: Graph | None = None  # replaced as a whole, so that a search needs no lock
        self._starting = threading.Lock()  # of init_index and load_index

    def init_index(
        self,
        max_elements: int,
        M: int = 16,  # noqa: N803 - hnswlib's name
        ef_construction: int = 200,
        random_seed: int = DEFAULT_SEED,
        allow_replace_deleted: bool = False,
    ) -> None:
        """Must come first, once, unless ``load_index`` does. RuntimeError the second time.

        ``max_elements`` counts deleted items, too. ``ef_construction`` below M is raised to M.
        """
        settings = Settings(
            given.size_of(max_elements, "max_elements"),
            given.size_of(M, "M"),
            given.size_of(ef_construction, "ef_construction"),
            given.size_of(random_seed, "random_seed"),
        )
        replaces = given.flag_of(allow_replace_deleted, "allow_replace_deleted")
        with self._starting:
            if self._graph is not None:
                raise RuntimeError(given.TWICE)
            self._graph = Graph.new(self._space, self._dim, settings, replaces)

    # Writing.

    def add_items(
        self,
        data: ArrayLike,
        ids: ArrayLike | None = None,
        num_threads: int = -1,
        replace_deleted: bool = False,
    ) -> None:
        """Adds items, or replaces those whose label exists, and undeletes those marked deleted.

        ``data``: (n, dim), or (dim,) for one; anything NumPy turns into float32. ``ids``: (n,), or a scalar
        for one; without them labels go on counting. ``num_threads`` <= 0: as set. ``replace_deleted``: new
        labels take the places of items marked deleted, which are gone then, as long as there are any.

        RuntimeError, before anything changes, for wrong shapes, NaN or infinity, labels that are too large,
        more than ``max_elements`` items, ``replace_deleted`` unless the index allows it, and deleted labels
        without it if the index does.
        """
        graph = self._made()
        rows = given.vectors_of(data, self._dim)
        count = len(rows)
        threads = given.threads_for(num_threads, self._threads, count)
        replace = given.flag_of(replace_deleted, "replace_deleted")
        labels = None if ids is None else given.labels_for(ids, count)
        first = graph.labels.take(count)
        try:
            if labels is None:
                labels = np.arange(first, first + count, dtype=np.int64)
            else:
                labels, rows = given.last_of_each(labels, rows)
            if self._space == "cosine":
                rows = given.normalised(rows)
            graph.add(labels, rows, threads, replace)
        except BaseException:
            graph.labels.give_back(first, count)
            raise

    def mark_deleted(self, label: int) -> None:
        """Hides an item from searches. It counts, and has its label, until it is replaced.

        RuntimeError for a label that is unknown or marked already.
        """
        self._made().mark_deleted(given.label_of(label))

    def unmark_deleted(self, label: int) -> None:
        """Brings an item back. RuntimeError for a label that is unknown or not marked deleted."""
        self._made().unmark_deleted(given.label_of(label))

    def resize_index(self, new_size: int) -> None:
        """Changes ``max_elements``. RuntimeError if there are more items than that, deleted ones included."""
        self._made().labels.resize(given.size_of(new_size, "new_size"))

    # Reading.

    def knn_query(
        self,
        data: ArrayLike,
        k: int = 1,
        num_threads: int = -1,
        filter: Filter | None = None,  # noqa: A002 - hnswlib's name
    ) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
        """Labels, uint64 (n, k), and distances, float32 (n, k), of the nearest items, nearest first.

        ``data``: (n, dim), or (dim,) for n = 1. The walk is max(ef, k) wide. ``filter``: labels that may be
        returned, a callable label -> bool or an :class:`embedcore.index.IdSet`.

        RuntimeError for fewer than k results, wrong shapes, NaN or infinity.
        """
        graph = self._made()
        rows = given.vectors_of(data, self._dim)
        count = len(rows)
        k = given.size_of(k, "k")
        allowed = given.filter_of(filter)
        threads = given.threads_for(num_threads, self._threads, count)
        if k == 0 or count == 0:
            return np.empty((count, k), dtype=np.uint64), np.empty((count, k), dtype=np.float32)
        if self._space == "cosine":
            rows = given.normalised(rows)
        return graph.search(rows, k, self._ef, allowed, threads)

    @overload
    def get_items(
        self, ids: ArrayLike | None = None, return_type: Literal["numpy"] = "numpy"
    ) -> NDArray[np.float32]: ...
    @overload
    def get_items(self, ids: ArrayLike | None, return_type: Literal["list"]) -> list[list[float]]: ...
    @overload
    def get_items(
        self, ids: ArrayLike | None = None, *, return_type: Literal["list"]
    ) -> list[list[float]]: ...
    def get_items(
        self, ids: ArrayLike | None = None, return_type: str = "numpy"
    ) -> NDArray[np.float32] | list[list[float]]:
        """The vectors of items, float32 (n, dim), or as lists; normalised under cosine; (0,) for no ids.

        RuntimeError for a label that is unknown or marked deleted, ValueError for a scalar.
        """
        if return_type not in ("numpy", "list"):
            raise InvalidArgument('return_type should be "numpy" or "list"')
        graph = self._made()
        labels = given.labels_of([] if ids is None else ids)
        if labels.ndim == 0:
            raise InvalidArgument("get_items accepts a list of indices and returns a list of vectors")
        if labels.size == 0:
            return [] if return_type == "list" else np.empty(0, dtype=np.float32)
        if labels.size != len(labels):
            raise Refused(f"ids have shape {labels.shape}; give (n,)")
        vectors = graph.get(labels.reshape(-1))
        return vectors.tolist() if return_type == "list" else vectors

    def get_ids_list(self) -> list[int]:
        """The labels of all items, deleted ones included, ascending."""
        return self._made().labels.all()

    def get_max_elements(self) -> int:
        """How many items there may be."""
        return self._made().labels.limit

    def get_current_count(self) -> int:
        """How many items there are, deleted ones included."""
        return self._made().labels.count

    # Settings.

    def set_ef(self, ef: int) -> None:
        """The breadth of the walk from the next query on; 10 at first and after ``load_index``."""
        self._ef = given.size_of(ef, "ef")

    def set_num_threads(self, num_threads: int) -> None:
        """What calls use that name none: all cores at first and for <= 0."""
        self._threads = given.thread_count(num_threads)

    @property
    def ef(self) -> int:
        return self._ef

    @ef.setter
    def ef(self, ef: int) -> None:
        self.set_ef(ef)

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

    @property
    def M(self) -> int:  # noqa: N802 - hnswlib's name
        """As given; this and the following are 0 before init_index."""
        return self._graph.M if self._graph else 0

    @property
    def ef_construction(self) -> int:
        """As given, but at least M."""
        return self._graph.ef_construction if self._graph else 0

    @property
    def max_elements(self) -> int:
        """How many items there may be."""
        return self._graph.labels.limit if self._graph else 0

    @property
    def element_count(self) -> int:
        """How many items there are, deleted ones included."""
        return self._graph.labels.count if self._graph else 0

    def __repr__(self) -> str:
        return f"<hnswlib.Index(space='{self._space}', dim={self._dim})>"

    # Files and pickles.

    def save_index(self, path_to_index: str | bytes | os.PathLike[str]) -> None:
        """Writes one checksummed file, whole or not at all. Writers wait, searches go on."""
        self._made().save(given.path_of(path_to_index))

    def load_index(
        self,
        path_to_index: str | bytes | os.PathLike[str],
        max_elements: int = 0,
        allow_replace_deleted: bool = False,
    ) -> None:
        """Takes what ``save_index`` wrote in place of what the index holds.

        ``max_elements`` 0, or below the number of items, stands for the number that was saved. Of a file of
        hnswlib itself the items are taken, and the graph is built anew, by as many threads as are set.
        RuntimeError, and the index is as before, for a file that is missing, damaged, or of another dim or
        space.
        """
        path, limit = given.path_of(path_to_index), given.size_of(max_elements, "max_elements")
        replaces = given.flag_of(allow_replace_deleted, "allow_replace_deleted")
        with self._starting:
            if self._graph is not None:
                warnings.warn(given.LOADED_OVER, RuntimeWarning, stacklevel=2)
            threads = min(max(self._threads, 0), given.MOST_THREADS)
            self._graph = Graph.load(path, self._space, self._dim, limit, replaces, threads)
            self._ef = _DEFAULT_EF

    def index_file_size(self) -> int:
        """The bytes that ``save_index`` would write now. It writes them, to the temporary directory."""
        return self._made().file_size()

    def __getstate__(self) -> tuple[dict[str, Any]]:
        graph = self._graph
        state = {
            "ser_version": _STATE_VERSION,
            "space": self._space,
            "dim": self._dim,
            "index_inited": graph is not None,
            "ep_added": graph is not None and graph.labels.count > 0,
            "normalize": self._space == "cosine",
            "num_threads": self._threads,
            "seed": graph.random_seed if graph else DEFAULT_SEED,
            "ef": self._ef,
        }
        return (state | graph.state() if graph else state,)

    def __setstate__(self, state: tuple[dict[str, Any]]) -> None:
        (params,) = state
        if params["ser_version"] > _STATE_VERSION:
            raise RuntimeError("Unpickle Error: Invalid serialization version!")
        self._start(*given.space_of(params["space"], params["dim"]))
        self._threads, self._ef = params["num_threads"], params["ef"]
        if params["index_inited"]:
            if "embedcore_file" not in params:
                raise RuntimeError(
                    "Unpickle Error: this is a state of the hnswlib package itself; unpickle it there, save "
                    "it by save_index, and load that file"
                )
            self._graph = Graph.of_state(params, self._space, self._dim)

    def _made(self) -> Graph:
        if self._graph is None:
            raise RuntimeError(given.NOT_YET)
        return self._graph
