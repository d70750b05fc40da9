"""Golden sets of the four default consumers, from WordNet's human-made relations.

==========  ===================================  ===================================  ============
consumer    query                                relevant                             measured by
==========  ===================================  ===================================  ============
search      a lemma                              all synsets that carry it            recall@10
recsys      a synset's text, itself excluded     its related synsets, any relation    recall@50
ads         the first half of a definition       its synset                           recall@5
dedup       a definition without lemmas          its synset                           precision@1
==========  ===================================  ===================================  ============
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from embedcore.datasets.wordnet.corpus import Corpus, Entry
from embedcore.errors import InvalidArgument
from embedcore.evaluation.golden import GoldenQuery, GoldenSet

# Half of a shorter definition is one or two words ("a variety"), which no labeller could assign.
MIN_AD_WORDS = 5


class _Candidate(NamedTuple):
    """A query before it is drawn: validating the fields of all 117,659 would take seconds."""

    id: str
    text: str
    relevant: dict[str, float]
    exclude: tuple[str, ...] = ()


def golden_sets(corpus: Corpus, queries: int = 4_000, seed: int = 0) -> dict[str, GoldenSet]:
    """Consumer -> golden set of at most ``queries`` queries, drawn uniformly without repetition; the same
    arguments give the same sets. A small corpus may have fewer. Synsets of the same definition (1.4%) are
    all relevant where the definition is the query. Raises InvalidArgument when a set would be empty."""
    if queries < 1:
        raise InvalidArgument(f"queries must be at least 1, got {queries}")
    made = {
        "search": _search(corpus),
        "recsys": _recsys(corpus),
        "ads": _ads(corpus),
        "dedup": _dedup(corpus),
    }
    sets = {}
    for stream, (consumer, all_queries) in enumerate(made.items()):
        pool = list(all_queries)
        if not pool:
            raise InvalidArgument(
                f"a corpus of {len(corpus)} items has no golden query for {consumer}; load more items"
            )
        rng = np.random.default_rng([seed, stream])
        rows = sorted(int(row) for row in rng.permutation(len(pool))[:queries])
        sets[consumer] = GoldenSet(
            name=f"wordnet-{consumer}",
            consumer=consumer,
            queries=tuple(GoldenQuery(**pool[row]._asdict()) for row in rows),
            source=f"WordNet 3.0 (Princeton University), {len(corpus)} synsets, seed {seed}",
        )
    return sets


def first_half(definition: str) -> str:
    """The first half of the words, rounded up."""
    words = definition.split()
    return " ".join(words[: (len(words) + 1) // 2])


def _search(corpus: Corpus) -> Iterator[_Candidate]:
    # By casefold: to the lower-casing models "Turkey" and "turkey" are one query.
    carriers: dict[str, dict[str, float]] = {}
    spelled: dict[str, str] = {}
    for entry in corpus:
        for lemma in entry.lemmas:
            key = lemma.casefold()
            spelled.setdefault(key, lemma)
            carriers.setdefault(key, {})[entry.id] = 1.0
    for key, relevant in carriers.items():
        yield _Candidate(id=f"search-{key}", text=spelled[key], relevant=relevant)


def _recsys(corpus: Corpus) -> Iterator[_Candidate]:
    for entry in corpus:
        relevant = dict.fromkeys(corpus.related(entry), 1.0)
        if relevant:
            yield _Candidate(id=f"recsys-{entry.id}", text=entry.text, relevant=relevant, exclude=(entry.id,))


def _ads(corpus: Corpus) -> Iterator[_Candidate]:
    same = _by_definition(corpus)
    for entry in corpus:
        if len(entry.definition.split()) >= MIN_AD_WORDS:
            yield _of_definition("ads", entry, first_half(entry.definition), same[entry.definition])


def _dedup(corpus: Corpus) -> Iterator[_Candidate]:
    same = _by_definition(corpus)
    for entry in corpus:
        yield _of_definition("dedup", entry, entry.definition, same[entry.definition])


def _of_definition(consumer: str, entry: Entry, text: str, ids: Sequence[str]) -> _Candidate:
    return _Candidate(id=f"{consumer}-{entry.id}", text=text, relevant=dict.fromkeys(ids, 1.0))


def _by_definition(corpus: Corpus) -> dict[str, list[str]]:
    same: dict[str, list[str]] = {}
    for entry in corpus:
        same.setdefault(entry.definition, []).append(entry.id)
    return same
