"""What an evaluation costs once vectors exist: four golden sets, two generations, the whole corpus."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from bench import datasets, encode, machine
from bench.results_file import write_result

_BATCH = 2_000
_NOISE = 0.35  # of the second generation, where no other model's vectors are given: its cosine is some 0.94
SEED = 7


class TableEncoder:
    """Vectors that exist already, by text; anything else is a mistake of the bench."""

    def __init__(self, fingerprint: Any, table: dict[str, NDArray[np.float32]]) -> None:
        self.fingerprint = fingerprint
        self._table = table

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([self._table[text] for text in texts])


def run(
    vectors: Path | None,
    second: Path | None,
    queries: int,
    items: int | None,
    console: Console,
    out: Path | None,
) -> None:
    """Raises datasets.DataError when the corpus' vectors or the models of the queries are missing."""
    from embedcore.datasets import wordnet

    base = _base(vectors)
    corpus = wordnet.load()
    entries = [(entry.id, entry.text) for entry in corpus]
    if len(base) != len(corpus):
        raise datasets.DataError(
            f"{len(base)} vectors for {len(corpus)} synsets; give those of the whole corpus"
        )
    sets = wordnet.golden_sets(corpus, queries)
    models = ["minilm-l6", "minilm-l3"] if second is not None else ["minilm-l6"]
    texts = [query.text for golden in sets.values() for query in golden.queries]
    try:
        asked = encode.query_vectors(datasets.CACHE.parent / "encoded", models, texts)
    except ImportError as error:
        raise datasets.DataError(f"the queries need the packages of embedcore[demo]: {error}") from error
    other = _unit(np.load(second)) if second is not None else _noisy(base)
    asked_other = asked[1] if second is not None else _noisy(asked[0])
    rows = np.arange(len(corpus)) if items is None else np.arange(min(items, len(corpus)))
    with tempfile.TemporaryDirectory() as folder:
        result = _measure(
            Path(folder),
            [entries[row] for row in rows.tolist()],
            (base[rows], other[rows]),
            (dict(zip(texts, asked[0], strict=True)), dict(zip(texts, asked_other, strict=True))),
            sets,
            items is not None,
            console,
        )
    result["second"] = "given vectors" if second is not None else f"the first with noise, seed {SEED}"
    result["machine"] = machine.describe()
    write_result("evaluation", result, out, console)


def _measure(
    folder: Path,
    items: list[tuple[str, str]],
    vectors: tuple[NDArray[np.float32], NDArray[np.float32]],
    tables: tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]],
    sets: dict[str, Any],
    partial: bool,
    console: Console,
) -> dict[str, Any]:
    from embedcore.evaluation.golden import GoldenRegistry
    from embedcore.platform import Platform
    from embedcore.store.interface import ItemWrite
    from embedcore.types import Fingerprint, ModelSpec

    platform = Platform.open(folder / "data", threads=False)
    assert isinstance(platform, Platform)
    with platform:
        for number, table in enumerate(tables, start=1):
            space = Fingerprint(model=f"model-{number}", revision="1", dimension=vectors[0].shape[1])
            spec = ModelSpec(name=space.model, backend="callable", fingerprint=space)
            platform.register_model(spec, TableEncoder(space, table))
            state = "serving" if number == 1 else "filling"
            generation = platform.store.create_generation(space.model, state, platform.clock.now())
            if number == 1:
                platform.serving.attach_generation(generation)
        second = platform.store.generations()[1]
        began = time.perf_counter()
        for start in range(0, len(items), _BATCH):
            platform.store.write_items(
                [
                    ItemWrite(
                        id=name,
                        content=text,
                        created_at=1.0e9 + start + row,
                        vectors={1: vectors[0][start + row], 2: vectors[1][start + row]},
                    )
                    for row, (name, text) in enumerate(items[start : start + _BATCH])
                ]
            )
        platform.serving.attach_generation(second)
        platform.serving.lanes.drain()
        platform.serving.refresh_routes()
        console.print(
            f"{len(items)} items in two generations: {time.perf_counter() - began:.0f} s (not counted)"
        )
        registry: GoldenRegistry = platform.golden
        for golden in sets.values():
            registry.put(golden, unknown="keep" if partial else "refuse")
        return {"items": len(items), "queries": sum(len(g.queries) for g in sets.values())} | _timed(
            platform, list(sets), console
        )


def _timed(platform: Any, names: list[str], console: Console) -> dict[str, Any]:
    harness = platform.harness
    # Wall time and CPU time: on a shared machine the second says what the first would be by itself.
    found: dict[str, Any] = {"seconds": {}, "cpu_seconds": {}, "consumers": {}}

    def timed(what: str, action: Callable[[], Any]) -> Any:
        began, spent = time.perf_counter(), time.process_time()
        value = action()
        found["seconds"][what] = round(time.perf_counter() - began, 2)
        found["cpu_seconds"][what] = round(time.process_time() - spent, 2)
        console.print(f"{what}: {found['seconds'][what]:.1f} s, of CPU {found['cpu_seconds'][what]:.1f} s")
        return value

    def compare(**options: Any) -> dict[str, Any]:
        if not options:
            for number in (1, 2):
                harness.prepare(names, number)
        return {name: harness.compare(name, 1, 2, **options) for name in names}

    compared = timed("compare, labels and exact search", compare)
    timed("compare, labels alone", lambda: compare(exact_queries=0))
    timed("compare at equal freshness", lambda: compare(equal_freshness=True))
    timed("report", lambda: platform.evaluation_report(1, 2))
    for name, one in compared.items():
        found["consumers"][name] = {
            "metric": one.target.metric_name,
            "source": one.source.metric,
            "target": one.target.metric,
            "source_index_recall": one.source.index_recall,
            "target_index_recall": one.target.index_recall,
            "n": one.comparison.n,
        }
        console.print(
            f"{name}: {one.target.metric_name} {one.source.metric:.3f} / {one.target.metric:.3f}, "
            f"index recall {one.source.index_recall:.3f} / {one.target.index_recall:.3f}"
        )
    return found


def _base(vectors: Path | None) -> NDArray[np.float32]:
    if vectors is None:
        raise datasets.DataError(
            f"the corpus' vectors are needed: --vectors or {datasets.VECTORS_VARIABLE} names their folder"
        )
    try:
        return _unit(np.load(vectors / datasets.BASE_FILE))
    except OSError as error:
        raise datasets.DataError(f"{error}; --vectors names the folder of {datasets.BASE_FILE}") from error


def _unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    floats = rows.astype(np.float32)
    return floats / np.linalg.norm(floats, axis=1, keepdims=True)


def _noisy(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    noise = np.random.default_rng(SEED).standard_normal(rows.shape, dtype=np.float32)
    return _unit(rows + _NOISE / np.sqrt(rows.shape[1]) * noise)
