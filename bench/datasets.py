"""Items, queries and exact neighbours as files that every worker maps: real text, synthetic, or HDF5."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import encode, synthetic
from bench.machine import ROOT
from bench.truth import Floats, Ids, exact_neighbours

CACHE = ROOT / "build" / "bench" / "data"
VECTORS_VARIABLE = "EMBEDCORE_BENCH_DATA"
SAMPLE = ROOT / "tests" / "data" / "wordnet-minilm-4000.f16.npy"
BASE_FILE = "wordnet-minilm.f16.npy"
QUERY_FILE = "wordnet-minilm-queries.f16.npy"
DEPTH = 100
SEED = 20_240_229


class DataError(Exception):
    """The data asked for cannot be had; the message says what to do."""


@dataclass(frozen=True)
class Dataset:
    """``base`` (n, dim) and ``queries`` (q, dim): float32, mapped from ``folder``, unit length for cosine.
    ``truth`` (q, depth). Queries are in random order, so that any slice of them is a fair sample."""

    name: str
    metric: str
    base: Floats
    queries: Floats
    truth: Ids
    folder: Path
    origin: str

    @property
    def n(self) -> int:
        return len(self.base)

    @property
    def dim(self) -> int:
        return int(self.base.shape[1])

    def describe(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "metric": self.metric,
            "n": self.n,
            "dim": self.dim,
            "queries": len(self.queries),
            "origin": self.origin,
        }


@dataclass(frozen=True)
class Wanted:
    """What the command line asked for; None takes what the data has, or the default of the synthetic sets."""

    name: str
    n: int | None = None
    dim: int | None = None
    metric: str | None = None
    queries: int | None = None
    vectors: Path | None = None
    encode: bool = False
    depth: int = DEPTH


def load(wanted: Wanted, cache: Path = CACHE) -> Dataset:
    """Loads or makes the data, computes its truth, and keeps both under ``cache``. Raises DataError."""
    if wanted.name == "wordnet":
        base, queries, origin = _wordnet(wanted)
        metric = wanted.metric or "cosine"
    elif wanted.name in synthetic.MAKERS:
        n, dim = wanted.n or 100_000, wanted.dim or 128
        base, queries = synthetic.MAKERS[wanted.name](n, dim, SEED, wanted.queries or 4_000)
        metric, origin = wanted.metric or "l2", f"synthetic, seed {SEED}"
    elif wanted.name.startswith("hdf5:"):
        base, queries, metric, origin = _hdf5(Path(wanted.name.removeprefix("hdf5:")).expanduser())
        metric = wanted.metric or metric
    else:
        known = ", ".join(["wordnet", *synthetic.MAKERS])
        raise DataError(f"no data is called {wanted.name!r}; use {known} or hdf5:PATH")
    if wanted.dim is not None and base.shape[1] != wanted.dim:
        raise DataError(f"{wanted.name} has {base.shape[1]} dimensions, not {wanted.dim}; leave --dim out")
    rng = np.random.default_rng(SEED)
    if wanted.n is not None and wanted.n < len(base):
        # Rows of a corpus are ordered by something (part of speech, date): a prefix would be another corpus.
        base = base[np.sort(rng.permutation(len(base))[: wanted.n])]
    queries = queries[rng.permutation(len(queries))[: wanted.queries or len(queries)]]
    if len(queries) < 2:
        raise DataError(f"{wanted.name} has {len(queries)} queries; two halves need at least 2")
    return _stored(wanted, metric, _ready(base, metric), _ready(queries, metric), origin, cache)


def _ready(rows: NDArray[Any], metric: str) -> Floats:
    """float32; unit length under cosine, so that engines that only know the inner product can take part."""
    floats = np.ascontiguousarray(rows, dtype=np.float32)
    if metric == "cosine":
        norms = np.linalg.norm(floats, axis=1, keepdims=True)
        if not norms.all():
            raise DataError(f"row {int(np.argmin(norms))} is zero, which has no cosine; use --metric l2")
        floats = floats / norms
    return floats


def _stored(wanted: Wanted, metric: str, base: Floats, queries: Floats, origin: str, cache: Path) -> Dataset:
    """Files named after their content: another subset, metric or encoder never meets a stale truth."""
    digest = hashlib.blake2b(digest_size=8)
    for part in (metric.encode(), base.data, queries.data):
        digest.update(part)
    label = wanted.name.split(":")[0]
    folder = cache / f"{label}-{len(base)}x{base.shape[1]}-{metric}-{digest.hexdigest()}"
    folder.mkdir(parents=True, exist_ok=True)
    depth = min(wanted.depth, len(base))
    arrays = {"base.npy": base, "queries.npy": queries}
    for name, array in arrays.items():
        if not (folder / name).exists():
            _save(folder / name, array)
    truth_path = folder / f"truth{depth}.npy"
    if not truth_path.exists():
        _save(truth_path, exact_neighbours(base, queries, depth, metric))
    name = wanted.name if not wanted.name.startswith("hdf5:") else Path(wanted.name[5:]).stem
    return Dataset(
        name,
        metric,
        np.load(folder / "base.npy", mmap_mode="r").view(np.ndarray),
        np.load(folder / "queries.npy", mmap_mode="r").view(np.ndarray),
        np.load(truth_path),
        folder,
        origin,
    )


def _save(path: Path, array: NDArray[Any]) -> None:
    """Under another name first: an interrupted run leaves nothing that looks whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "wb") as file:
        np.save(file, array)
    os.replace(temporary, path)


def _wordnet(wanted: Wanted) -> tuple[NDArray[Any], NDArray[Any], str]:
    named = wanted.vectors or (
        Path(os.environ[VECTORS_VARIABLE]) if os.environ.get(VECTORS_VARIABLE) else None
    )
    if wanted.encode:
        try:
            named = encode.wordnet_vectors(CACHE.parent / "encoded", BASE_FILE, QUERY_FILE)
        except ImportError as error:
            raise DataError(f"--encode needs the packages of embedcore[demo]: {error}") from error
    if named is not None:
        try:
            base, queries = np.load(named / BASE_FILE), np.load(named / QUERY_FILE)
        except OSError as error:
            raise DataError(f"{error}; --vectors names the folder of {BASE_FILE} and {QUERY_FILE}") from error
        return base, queries, f"WordNet 3.0 x all-MiniLM-L6-v2, {len(base)} synsets"
    rows = np.load(SAMPLE)
    order = np.random.default_rng(SEED).permutation(len(rows))
    held_out = max(2, min(wanted.queries or 500, len(rows) // 4))
    return (
        rows[np.sort(order[held_out:])],
        rows[order[:held_out]],
        f"the {len(rows)} WordNet vectors of the tests, {held_out} of them held out as queries; "
        f"--vectors, {VECTORS_VARIABLE} or --encode take the whole corpus",
    )


def _hdf5(path: Path) -> tuple[NDArray[Any], NDArray[Any], str, str]:
    try:
        import h5py
    except ImportError as error:
        raise DataError("hdf5: needs h5py; pip install h5py") from error
    try:
        with h5py.File(path, "r") as file:
            distance = str(file.attrs.get("distance", "euclidean"))
            train, test = np.asarray(file["train"]), np.asarray(file["test"])
    except (OSError, KeyError) as error:
        raise DataError(f"{path} is no ann-benchmarks file (datasets train and test): {error}") from error
    metrics = {"angular": "cosine", "euclidean": "l2", "dot": "ip"}
    if distance not in metrics:
        raise DataError(f"{path} has distance {distance!r}; {', '.join(metrics)} can be measured")
    return train, test, metrics[distance], f"ann-benchmarks file {path.name}"
