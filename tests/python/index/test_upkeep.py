"""Memory, statistics and the three verbs, as the platform uses them."""

from __future__ import annotations

import ctypes
import gc
import os
from typing import Any

import numpy as np
import pytest

import embedcore
from embedcore.index import Report

from .vectors import clustered


def _resident() -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what the allocator keeps for later is nobody's
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.parametrize("codes", ["none", "int8"])
def test_memory_bytes_is_what_the_process_grew_by(codes: Any) -> None:
    vectors = np.random.default_rng(13).normal(size=(8000, 256)).astype(np.float32)
    ids = np.arange(8000)
    before = _resident()
    index = embedcore.Index(256, "l2", codes=codes, ef_construction=8)
    index.add(ids, vectors, threads=1)
    grown = _resident() - before
    assert index.memory_bytes == pytest.approx(grown, rel=0.15)
    per_item = 256 * 4 + 32 * 4 + 32  # vector, links, node
    assert index.memory_bytes > 8000 * per_item
    parts = index.stats()["memory"]
    assert sum(parts.values()) == pytest.approx(index.memory_bytes, rel=0.01)


def test_an_index_of_one_item_is_small() -> None:
    index = embedcore.Index(384)
    index.add([1], np.ones((1, 384)))
    assert index.memory_bytes < 1_000_000


def test_memory_is_returned() -> None:
    vectors = np.random.default_rng(14).normal(size=(8000, 256)).astype(np.float32)
    index = embedcore.Index(256, "l2", ef_construction=8)
    index.add(np.arange(8000), vectors)
    full = index.memory_bytes
    index.remove(np.arange(0, 8000, 4))
    index.remove(np.arange(1, 8000, 4))
    index.remove(np.arange(2, 8000, 4))
    assert index.tombstone_rate == pytest.approx(0.75)
    compacted = index.compact()
    assert compacted.freed == 6000
    assert compacted.examined == 2000
    moved = index.relocate()
    assert moved.freed == 6000
    assert 1000 < moved.changed <= 2000
    assert index.memory_bytes < 0.35 * full
    np.testing.assert_array_equal(index.get(index.ids()), vectors[3::4])
    assert index.check() == []


@pytest.mark.parametrize("threads", [1, 3])
def test_upkeep_in_small_pieces_ends_as_in_one(threads: int) -> None:
    vectors = clustered(1500, 8, 4, seed=17)
    index = embedcore.Index(8, m=6)
    index.add(np.arange(1500), vectors, threads=1)
    index.remove(np.arange(0, 1500, 3))
    calls = freed = 0
    for verb in (index.repair, index.compact, index.relocate):
        done = False
        while not done:
            report = verb(budget=0, threads=threads)
            done = report.done
            freed += report.freed if verb == index.compact else 0
            calls += 1
            assert calls < 5000
            if calls % 10 == 0:
                assert index.check() == []
    assert calls > 20
    assert freed == 500
    assert index.tombstones == 0
    assert index.stats()["slots"]["total"] == len(index) == 1000
    assert index.check() == []
    np.testing.assert_array_equal(index.search(vectors[1], k=1).ids, [1])


def test_upkeep_without_a_budget_is_done_in_one_call() -> None:
    index = embedcore.Index(8)
    index.add(np.arange(300), clustered(300, 8, 4, seed=18))
    assert index.compact() == Report(examined=0, changed=0, freed=0, done=True)
    index.remove(np.arange(100))
    assert index.compact(threads=0).done
    assert index.relocate(budget=60.0).done
    assert index.tombstones == 0


@pytest.mark.parametrize("verb", ["repair", "compact", "relocate"])
def test_wrong_budgets_are_refused(verb: str) -> None:
    call = getattr(embedcore.Index(8), verb)
    with pytest.raises(ValueError, match=r"budget is -1\.0; give seconds, 0 or more"):
        call(budget=-1)
    with pytest.raises(ValueError, match="budget is NaN"):
        call(budget=float("nan"))
    with pytest.raises(ValueError, match="threads is -1"):
        call(threads=-1)


