"""Bulk work waits for queries, not for ever, and encodes the same."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from embedcore.encoders.yielding import CHUNK, CountedEncoder, QueryGate, YieldingEncoder
from embedcore.types import Fingerprint


class Recorder:
    """Vectors are the texts' lengths; ``hold`` keeps a call inside until it is set."""

    fingerprint = Fingerprint(model="recorder", revision="1", dimension=1)

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.inside = threading.Semaphore(0)
        self.hold = threading.Event()
        self.hold.set()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.calls.append(len(texts))
        self.inside.release()
        assert self.hold.wait(30)
        return np.array([[len(text)] for text in texts], np.float32).reshape(-1, 1)


@pytest.mark.parametrize("count", [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_the_vectors_are_those_of_the_encoder_inside(count: int) -> None:
    texts = ["x" * (i % 7 + 1) for i in range(count)]
    inner = Recorder()
    found = YieldingEncoder(inner, QueryGate(2)).encode(texts)
    assert found.shape == (count, 1)
    assert found[:, 0].tolist() == [len(text) for text in texts]
    assert all(calls <= CHUNK for calls in inner.calls)


def test_bulk_waits_while_queries_fill_the_room() -> None:
    gate = QueryGate(2, patience_s=30)
    queries, bulk = Recorder(), Recorder()
    queries.hold.clear()
    running = [
        threading.Thread(target=CountedEncoder(queries, gate).encode, args=(["query"],)) for _ in range(2)
    ]
    for thread in running:
        thread.start()
        assert queries.inside.acquire(timeout=30)
    waiting = threading.Thread(target=YieldingEncoder(bulk, gate).encode, args=(["bulk"],))
    waiting.start()
    waiting.join(timeout=0.2)
    assert bulk.calls == [], "both cores are the queries'"
    queries.hold.set()
    waiting.join(timeout=30)
    assert bulk.calls == [1]
    for thread in running:
        thread.join()


def test_bulk_does_not_wait_for_ever_nor_for_fewer_queries_than_the_room() -> None:
    gate = QueryGate(1, patience_s=0.01)
    with gate.query():
        assert not gate.give_way()
        assert YieldingEncoder(Recorder(), gate).encode(["bulk"]).shape == (1, 1)
    assert gate.give_way()
    with QueryGate(2, patience_s=30).query():
        assert QueryGate(2, patience_s=30).give_way()


def test_a_query_that_fails_leaves_the_room() -> None:
    class Failing(Recorder):
        def encode(self, texts: Sequence[str]) -> np.ndarray:
            raise ValueError("no")

    gate = QueryGate(1, patience_s=0.01)
    with pytest.raises(ValueError, match="no"):
        CountedEncoder(Failing(), gate).encode(["query"])
    assert gate.give_way()
