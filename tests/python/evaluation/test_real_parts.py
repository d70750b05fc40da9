"""The harness over the real store, encoder registry, native index and native exact search, small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedcore.clock import ManualClock
from embedcore.encoders.registry import EncoderRegistry
from embedcore.evaluation.golden import GoldenQuery, GoldenSet
from embedcore.evaluation.harness import Harness
from embedcore.migration_types import Plan
from embedcore.store.interface import ItemWrite
from embedcore.types import Consumer, Fingerprint, ModelSpec

pytest.importorskip("embedcore._native", reason="the native core is not built")

VOCABULARY = [f"w{n}" for n in range(120)]


class WordEncoder:
    """Sums fixed random vectors of the words that are in its half-known vocabulary."""

    def __init__(self, spec: ModelSpec, known: float, scale: float = 1.0) -> None:
        self.fingerprint = spec.fingerprint
        rng = np.random.default_rng(3)
        self._words = dict(
            zip(VOCABULARY, rng.standard_normal((120, spec.fingerprint.dimension)), strict=True)
        )
        self._known = set(VOCABULARY[: int(known * 120)])
        self._scale = scale

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.array(
            [
                np.sum([self._words[w] * (1.0 if w in self._known else 0.05) for w in text.split()], axis=0)
                for text in texts
            ]
        )
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return (rows * self._scale).astype(np.float32)


class IndexBackend:
    """One native index per generation, as serving has them; blending is not asked here."""

    def __init__(self) -> None:
        self.indexes: dict[int, Any] = {}

    def search_generation(self, generation: int, queries: np.ndarray, k: int, ef_search: int) -> Any:
        found = self.indexes[generation].search(queries, k=k, ef_search=ef_search, threads=1)
        return found.ids, found.distances

    def search_blended(self, consumer: str, queries: Mapping[int, np.ndarray], k: int, weight: float) -> Any:
        raise NotImplementedError


@pytest.fixture
def harness(tmp_path: Path) -> Any:
    from embedcore.index import Index
    from embedcore.store import open_store

    clock = ManualClock()
    store = open_store(tmp_path, clock)
    registry = EncoderRegistry()
    for name, known, scale in (("old", 0.6, 1.0), ("new", 1.0, 1.0), ("loud", 1.0, 2.0)):
        space = Fingerprint(model=name, revision="1", dimension=32)
        spec = ModelSpec(name=name, backend="callable", fingerprint=space)
        store.put_model(spec)
        registry.register(spec, WordEncoder(spec, known, scale))
    store.put_consumer(Consumer(name="search", k=5, quality_target=0.5))
    for model in ("old", "new"):
        store.create_generation(model, "serving", clock.now())
    rng = np.random.default_rng(1)
    texts = [list(rng.choice(VOCABULARY, size=8, replace=False)) for _ in range(300)]
    store.write_items(
        [
            ItemWrite(
                id=f"item{n}",
                content=" ".join(words),
                created_at=clock.now() - 1000.0 * n,
                vectors={
                    g.number: registry.encode_bulk(g.model, [" ".join(words)])[0] for g in store.generations()
                },
            )
            for n, words in enumerate(texts)
        ]
    )
    backend = IndexBackend()
    for generation in store.generations():
        items, vectors = store.scan_vectors(generation.number, 0, -1, 1000)
        backend.indexes[generation.number] = Index(dim=32, metric="cosine")
        backend.indexes[generation.number].add(items, vectors)
    made = Harness(store, registry, backend, seed=1, clock=clock)
    queries = tuple(
        GoldenQuery(id=f"q{n}", text=" ".join(rng.permutation(texts[n])[:4]), relevant={f"item{n}": 1.0})
        for n in range(200)
    )
    made.golden.put(GoldenSet(name="s", consumer="search", queries=queries))
    yield made
    store.close()


def test_compare_and_exact_recall(harness: Any) -> None:
    compared = harness.compare("search", 1, 2)
    assert compared.gates["quality"].passed, compared.gates["quality"].summary
    assert compared.target.metric > compared.source.metric
    assert compared.target.long_tail_n == 0, "the oldest tenth has no queries"
    assert not harness.compare("search", 2, 1).gates["quality"].passed
    assert harness.evaluate("search", 2, exact_queries=50).index_recall >= 0.95


def test_preflight(harness: Any) -> None:
    plan = Plan(preflight_items=200, canary_items=50)
    report = harness.preflight(["search"], 1, "new", plan)
    assert report.passed, report.refusals
    assert report.source_encoded == 0
    refused = harness.preflight(["search"], 1, "loud", plan)
    assert list(refused.gates) == ["norms"]
    assert not refused.passed


def test_calibration_and_versions(harness: Any) -> None:
    calibration = harness.calibrator.pairs(1, 2, queries=60).fit()
    mapped = np.asarray(calibration(np.linspace(0, 1, 20)))
    assert np.all(np.diff(mapped) > 0)
    golden = harness.golden.get("search")
    again = golden.model_copy(update={"queries": golden.queries[:100]})
    assert harness.golden.put(again).version == 2
    assert harness.evaluate("search", 1).n == 100
