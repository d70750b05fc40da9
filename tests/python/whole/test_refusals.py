"""What an index refused is on record, whatever becomes of the process: nothing is missing in silence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedcore.index import Index
from embedcore.platform import Platform
from embedcore.serving import refusals
from embedcore.serving.snapshots import SnapshotSettings
from embedcore.store.interface import ItemWrite
from support.toys import OLD, toy_items

NEVER = SnapshotSettings(interval_s=0, at_close=False)
ZERO = np.zeros(32, np.float32)  # of no direction under cosine: every index refuses it

# Takes writes, of which the index refuses two, a new item and a new version; then a snapshot, then a write.
CHILD = """
import os, signal, sys
from pathlib import Path
from whole.test_refusals import opened, settle, zero
from support.toys import OLD, toy_items
from embedcore.types import Item

platform = opened(Path(sys.argv[1]))
platform.register_model(OLD)
platform.create_generation("toy-old")
platform.upsert(toy_items(20))
settle(platform)
if "before" in sys.argv:
    platform.snapshot()
zero(platform, "new", "item-3")
settle(platform)
if "after" in sys.argv:
    platform.snapshot()
platform.upsert([Item(id="last", content="w1 w2")])
settle(platform)
print("written", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def opened(data: Path, **options: Any) -> Platform:
    platform = Platform.open(data, **{"snapshots": NEVER, **options})
    assert isinstance(platform, Platform)
    return platform


def settle(platform: Platform) -> None:
    assert platform.serving.lanes.wait({0: platform.store.head(0)}, [1], 30.0)


def zero(platform: Platform, *ids: str) -> None:
    platform.store.write_items([ItemWrite(item_id, vectors={1: ZERO}) for item_id in ids])


def refused(platform: Platform) -> list[str]:
    """As the status counts them and `verify` names them, which must agree."""
    problems = [line for line in platform.verify()["problems"] if not line.startswith("snapshot")]
    found = [line.partition("refused item ")[2].partition("'")[2].partition("'")[0] for line in problems]
    assert platform.status().details["lanes"]["g1-s0"]["failing_items"] == len(found)
    return sorted(found)


@pytest.mark.parametrize("snapshot", ["before", "after", "before after", "none"])
def test_refusals_outlive_a_kill(tmp_path: Path, snapshot: str) -> None:
    data = tmp_path / "data"
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(data), *snapshot.split()],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (child.returncode, child.stdout) == (-signal.SIGKILL, "written\n"), child.stderr
    with opened(data) as platform:
        source = platform.status().details["recovery"]["g1-s0"]["source"]
        assert source.startswith("stored vectors" if snapshot == "none" else "snapshot")
        assert refused(platform) == ["item-3", "new"]
        # A later vector, or a delete, ends it for good.
        platform.upsert([toy_items(20)[3]])
        platform.delete(["new"])
        settle(platform)
        platform.snapshot()
        assert refused(platform) == []
    with opened(data) as platform:
        assert refused(platform) == []
        assert platform.serving.index_size(1) == 21


def test_what_was_refused_for_the_moment_is_taken_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for want of memory."""
    add = Index.add

    def short(index: Index, ids: Any, *given: Any, **options: Any) -> None:
        if len(index) >= 20:
            raise MemoryError("no memory left")
        add(index, ids, *given, **options)

    with opened(tmp_path) as platform:
        platform.register_model(OLD)
        platform.create_generation("toy-old")
        with monkeypatch.context() as patch:
            patch.setattr(Index, "add", short)
            platform.upsert(toy_items(20))
            settle(platform)
            platform.upsert([item for item in toy_items(23) if item.id not in {i.id for i in toy_items(20)}])
            settle(platform)
        assert refused(platform) == ["item-20", "item-21", "item-22"]
        platform.snapshot()
    for _ in range(2):  # the snapshot is the same, and lacks them
        with opened(tmp_path) as platform:
            assert refused(platform) == []
            assert platform.serving.index_size(1) == 23
            lacking = [line for line in platform.verify()["problems"] if "lacks item" in line]
            assert len(lacking) == 3
    with opened(tmp_path, snapshots=SnapshotSettings(interval_s=0, kept=1)) as platform:
        platform.upsert(toy_items(1))
        settle(platform)
    with opened(tmp_path) as platform:
        assert platform.verify()["problems"] == []


def test_more_than_can_be_named_are_tried_by_a_rebuild(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "MOST", 2)
    with opened(tmp_path) as platform:
        platform.register_model(OLD)
        platform.create_generation("toy-old")
        platform.upsert(toy_items(5))
        zero(platform, "a", "b", "c")
        settle(platform)
        platform.snapshot()
    for _ in range(2):
        with opened(tmp_path) as platform:
            assert platform.status().details["recovery"]["g1-s0"]["source"] == "stored vectors"
            assert platform.serving.snapshots.files(1, 0) == []
            assert refused(platform) == ["a", "b", "c"]
    with opened(tmp_path) as platform:
        platform.delete(["a"])
        settle(platform)
        platform.snapshot()
    with opened(tmp_path) as platform:
        assert platform.status().details["recovery"]["g1-s0"]["source"].startswith("snapshot")
        assert refused(platform) == ["b", "c"]
