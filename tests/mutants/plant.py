"""Plants a fault into a Python module as it is imported: a pytest plugin, used by run.py.

    EMBEDCORE_MUTANT=dropped_fsync pytest -p plant tests/python/store

The source of the named module is changed in memory; what is on disk stays. A fault whose text is not found,
or is found more than once, is an error: the code has moved on and the fault with it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple


class Fault(NamedTuple):
    """``old`` of ``module`` becomes ``new``; ``test`` (a pytest address) must fail then, and pass without."""

    name: str
    module: str
    old: str
    new: str
    test: str
    fault: str


_POWER = "tests/python/store/test_power_loss.py::test_every_acknowledged_write_survives_a_loss_of_power"
_WRITES = "tests/python/store/test_writes.py"
_RETENTION = "tests/python/store/test_retention.py"
_GROUP = "tests/python/store/test_group_commit.py"
_EPOCH = "tests/python/store/test_leader_epoch.py"

FAULTS = [
    Fault(
        "dropped_fsync",
        "embedcore.store.dialect",
        '"fsync": "FULL"',
        '"fsync": "NORMAL"',
        _POWER,
        "a commit returns before its log is synced",
    ),
    Fault(
        "unsynced_folder",
        "embedcore.store.opening",
        "            sync_directory(ownership.data_dir)\n",
        "",
        _POWER,
        "the names of a new store's files are not made durable",
    ),
    Fault(
        "late_vector_of_any_version",
        "embedcore.store.late_vectors",
        "if version == wanted:",
        "if wanted:",
        f"{_RETENTION}::test_a_late_vector_of_a_pruned_item_is_void_for_ever",
        "a backfilled vector of an older version wins",
    ),
    Fault(
        "early_log_prune",
        "embedcore.store.retention",
        "upto = min(floor.log, pruned + STEP)",
        "upto = min(floor.log + 1, pruned + STEP)",
        f"{_RETENTION}::test_a_lane_that_reads_while_the_log_is_pruned_misses_nothing",
        "a log entry goes that the slowest lane has not applied",
    ),
    Fault(
        "early_tombstone_prune",
        "embedcore.store.retention",
        "behind = min(floor.tombstones, max(upto, pruned))",
        "behind = max(upto, pruned)",
        f"{_RETENTION}::test_a_tombstone_lives_until_lanes_and_backfills_have_passed_it",
        "a tombstone does not wait for the backfill",
    ),
    Fault(
        "number_given_out_twice",
        "embedcore.store.retention",
        "sequencer.forget(shard, max(row.item for row in due), max(row.version for row in due))",
        "pass",
        f"{_RETENTION}::test_numbers_and_versions_go_on_after_a_restart",
        "what a pruned tombstone leaves behind is not remembered",
    ),
    Fault(
        "early_acknowledgement",
        "embedcore.store.connection",
        "        done.append((member, result, transaction))",
        "        done.append((member, result, transaction))\n        member.settle(result)",
        f"{_GROUP}::test_a_commit_that_fails_fails_every_member",
        "a member is acknowledged before the shared commit",
    ),
    Fault(
        "neighbours_undone",
        "embedcore.store.connection",
        'run("ROLLBACK TO member")',
        "pass",
        f"{_GROUP}::test_a_member_that_fails_takes_back_its_own_work_alone",
        "a member that fails leaves half of its work",
    ),
    Fault(
        "open_transaction",
        "embedcore.store.connection",
        "            end_transaction(self._writer)",
        "            pass",
        f"{_GROUP}::test_a_commit_that_fails_fails_every_member",
        "a commit that failed stays open",
    ),
    Fault(
        "deposed_leader",
        "embedcore.store.core",
        "controller.check_epoch(transaction.connection, epoch)",
        "pass",
        _EPOCH,
        "a controller writes without looking whether it still leads",
    ),
    Fault(
        "lost_repair",
        "embedcore.store.writes",
        "        repairs += len(lacking)",
        "        clear_repairs(connection, generation, [change.item for change in lacking])",
        f"{_WRITES}::test_every_live_generation_gets_a_vector_or_a_repair_entry",
        "a missing vector has no repair entry",
    ),
    Fault(
        "replay_starts_late",
        "embedcore.serving.recovery",
        "        lane = Lane(self._store, number, shard, index, watermark)\n        if refused:",
        "        lane = Lane(self._store, number, shard, index, watermark + 1)\n        if refused:",
        "tests/python/crash/test_crash_loop.py::test_kills_lose_nothing_and_bring_nothing_back",
        "the replay of the log after a snapshot starts one entry too late",
    ),
]


class _Loader(SourceFileLoader):
    def __init__(self, fault: Fault, path: str) -> None:
        super().__init__(fault.module, path)
        self._fault = fault

    def get_code(self, fullname: str) -> CodeType:
        """Never from a cache of compiled code, and never into it."""
        path = Path(self.get_filename(fullname))
        source = path.read_text(encoding="utf-8")
        found = source.count(self._fault.old)
        if found != 1:
            raise RuntimeError(f"fault {self._fault.name}: its text is {found} times in {path}, correct it")
        return compile(source.replace(self._fault.old, self._fault.new), str(path), "exec")


class _Finder(MetaPathFinder):
    def __init__(self, fault: Fault) -> None:
        self._fault = fault

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._fault.module:
            return None
        for folder in path or ():
            spec = PathFinder.find_spec(fullname, [folder])
            if spec is not None and spec.origin is not None:
                spec.loader = _Loader(self._fault, spec.origin)
                return spec
        return None


def plant(name: str) -> None:
    """The module must not have been imported yet."""
    fault = next(fault for fault in FAULTS if fault.name == name)
    if fault.module in sys.modules:
        raise RuntimeError(f"{fault.module} is imported already: the fault comes too late")
    sys.meta_path.insert(0, _Finder(fault))


if os.environ.get("EMBEDCORE_MUTANT"):
    plant(os.environ["EMBEDCORE_MUTANT"])
