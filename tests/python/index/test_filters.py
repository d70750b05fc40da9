"""Filters of every form and selectivity, under dtypes and codes."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import embedcore
from embedcore.index import IdSet

from .dtypes import (
    distances_of,
    few_kinds,
)
from .vectors import clustered, recall

BIG = 10_000


@functools.cache
def big() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    vectors = clustered(BIG + 30, 64, 60, seed=44)
    return vectors[:BIG], vectors[BIG:]


@functools.cache
def big_index(dtype: str, codes: str) -> embedcore.Index:
    index = embedcore.Index(64, "l2", dtype, codes, ef_construction=60)
    index.add(np.arange(BIG) * 3, big()[0])  # ids are not row numbers
    return index


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.01, 0.001, 0.0001])
@few_kinds
def test_filters_of_every_selectivity(dtype: Any, codes: Any, share: float) -> None:
    _, queries = big()
    index = big_index(dtype, codes)
    chosen = np.sort(np.random.default_rng(45).choice(BIG, round(share * BIG), replace=False))
    allowed = chosen * 3
    members = set(allowed.tolist())
    k = min(10, len(chosen))
    ranked = embedcore.exact_search(index.get(allowed), queries, k, "l2").ids
    truth = allowed[ranked]
    forms: list[Any] = [IdSet(allowed), allowed, allowed[::-1].astype(np.uint32), members.__contains__]
    for form in forms:
        if callable(form):  # thousands of calls of Python a query
            queries, truth = queries[:10], truth[:10]
        found = index.search(queries, 10, ef_search=100, filter=form, stats=True)
        assert recall(found.ids[:, :k], truth) >= 0.95
        assert (found.ids[:, k:] == -1).all()
        assert np.isposinf(found.distances[:, k:]).all()
        returned = found.ids[found.ids >= 0].tolist()
        assert set(returned) <= members
        one = index.search(queries[0], 10, ef_search=100, filter=form)
        np.testing.assert_array_equal(one.ids, found.ids[0])
        near = index.range_search(queries[:1], np.inf, ef_search=50, filter=form)
        assert set(near.ids[near.ids >= 0].tolist()) <= members


def test_ids_that_come_twice_or_exist_nowhere_do_no_harm() -> None:
    _, queries = big()
    index = big_index("float32", "int8")
    plain = np.arange(0, 9_000, 3)
    noisy = np.concatenate([plain, plain[::-1], [-1, -(2**63), 1, 2, 2**63 - 1, 3 * BIG]])
    assert len(embedcore.IdSet(noisy)) == len(plain) + 4  # negative ones are no ids
    for ids in (plain, plain[:3]):  # walked through, and scored one by one
        with_noise = np.concatenate([ids, ids, noisy[2 * len(plain) :]])
        for filtered in (with_noise, embedcore.IdSet(with_noise), with_noise.tolist()):
            found = index.search(queries, 10, filter=filtered)
            expected = index.search(queries, 10, filter=ids)
            np.testing.assert_array_equal(found.ids, expected.ids)
            np.testing.assert_array_equal(found.distances, expected.distances)


def test_what_is_in_an_id_set() -> None:
    near, far = np.arange(5, 900, 7), np.array([0, 2**62, 2**63 - 1])  # a bitmap, and a hash table
    for ids in (near, far):
        chosen = IdSet(ids)
        assert all(i in chosen for i in ids.tolist())
        assert np.int64(ids[1]) in chosen
        assert len(chosen) == len(ids)
        assert repr(chosen) == f"<embedcore.IdSet of {len(ids)}>"
        for absent in (1, -1, 2**63, -(2**70), "5", 5.0, None):
            assert absent not in chosen
    assert len(IdSet([])) == 0


@few_kinds
def test_a_filter_of_what_lies_far_away(dtype: Any, codes: Any) -> None:
    base, queries = big()
    index = big_index(dtype, codes)
    for row in range(3):
        far = np.argsort(-distances_of("l2", queries[row : row + 1], base)[0])[:800]
        allowed = np.sort(far) * 3
        members = set(allowed.tolist())
        truth = allowed[embedcore.exact_search(index.get(allowed), queries[row : row + 1], 10, "l2").ids]
        listed = index.search(queries[row : row + 1], 10, ef_search=100, filter=allowed)
        assert set(listed.ids[0].tolist()) <= members
        assert recall(listed.ids, truth) >= 0.95
        # A callable lists nothing, so the walk has to go there; far away codes tell little apart.
        walked = index.search(queries[row : row + 1], 10, ef_search=100, filter=members.__contains__)
        assert set(walked.ids[0].tolist()) <= members
        assert codes != "none" or recall(walked.ids, truth) >= 0.9
