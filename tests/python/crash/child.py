"""A life of a platform: it writes, snapshots, compacts and migrates until it is killed.

``nursery`` forks one life after the other from a process that has everything imported: a life then begins
within milliseconds. Lines on its standard input: a life's arguments as JSON; on its standard output: the
life's pid, then, when it has ended, how (negative: by which signal).
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

if os.environ.get("EMBEDCORE_MUTANT"):  # a planted fault is planted here too
    import plant  # noqa: F401

from crash.oracle import GONE, Journal, merged
from embedcore.errors import EmbedcoreError
from embedcore.failpoints import VARIABLE
from embedcore.index import Index
from embedcore.migration_types import Phase, Plan
from embedcore.platform import Platform
from embedcore.serving.snapshots import SnapshotSettings
from embedcore.types import Item
from support.toys import NEW, OLD

ITEMS = 80
TIME_SCALE = 20_000.0  # a day in 4 s
SNAPSHOTS = SnapshotSettings(interval_s=0.03)
PLAN = Plan(preflight_items=40, canary_items=40, backfill_chunk=8, simulated_engagement=True)


def open_platform(data: Path, **options: Any) -> Platform:
    # No fsync: a process that is killed leaves the system's cache as it was.
    platform = Platform.open(data, simulated=True, time_scale=TIME_SCALE, durability="os", **options)
    assert isinstance(platform, Platform)
    return platform


def live(data: Path, journal: Journal, seed: int) -> None:
    rng = random.Random(seed)
    platform = open_platform(data, snapshots=SNAPSHOTS)
    if not platform.models():
        platform.register_model(OLD)
        platform.register_model(NEW)
    if not platform.generations():
        platform.create_generation(OLD.name)
    threading.Thread(target=keep_up, args=(platform, random.Random(seed + 1)), daemon=True).start()
    for number in range(1_000_000):
        write(platform, journal, rng, f"{seed}-{number}")
        if rng.random() < 0.1:
            migrate(platform, journal, rng)


def write(platform: Platform, journal: Journal, rng: random.Random, stamp: str) -> None:
    names = rng.sample([f"i{number}" for number in range(ITEMS)], rng.randint(1, 5))
    if rng.random() < 0.3:
        journal.intends(dict.fromkeys(names, GONE))
        versions = platform.delete(names).versions
    else:
        contents = {name: f"{stamp} {name} w{rng.randrange(400)} w{rng.randrange(400)}" for name in names}
        journal.intends(contents)
        versions = platform.upsert([Item(id=name, content=text) for name, text in contents.items()]).versions
    journal.acknowledged(merged(names, versions))


def keep_up(platform: Platform, rng: random.Random) -> None:
    """Upkeep of every index, beside everything else."""
    while True:
        for generation in platform.store.generations():
            for lane in platform.serving.lanes.of(generation.number):
                index = lane.index
                assert isinstance(index, Index)
                index.compact(rng.choice((0.0, 0.001, 0.1)))
                index.relocate(rng.choice((0.0, 0.001)))
        time.sleep(0.002)


def migrate(platform: Platform, journal: Journal, rng: random.Random) -> None:
    """One step of a migration: to the other model, forward mostly, sometimes out of it."""
    try:
        known = platform.migrations()
        running = next((m for m in known if not m.migration.finished), None)
        if running is None:
            serving = next(g.generation for g in platform.generations() if g.generation.state == "serving")
            other = NEW if serving.model == OLD.name else OLD
            journal.notes(f"start {other.name}")
            platform.start_migration(other.name, PLAN, who="crash", override="crash loop")
        elif running.migration.phase is Phase.GRACE:
            journal.notes("decommission")
            platform.decommission(who="crash", override="crash loop")
        elif running.migration.phase in (Phase.BACKFILL, Phase.BLENDED) and running.coverage > 0.5:
            way = rng.choice((platform.cutover, platform.cutover, platform.abort_migration))
            journal.notes(way.__name__)
            if way == platform.cutover:
                platform.cutover(who="crash", override="crash loop")
            else:
                platform.abort_migration(who="crash")
    except EmbedcoreError as error:  # not yet, or a gate: the next step may find it otherwise
        journal.notes(f"{type(error).__name__}: {error}")


def nursery() -> None:
    for line in sys.stdin:
        given = json.loads(line)
        pid = os.fork()
        if pid == 0:
            if given["failpoint"]:
                os.environ[VARIABLE] = given["failpoint"]
            journal = Journal(Path(given["journal"]))
            try:
                live(Path(given["data"]), journal, given["seed"])
            except BaseException as error:
                journal.notes(f"ended by {error!r}")
                os._exit(70)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    nursery()
