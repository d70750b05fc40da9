"""From result lists to an Evaluation: the consumer's own metric, its long tail, its interval."""

from __future__ import annotations

import numpy as np

from embedcore.errors import Internal
from embedcore.evaluation.interface import Ints, Lists
from embedcore.evaluation.metrics import PerQuery, depth_for, precision_at_1, recall_at_k, top_answers
from embedcore.evaluation.metrics import found_share as share_found
from embedcore.evaluation.ranking import ranking_measures
from embedcore.evaluation.resolve import TAIL, ResolvedGolden
from embedcore.evaluation.result import Evaluation, Share
from embedcore.evaluation.significance import interval
from embedcore.evaluation.thresholds import Threshold, choose_threshold, halves
from embedcore.types import Consumer


def depth_of(consumer: Consumer, resolved: ResolvedGolden) -> int:
    """How many results to ask for: k, and room for the items that a query excludes."""
    return depth_for(consumer.k, resolved.exclude)


def evaluate_lists(
    consumer: Consumer,
    resolved: ResolvedGolden,
    lists: Lists,
    *,
    model: str,
    generation: int | None,
    at: float,
    seed: int,
    weight: float | None = None,
    index: Share | None = None,
    ranked: bool = False,
) -> Evaluation:
    """``lists``: ids and distances (n, depth) for the resolved queries, as a SearchBackend returns them.
    ``index``: recall against exact search. ``ranked``: with nDCG, MRR and plain recall as well."""
    ids, distances = lists
    if ids.shape != distances.shape or ids.ndim != 2 or len(ids) != len(resolved):
        raise Internal(
            f"a search of {len(resolved)} queries gave ids {ids.shape} and distances {distances.shape}"
        )
    reported: Ints = np.arange(len(resolved), dtype=np.int64)
    threshold: Threshold | None = None
    found: float | None = None
    if consumer.quality == "precision":
        top = top_answers(ids, distances, resolved.relevant, resolved.exclude)
        even, odd = halves(resolved.rows)
        threshold = choose_threshold(top.take(even), consumer.min_found_share or 0.0)
        reported = np.flatnonzero(odd)
        values = precision_at_1(top.take(reported), threshold.distance)
        found = share_found(top.take(reported), threshold.distance)
        name = "precision@1"
    else:
        values = recall_at_k(ids, resolved.relevant, resolved.exclude, consumer.k)
        name = f"recall@{consumer.k}"
    bucket = resolved.bucket[reported]
    tail = values.take(bucket == TAIL)
    measures = (
        ranking_measures(resolved.take(reported), (ids[reported], distances[reported]), consumer.k)
        if ranked
        else {}
    )
    lower, upper = interval(values)
    return Evaluation(
        consumer=consumer.name,
        metric_name=name,
        k=consumer.k,
        generation=generation,
        model=model,
        weight=weight,
        golden=resolved.golden.name,
        golden_digest=resolved.digest,
        public=resolved.golden.public,
        at=at,
        seed=seed,
        queries=resolved.asked,
        left_out=resolved.left_out,
        metric=values.value,
        lower=lower,
        upper=upper,
        long_tail=_value(tail),
        long_tail_n=len(tail),
        rows=resolved.rows[reported],
        values=values,
        bucket=bucket,
        own_buckets={name: mask[reported] for name, mask in resolved.own_buckets.items()},
        threshold=None if threshold is None else threshold.distance,
        threshold_reached=None if threshold is None else threshold.reached,
        found_share=found,
        measures={name: float(per_query.mean()) for name, per_query in measures.items() if per_query.size},
        index_recall=None if index is None else index.value,
        index_recall_lower=None if index is None else index.lower,
        index_recall_upper=None if index is None else index.upper,
        index_recall_n=0 if index is None else index.n,
    )


def _value(values: PerQuery) -> float:
    return values.value if len(values) else float("nan")
