"""Lanes that come, go, are swapped, fall behind and catch up from a source."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import embedcore
from embedcore.dual_writer import DualWriter, Failure, Write
from embedcore.errors import InvalidArgument, NotFound

from .writers import ALL, DIM, ONE, DictIndex, Log, pair, rows, step_all, vector


def test_attach_replays_what_the_ring_holds() -> None:
    writer, old, _ = pair(capacity=4)
    for item in range(1, 7):
        writer.upsert([item], [rows([item])] * 2)
        step_all(writer)
    twin = DictIndex()
    with pytest.raises(ValueError, match=r"sequence 2 has left the ring of 4; give a source"):
        writer.attach(twin, from_sequence=2, vectors_of=0)
    lane = writer.attach(twin, from_sequence=4, vectors_of=0)
    assert lane == 2
    assert writer.index(lane) is twin
    step_all(writer)
    assert twin.items == {4: 4.0, 5: 5.0, 6: 6.0}
    with pytest.raises(InvalidArgument, match="takes the vectors of another lane"):
        writer.upsert([9], [ONE, ONE, ONE])
    late = DictIndex()
    log = Log()
    for item in range(1, 7):
        log.put(Write(item, item, vector(item)))
    lane = writer.attach(late, from_sequence=2, source=log, vectors_of=0)
    assert writer.stats(lane)["parked"]
    step_all(writer)
    assert late.items == {item: float(item) for item in range(2, 7)}
    assert not writer.stats(lane)["parked"]
    writer.upsert([7], [rows([7])] * 2)
    step_all(writer)
    assert late.items[7] == twin.items[7] == old.items[7] == 7.0


def test_detach_frees_the_ring_and_forgets_the_lane() -> None:
    writer, _, new = pair(capacity=2)
    writer.upsert([1, 2], [rows([1, 2])] * 2)
    writer.step(0, ALL)
    with pytest.raises(embedcore.WouldBlock):
        writer.remove([1], timeout=0)
    writer.detach(1)
    writer.upsert([3], [ONE, ONE], timeout=0)  # its array is ignored
    step_all(writer)
    assert new.items == {}
    assert writer.lanes == [0]
    assert writer.applied == [3, -1]
    assert writer.attach(new) == 2
    with pytest.raises(NotFound):
        writer.failures(1)


def test_swap_says_at_which_write() -> None:
    writer, old, _ = pair()
    writer.upsert([1, 2, 3], [rows([1, 2, 3])] * 2)
    writer.step(0, 2)
    other = DictIndex()
    assert writer.swap(0, other) == 2
    assert writer.index(0) is other
    step_all(writer)
    assert old.items == {1: 1.0, 2: 2.0}
    assert other.items == {3: 3.0}


def test_swap_takes_over_an_index_that_another_lane_filled() -> None:
    old, rebuilt = embedcore.Index(DIM, "l2"), embedcore.Index(DIM, "l2")
    writer = DualWriter([old], threads=0)
    writer.upsert(range(5), [rows(range(5))])
    filler = writer.attach(rebuilt, from_sequence=1, vectors_of=0)
    writer.step(filler, 4)
    assert writer.swap(0, rebuilt) == 4
    assert writer.index(0) is rebuilt
    assert writer.index(filler) is old
    assert old.ids().tolist() == rebuilt.ids().tolist() == [0, 1, 2, 3]
    step_all(writer)
    writer.detach(filler)
    writer.upsert([9], [rows([9])])
    writer.close()
    assert 9 in rebuilt
    assert 9 not in old


def test_a_lane_with_a_source_is_parked_and_catches_up() -> None:
    old, new = DictIndex(), DictIndex()
    log = Log()
    writer = DualWriter([old, new], capacity=4, threads=0, sources=[None, log])
    writer.upsert(range(4), [rows([1] * 4)] * 2, timeout=0)
    for sequence in range(1, 5):
        log.put(Write(sequence, sequence - 1, vector(1)))
    with pytest.raises(embedcore.WouldBlock):
        writer.remove([9], timeout=0)  # the other lane has no source
    step_all(writer)
    for item in range(4, 20):
        log.put(Write(item + 1, item % 7, vector(item)))
        writer.upsert([item % 7], [rows([item])] * 2, timeout=0)
        writer.step(0, ALL)
    log.put(Write(21, 2, None, removed=True))
    log.put(Write(22, 1))  # no vector yet
    writer.remove([2], timeout=0)
    writer.upsert([1], [rows([50]), None], timeout=0)
    writer.step(0, ALL)
    assert writer.stats(1)["parked"]
    assert writer.stats(0)["lag"] == 0

    def away() -> None:
        raise OSError("the store is away")

    log.fails = away
    assert writer.step(1, ALL) == 0
    assert writer.stats(1)["source_error"] == "OSError: the store is away"
    log.fails = None
    step_all(writer)
    assert not writer.stats(1)["parked"]
    assert writer.stats(1)["parkings"] == 1
    assert writer.stats(1)["source_error"] == ""
    writer.wait(22, timeout=0)
    assert old.items.pop(1) == 50.0
    assert new.items == old.items
    assert writer.failures(1) == {1: Failure(22, "no vector yet")}


def test_a_source_that_gives_nonsense_is_said_and_retried() -> None:
    log = Log()
    index = DictIndex()
    writer = DualWriter([DictIndex()], capacity=2, threads=0)
    for item in range(5):
        writer.upsert([item], [ONE])
        writer.step(0, ALL)
    lane = writer.attach(index, from_sequence=1, source=lambda a, n: given, vectors_of=0)
    given: list[Any] = [Write(3, 1, vector(1)), Write(2, 1, vector(1))]
    assert writer.step(lane, ALL) == 0
    assert "ascending" in writer.stats(lane)["source_error"]
    given = [Write(1, 1, np.zeros(DIM + 1))]
    assert writer.step(lane, ALL) == 0
    assert "shape" in writer.stats(lane)["source_error"]
    given = [Write(1, 1, vector(np.nan)), Write(5, 2, vector(2))]
    assert writer.step(lane, 2) == 2
    assert "NaN" in writer.failures(lane)[1].reason
    assert index.items == {2: 2.0}
    assert log.writes == []


def test_without_parking_every_lane_makes_writers_wait() -> None:
    writer = DualWriter([DictIndex()], capacity=2, threads=0, sources=[Log()], park=False)
    writer.upsert([1, 2], [rows([1, 2])])
    with pytest.raises(embedcore.WouldBlock):
        writer.remove([1], timeout=0)
    assert not writer.stats(0)["parked"]
