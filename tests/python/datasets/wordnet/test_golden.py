"""Golden sets against their definitions, recomputed plainly from the corpus."""

from __future__ import annotations

import pytest

from embedcore.datasets.wordnet import Corpus, golden_sets
from embedcore.datasets.wordnet.golden import MIN_AD_WORDS, first_half
from embedcore.errors import InvalidArgument
from embedcore.evaluation.golden import GoldenSet

CONSUMERS = ("search", "recsys", "ads", "dedup")


@pytest.fixture(scope="module")
def sets(small: Corpus) -> dict[str, GoldenSet]:
    return golden_sets(small, queries=500, seed=1)


def test_one_gate_set_per_consumer(sets: dict[str, GoldenSet]) -> None:
    assert tuple(sets) == CONSUMERS
    for consumer, golden in sets.items():
        assert golden.consumer == consumer
        assert golden.name == f"wordnet-{consumer}"
        assert not golden.public
        assert "WordNet 3.0" in golden.source
        assert len(golden.queries) == 500
        assert len({query.id for query in golden.queries}) == 500


def test_labels_are_items_of_the_corpus(sets: dict[str, GoldenSet], small: Corpus) -> None:
    for golden in sets.values():
        for query in golden.queries:
            assert query.text.strip()
            assert query.relevant
            assert set(query.relevant.values()) == {1.0}
            assert query.relevant.keys() <= small.by_id.keys()


def test_search_finds_all_carriers_of_a_lemma(sets: dict[str, GoldenSet], small: Corpus) -> None:
    shared = 0
    for query in sets["search"].queries:
        wanted = query.text.casefold()
        carriers = {entry.id for entry in small if wanted in {lemma.casefold() for lemma in entry.lemmas}}
        assert query.relevant.keys() == carriers
        shared += len(carriers) > 1
    assert shared > 0


def test_recsys_finds_related_synsets_and_not_itself(sets: dict[str, GoldenSet], small: Corpus) -> None:
    for query in sets["recsys"].queries:
        (own,) = query.exclude
        entry = small.by_id[own]
        assert query.text == entry.text
        assert own not in query.relevant
        named = {other for ids in entry.related.values() for other in ids} - {own}
        assert query.relevant.keys() == named & small.by_id.keys()


def test_ads_and_dedup_find_the_synset_of_a_definition(sets: dict[str, GoldenSet], small: Corpus) -> None:
    for query in sets["ads"].queries:
        entry = small.by_id[query.id.removeprefix("ads-")]
        assert len(entry.definition.split()) >= MIN_AD_WORDS
        assert query.text == first_half(entry.definition)
        assert entry.id in query.relevant
    for query in sets["dedup"].queries:
        entry = small.by_id[query.id.removeprefix("dedup-")]
        assert query.text == entry.definition
        assert query.relevant.keys() == {other.id for other in small if other.definition == entry.definition}


@pytest.mark.parametrize(
    ("definition", "half"),
    [("one two three four", "one two"), ("one two three", "one two"), ("one", "one"), ("a  b\tc d", "a b")],
)
def test_half_a_definition(definition: str, half: str) -> None:
    assert first_half(definition) == half


def test_the_same_arguments_give_the_same_sets(sets: dict[str, GoldenSet], small: Corpus) -> None:
    assert golden_sets(small, queries=500, seed=1) == sets
    other = golden_sets(small, queries=500, seed=2)
    for consumer in CONSUMERS:
        assert other[consumer] != sets[consumer]


def test_synsets_of_one_definition_are_all_right(whole: Corpus) -> None:
    asters = {entry.id for entry in whole if entry.definition == "a variety of aster"}
    assert len(asters) > 1
    dedup = golden_sets(
        Corpus(tuple(whole.by_id[name] for name in [*sorted(asters), "n02084071", "n02083346"]))
    )
    labels = {query.id: query.relevant.keys() for query in dedup["dedup"].queries}
    assert labels["dedup-n02084071"] == {"n02084071"}
    for name in asters:
        assert labels[f"dedup-{name}"] == asters


def test_the_whole_corpus_gives_4000_queries_each(whole: Corpus) -> None:
    assert {name: len(golden.queries) for name, golden in golden_sets(whole).items()} == dict.fromkeys(
        CONSUMERS, 4_000
    )


def test_a_corpus_without_relations_is_refused(whole: Corpus) -> None:
    with pytest.raises(InvalidArgument, match="no golden query for recsys"):
        golden_sets(Corpus(whole.entries[:1]))
    with pytest.raises(InvalidArgument, match="at least 1"):
        golden_sets(whole, queries=0)
