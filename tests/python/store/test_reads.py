"""Items by id and number, names, filters, samples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from embedcore.store import SqlStore
from embedcore.types import Attributes
from store.builders import generation, item_number, write


def test_items_by_number_come_in_the_order_asked_for(store: SqlStore) -> None:
    store.write_items([write(name) for name in "abc"])
    a, b, c = (item_number(store, name) for name in "abc")
    assert [stored.id for stored in store.get_items([c, 999, a, b])] == ["c", "a", "b"]
    assert store.items_of(["b", "zz", "a"]).tolist() == [b, -1, a]
    assert store.items_of([]).dtype == np.int64


def test_names_are_remembered_and_unknown_numbers_have_none(store: SqlStore) -> None:
    store.write_items([write("a", namespace="n"), write("b")])
    numbers = [item_number(store, "b"), item_number(store, "a", "n")]
    assert store.names(numbers) == [("b", ""), ("a", "n")]
    assert store.names(np.array(numbers)) == [("b", ""), ("a", "n")]  # type: ignore[arg-type]
    assert store.names([999, numbers[0]]) == [None, ("b", "")]


def test_dense_numbers_are_never_given_out_again(open_at: Callable[..., SqlStore]) -> None:
    store = open_at()
    store.write_items([write("a"), write("b")])
    last = item_number(store, "b")
    store.delete_items(["b"])
    store.close()
    store = open_at()
    store.write_items([write("c")])
    assert item_number(store, "c") == last + 1
    assert store.names([last]) == [("b", "")]


def test_matching_is_none_only_when_that_is_all_items(open_at: Callable[..., SqlStore]) -> None:
    store = open_at()
    nothing = store.matching("", {})
    assert nothing is not None
    assert nothing.tolist() == []
    store.write_items([write("a"), write("b")])
    assert store.matching("", {}) is None
    other = store.matching("other", {})
    assert other is not None
    assert other.tolist() == []
    store.write_items([write("a", namespace="other")])
    for reopened in (False, True):
        if reopened:
            store.close()
            store = open_at()
        for namespace, names in (("", ["a", "b"]), ("other", ["a"])):
            found = store.matching(namespace, {})
            assert found is not None
            assert found.tolist() == [item_number(store, name, namespace) for name in names]


def test_matching_by_attributes_follows_updates_and_deletes(store: SqlStore) -> None:
    rng = np.random.default_rng(5)
    wanted: dict[str, dict[str, str | int | float | bool]] = {}
    for _ in range(80):
        name = f"i{rng.integers(12)}"
        if rng.random() < 0.25:
            store.delete_items([name])
            wanted.pop(name, None)
        else:
            attributes: dict[str, str | int | float | bool] = {"pos": ["noun", "verb"][rng.integers(2)]}
            if rng.random() < 0.5:
                attributes["rank"] = int(rng.integers(2))
            store.write_items([write(name, attributes=attributes)])
            wanted[name] = attributes
    queries: list[Attributes] = [
        {"pos": "noun"},
        {"rank": 1},
        {"pos": "verb", "rank": 0},
        {"pos": "none"},
        {"other": 1},
    ]
    for query in queries:
        found = store.matching("", query)
        assert found is not None
        expected = [
            item_number(store, name)
            for name, attributes in wanted.items()
            if all(attributes.get(key) == value for key, value in query.items())
        ]
        assert found.tolist() == sorted(expected)


def test_attribute_equality_knows_types(store: SqlStore) -> None:
    values: dict[str, str | int | float | bool] = {"i": 1, "f": 1.0, "t": True, "s": "1"}
    for name, value in values.items():
        store.write_items([write(name, attributes={"k": value})])

    def names(value: str | int | float | bool) -> list[str]:
        found = store.matching("", {"k": value})
        assert found is not None
        return [name[0] for name in store.names(found.tolist()) if name is not None]

    assert names(1) == names(1.0) == ["i", "f"]
    assert names(True) == ["t"]
    assert names("1") == ["s"]


def test_samples_are_seeded_live_and_ascending(store: SqlStore) -> None:
    store.write_items([write(str(number)) for number in range(100)])
    store.delete_items([str(number) for number in range(0, 100, 2)])
    sample = store.sample_items(20, seed=7)
    assert sample.dtype == np.int64
    assert len(set(sample.tolist())) == 20
    assert (np.diff(sample) > 0).all()
    assert all(int(item_id) % 2 for item_id, _ in store.names(sample.tolist()))
    assert sample.tolist() == store.sample_items(20, seed=7).tolist()
    assert sample.tolist() != store.sample_items(20, seed=8).tolist()
    assert len(store.sample_items(1000, seed=7)) == store.live_items() == 50


def test_stored_vectors_are_those_of_the_current_version(store: SqlStore) -> None:
    generation(store)
    store.write_items([write(name, {1: number}) for number, name in enumerate("abc", start=1)])
    store.write_items([write("b")])  # waits for repair: its old vector is not the current one
    asked = store.items_of(["c", "b", "a"])
    items, rows = store.stored_vectors(1, asked)
    assert items.tolist() == store.items_of(["a", "c"]).tolist()
    assert rows[:, 0].tolist() == [1.0, 3.0]
    stored = store.get_item("b")
    assert stored is not None
    assert (stored.version, stored.held) == (2, {1: 1})
