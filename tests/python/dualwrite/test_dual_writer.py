"""DualWriter stepped by hand: what each lane holds, what is refused, lanes that come, go and fall behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import embedcore
from embedcore.dual_writer import DualWriter, Failure, Write
from embedcore.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable

from .writers import DIM, DictIndex, Log, rows, vector

ALL = 2**40


def pair(capacity: int = 8, **options: Any) -> tuple[DualWriter, DictIndex, DictIndex]:
    old, new = DictIndex(), DictIndex()
    return DualWriter([old, new], capacity=capacity, threads=0, **options), old, new


def step_all(writer: DualWriter) -> None:
    for lane in writer.lanes:
        writer.step(lane, ALL)


def test_a_ticket_is_the_last_sequence_number_and_is_waited_for() -> None:
    writer, old, new = pair()
    assert writer.upsert([1, 2], [rows([1, 1]), rows([5, 5])]) == 2
    assert writer.upsert(2, [vector(2), vector(6)]) == 3
    ticket = writer.remove([1, 99])
    assert ticket == 5
    assert writer.applied == [0, 0]
    with pytest.raises(TimeoutError, match="lane 0"):
        writer.wait(ticket, timeout=0.0)
    assert writer.step(0, ALL) == 5
    with pytest.raises(TimeoutError, match="lane 1"):
        writer.wait(ticket, timeout=0.001)
    step_all(writer)
    writer.wait(ticket, timeout=0)
    assert writer.applied == [5, 5]
    assert old.items == {2: 2.0}
    assert new.items == {2: 6.0}
    assert writer.upsert([], [None, None]) == 5
    stats = writer.stats(0)
    assert (stats["applied"], stats["lag"], stats["successes"], stats["failures"]) == (5, 0, 5, 0)


def test_arrays_are_the_callers_again_at_once() -> None:
    writer, old, _ = pair()
    mine = rows([1])
    writer.upsert([1], [mine, None])
    mine[:] = 77
    step_all(writer)
    assert old.items == {1: 1.0}


def test_a_full_ring_is_said_and_nothing_is_taken() -> None:
    writer, old, _ = pair(capacity=3)
    both = [rows(range(2)), rows(range(2))]
    writer.upsert([0, 1], both, timeout=0)
    with pytest.raises(embedcore.WouldBlock, match="ring of 3"):
        writer.upsert([2, 3], both, timeout=0)
    with pytest.raises(embedcore.WouldBlock):
        writer.upsert([2, 3], both, timeout=0.001)
    with pytest.raises(InvalidArgument, match="do not fit"):
        writer.remove(range(4), timeout=0)
    step_all(writer)
    assert old.items == {0: 0.0, 1: 1.0}
    assert writer.stats() == {
        "capacity": 3,
        "accepted": 2,
        "entries": 2,
        "in_flight": 0,
        "waits": 2,
        "refusals": 2,
        "publish_gaps": 0,
    }


NAN = np.full((1, DIM), np.nan, np.float32)
ONE = rows([1])


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda w: w.upsert([1], [ONE, NAN]), ValueError, "lane 1: vector 0 holds NaN"),
        (
            lambda w: w.upsert([1], [ONE * np.float32(np.inf), ONE]),
            ValueError,
            "lane 0: vector 0 holds an inf",
        ),
        (lambda w: w.upsert([1], [ONE, np.zeros((1, DIM + 1))]), ValueError, "lane 1 have shape"),
        (lambda w: w.upsert([1, 2], [ONE, ONE]), ValueError, "one vector per id"),
        (lambda w: w.upsert([1, 1], [rows([1, 2])] * 2), ValueError, "more than once"),
        (lambda w: w.upsert([-1], [ONE, ONE]), ValueError, "negative"),
        (lambda w: w.upsert([1.5], [ONE, ONE]), ValueError, "whole numbers"),
        (lambda w: w.upsert([1], [ONE] * 3), ValueError, "lane 2"),
        (lambda w: w.upsert([1], 3), ValueError, "one array per lane"),
        (lambda w: w.upsert([1], [np.array(["a"]), ONE]), ValueError, "dtype"),
        (lambda w: w.upsert([1], [ONE, ONE], timeout=-1), ValueError, "timeout"),
        (lambda w: w.upsert([1], [ONE, ONE], timeout="soon"), ValueError, "timeout"),
        (lambda w: w.upsert([1], [ONE, ONE], sequences=[1, 2]), ValueError, "give one each"),
        (lambda w: w.upsert([1], [ONE, ONE], sequences=[0]), ValueError, "count from 1"),
        (lambda w: w.remove([1, 2], sequences=[7, 7]), ValueError, "ascend"),
        (lambda w: w.upsert([1], [ONE, ONE], lanes=[5]), NotFound, "no lane 5"),
        (lambda w: w.wait(1), ValueError, "not given out"),
        (lambda w: w.wait("x"), ValueError, "ticket"),
        (lambda w: w.step(0, -1), ValueError, "n is -1"),
        (lambda w: w.step(9), NotFound, "no lane 9"),
        (lambda w: w.failures(9), NotFound, "no lane 9"),
        (lambda w: w.stats(9), NotFound, "no lane 9"),
        (lambda w: w.index(9), NotFound, "no lane 9"),
        (lambda w: w.detach(9), NotFound, "no lane 9"),
        (lambda w: w.swap(0, DictIndex(DIM + 1)), ValueError, "dimensions"),
        (lambda w: w.swap(0, embedcore.Index(DIM, "ip")), ValueError, "metric"),
        (lambda w: w.attach(object()), ValueError, "no index"),
        (lambda w: w.attach(DictIndex(), vectors_of=9), NotFound, "no lane 9"),
        (lambda w: w.attach(DictIndex(DIM + 1), vectors_of=0), ValueError, "dimensions"),
        (lambda w: w.attach(DictIndex(), from_sequence=0), ValueError, "from_sequence"),
        (lambda w: w.attach(DictIndex(), source=3), ValueError, "source"),
        (lambda w: DualWriter([3]), ValueError, "no index"),
        (lambda w: DualWriter([], capacity=0), ValueError, "capacity"),
        (lambda w: DualWriter([], threads=-1), ValueError, "threads"),
        (lambda w: DualWriter([], sources=[None]), ValueError, "give one each"),
        (lambda w: DualWriter([], gap_threshold=0), ValueError, "gap_threshold"),
    ],
)
def test_bad_input_is_refused_whole(
    call: Callable[[DualWriter], object], error: type[Exception], says: str
) -> None:
    writer, old, new = pair()
    with pytest.raises(error, match=says) as raised:
        call(writer)
    assert "\n" not in str(raised.value)
    step_all(writer)
    assert writer.stats()["entries"] == 0
    assert writer.lanes == [0, 1]
    assert old.items == new.items == {}
    assert writer.upsert([1], [ONE, ONE]) == 1  # and nothing stuck


def test_the_index_behind_a_lane_says_what_is_refused() -> None:
    half = embedcore.Index(DIM, "cosine", "float16")
    with DualWriter([half], threads=0) as writer:
        with pytest.raises(InvalidArgument, match="zero"):
            writer.upsert([1], [np.zeros((1, DIM))])
        with pytest.raises(InvalidArgument, match="float16"):
            writer.upsert([1], [np.full((1, DIM), 1e6)])
        assert writer.stats()["entries"] == 0


def test_a_lane_without_a_vector_serves_no_older_one() -> None:
    writer, old, new = pair()
    writer.upsert([1, 2], [rows([1, 1])] * 2)
    ticket = writer.upsert([1], [rows([2]), None])
    writer.upsert([3], [rows([3])])  # the list may end early
    step_all(writer)
    assert old.items == {1: 2.0, 2: 1.0, 3: 3.0}
    assert new.items == {2: 1.0}
    assert writer.failures(0) == {}
    assert writer.failures(1) == {
        1: Failure(ticket, "no vector yet"),
        3: Failure(ticket + 1, "no vector yet"),
    }
    assert writer.stats(1)["missing"] == 2
    # Repaired in this lane alone, and by a delete.
    writer.upsert([1], [None, rows([2])], lanes=[1])
    writer.remove([3])
    step_all(writer)
    assert writer.failures(1) == {}
    assert new.items == {1: 2.0, 2: 1.0}
    assert old.items == {1: 2.0, 2: 1.0}


def test_a_failure_is_recorded_and_stops_nobody() -> None:
    writer, old, new = pair()
    writer.upsert([1, 2, 3], [rows([1, 1, 1])] * 2)
    step_all(writer)
    new.broken = {2}
    ticket = writer.upsert([1, 2, 3], [rows([2, 2, 2])] * 2)
    step_all(writer)
    writer.wait(ticket, timeout=0)
    assert old.items == {1: 2.0, 2: 2.0, 3: 2.0}
    assert new.items == {1: 2.0, 3: 2.0}
    assert writer.failures(1) == {2: Failure(5, "RuntimeError: no room for 2")}
    new.broken = set()
    writer.upsert([2], [rows([3])] * 2)
    step_all(writer)
    assert writer.failures(1) == {}
    assert new.items[2] == 3.0


def test_callers_numbers_and_an_older_version_that_never_wins() -> None:
    writer, old, _ = pair()
    assert writer.upsert([1, 2], [rows([10, 11])] * 2, sequences=[10, 11]) == 11
    assert writer.upsert([1, 3], [rows([5, 6])] * 2, sequences=[5, 6]) == 6
    assert writer.remove([2], sequences=[20]) == 20
    assert writer.upsert([2], [rows([12])] * 2, sequences=np.array([12], np.uint64)) == 12
    with pytest.raises(FailedPrecondition, match="give them always"):
        writer.remove([1])
    step_all(writer)
    for ticket in (11, 6, 20, 12):
        writer.wait(ticket, timeout=0)
    assert old.items == {1: 10.0, 3: 6.0}
    assert writer.stats(0)["ignored"] == 2
    assert writer.applied == [20, 20]
    # The same number again is the same write: a repair.
    writer.upsert([1], [rows([10.5]), None], sequences=[10], lanes=[0])
    step_all(writer)
    assert old.items[1] == 10.5


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


def test_close_drains_or_records_and_comes_once() -> None:
    writer, old, new = pair()
    writer.upsert([1, 2], [rows([1, 2])] * 2)
    with writer:
        pass
    writer.close()
    assert old.items == new.items == {1: 1.0, 2: 2.0}
    assert writer.closed
    assert writer.applied == [2, 2]
    writer.wait(2)
    for call in (
        lambda: writer.upsert([1], [ONE, ONE]),
        lambda: writer.remove([1]),
        lambda: writer.step(0),
        lambda: writer.attach(DictIndex()),
        lambda: writer.detach(0),
        lambda: writer.swap(0, DictIndex()),
        writer.__enter__,
    ):
        with pytest.raises(Unavailable, match="closed"):
            call()

    writer, old, _ = pair()
    writer.upsert([1, 2], [rows([1, 2])] * 2)
    writer.step(0, 1)
    writer.close(drain=False)
    assert old.items == {1: 1.0}
    assert writer.failures(0) == {2: Failure(2, "the writer was closed before this write was applied")}
    writer.wait(2)  # on record


def test_step_is_for_writers_without_threads() -> None:
    with DualWriter([DictIndex()]) as writer, pytest.raises(FailedPrecondition, match="threads=0"):
        writer.step(0)


def test_names_and_repr() -> None:
    assert embedcore.DualWriter is DualWriter
    assert "DualWriter" in embedcore.__all__
    writer, _, _ = pair()
    assert repr(writer) == "<embedcore.DualWriter lanes=[0, 1] capacity=8 applied=[0, 0]>"
    writer.close()
    assert "closed" in repr(writer)
