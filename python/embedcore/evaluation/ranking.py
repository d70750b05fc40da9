"""nDCG, MRR and plain recall of result lists, through ir-measures (trec_eval's definitions).

Beside the consumer's own metric these are what others' reports state. R@k here divides by *all* relevant
items, where the gate's recall@k divides by min(relevant, k), the most that k places can hold.
"""

from __future__ import annotations

import numpy as np

from embedcore.evaluation.interface import Floats, Lists
from embedcore.evaluation.resolve import ResolvedGolden

_STEPS = 1_000  # trec_eval wants whole grades; nDCG does not change when all grades are scaled


def ranking_measures(resolved: ResolvedGolden, lists: Lists, k: int) -> dict[str, Floats]:
    """ "nDCG@k", "RR@k", "R@k" -> float64 (n,), row i the resolved query i.

    ``lists``: ids and distances (n, depth) in order of rank, -1 where there is no result; excluded items are
    taken out before ranking. Grades that are not whole numbers count to three digits.
    """
    import ir_measures
    from ir_measures import RR, R, nDCG

    ids = lists[0]
    kept = (ids >= 0) & ~resolved.exclude.holds(ids)
    whole = bool(np.all(resolved.grades == np.floor(resolved.grades)))
    grades = resolved.grades if whole else np.maximum(1, np.round(resolved.grades * _STEPS))
    qrels: dict[str, dict[str, int]] = {}
    run: dict[str, dict[str, float]] = {}
    offsets = resolved.relevant.offsets
    for row in range(len(resolved)):
        span = slice(int(offsets[row]), int(offsets[row + 1]))
        items, graded = resolved.relevant.items[span].tolist(), grades[span].astype(np.int64).tolist()
        qrels[str(row)] = {str(item): grade for item, grade in zip(items, graded, strict=True)}
        # Ranks as scores: trec_eval orders equal scores by id, which is not the order that was served.
        ranked = dict.fromkeys(ids[row][kept[row]].tolist())
        run[str(row)] = {str(item): -float(place) for place, item in enumerate(ranked)}
    wanted = [nDCG @ k, RR @ k, R @ k]
    found = {str(measure): np.zeros(len(resolved)) for measure in wanted}
    for metric in ir_measures.iter_calc(wanted, qrels, run):
        found[str(metric.measure)][int(metric.query_id)] = metric.value
    return found
