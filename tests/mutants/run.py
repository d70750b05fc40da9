"""Plants one fault after another and demands that a named test finds it: ``make mutants``.

In C++ a mutant is a name that product code asks for where the fault lies: ``if (mutant("lost_link")) ...``
(see cpp/common/mutant.h); add it to MUTANTS here, with the program and the test that must fail in it. In
Python it is a piece of text in place of another, planted as the module is imported; add it to FAULTS in
plant.py. The same test must pass without the fault, so that is tried first.

    python tests/mutants/run.py [name ...]
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from plant import FAULTS, Fault

ROOT = Path(__file__).resolve().parents[2]


class Mutant(NamedTuple):
    name: str
    source: str  # the file to plant it in
    program: str  # of build/*/tests/cpp
    test: str  # a part of the name of the test that finds it
    fault: str


_LISTS = "tests/cpp/hnsw/test_link_list.cpp"
_IDS = "tests/cpp/hnsw/test_id_table_explored.cpp"
_SLOTS = "tests/cpp/hnsw/test_slots_explored.cpp"
_RING = "tests/cpp/dualwrite/test_ring_explored.cpp"
_GATE = "tests/cpp/hnsw/test_writer_gate.cpp"

MUTANTS = [
    Mutant(
        "lost_link",
        "cpp/hnsw/tree.cpp",
        "test_hnsw",
        "the_tree_spans_the_graph",
        "a parent does not link to its new child",
    ),
    Mutant(
        "early_reuse",
        "cpp/hnsw/compact.cpp",
        "test_hnsw",
        "no_slot_is_free_while_a_search",
        "a slot is freed without waiting for its epoch",
    ),
    Mutant(
        "no_floor",
        "cpp/hnsw/glance.cpp",
        "test_hnsw",
        "searches_in_a_small_dense_place",
        "rows are given up by limits that were measured among far ones",
    ),
    Mutant(
        "untried_stop",
        "cpp/hnsw/calibrate.cpp",
        "test_hnsw",
        "the_stop_costs_next_to_no_recall_in_a_cloud",
        "the early stop is not tried on stored vectors before it is used",
    ),
    Mutant(
        "no_stop_floor",
        "cpp/hnsw/calibrate.cpp",
        "test_hnsw",
        "a_small_dense_place_is_searched",
        "in a dense place walks stop before they have seen what lies around it",
    ),
    Mutant(
        "unbalanced_codes",
        "cpp/hnsw/codec.cpp",
        "test_hnsw",
        "roundings_of_products",
        "errors of codes lie along their vectors, and hide who is near whom in a dense place",
    ),
    Mutant(
        "skipped_version_check",
        "cpp/hnsw/walk.cpp",
        "test_hnsw",
        "an_item_that_is_replaced",
        "a search does not ask which version is younger than itself",
    ),
    Mutant(
        "kept_pending",
        "cpp/hnsw/insert.cpp",
        "test_memory",
        "while_an_item_is_added",
        "a slot stays taken when memory runs out while its node is linked",
    ),
    Mutant(
        "no_redirect",
        "cpp/hnsw/relocate.cpp",
        "test_hnsw",
        "a_round_ends_whatever",
        "a sweep passes over links to moved nodes",
    ),
    Mutant(
        "reuse_in_save",
        "cpp/hnsw/compact.cpp",
        "test_hnsw",
        "a_capture_holds_its_moment",
        "slots that come free while a snapshot is taken are used again",
    ),
    Mutant(
        "tree_not_restored",
        "cpp/hnsw/snapshot_capture.cpp",
        "test_hnsw",
        "a_capture_holds_its_moment",
        "a snapshot keeps links of the tree as they are when it comes by",
    ),
    Mutant(
        "no_sync",
        "cpp/hnsw/snapshot_file.cpp",
        "test_hnsw",
        "synced_before_it_has_its_name",
        "a snapshot is renamed before its bytes are on the disk",
    ),
    Mutant(
        "no_directory_sync",
        "cpp/hnsw/snapshot_file.cpp",
        "test_hnsw",
        "synced_before_it_has_its_name",
        "the new name of a snapshot is not on the disk when save returns",
    ),
    Mutant("blind_drop", _LISTS, "test_hnsw", "a_link_is_protected", "a link is dropped whatever it became"),
    Mutant("no_settle", _LISTS, "test_hnsw", "in_two_places", "a link is made twice"),
    Mutant(
        "blind_copy", _IDS, "test_hnsw", "explored_of_a_removal", "a moving cell is copied over a newer one"
    ),
    Mutant(
        "early_forget", _IDS, "test_hnsw", "explored_a_slot", "a cell loses its name while a copier needs it"
    ),
    Mutant(
        "blind_hint", _SLOTS, "test_hnsw", "explored_slots", "a freed slot below the hint is not announced"
    ),
    Mutant("uncounted_pop", _SLOTS, "test_hnsw", "explored_runs", "a run that came back passes for the same"),
    Mutant(
        "lost_lane_write",
        "cpp/dualwrite/lane.cpp",
        "test_dualwrite",
        "threads_every_lane_sees_every_write_once",
        "a lane passes over the last write of a turn",
    ),
    Mutant(
        "reads_unpublished",
        _RING,
        "test_dualwrite",
        "explored_two_lanes_read_the_same",
        "a lane reads what is claimed and not yet written",
    ),
    Mutant(
        "join_keeps_version",
        _RING,
        "test_dualwrite",
        "explored_a_lane_that_joins",
        "producers do not see a lane that joins",
    ),
    Mutant("open_gate", _GATE, "test_hnsw", "in_every_order", "one who is alone does not wait for sharers"),
]


def build(mutant: Mutant, planted: bool) -> Path:
    """The folder with the program. Optimised little: compiling is what takes the time."""
    folder = ROOT / "build" / "mutants"
    options = {
        "EMBEDCORE_PYTHON": "OFF",
        "EMBEDCORE_TESTS": "ON",
        "CMAKE_BUILD_TYPE": "None",
        "CMAKE_CXX_FLAGS": "-O1",
        "EMBEDCORE_MUTANT": mutant.name if planted else "",
        "EMBEDCORE_MUTANT_SOURCE": mutant.source if planted else "",
    }
    flags = [f"-D{name}={value}" for name, value in options.items()]
    configure = ["cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", "--log-level=WARNING", *flags]
    subprocess.run(configure, check=True, stdout=subprocess.DEVNULL)
    make = ["cmake", "--build", str(folder), "--target", mutant.program]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
    return folder / "tests" / "cpp"


def passes(mutant: Mutant | Fault, planted: bool) -> bool:
    return python_passes(mutant, planted) if isinstance(mutant, Fault) else native_passes(mutant, planted)


def python_passes(fault: Fault, planted: bool) -> bool:
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "EMBEDCORE_MUTANT": fault.name if planted else "",
    }
    options = ["-q", "-x", "-p", "plant", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command = [sys.executable, "-m", "pytest", *options, fault.test]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    # 0: passed, 1: a test failed; anything else says that no test was run.
    if done.returncode not in (0, 1) or "is imported already" in done.stdout:
        raise SystemExit(f"{fault.name}: {done.stdout}{done.stderr}")
    return done.returncode == 0


def native_passes(mutant: Mutant, planted: bool) -> bool:
    command = [str(build(mutant, planted) / mutant.program), mutant.test]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        return False  # a fault may well hang
    if "0 passed, 0 failed" in done.stdout:
        raise SystemExit(f"no test of {mutant.program} is named {mutant.test}; correct {Path(__file__).name}")
    return done.returncode == 0


def main(names: list[str]) -> int:
    every: list[Mutant | Fault] = [*MUTANTS, *FAULTS]
    known = {m.name for m in every}
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"unknown mutants {unknown}; there are {sorted(known)}")
    chosen = [m for m in every if not names or m.name in names]
    sound = {(m.program if isinstance(m, Mutant) else "", m.test): m for m in chosen}
    wrong = [m for m in sound.values() if not passes(m, planted=False)]
    for m in wrong:
        print(f"{m.test} fails without a fault")
    for m in chosen:
        found = not passes(m, planted=True)
        print(f"{'found    ' if found else 'NOT FOUND'} {m.name}: {m.fault}", flush=True)
        if not found:
            wrong.append(m)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
