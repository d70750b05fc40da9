"""The machine at its limits: a full disk, a read-only one, no file descriptors, a clock turned back."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from embedcore.clock import ManualClock
from embedcore.errors import ResourceExhausted, Unavailable
from embedcore.store import SqlStore, open_store
from embedcore.store.reserve import ReserveSettings
from store.builders import follow, generation, vector, write

NO_RESERVE = ReserveSettings(disk=0, memory=0)


def fill(store: SqlStore) -> int:
    """Writes until it is refused; returns how many items were acknowledged."""
    for written in range(0, 10_000, 10):
        try:
            store.write_items([write(f"i{written + n}", {1: 1.0}, content="x" * 900) for n in range(10)])
        except ResourceExhausted:
            return written
    raise AssertionError("the disk never was full")


def test_on_a_full_disk_nothing_acknowledged_is_lost(small_disk: Path, clock: ManualClock) -> None:
    """The disk itself says when it is full, at whichever write, sync or commit."""
    store = open_store(small_disk / "data", clock, reserve=NO_RESERVE)
    generation(store)
    written = fill(store)
    assert written > 100
    assert store.live_items() == written
    assert store.verify() == []
    store.close()
    # It opens on the full disk, and takes writes again when there is room.
    store = open_store(small_disk / "data", clock, reserve=NO_RESERVE)
    assert store.live_items() == written
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    store.write_items([write("last", {1: 1.0})])
    assert store.live_items() == written + 1
    assert store.verify() == []
    store.close()


def test_the_reserve_refuses_while_there_is_room_to_get_out(small_disk: Path, clock: ManualClock) -> None:
    """Deletes, reads and a clean restart work on a disk that takes no more writes."""
    settings = ReserveSettings(disk=1 << 20, memory=0)
    store = open_store(small_disk / "data", clock, reserve=settings)
    generation(store)
    written = fill(store)
    assert os.statvfs(small_disk).f_bavail > 0
    store.delete_items([f"i{number}" for number in range(written // 2)])
    assert store.live_items() == written - written // 2
    index: dict[int, float] = {}
    follow(store, 1, 0, index, limit=500)
    assert len(index) == written - written // 2
    store.close()
    store = open_store(small_disk / "data", clock, reserve=settings)
    assert store.verify() == []
    store.close()


def test_a_read_only_directory_is_unavailable(small_disk: Path, clock: ManualClock) -> None:
    open_store(small_disk / "data", clock).close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(Unavailable, match="check path and rights") as caught:
        open_store(small_disk / "data", clock)
    assert "\n" not in str(caught.value)
    with pytest.raises(Unavailable, match="check path and rights"):
        open_store(small_disk / "new", clock)
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    open_store(small_disk / "data", clock).close()


NO_DESCRIPTORS = """
import os, resource, sys, threading
from embedcore.clock import ManualClock
from embedcore.errors import EmbedcoreError, ResourceExhausted, Unavailable
from embedcore.store import open_store
from embedcore.store.interface import ItemWrite

store = open_store(sys.argv[1], ManualClock())
store.write_items([ItemWrite("a")])
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
try:
    while True:
        taken.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass

# One reader is idle and goes on; a second one at the same time needs descriptors that there are none of.
with store.database.read() as connection:
    connection.exec_driver_sql("SELECT 1")
    try:
        store.live_items()
    except ResourceExhausted as error:
        print("read:", error)
try:
    open_store(sys.argv[1] + "-other", ManualClock())
except EmbedcoreError as error:
    print("open:", error)
store.write_items([ItemWrite("b")])  # the writer has all it needs
for descriptor in taken:
    os.close(descriptor)
assert store.live_items() == 2
assert store.verify() == []
store.close()
"""


def test_without_file_descriptors_it_says_so_and_goes_on(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_DESCRIPTORS, str(tmp_path / "data")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read, opened = done.stdout.splitlines()
    assert read.startswith("read: no file descriptor is left")
    assert "ulimit -n" in read
    assert opened.startswith("open: cannot use")


def test_a_clock_that_goes_backwards_orders_nothing(
    open_at: Callable[..., SqlStore], clock: ManualClock
) -> None:
    """Sequences and versions decide; times are only told."""
    store = open_at()
    generation(store)
    first = store.write_items([write("a", {1: 1.0}), write("queued", content="x")])
    clock.advance(-1e6)
    second = store.write_items([write("a", {1: 2.0})])
    assert second.versions == (2,)
    assert second.token[0] > first.token[0]
    store.add_repairs(1, [1], "diverged")
    store.delete_items(["queued"])
    clock.advance(-1e6)
    store.write_items([write("queued", {1: 3.0}), write("new", {1: 4.0})])
    stored = {name: store.get_item(name) for name in ("a", "queued", "new")}
    assert [item.version for item in stored.values() if item is not None] == [2, 3, 1]
    index: dict[int, float] = {}
    follow(store, 1, 0, index)
    assert sorted(index.values()) == [2.0, 3.0, 4.0]
    # A vector of the version before the clock was turned is void, whenever it comes.
    assert store.write_vectors(1, [(1, 1, vector(9.0))]) == (0, 1)
    assert store.acquire_epoch("x") < store.acquire_epoch("y")
    assert store.verify() == []
    store.close()
    assert open_at().verify() == []
