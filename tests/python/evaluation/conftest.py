"""A store in dicts, a brute-force backend and toy encoders: the harness without index, database or model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from embedcore.clock import ManualClock
from embedcore.errors import DataLoss
from embedcore.evaluation.golden import GoldenQuery, GoldenSet
from embedcore.evaluation.harness import Harness
from embedcore.types import Consumer, Fingerprint, Generation, ModelSpec, StoredItem

NOW = 1_700_000_000.0
DAY = 86_400.0


class FakeStore:
    """What evaluation uses of a Store. ``vectors[generation][item]`` are the current ones."""

    shards = 1

    def __init__(self) -> None:
        self.items: dict[int, StoredItem] = {}
        self.numbers: dict[tuple[str, str], int] = {}
        self.vectors: dict[int, dict[int, np.ndarray]] = {}
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.known_consumers: list[Consumer] = []
        self.known_models: list[ModelSpec] = []
        self.known_generations: list[Generation] = []

    def add(
        self,
        name: str,
        content: str | None,
        created_at: float = NOW,
        deleted: bool = False,
        namespace: str = "",
    ) -> int:
        number = 7 * (len(self.items) + 1)  # gaps: dense numbers are no row numbers
        self.numbers[(namespace, name)] = number
        self.items[number] = StoredItem(
            id=name,
            namespace=namespace,
            item=number,
            shard=0,
            version=1,
            created_at=created_at,
            updated_at=created_at,
            content=content,
            attributes={},
            deleted=deleted,
        )
        return number

    def delete(self, name: str) -> None:
        number = self.numbers[("", name)]
        stored = self.items[number]
        self.items[number] = StoredItem(
            **{**{f: getattr(stored, f) for f in StoredItem.__slots__}, "deleted": True}
        )
        for held in self.vectors.values():
            held.pop(number, None)

    def live(self) -> list[int]:
        return sorted(number for number, item in self.items.items() if not item.deleted)

    # The Store protocol.
    def get_items(self, items: Sequence[int]) -> list[StoredItem]:
        return [self.items[item] for item in items if item in self.items]

    def head(self, shard: int) -> int:
        """Moves with every change of the vectors, as the real one does."""
        return hash(tuple((g, len(held), sum(held)) for g, held in sorted(self.vectors.items())))

    def get_item(self, item_id: str, namespace: str = "") -> StoredItem | None:
        number = self.numbers.get((namespace, item_id))
        return None if number is None else self.items[number]

    def missing_items(self, generation: int, limit: int) -> list[StoredItem]:
        held = self.vectors.get(generation, {})
        return [self.items[item] for item in self.live() if item not in held][:limit]

    def items_of(self, ids: Sequence[str], namespace: str = "") -> np.ndarray:
        numbers = [self.numbers.get((namespace, name), -1) for name in ids]
        return np.array([-1 if n < 0 or self.items[n].deleted else n for n in numbers], dtype=np.int64)

    def live_items(self) -> int:
        return len(self.live())

    def sample_items(self, count: int, seed: int) -> np.ndarray:
        live = np.array(self.live(), dtype=np.int64)
        chosen = np.random.default_rng(seed).choice(live, size=min(count, len(live)), replace=False)
        return np.sort(chosen)

    def stored_vectors(self, generation: int, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        held = self.vectors.get(generation, {})
        found = [int(item) for item in items if int(item) in held]
        dimension = next(g.fingerprint.dimension for g in self.known_generations if g.number == generation)
        rows = np.array([held[item] for item in found], dtype=np.float32).reshape(len(found), dimension)
        return np.array(found, dtype=np.int64), rows

    def scan_vectors(self, generation: int, shard: int, after_item: int, limit: int) -> tuple[Any, Any]:
        held = [item for item in sorted(self.vectors.get(generation, {})) if item > after_item][:limit]
        return self.stored_vectors(generation, np.array(held, dtype=np.int64))

    def consumers(self) -> list[Consumer]:
        return list(self.known_consumers)

    def models(self) -> list[ModelSpec]:
        return list(self.known_models)

    def generations(self) -> list[Generation]:
        return list(self.known_generations)

    def put_blob(self, kind: str, name: str, value: bytes) -> None:
        self.blobs[(kind, name)] = value

    def get_blob(self, kind: str, name: str) -> bytes | None:
        return self.blobs.get((kind, name))

    def blob_names(self, kind: str) -> list[str]:
        return [name for k, name in self.blobs if k == kind]


@dataclass(frozen=True)
class Found:
    ids: np.ndarray
    distances: np.ndarray


def exact_search(base: np.ndarray, queries: np.ndarray, k: int, metric: str) -> Found:
    """Brute force under cosine; ids are row numbers, -1 and inf where there are fewer than k."""
    assert metric == "cosine"
    unit = base / np.maximum(np.linalg.norm(base, axis=1, keepdims=True), 1e-30)
    asked = queries / np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-30)
    far = 1 - asked @ unit.T
    order = np.argsort(far, axis=1, kind="stable")[:, :k]
    ids = np.full((len(queries), k), -1, np.int64)
    distances = np.full((len(queries), k), np.inf, np.float32)
    ids[:, : order.shape[1]] = order
    distances[:, : order.shape[1]] = np.take_along_axis(far, order, 1)
    return Found(ids, distances)


class FakeBackend:
    """Searches the store's vectors whole. Blending is a plain weighted mean over all items."""

    def __init__(self, store: FakeStore) -> None:
        self.store = store
        self.calls: list[tuple[Any, ...]] = []

    def search_generation(
        self, generation: int, queries: np.ndarray, k: int, ef_search: int, allowed: Any = None
    ) -> Any:
        self.calls.append(("generation", generation, len(queries), k, ef_search))
        items, vectors = self.store.scan_vectors(generation, 0, -1, 1 << 30)
        if allowed is not None:
            wanted = np.isin(items, allowed)
            items, vectors = items[wanted], vectors[wanted]
        if len(items) == 0:
            return np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), np.inf, np.float32)
        found = exact_search(vectors, queries, k, "cosine")
        return np.where(found.ids >= 0, items[found.ids], -1), found.distances

    def search_blended(self, consumer: str, queries: Mapping[int, np.ndarray], k: int, weight: float) -> Any:
        self.calls.append(("blended", consumer, len(next(iter(queries.values()))), k, weight))
        source, target = sorted(queries)
        items, old = self.store.scan_vectors(source, 0, -1, 1 << 30)
        same, new = self.store.scan_vectors(target, 0, -1, 1 << 30)
        assert np.array_equal(items, same)
        far = (1 - weight) * (1 - queries[source] @ old.T) + weight * (1 - queries[target] @ new.T)
        order = np.argsort(far, axis=1, kind="stable")[:, :k]
        return items[order], np.take_along_axis(far, order, 1).astype(np.float32)


