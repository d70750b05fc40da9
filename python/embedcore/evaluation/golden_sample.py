"""A sample of the query log to be labelled: by frequency buckets, with candidates shown in random order.

Buckets share the logged traffic out in thirds: the most frequent texts that make up a third of all that
was asked are the head, those of the next third the torso, the rest the long tail. Candidates are the pooled
first results of every live generation, so that no model's labels are missing, and they are shuffled, so that
what raters see first says nothing about where a model put it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from embedcore.errors import FailedPrecondition, InvalidArgument
from embedcore.evaluation.seeds import derive

BUCKETS = ("head", "torso", "tail")
MIN_COUNT = 2  # a text asked once only may say who asked

# Query text -> generation number -> ids of the first results.
Pool = Callable[[Sequence[str]], list[Mapping[int, Sequence[tuple[str, str | None]]]]]


def buckets_of(counts: Mapping[str, int]) -> dict[str, str]:
    """Text -> head, torso or tail."""
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    total = sum(counts.values())
    found: dict[str, str] = {}
    before = 0
    for text, count in ordered:
        # Where its middle lies, so that one text that is most of the traffic is head.
        middle = (before + count / 2) / total
        found[text] = BUCKETS[min(int(middle * 3), 2)]
        before += count
    return found


def draw(
    counts: Mapping[str, int], wanted: Mapping[str, int], *, min_count: int = MIN_COUNT, seed: int = 0
) -> list[tuple[str, str, int]]:
    """(text, bucket, count) of the queries to label: at most ``wanted[bucket]`` of each bucket, drawn
    uniformly. FailedPrecondition when the log has nothing to give."""
    unknown = sorted(set(wanted) - set(BUCKETS))
    if unknown or not any(wanted.values()) or any(count < 0 for count in wanted.values()):
        raise InvalidArgument(f"buckets are {', '.join(BUCKETS)} with a number each, got {dict(wanted)}")
    bucket = buckets_of(counts) if counts else {}
    found: list[tuple[str, str, int]] = []
    for name in BUCKETS:
        pool = sorted(text for text in counts if bucket[text] == name and counts[text] >= min_count)
        rng = np.random.default_rng(derive(seed, "golden sample", name))
        chosen = rng.permutation(len(pool))[: wanted.get(name, 0)]
        found += [(pool[row], name, counts[pool[row]]) for row in sorted(chosen.tolist())]
    if not found:
        raise FailedPrecondition(
            f"the query log holds no text that was asked {min_count} times or more; set query_log of the "
            "consumer above 0 and wait for traffic, or lower the minimum count"
        )
    return found


def to_label(drawn: Sequence[tuple[str, str, int]], pool: Pool, *, seed: int = 0) -> list[dict[str, Any]]:
    """Queries with their candidates: plain documents, the candidates at their shown ``position`` from 1."""
    pooled = pool([text for text, _, _ in drawn])
    documents = []
    for (text, bucket, count), lists in zip(drawn, pooled, strict=True):
        name = "q-" + hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        candidates: dict[str, str | None] = {}
        for generation in sorted(lists):
            candidates.update(lists[generation])
        items = sorted(candidates)
        order = np.random.default_rng(derive(seed, "presentation", name)).permutation(len(items))
        shown = [
            {"item": items[row], "content": candidates[items[row]], "position": place}
            for place, row in enumerate(order.tolist(), start=1)
        ]
        documents.append(
            {"query_id": name, "text": text, "bucket": bucket, "count": count, "candidates": shown}
        )
    return documents
