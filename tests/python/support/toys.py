"""Toy models and a toy corpus: real similarity structure, no downloads, thousands of texts a millisecond.

A text is a bag of words; a model gives each word a fixed random direction and adds noise per text. The
smaller the noise, the better the model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from embedcore.evaluation.golden import GoldenQuery, GoldenSet
from embedcore.types import Consumer, Fingerprint, Item, ModelSpec, Vectors

WORDS = 400


def _direction(model: str, word: str, dim: int) -> np.ndarray:
    seed = int.from_bytes(hashlib.blake2b(f"{model}/{word}".encode(), digest_size=8).digest(), "little")
    return np.random.default_rng(seed).standard_normal(dim)


def toy_function(model: str, dim: int, noise: float, norm: float = 1.0) -> Callable[[Sequence[str]], Vectors]:
    """An encoder function; ``norm`` other than 1 is the push that drops normalisation."""
    cache: dict[str, np.ndarray] = {}

    def encode(texts: Sequence[str]) -> Vectors:
        rows = np.empty((len(texts), dim), np.float32)
        for row, text in enumerate(texts):
            total = np.zeros(dim)
            for word in text.split():
                if word not in cache:
                    cache[word] = _direction(model, word, dim)
                total += cache[word]
            total += noise * _direction(model, "noise of " + text, dim) * max(1, len(text.split())) ** 0.5
            rows[row] = norm * total / np.linalg.norm(total)
        return rows

    return encode


def toy_fingerprint(model: str, dim: int) -> Fingerprint:
    return Fingerprint(model=model, revision="1", dimension=dim, tokenizer_hash="words")


def toy_spec(model: str, dim: int) -> ModelSpec:
    """Reloadable after a restart: the target is a function of this module."""
    return ModelSpec(
        name=model,
        backend="callable",
        fingerprint=toy_fingerprint(model, dim),
        options={"target": f"support.toys:{model.replace('-', '_')}"},
    )


toy_old = toy_function("toy-old", 32, 0.9)
toy_new = toy_function("toy-new", 48, 0.3)
toy_bad = toy_function("toy-bad", 48, 6.0)
toy_long = toy_function("toy-long", 48, 0.3, norm=3.0)

OLD = toy_spec("toy-old", 32)
NEW = toy_spec("toy-new", 48)
BAD = toy_spec("toy-bad", 48)
LONG = toy_spec("toy-long", 48)

CONSUMERS = (
    Consumer(name="search", k=10, quality_target=0.0, ef_search=64, engagement_min_count=100),
    Consumer(name="ads", k=5, quality_target=0.0, ef_search=64, engagement_min_count=100),
)


def toy_items(count: int, seed: int = 0, *, created_at: float = 1_690_000_000.0) -> list[Item]:
    """Items of eight words each, spread over 400 days before ``created_at``."""
    rng = np.random.default_rng(seed)
    items = []
    for number in range(count):
        words = " ".join(f"w{w}" for w in rng.integers(0, WORDS, 8))
        age = float(rng.random()) * 400 * 86_400
        items.append(
            Item(
                id=f"item-{number}",
                content=f"n{number} {words}",
                attributes={"parity": "even" if number % 2 == 0 else "odd", "number": number},
                created_at=created_at - age,
            )
        )
    return items


def toy_golden(items: Sequence[Item], consumer: str, queries: int = 600, seed: int = 1) -> GoldenSet:
    """A query is four of an item's words; the item is what is relevant."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(queries):
        item = items[int(rng.integers(0, len(items)))]
        words = (item.content or "").split()
        kept = [words[i] for i in sorted(rng.choice(np.arange(1, len(words)), 4, replace=False))]
        made.append(GoldenQuery(id=f"q{number}", text=" ".join(kept), relevant={item.id: 1.0}))
    return GoldenSet(name=f"toy-{consumer}", consumer=consumer, queries=tuple(made), source="toy")
