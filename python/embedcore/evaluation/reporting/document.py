"""What a report says, as plain data: per consumer the verdict, intervals, buckets, regressions and costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from embedcore.errors import EmbedcoreError, FailedPrecondition
from embedcore.evaluation.ef_search import curve
from embedcore.evaluation.harness import EXACT_QUERIES, Harness
from embedcore.evaluation.interface import Bools, Floats, Ints, Lists, Progress, no_progress
from embedcore.evaluation.multiple import claims
from embedcore.evaluation.reporting.words import in_words
from embedcore.evaluation.resolve import ResolvedGolden
from embedcore.evaluation.result import Compared, Evaluation
from embedcore.evaluation.significance import finite, standard_error
from embedcore.migration_types import Plan
from embedcore.types import Consumer, Generation

if TYPE_CHECKING:
    from embedcore.store.interface import Store

SCHEMA = 1
REGRESSIONS = 20
RESULTS_SHOWN = 10
TEXT_SHOWN = 160
_Z = 1.959963984540054  # of a two-sided 95% interval


def build_report(
    harness: Harness,
    store: Store,
    source: int,
    target: int,
    plan: Plan | None = None,
    *,
    consumers: Sequence[str] | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """The whole report. ``consumers``: default every consumer of the registry; one without a golden set has
    no evidence, so the report says no. FailedPrecondition when there is no consumer at all."""
    rules = plan or Plan()
    names = list(consumers) if consumers else [consumer.name for consumer in store.consumers()]
    if not names:
        raise FailedPrecondition("there is no consumer to report on: add one")
    compared: dict[str, Compared] = {}
    lacking: dict[str, str] = {}
    for number in (source, target):
        harness.prepare(names, number, progress)
    for name in names:
        try:
            compared[name] = harness.compare(name, source, target, rules, progress=progress)
        except EmbedcoreError as error:
            if name not in {consumer.name for consumer in store.consumers()}:
                raise
            lacking[name] = error.message
    old, new = harness.generation(source), harness.generation(target)
    said = claims(compared)
    sections = {}
    for name, one in compared.items():
        who = harness.consumer(name)
        sections[name] = {
            "compared": one.to_document(arrays=False),
            "passed": one.passed,
            "claim": {key: finite(value) for key, value in asdict(said[name]).items()},
            "equal_freshness": _equal_freshness(harness, name, one, source, target, rules, progress),
            "buckets": bucket_rows(one),
            "scatter": scatter(one),
            "regressions": _regressions(harness, store, who, one, (old, new), progress),
            "curves": _curves(harness, who, (old, new), progress),
            "ef_search": {side: who.ef_for(g.number) for side, g in (("source", old), ("target", new))},
            "index_target": who.index_recall,
            "labelling": _labelling(harness, name),
        }
    refused = [name for name in names if name in lacking or not compared[name].passed]
    return {
        "schema": SCHEMA,
        "at": harness.now(),
        "go": not refused,
        "refused": refused,
        "headline": _headline(names, refused, compared, lacking),
        "source": _side(old),
        "target": _side(new),
        "policy": rules.policy,
        "margin": rules.margin,
        "long_tail_margin": rules.long_tail_margin,
        "no_evidence": lacking,
        "consumers": sections,
    }


def bucket_rows(compared: Compared) -> list[dict[str, Any]]:
    """Head, torso, tail and the golden set's own buckets: both metrics and the paired difference with its
    95% interval (by linearisation)."""
    source, target = compared.source, compared.target
    rows = []
    for name, mask in source.masks.items():
        before, after = source.values.take(mask), target.values.take(mask)
        difference = after.value - before.value if len(before) else float("nan")
        half = _Z * standard_error(before, after) if len(before) > 1 else float("nan")
        numbers = {
            "source": before.value if len(before) else float("nan"),
            "target": after.value if len(after) else float("nan"),
            "difference": difference,
            "lower": difference - half,
            "upper": difference + half,
        }
        rows.append({"bucket": name, "n": len(before), **{key: finite(v) for key, v in numbers.items()}})
    return rows


def scatter(compared: Compared) -> list[dict[str, float | int]]:
    """How many queries have which value under source and target; values rounded to 0.02."""
    before, after = (np.round(_per_query(side) * 50) / 50 for side in (compared.source, compared.target))
    counted = Counter(zip(before.tolist(), after.tolist(), strict=True))
    return [{"source": x, "target": y, "count": n} for (x, y), n in sorted(counted.items())]


def _per_query(side: Evaluation) -> Floats:
    """(n,) in 0..1; an answer that a precision consumer did not accept is halfway between wrong and right."""
    weight = side.values.den
    found: Floats = np.divide(side.values.num, weight, out=np.full(len(weight), 0.5), where=weight > 0)
    return found


def _regressions(
    harness: Harness,
    store: Store,
    consumer: Consumer,
    compared: Compared,
    sides: tuple[Generation, Generation],
    progress: Progress,
) -> list[dict[str, Any]]:
    """The queries that lost most, worst first, with what both generations answer."""
    change = _per_query(compared.target) - _per_query(compared.source)
    order = np.argsort(change, kind="stable")[:REGRESSIONS]
    worst = order[change[order] < 0]
    if len(worst) == 0:
        return []
    golden = harness.golden.get(consumer.name)
    rows = np.sort(compared.source.rows[worst])
    resolved = harness.resolver.resolve(golden, rows)
    lists = [harness.evaluator.lists(consumer, side, resolved, progress) for side in sides]
    shown = min(consumer.k, RESULTS_SHOWN)
    answers = [_answers(store, resolved, found, shown) for found in lists]
    place = {int(row): number for number, row in enumerate(resolved.rows)}
    found = []
    for index in worst.tolist():
        row = int(compared.source.rows[index])
        if row not in place:  # its items went meanwhile
            continue
        query = golden.queries[row]
        found.append(
            {
                "query_id": query.id,
                "text": query.text[:TEXT_SHOWN],
                "bucket": ("head", "torso", "tail")[int(compared.source.bucket[index])],
                "source": float(_per_query(compared.source)[index]),
                "target": float(_per_query(compared.target)[index]),
                "relevant": len([grade for grade in query.relevant.values() if grade > 0]),
                "source_results": answers[0][place[row]],
                "target_results": answers[1][place[row]],
            }
        )
    return found


def _answers(store: Store, resolved: ResolvedGolden, lists: Lists, shown: int) -> list[list[dict[str, Any]]]:
    """Per query the first ``shown`` results: id, content, distance, and whether they are relevant."""
    ids, distances = lists
    kept: Bools = (ids >= 0) & ~resolved.exclude.holds(ids)
    relevant = resolved.relevant.holds(ids)
    columns: list[Ints] = [np.flatnonzero(row)[:shown] for row in kept]
    wanted = sorted({int(ids[row, column]) for row, chosen in enumerate(columns) for column in chosen})
    items = {item.item: item for item in store.get_items(wanted)}
    return [
        [
            {
                "id": items[int(ids[row, column])].id if int(ids[row, column]) in items else "?",
                "content": _content(items, int(ids[row, column])),
                "distance": round(float(distances[row, column]), 5),
                "relevant": bool(relevant[row, column]),
            }
            for column in chosen
        ]
        for row, chosen in enumerate(columns)
    ]


def _content(items: Mapping[int, Any], item: int) -> str:
    found = items.get(item)
    return "" if found is None or found.content is None else str(found.content)[:TEXT_SHOWN]


def _equal_freshness(
    harness: Harness,
    name: str,
    stands: Compared,
    source: int,
    target: int,
    rules: Plan,
    progress: Progress,
) -> dict[str, Any]:
    """The models on items that both hold. With nothing missing it is the comparison as it stands."""
    try:
        fresh = harness.compare(
            name, source, target, rules, equal_freshness=True, exact_queries=0, progress=progress
        )
    except FailedPrecondition as error:
        return {"available": False, "reason": error.message}
    return {
        "available": True,
        **(asdict(fresh.freshness) if fresh.freshness else {}),
        "source_metric": finite(fresh.source.metric),
        "target_metric": finite(fresh.target.metric),
        "comparison": fresh.comparison.to_document(),
        "backfill_costs": finite(fresh.comparison.difference - stands.comparison.difference),
    }


def _curves(
    harness: Harness, consumer: Consumer, sides: tuple[Generation, Generation], progress: Progress
) -> dict[str, list[dict[str, Any]]]:
    golden = harness.golden.get(consumer.name)
    whole = harness.resolver.resolve(golden)
    if len(whole) == 0:
        return {"source": [], "target": []}
    # The queries that exact search was asked for the comparison: it need not be asked again.
    resolved = whole.take(harness.evaluator.exact_sample(consumer, whole, EXACT_QUERIES))
    efs = sorted({max(consumer.k, step) for step in (16, 32, 64, 128, 256)})
    return {
        name: [asdict(p) for p in curve(harness.evaluator, consumer, side, resolved, progress, efs)]
        for name, side in zip(("source", "target"), sides, strict=True)
    }


def _labelling(harness: Harness, name: str) -> dict[str, Any]:
    golden = harness.golden.get(name)
    found = {} if golden.labelling is None else golden.labelling.model_dump()
    return {"source": golden.source, "public": golden.public, **found}


def _side(generation: Generation) -> dict[str, Any]:
    return {
        "generation": generation.number,
        "model": generation.model,
        "fingerprint": generation.fingerprint.digest,
        "dimension": generation.fingerprint.dimension,
    }


def _headline(
    names: Sequence[str],
    refused: Sequence[str],
    compared: Mapping[str, Compared],
    lacking: Mapping[str, str],
) -> str:
    if not refused:
        return f"every gate of all {len(names)} consumers is met"
    whys = []
    for name in refused:
        if name in lacking:
            whys.append(f"{name}: no evidence")
        else:
            failed = [gate for gate, found in compared[name].gates.items() if not found.passed]
            whys.append(f"{name}: {in_words(failed)}")
    return f"{len(refused)} of {len(names)} consumers refuse: {'; '.join(whys)}"
