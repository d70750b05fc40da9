"""The carried corpus: complete, unchanged, and the same for the same arguments."""

from __future__ import annotations

import hashlib
import importlib.resources

import numpy as np
import pytest

from embedcore.datasets.wordnet import REFERENCE_TIME, SPREAD_DAYS, Corpus, corpus, load
from embedcore.errors import DataLoss, InvalidArgument

DAY = 86_400.0


def test_every_synset_is_there_once(whole: Corpus) -> None:
    assert len(whole) == 117_659
    assert len(whole.by_id) == len(whole)
    counts = dict.fromkeys(("noun", "verb", "adjective", "adverb"), 0)
    for entry in whole:
        counts[entry.pos] += 1
        assert entry.lemmas
        assert entry.definition
    assert counts == {"noun": 82_115, "verb": 13_767, "adjective": 18_156, "adverb": 3_621}


def test_relations_name_synsets_that_exist(whole: Corpus) -> None:
    named = {other for entry in whole for ids in entry.related.values() for other in ids}
    assert named <= whole.by_id.keys()
    dog = whole.by_id["n02084071"]
    assert dog.lemmas[0] == "dog"
    assert {whole.by_id[other].lemmas[0] for other in dog.related["hypernym"]} == {
        "canine",
        "domestic animal",
    }


def test_the_licence_travels_with_the_data() -> None:
    folder = importlib.resources.files("embedcore.datasets").joinpath("data")
    text = folder.joinpath("WORDNET-LICENSE.txt").read_text(encoding="utf-8")
    assert "Princeton University" in text
    assert "Permission to use, copy, modify and distribute" in text


def test_the_text_is_lemmas_then_definition(whole: Corpus) -> None:
    assert whole.by_id["n00002137"].text == (
        "abstraction, abstract entity: a general concept formed by extracting common features from specific"
        " examples"
    )


def test_items_carry_text_part_of_speech_and_age(small: Corpus) -> None:
    items = small.items(reference_time=5e9)
    assert [item.id for item in items] == [entry.id for entry in small]
    for item, entry in zip(items, small, strict=True):
        assert item.content == entry.text
        assert item.attributes == {"pos": entry.pos}
        assert item.created_at == 5e9 - small.age(entry.id)
    assert small.items()[0].created_at == REFERENCE_TIME - small.age(items[0].id)


def test_ages_spread_evenly_over_400_days(whole: Corpus) -> None:
    ages = np.array([whole.age(entry.id) for entry in whole]) / DAY
    assert ages.min() >= 0
    assert ages.max() < SPREAD_DAYS
    per_day, _ = np.histogram(ages, bins=SPREAD_DAYS, range=(0, SPREAD_DAYS))
    expected = len(whole) / SPREAD_DAYS
    # 400 bins of about 294: six standard deviations of a Poisson count.
    assert np.abs(per_day - expected).max() < 6 * expected**0.5


def test_an_age_is_decided_by_seed_and_id_alone(whole: Corpus, small: Corpus) -> None:
    first = small.entries[0].id
    assert small.age(first) != whole.age(first)  # seeds 3 and 0
    assert small.age(first) == Corpus((), seed=3).age(first)
    expected = int.from_bytes(hashlib.blake2b(b"0\0n02084071", digest_size=8).digest(), "little")
    assert whole.age("n02084071") == expected / 2**64 * 400 * DAY


def test_a_subset_is_decided_by_its_arguments(whole: Corpus, small: Corpus) -> None:
    again = load(2_000, seed=3)
    assert again == small
    assert len(small) == 2_000
    assert all(whole.by_id[entry.id] == entry for entry in small)
    order = {entry.id: row for row, entry in enumerate(whole)}
    rows = [order[entry.id] for entry in small]
    assert rows == sorted(rows)


def test_a_subset_has_all_parts_of_speech(whole: Corpus, small: Corpus) -> None:
    share = sum(entry.pos == "noun" for entry in small) / len(small)
    assert 0.6 < share < 0.8  # 0.70 in the whole
    assert {entry.pos for entry in small} == {"noun", "verb", "adjective", "adverb"}


def test_related_stays_inside_the_corpus(small: Corpus) -> None:
    for entry in small:
        related = small.related(entry)
        assert entry.id not in related
        assert related == sorted(set(related))
        assert all(other in small.by_id for other in related)
    assert sum(bool(small.related(entry)) for entry in small) >= 980  # about half


@pytest.mark.parametrize("items", [0, -1, 117_660])
def test_a_size_that_cannot_be_is_refused(items: int) -> None:
    with pytest.raises(InvalidArgument, match=r"1\.\.117659"):
        load(items)


def test_damaged_data_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "DATA_FILE", "WORDNET-LICENSE.txt")
    with pytest.raises(DataLoss, match="reinstall") as caught:
        load(10)
    assert caught.value.details["expected"] == corpus.DATA_SHA256
