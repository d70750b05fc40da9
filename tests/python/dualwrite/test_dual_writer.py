"""DualWriter stepped by hand: what each lane holds and what is waited for; failures, versions, the end."""

from __future__ import annotations

import numpy as np
import pytest

import embedcore
from embedcore.dual_writer import DualWriter, Failure
from embedcore.errors import FailedPrecondition, InvalidArgument, Unavailable

from .writers import ALL, ONE, DictIndex, pair, rows, step_all, vector


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