def test_free_slots_are_reused() -> None:
    vectors = clustered(1000, 8, 4, seed=15)
    index = embedcore.Index(8)
    index.add(np.arange(1000), vectors)
    for _ in range(4):
        index.add(np.arange(500), vectors[:500])  # 500 tombstones
        assert index.tombstones == 500
        index.compact()
    assert index.stats()["slots"]["total"] <= 1500


def test_stats_is_a_plain_dict() -> None:
    import json

    vectors = clustered(2000, 8, 4, seed=16)
    index = embedcore.Index(8)
    index.add(np.arange(2000), vectors)
    index.add([0], vectors[:1])
    index.remove([5])
    stats = json.loads(json.dumps(index.stats()))
    assert stats["live"] == sum(stats["levels"]) == 1999
    assert stats["tombstones"] == 2
    assert stats["degrees"]["max"] <= 32
    assert stats["degrees"]["min"] >= 1
    assert stats["counters"] == {
        "added": 2001,
        "replaced": 1,
        "removed": 1,
        "reconnected": 0,
        "freed": 0,
        "moved": 0,
    }
    # Levels are geometric with ratio 1 / m: 2000 / 16 nodes are expected above the lowest, give or take 11.
    assert 80 <= sum(stats["levels"][1:]) <= 170


def test_properties_say_how_it_was_made() -> None:
    index = embedcore.Index(8, "ip", m=5, ef_construction=33, seed=2**64 - 1, capacity=1000)
    assert (index.dim, index.metric, index.dtype, index.codes) == (8, "ip", "float32", "none")
    assert (index.m, index.ef_construction, index.seed) == (5, 33, 2**64 - 1)
    assert (index.fingerprint, index.watermark) == ("", 0)
    assert repr(index) == "<embedcore.Index dim=8 metric=ip dtype=float32 codes=none m=5 items=0>"


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
@pytest.mark.parametrize("codes", ["auto", "none", "int8", "int4"])
@pytest.mark.parametrize("dim", [8, 100, 768])
def test_codes_are_settled_when_the_index_is_made(dim: int, dtype: Any, codes: Any) -> None:
    index = embedcore.Index(dim, "l2", dtype, codes)
    assert index.dtype == dtype
    if dtype == "int8" and codes != "int4":
        assert index.codes == "none"  # bytes already are what int8 codes would be
    elif codes == "auto":
        assert index.codes == ("none" if dim == 8 else "int8")
        under_cosine = {8: "none", 100: "int8", 768: "int4"}[dim]
        assert embedcore.Index(dim, "cosine", dtype, codes).codes == under_cosine
    else:
        assert index.codes == codes
    stats = index.stats()
    assert stats["codes"] == {"kind": index.codes, "trained_on": 0, "step": 0.0, "error": 0.0}


@pytest.mark.parametrize(
    ("dtype", "codes", "bytes_a_dimension"),
    [
        ("float32", "none", 4),
        ("float32", "int4", 4.5),
        ("float16", "int8", 3),
        ("bfloat16", "none", 2),
        ("int8", "none", 1),
        ("int8", "int4", 1.5),
    ],
)
def test_memory_follows_from_dtype_and_codes(dtype: Any, codes: Any, bytes_a_dimension: float) -> None:
    n, dim = 6000, 512
    vectors = np.random.default_rng(19).normal(size=(n, dim)).astype(np.float32)
    index = embedcore.Index(dim, "l2", dtype, codes, m=8, ef_construction=8)
    index.add(np.arange(n), vectors)
    per_item = dim * bytes_a_dimension + 16 * 4 + 32 + 64  # links, node, and up to a line of padding
    assert n * dim * bytes_a_dimension < index.memory_bytes < 1.2 * n * per_item + 1_000_000
    memory = index.stats()["memory"]
    assert sum(memory.values()) == pytest.approx(index.memory_bytes, rel=0.01)
    assert (memory["originals"] == 0) == (codes == "none")