def word_vector(word: str, dimension: int) -> np.ndarray:
    digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "little")).standard_normal(dimension)


@dataclass
class ToyEncoders:
    """model -> how many words of a text it reads (0: all), its dimension and what it does to the norm."""

    words: dict[str, int] = field(default_factory=dict)
    dimension: dict[str, int] = field(default_factory=dict)
    scale: dict[str, float] = field(default_factory=dict)
    refuses: set[str] = field(default_factory=set)
    calls: dict[str, int] = field(default_factory=dict)  # texts encoded

    def encode_queries(self, model_name: str, texts: Sequence[str]) -> np.ndarray:
        return self.encode_bulk(model_name, texts)

    def encode_bulk(self, model_name: str, texts: Sequence[str]) -> np.ndarray:
        self.calls[model_name] = self.calls.get(model_name, 0) + len(texts)
        if model_name in self.refuses:
            raise DataLoss(f"model {model_name!r}: row 0 has norm 3.2, expected 1")
        dimension, words = self.dimension.get(model_name, 48), self.words.get(model_name, 0)
        rows = np.zeros((len(texts), dimension))
        for row, text in enumerate(texts):
            read = text.split()[: words or None]
            rows[row] = np.sum([word_vector(word, dimension) for word in read], axis=0)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return (rows * self.scale.get(model_name, 1.0)).astype(np.float32)


