"""The index: ids and vectors in, ids and distances out. The typed face of the native HNSW graph.

Any number of threads may call anything here at once; calls that work release the GIL. ValueErrors are
:class:`embedcore.errors.InvalidArgument`, KeyErrors :class:`embedcore.errors.NotFound`, and both are raised
before anything has changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedcore import _native
from embedcore.errors import InvalidArgument
from embedcore.index_input import (
    Filter,
    IdSet,
    checked_out,
    filter_of,
    id_of,
    ids_of,
    number,
    one_of,
    path_of,
    rows_of,
    text_of,
    whole,
)
from embedcore.index_results import Report, SearchResult
from embedcore.index_upkeep import IndexUpkeep

__all__ = ["METRICS", "IdSet", "Index", "Metric", "Report", "SearchResult"]

Metric = Literal["cosine", "ip", "l2"]
Dtype = Literal["float32", "float16", "bfloat16", "int8"]
Codes = Literal["auto", "none", "int8", "int4"]

# In the order of the native enumerations.
METRICS: Final = ("cosine", "ip", "l2")
_DTYPES: Final = ("float32", "float16", "bfloat16", "int8")
_CODES: Final = ("none", "int8", "int4", "auto")

_FAST_EF_CONSTRUCTION: Final = 80  # what preset="fast" caps ef_construction at
_STATS: Final = ("hops", "distances", "nanoseconds")  # rows of what the native search counts
_U32_MAX: Final = 2**32 - 1
_U64_MAX: Final = 2**64 - 1


class Index(IndexUpkeep):
    """A dynamic HNSW index (Malkov & Yashunin 2018): add, replace, remove and search at any time.

    Distances are 1 - cos ("cosine"), 1 - dot ("ip") or squared L2 ("l2"), of what ``dtype`` keeps; final
    ranking and distances are always computed on that, never on codes.

    ``dtype``: how vectors are kept, and so what :meth:`get` returns.

    * "float32": as they came, bit by bit; distances are exact to float32.
    * "float16", "bfloat16": each value rounded to nearest even, 2 bytes. Values of magnitude 65,520 and more,
      which float16 would make infinite, and, under cosine, vectors that it would round to zero are refused.
    * "int8": the lean mode, 1 byte. A step per vector, its largest value / 127, and whole multiples of it, so
      that every value is within half a step. Walks read these bytes; there is no other copy unless codes is
      "int4".

    ``codes``: compressed vectors that the graph walk reads in place of those; the best of what it meets are
    ranked by those then. One grid of steps for the whole index, trained on a sample at 256 items and anew as
    the index grows or its vectors change; until then walks read what ``dtype`` keeps.

    * "int8", "int4": 1 or half a byte a dimension.
    * "none": no codes.
    * "auto": what suits dimension, metric and dtype; the property ``codes`` says what was settled.

    ``m`` (2 to 512) is the number of links per node and level, twice that on the lowest. ``preset="fast"``
    caps ef_construction: about half the build time, some recall less at equal ef_search. ``capacity`` is a
    hint. ``seed`` fixes the levels of the nodes: one thread adding the same items builds the same graph every
    time, on one instruction set.

    Raises ValueError for anything else.
    """

    def __init__(
        self,
        dim: int,
        metric: Metric = "cosine",
        dtype: Dtype = "float32",
        codes: Codes = "auto",
        m: int = 16,
        ef_construction: int = 200,
        preset: Literal["fast"] | None = None,
        capacity: int = 0,
        seed: int = 0,
    ) -> None:
        if preset not in (None, "fast"):
            raise InvalidArgument(f"preset is {preset!r}; use None or 'fast'")
        ef_construction = whole(ef_construction, "ef_construction", 1, 1_000_000)
        if preset == "fast":
            ef_construction = min(ef_construction, _FAST_EF_CONSTRUCTION)
        self._native = _native.Index(
            dim=whole(dim, "dim", 1, 65535),
            metric=one_of(metric, "metric", METRICS),
            m=whole(m, "m", 2, 512),
            ef_construction=ef_construction,
            seed=whole(seed, "seed", 0, _U64_MAX),
            capacity=whole(capacity, "capacity", 0, _U32_MAX),
            dtype=one_of(dtype, "dtype", _DTYPES),
            codes=one_of(codes, "codes", _CODES),
        )

    # Writing.

    def add(
        self,
        ids: ArrayLike,
        vectors: ArrayLike,
        threads: int = 0,
        progress: Callable[[int, int], object] | None = None,
    ) -> None:
        """Adds items; an id that exists is replaced, and is findable as old or new at every moment.

        ``ids``: (n,) whole numbers in 0..2^63-1, none twice. ``vectors``: (n, dim), finite and, under cosine,
        not zero; float32 C-contiguous input is used in place. ``threads=0``: all cores. ``progress(done, n)``
        is called from the calling thread about ten times a second and once at the end.

        Raises ValueError, also for values that the dtype cannot hold, before anything changes. An exception
        of ``progress``, Ctrl-C or memory that runs out ends the call; what was added until then stays.
        """
        if progress is not None and not callable(progress):
            raise InvalidArgument(f"progress is {progress!r}; give a function of (done, total)")
        numbers = ids_of(ids)
        rows, _ = self._rows(vectors, "vectors")
        if len(rows) != len(numbers):
            raise InvalidArgument(f"{len(numbers)} ids came with {len(rows)} vectors; give one vector per id")
        self._native.add(numbers, rows, whole(threads, "threads", 0, 65535), progress)

    def remove(self, ids: ArrayLike) -> int:
        """Removes items and returns how many were present; unknown ids are ignored."""
        return self._native.remove(ids_of(ids))

    # Reading.

    def search(
        self,
        queries: ArrayLike,
        k: int = 10,
        ef_search: int = 64,
        filter: Filter | ArrayLike | None = None,  # noqa: A002 - the public name
        threads: int = 0,
        out: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None,
        stats: bool = False,
    ) -> SearchResult:
        """The k nearest of each query, approximately: a wider ``ef_search`` finds more and costs more.

        ``queries``: (q, dim), or (dim,) for results of shape (k,). ``ef_search`` below k is raised to k.
        ``filter``: ids that may be returned, as an integer array, an :class:`IdSet` (built once for many
        calls) or a callable id -> bool, which is called under the GIL by one thread. ``threads=0``: all
        cores, for 8 queries and more. ``out``: C-contiguous int64 and float32 arrays of the result's shape,
        filled and returned. ``stats=True`` adds what the search took.

        Raises ValueError for a wrong shape or dtype, values that are not finite, a zero query under cosine,
        or k < 1. Ctrl-C ends a batch between two groups of queries.
        """
        if filter is None and out is None and not stats:
            found = self._native.search_plain(queries, k, ef_search, threads)
            if found is not None:
                return SearchResult(found[0], found[1])
        # Everything else: other types and layouts, more arguments, and whatever has to be refused by name.
        k = whole(k, "k", 1, _U32_MAX)
        ef = whole(ef_search, "ef_search", 1, _U32_MAX)
        threads = whole(threads, "threads", 0, 65535)
        rows, single = self._rows(queries, "queries")
        allowed = filter_of(filter)
        shape: tuple[int, ...] = (k,) if single else (len(rows), k)
        if out is None:
            ids = np.empty(shape, dtype=np.int64)
            distances = np.empty(shape, dtype=np.float32)
        else:
            ids, distances = checked_out(out, shape)
        counted = np.zeros((len(_STATS), len(rows)), dtype=np.uint64) if stats else None
        self._native.search(rows, k, ef, allowed, threads, ids, distances, counted)
        return SearchResult(
            ids, distances, None if counted is None else dict(zip(_STATS, counted, strict=True))
        )

    def range_search(
        self,
        queries: ArrayLike,
        radius: float,
        ef_search: int = 64,
        filter: Filter | ArrayLike | None = None,  # noqa: A002 - the public name
        threads: int = 0,
    ) -> SearchResult:
        """Everything within ``radius`` (inclusive) that a walk of breadth ``ef_search`` reaches.

        For a query of shape (dim,) the result's arrays have one entry per item found; for (q, dim) they are
        as wide as the longest answer, padded with -1 and inf. Otherwise as :meth:`search`.
        """
        radius = number(radius, "radius")
        ef = whole(ef_search, "ef_search", 1, _U32_MAX)
        rows, single = self._rows(queries, "queries")
        threads = whole(threads, "threads", 0, 65535)
        ids, distances = self._native.range_search(rows, radius, ef, filter_of(filter), threads)
        return SearchResult(ids[0], distances[0]) if single else SearchResult(ids, distances)

    def scores(self, query: ArrayLike, ids: ArrayLike) -> NDArray[np.float32]:
        """Distances of one query (dim,) to given items, float32 (n,); nan for ids that are absent."""
        rows, single = self._rows(query, "query")
        if not single and len(rows) != 1:
            raise InvalidArgument(f"scores takes one query, got {len(rows)}; call it once for each")
        return self._native.scores(rows, ids_of(ids))

    def get(self, ids: ArrayLike) -> NDArray[np.float32]:
        """The vectors of items as they were added (not normalised), within the dtype; float32 (n, dim).

        KeyError names the first unknown id.
        """
        return self._native.get(ids_of(ids))

    def ids(self) -> NDArray[np.int64]:
        """The ids of all live items, ascending."""
        return self._native.ids()

    def __len__(self) -> int:
        return len(self._native)

    def __contains__(self, item: object) -> bool:
        wanted = id_of(item)
        return wanted is not None and wanted in self._native

    # Snapshots.

    def save(
        self, path: str | os.PathLike[str], fingerprint: str | None = None, watermark: int | None = None
    ) -> None:
        """Writes a checksummed snapshot: to a temporary file beside ``path``, synced, then renamed over it.

        ``fingerprint`` names the vector space, ``watermark`` says that every write up to that sequence
        number is in; None keeps what the index has ("" and 0 at first). Searches and writes go on; writers
        wait once for some milliseconds a million items. The file holds everything that was added before the
        call, at that version or a later one, and nothing that was removed before it.

        Raises ResourceExhausted where the disk is full, FailedPrecondition where the file cannot be written:
        the file that was there is untouched then, and nothing is left behind. Raises CorruptSnapshotError
        for an index that was mapped from a file with damage.
        """
        if fingerprint is None:
            fingerprint = self.fingerprint
        self._native.save(
            path_of(path),
            text_of(fingerprint, "fingerprint"),
            self.watermark if watermark is None else whole(watermark, "watermark", 0, _U64_MAX),
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str], mmap: bool = False) -> Index:
        """The index that was saved, ready for writes.

        ``mmap=True`` maps the file instead of reading it: the first query is answered within milliseconds.
        Nodes, ids and links are verified at once; vectors and codes on a thread in the background, until
        which ``stats()["verified"]`` is False. Damage that is found then takes the index out of service:
        what reads vectors raises CorruptSnapshotError from then on. Writes go to memory, never to the file,
        which may be replaced or removed meanwhile, but not be overwritten. Searches are somewhat slower than
        in an index that was read, as a file gets no huge pages. Files of format versions 1 and 2 are read in
        either case.

        Raises CorruptSnapshotError for a file that is damaged in any byte (with ``mmap``: of what is
        verified at once), cut short, or no snapshot, OSError where it cannot be opened, and
        FailedPrecondition for a format of a newer version.
        """
        with open(path, "rb"):  # raises the OSError that names the reason
            pass
        index = cls.__new__(cls)
        index._native = _native.Index.load(path_of(path), bool(mmap))
        return index

    @property
    def verified(self) -> bool:
        """Whether every byte that was loaded has been checked: False while a mapped file is not yet, and for
        good where damage was found."""
        return self._native.verified

    def check_health(self) -> None:
        """Raises CorruptSnapshotError, which names file and chunk, once damage was found in a mapped file."""
        self._native.health()

    def wait_verified(self) -> None:
        """Waits until a mapped file is verified; raises CorruptSnapshotError where damage is found."""
        self._native.wait_verified()

    @property
    def fingerprint(self) -> str:
        """Of the vector space, as saved; "" for none."""
        return self._native.fingerprint

    @property
    def watermark(self) -> int:
        """Every write up to this sequence number was in the snapshot that was saved or loaded last."""
        return self._native.watermark

    # Configuration.

    @property
    def native(self) -> _native.Index:
        """The native index, for the native query path. Calls on it are not checked."""
        return self._native

    @property
    def dim(self) -> int:
        return self._native.dim

    @property
    def metric(self) -> str:
        return METRICS[self._native.metric]

    @property
    def dtype(self) -> str:
        return _DTYPES[self._native.dtype]

    @property
    def codes(self) -> str:
        """What was settled: "none", "int8" or "int4"."""
        return _CODES[self._native.codes]

    @property
    def m(self) -> int:
        return self._native.m

    @property
    def ef_construction(self) -> int:
        return self._native.ef_construction

    @property
    def seed(self) -> int:
        return self._native.seed

    def __repr__(self) -> str:
        return (
            f"<embedcore.Index dim={self.dim} metric={self.metric} dtype={self.dtype} codes={self.codes} "
            f"m={self.m} items={len(self)}>"
        )

    def _rows(self, vectors: ArrayLike, name: str) -> tuple[NDArray[np.float32], bool]:
        return rows_of(vectors, self.dim, name)
