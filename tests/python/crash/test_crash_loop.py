"""A platform is killed again and again: nothing acknowledged is lost, nothing deleted comes back."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from crash.loop import crash_loop
from crash.oracle import GONE, Journal, Oracle, Seen
from embedcore.failpoints import NAMES

ROOT = Path(__file__).parents[3]
KILLS = 20  # 500 in `make torture`


def test_kills_lose_nothing_and_bring_nothing_back(tmp_path: Path) -> None:
    """While it ingests, updates, deletes, snapshots, compacts and migrates."""
    with crash_loop(tmp_path, seed=5) as loop:
        for _ in range(KILLS):
            assert loop.kill() == []
        assert loop.oracle.acknowledged > 100
        assert sum(loop.deaths.values()) == KILLS
        assert len(loop.deaths) >= 4
        assert loop.seen["filling"] + loop.seen["retired"] > 0  # it did migrate


def test_every_fail_point_is_in_the_list_and_somewhere() -> None:
    written = re.compile(r'failpoint\("([^"]+)"\)')
    found = {
        name
        for folder, pattern in (("python/embedcore", "*.py"), ("cpp", "*.cpp"))
        for path in (ROOT / folder).rglob(pattern)
        for name in written.findall(path.read_text(encoding="utf-8"))
    }
    assert found == set(NAMES)
    assert len(NAMES) == len(set(NAMES))


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """a and b written, b deleted, then a call that was cut off, with half a line after it."""
    path = tmp_path / "journal"
    said = Journal(path)
    said.intends({"a": "one", "b": "two"})
    said.acknowledged({"a": 1, "b": 1})
    said.notes("then")
    said.intends({"b": GONE})
    said.acknowledged({"b": 2})
    said.intends({"a": "next", "b": "back", "c": "new"})
    with path.open("a") as file:
        file.write(json.dumps({"ack": {"a": 2}})[:7])
    return path


@pytest.mark.parametrize(
    "found",
    [
        {"a": Seen(1, "one"), "b": Seen(2, GONE)},
        {"a": Seen(2, "next"), "b": Seen(3, "back"), "c": Seen(1, "new")},
        {"a": Seen(1, "one")},  # the tombstone of b was pruned
        {"a": Seen(2, "next"), "b": Seen(7, "back"), "c": Seen(7, "new")},  # versions go on after that
    ],
)
def test_the_oracle_takes_a_call_that_was_cut_off_as_done_or_not(
    journal: Path, found: dict[str, Seen]
) -> None:
    oracle = Oracle()
    assert oracle.problems(journal, found) == []
    assert oracle.acknowledged == 3
    # What was found is what has to be there from then on.
    assert oracle.problems(journal, found) == []
    other = {**found, "a": Seen(3, "third")}
    assert len(oracle.problems(journal, other)) == 1


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ({"b": Seen(2, GONE)}, "a: lost"),
        ({"a": Seen(1, "other"), "b": Seen(2, GONE)}, "a: is"),
        ({"a": Seen(2, "one"), "b": Seen(2, GONE)}, "a: is"),
        ({"a": Seen(1, "one"), "b": Seen(1, "two")}, "b: came back"),
        ({"a": Seen(1, "one"), "b": Seen(2, "two")}, "b: came back"),
        ({"a": Seen(1, "one"), "b": Seen(2, GONE), "c": Seen(1, "unheard of")}, "c: came back"),
        ({"a": Seen(1, "one"), "b": Seen(2, GONE), "d": Seen(1, "x")}, "d: came back"),
    ],
)
def test_the_oracle_fires_on_planted_losses(journal: Path, found: dict[str, Seen], says: str) -> None:
    (problem,) = Oracle().problems(journal, found)
    assert problem.startswith(says)