@dataclass
class World:
    """400 items of 12 words; ``old`` reads 7 words of a text, ``new`` all, ``bad`` 3."""

    store: FakeStore
    encoders: ToyEncoders
    backend: FakeBackend
    clock: ManualClock
    harness: Harness
    search: Consumer
    dedup: Consumer

    def fill(self, generation: int, share: float = 1.0) -> None:
        spec = next(g for g in self.store.known_generations if g.number == generation)
        live = self.store.live()
        some = live[: round(share * len(live))]
        vectors = self.encoders.encode_bulk(spec.model, [self.store.items[i].content or "" for i in some])
        self.store.vectors[generation] = dict(zip(some, vectors, strict=True))


def fingerprint(model: str, dimension: int = 48) -> Fingerprint:
    return Fingerprint(model=model, revision="1", dimension=dimension)


def build_world(items: int = 400, queries: int = 300) -> World:
    rng = np.random.default_rng(5)
    store, encoders, clock = FakeStore(), ToyEncoders(words={"old": 7, "bad": 3}), ManualClock(NOW)
    encoders.dimension["other"] = 32
    encoders.scale["unnormalised"] = 3.0
    search = Consumer(name="search", k=5, quality_target=0.5, ef_search=40)
    dedup = Consumer(
        name="dedup", k=1, quality="precision", quality_target=0.5, min_found_share=0.6, ef_search=80
    )
    store.known_consumers = [search, dedup]
    for model in ("old", "new", "bad", "unnormalised", "refusing", "other"):
        space = fingerprint(model, encoders.dimension.get(model, 48))
        store.known_models.append(ModelSpec(name=model, backend="callable", fingerprint=space))
    for number, model in enumerate(("old", "new", "bad"), start=1):
        store.known_generations.append(
            Generation(
                number=number, model=model, fingerprint=fingerprint(model), state="serving", created_at=NOW
            )
        )
    encoders.refuses.add("refusing")
    vocabulary = [f"w{i}" for i in range(150)]
    texts = [list(rng.choice(vocabulary, size=12, replace=False)) for _ in range(items)]
    for number, words in enumerate(texts):
        store.add(f"item{number}", " ".join(words), created_at=NOW - DAY * number)
    world = World(store, encoders, FakeBackend(store), clock, None, search, dedup)  # type: ignore[arg-type]
    for generation in (1, 2, 3):
        world.fill(generation)
    world.harness = Harness(
        store,  # type: ignore[arg-type]
        encoders,
        world.backend,
        seed=11,
        clock=clock,
        exact_search=exact_search,
    )

    def question(number: int) -> str:
        return " ".join(rng.permutation(texts[number])[:6])

    asked = rng.choice(items, size=queries, replace=True)
    for consumer in ("search", "dedup"):
        golden = GoldenSet(
            name=f"{consumer}-set",
            consumer=consumer,
            queries=tuple(
                GoldenQuery(id=f"q{position}", text=question(item), relevant={f"item{item}": 1.0})
                for position, item in enumerate(asked)
            ),
        )
        world.harness.golden.put(golden)
    return world


@pytest.fixture
def world() -> World:
    return build_world()


@pytest.fixture
def make_world() -> Callable[..., World]:
    return build_world


@pytest.fixture
def store() -> FakeStore:
    """Empty, with the consumer ``search``."""
    made = FakeStore()
    made.known_consumers = [Consumer(name="search", k=10, quality_target=0.5)]
    return made


@pytest.fixture(scope="session")
def fakes() -> SimpleNamespace:
    """The parts, for a module that puts a world of its own together."""
    return SimpleNamespace(store=FakeStore, backend=FakeBackend, exact_search=exact_search)


@pytest.fixture
def brute_force() -> Callable[..., Found]:
    return exact_search
