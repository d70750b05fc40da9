"""Documents in memory are those of the last commit, whoever reads while it is made."""

from __future__ import annotations

from collections.abc import Callable

from embedcore.store import SqlStore
from embedcore.store.document_cache import DocumentCache
from embedcore.types import DEFAULT_CONSUMERS
from store.builders import generation


def test_what_was_read_is_kept_until_it_is_forgotten() -> None:
    cache = DocumentCache()
    answers = iter(range(10))
    assert [cache.get("a", lambda: next(answers)) for _ in range(3)] == [0, 0, 0]
    assert cache.get("b", lambda: next(answers)) == 1
    cache.forget()
    assert cache.get("a", lambda: next(answers)) == 2


def test_a_read_that_a_commit_has_overtaken_is_answered_and_not_kept() -> None:
    cache = DocumentCache()

    def overtaken() -> str:
        cache.forget()
        return "of before"

    assert cache.get("a", overtaken) == "of before"
    assert cache.get("a", lambda: "of now") == "of now"


def test_every_change_of_a_document_is_seen_at_once(open_at: Callable[..., SqlStore]) -> None:
    store = open_at()
    first = generation(store)
    assert store.consumers() == []
    store.put_consumer(DEFAULT_CONSUMERS[0])
    assert store.consumers() == [DEFAULT_CONSUMERS[0]]
    assert [g.state for g in store.generations()] == ["serving"]
    store.put_generation(first.model_copy(update={"state": "filling"}))
    assert [g.state for g in store.generations()] == ["filling"]
    store.create_generation(first.model, "filling", 1.0)
    assert [g.number for g in store.generations()] == [1, 2]
    assert store.engagement("m1", "search") == {}
    for clicks in (2.0, 3.0):
        store.add_engagement("m1", "search", "canary", {"clicks": clicks}, False)
    found = store.engagement("m1", "search")
    assert found["canary"]["clicks"] == 5.0
    found["canary"]["clicks"] = 0.0  # a caller's own copy
    store.generations().clear()
    assert store.engagement("m1", "search")["canary"]["clicks"] == 5.0
    assert len(store.generations()) == 2
