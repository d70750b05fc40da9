"""DualWriter with its threads: producers at once, a full ring, dead lanes, Ctrl-C, the end of a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import embedcore
from embedcore.dual_writer import DualWriter, Write

from .writers import DictIndex, Log, rows, vector

HERE = Path(__file__).parent


def test_producers_at_once_and_every_lane_agrees_with_a_dict() -> None:
    dims = (6, 3)
    indexes = [embedcore.Index(dim, "l2") for dim in dims]
    oracles: list[dict[int, float]] = [{} for _ in range(3)]
    failures: list[BaseException] = []

    def produce(writer: DualWriter, number: int) -> None:
        rng = np.random.default_rng(number)
        mine = oracles[number]
        try:
            for version in range(1, 60):
                ids = 1000 * number + rng.choice(30, size=5, replace=False)
                if version % 4 == 0:
                    writer.remove(ids)
                    for item in ids.tolist():
                        mine.pop(item, None)
                else:
                    writer.upsert(ids, [rows([version] * 5, dim) for dim in dims])
                    mine.update(dict.fromkeys(ids.tolist(), float(version)))
        except BaseException as error:
            failures.append(error)

    with DualWriter(indexes, capacity=32, threads=2) as writer:
        threads = [threading.Thread(target=produce, args=(writer, number)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        writer.wait(3 * 59 * 5)
        assert failures == []
        expected = {item: version for oracle in oracles for item, version in oracle.items()}
        for lane, index in enumerate(indexes):
            assert index.ids().tolist() == sorted(expected)
            held = dict(zip(sorted(expected), index.get(sorted(expected))[:, 0].tolist(), strict=True))
            assert held == expected
            assert writer.failures(lane) == {}
            assert index.check() == []


def test_a_writer_waits_for_room_and_goes_on() -> None:
    index = DictIndex()
    index.free.clear()
    with DualWriter([index], capacity=2) as writer:
        done = threading.Event()

        def produce() -> None:
            for item in range(100):
                writer.upsert([item], [rows([item])])
            done.set()

        producer = threading.Thread(target=produce)
        producer.start()
        while writer.stats()["waits"] == 0:
            assert not done.is_set()
        with pytest.raises(embedcore.WouldBlock):
            writer.remove([1, 2], timeout=0)
        index.free.set()
        producer.join()
        writer.wait(100)
        assert len(index.items) == 100
        # More than the ring holds, in one call.
        assert writer.upsert(range(50), [rows([-1] * 50)]) == 150
        writer.wait(150)
        assert index.items[49] == -1.0


def test_a_dead_lane_with_a_source_stops_nobody() -> None:
    live, dead = DictIndex(), DictIndex()
    log = Log()
    dead.free.clear()
    with DualWriter([live, dead], capacity=4, sources=[None, log]) as writer:
        for sequence in range(1, 201):
            log.put(Write(sequence, sequence % 20, vector(sequence)))
            writer.upsert([sequence % 20], [rows([sequence])] * 2, timeout=60)
        while writer.applied[0] < 200:
            pass
        assert writer.stats(1)["parked"]
        with pytest.raises(TimeoutError, match="lane 1"):
            writer.wait(200, timeout=0.01)
        dead.free.set()
        writer.wait(200)
        assert dead.items == live.items
        while writer.stats(1)["parked"]:
            pass
        writer.upsert([7], [rows([1000])] * 2)
    assert dead.items[7] == live.items[7] == 1000.0


def test_lanes_change_while_producers_write() -> None:
    current = embedcore.Index(4, "l2")
    writer = DualWriter([current], capacity=64)
    stop = threading.Event()
    last: dict[int, float] = {}

    def produce() -> None:
        version = 0
        while not stop.is_set():
            version += 1
            writer.upsert([version % 50], [rows([version])])
            last[version % 50] = float(version)

    producer = threading.Thread(target=produce)
    producer.start()
    for _ in range(5):
        rebuilt = embedcore.Index(4, "l2")
        start = writer.stats()["accepted"]
        lane = writer.attach(rebuilt, vectors_of=0)
        while writer.applied[lane] < start + 100:  # every item was written since
            pass
        at = writer.swap(0, rebuilt)
        assert at >= start + 100
        assert writer.index(0) is rebuilt
        writer.detach(lane)
    stop.set()
    producer.join()
    writer.close()
    final = writer.index(0)
    assert isinstance(final, embedcore.Index)
    assert final.ids().tolist() == sorted(last)
    assert dict(enumerate(final.get(range(50))[:, 0].tolist())) == last
    assert final.check() == []


@pytest.mark.parametrize("waits", ["for a ticket", "for room", "for the end"])
def test_ctrl_c_ends_a_wait(waits: str) -> None:
    index = DictIndex()
    index.free.clear()
    writer = DualWriter([index], capacity=1)
    try:
        ticket = writer.upsert([1], [rows([1])])
        while writer.applied == [0] and writer.stats(0)["lag"] == 1:
            try:
                writer.upsert([2], [rows([1])], timeout=0)  # the first has been taken out of the ring
            except embedcore.WouldBlock:
                continue
            break
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        calls = {
            "for a ticket": lambda: writer.wait(ticket),
            "for room": lambda: writer.upsert([3], [rows([1])]),
            "for the end": writer.close,
        }
        with pytest.raises(KeyboardInterrupt):
            calls[waits]()
        timer.join()
    finally:
        index.free.set()
        writer.close()
    assert set(index.items) == {1, 2}


SCRIPT = """
import os, sys, time
sys.path.insert(0, {here!r})
import numpy as np
import embedcore
from writers import DictIndex, rows

index = DictIndex()
writer = embedcore.DualWriter([index, embedcore.Index(4, "l2")], capacity=8)
for item in range(5):
    writer.upsert([item], [rows([item])] * 2)
{ending}
print("end")
"""


@pytest.mark.parametrize(
    "ending",
    [
        "pass",  # never closed
        "index.free.clear(); writer.upsert([9], [rows([1])] * 2)",  # a lane hangs in its index
        "del writer",
        # A child has none of the threads: it is told so, and ends.
        """pid = os.fork()
if pid == 0:
    try:
        writer.remove([1])
    except embedcore.EmbedcoreError as error:
        assert "fork" in str(error), error
        sys.exit(7)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
writer.wait(5)""",
    ],
    ids=["open", "hanging", "dropped", "forked"],
)
def test_a_process_ends(ending: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT.format(here=str(HERE), ending=ending)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
