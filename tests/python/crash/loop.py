"""Lives, deaths and what is left of them.

python -m crash.loop --kills 500 --seed 1        (with tests/python on PYTHONPATH; make torture does it)
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from crash.child import ITEMS, open_platform
from crash.oracle import GONE, Oracle, Seen
from embedcore.failpoints import NAMES
from embedcore.index import Index
from embedcore.platform import Platform
from embedcore.serving.snapshots import SnapshotSettings

_LONGEST_LIFE_S = 20.0
AS_IT_IS = SnapshotSettings(interval_s=0, at_close=False)


class CrashLoop:
    """``kill`` as often as wanted; each returns what is wrong after it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.data = folder / "data"
        self.journal = folder / "journal"
        self.oracle = Oracle()
        self.deaths: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()  # generations found, by state
        self._rng = random.Random(seed)
        self._seed = seed
        self._lives = 0
        paths = [str(Path(__file__).parents[1]), *filter(None, sys.path)]
        self._nursery = subprocess.Popen(
            [sys.executable, "-m", "crash.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )

    def close(self) -> None:
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        self._nursery.stdin.close()
        self._nursery.wait(timeout=30)
        self._nursery.stdout.close()

    def kill(self) -> list[str]:
        """One life, ended at a fail point or at a random moment, whichever comes first, and a check."""
        self._lives += 1
        point = self._rng.choice(("", *NAMES))
        count = self._rng.choice((1, 2, 5, 20))
        # By what it has written, so that a busy machine does not make for empty lives; some while it starts.
        lines = self._rng.choice((0, self._rng.randint(1, 20), self._rng.randint(20, 80)))
        moment = self._rng.uniform(0.0, 0.1 if lines else 0.4)
        life = {
            "data": str(self.data),
            "journal": str(self.journal),
            "seed": self._seed * 100_000 + self._lives,
            "failpoint": point and f"{point}:{count}",
        }
        ended, killed = self._live(life, lines, moment)
        if ended != -signal.SIGKILL:
            return [f"life {self._lives} ended by itself with {ended}: see {self.journal}"]
        self.deaths["a random moment" if killed else point] += 1
        return self.check()

    def _live(self, life: dict[str, Any], lines: int, seconds: float) -> tuple[int, bool]:
        """How the life ended, and whether it was killed from here: so long after so many lines."""
        nursery = self._nursery
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        nursery.stdin.write(json.dumps(life) + "\n")
        nursery.stdin.flush()
        pid = int(nursery.stdout.readline())
        life_line = Path(f"/proc/{pid}/stat")
        grown = self._lines() + lines
        until = time.monotonic() + _LONGEST_LIFE_S
        while self._lines() < grown and time.monotonic() < until and life_line.exists():
            time.sleep(0.005)
        time.sleep(seconds)
        killed = life_line.exists()
        if killed:
            os.kill(pid, signal.SIGKILL)
        return int(nursery.stdout.readline()), killed

    def _lines(self) -> int:
        return self.journal.read_bytes().count(b"\n") if self.journal.exists() else 0

    def check(self) -> list[str]:
        """What the data directory holds against the oracle, and its parts against each other."""
        if not (self.data / "embedcore.db").exists() and not self.journal.exists():
            return []
        platform = open_platform(self.data, snapshots=AS_IT_IS, threads=False)
        try:
            platform.serving.lanes.drain()
            problems = self.oracle.problems(self.journal, found(platform))
            problems += generations(platform, self.seen)
            problems += platform.verify()["problems"]
        finally:
            platform.close()
        return [f"life {self._lives}: {problem}" for problem in problems]


def found(platform: Platform) -> dict[str, Seen]:
    """Every item that the store knows."""
    stored = {f"i{number}": platform.store.get_item(f"i{number}") for number in range(ITEMS)}
    return {
        name: Seen(item.version, GONE if item.deleted else item.content or "")
        for name, item in stored.items()
        if item is not None
    }


def generations(platform: Platform, seen: Counter[str]) -> list[str]:
    """Each live generation's index by the model itself: the last version of an item, or a repair entry, or,
    where it is still being filled, nothing."""
    problems: list[str] = []
    store = platform.store
    alive = [item for number in range(ITEMS) if (item := store.get_item(f"i{number}")) and not item.deleted]
    for generation in store.generations():
        seen[generation.state] += 1
        if not generation.live:
            continue
        where = f"generation {generation.number} ({generation.state})"
        indexes = [lane.index for lane in platform.serving.lanes.of(generation.number)]
        queued = {entry.item for entry in store.repairs(generation.number, 10_000)}
        vectors = platform.encoders.encode_bulk(generation.model, [item.content or "" for item in alive])
        for item, wanted in zip(alive, vectors, strict=True):
            held = [i.get([item.item])[0] for i in indexes if isinstance(i, Index) and item.item in i]
            if len(held) == 1 and item.held.get(generation.number) == item.version:
                if not np.array_equal(held[0], wanted):
                    problems.append(f"{where}: {item.id} is not at version {item.version} in the index")
            elif item.held.get(generation.number) == item.version:
                problems.append(f"{where}: {item.id} is {len(held)} times in the index")
            elif item.item not in queued and generation.state == "serving":
                problems.append(f"{where}: {item.id} at {item.version} has neither vector nor repair entry")
        living = {item.item for item in alive}
        for index in indexes:
            assert isinstance(index, Index)
            gone = [item for item in index.ids().tolist() if item not in living]
            problems += [f"{where}: deleted item {item} is in the index" for item in gone]
    return problems


@contextmanager
def crash_loop(folder: Path, seed: int) -> Iterator[CrashLoop]:
    loop = CrashLoop(folder, seed)
    try:
        yield loop
    finally:
        loop.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="embedcore-crash-"))
    with crash_loop(folder, given.seed) as loop:
        for kill in range(given.kills):
            if problems := loop.kill():
                print("\n".join(problems))
                print(f"failed at kill {kill + 1} of seed {given.seed}; everything is left in {folder}")
                return 1
        print(
            f"{given.kills} kills, {loop.oracle.acknowledged} acknowledged writes of items, nothing lost and"
            f" nothing back; killed at {dict(sorted(loop.deaths.items()))}; generations {dict(loop.seen)}"
        )
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
