"""One process owns a data directory; the files of a killed owner do no harm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from embedcore.clock import ManualClock
from embedcore.store import DirectoryOwned, DirectoryOwner, Ownership, open_store, read_owner

HOLD = """
import sys
from pathlib import Path
from embedcore.store.ownership import Ownership
ownership = Ownership(Path(sys.argv[1]))
ownership.publish_address("127.0.0.1:7700", "127.0.0.1:7701")
print("owned", flush=True)
sys.stdin.read()
"""


def start_owner(data_dir: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "owned\n"
    return process


def test_a_second_process_is_refused_and_told_where_the_server_is(tmp_path: Path, clock: ManualClock) -> None:
    owner = start_owner(tmp_path)
    try:
        expected = DirectoryOwner(owner.pid, "127.0.0.1:7700", "127.0.0.1:7701")
        assert read_owner(tmp_path) == expected
        with pytest.raises(DirectoryOwned, match=r"grpc://127\.0\.0\.1:7700") as caught:
            open_store(tmp_path, clock)
        assert caught.value.owner == expected
        assert (caught.value.pid, caught.value.address) == (owner.pid, "127.0.0.1:7700")
        assert caught.value.details["pid"] == owner.pid
        assert caught.value.code == "failed_precondition"
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.communicate()
    # Its files are still there, and nobody believes them.
    assert (tmp_path / "server.json").exists()
    assert read_owner(tmp_path) is None
    store = open_store(tmp_path, clock)
    assert read_owner(tmp_path) == DirectoryOwner(os.getpid())
    store.close()
    assert read_owner(tmp_path) is None


def test_the_same_process_cannot_open_twice(tmp_path: Path, clock: ManualClock) -> None:
    store = open_store(tmp_path, clock)
    with pytest.raises(DirectoryOwned, match=f"process {os.getpid()}"):
        open_store(tmp_path, clock)
    store.close()
    open_store(tmp_path, clock).close()


def test_ownership_can_be_taken_before_the_store_is_opened(tmp_path: Path, clock: ManualClock) -> None:
    ownership = Ownership.acquire(tmp_path)
    store = open_store(tmp_path, clock, ownership=ownership)
    ownership.publish_address("127.0.0.1:1", "127.0.0.1:2")
    assert read_owner(tmp_path) == DirectoryOwner(os.getpid(), "127.0.0.1:1", "127.0.0.1:2")
    store.close()
    ownership.release()
    assert read_owner(tmp_path) is None
    assert not (tmp_path / "server.json").exists()


def test_a_refused_open_gives_the_directory_back(tmp_path: Path, clock: ManualClock) -> None:
    open_store(tmp_path, clock, shards=2).close()
    with pytest.raises(Exception, match="2 shards"):
        open_store(tmp_path, clock, shards=4)
    assert read_owner(tmp_path) is None


def test_nobody_owns_what_is_not_there(tmp_path: Path) -> None:
    assert read_owner(tmp_path / "nothing") is None
    (tmp_path / "server.json").write_text("not json")
    assert read_owner(tmp_path) is None


def test_a_damaged_address_file_is_no_address(tmp_path: Path, clock: ManualClock) -> None:
    store = open_store(tmp_path, clock)
    (tmp_path / "server.json").write_text("[1, 2")
    assert read_owner(tmp_path) == DirectoryOwner(os.getpid())
    store.close()
