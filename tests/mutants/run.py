"""Plants one fault after another and demands that a named test finds it: ``make mutants``.

A mutant is a name that product code asks for where the fault lies: ``if (mutant("lost_link")) ...`` (see
cpp/common/mutant.h). Add one here with the program and the test that must fail in it; the same test must pass
without a fault, so the unchanged build is tried first.

    python tests/mutants/run.py [name ...]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Mutant(NamedTuple):
    name: str
    program: str  # of build/*/tests/cpp
    test: str  # a part of the name of the test that finds it
    fault: str


MUTANTS = [
    Mutant("lost_link", "test_hnsw", "the_tree_spans_the_graph", "a parent does not link to its new child"),
    Mutant("early_reuse", "test_hnsw", "no_slot_is_free_while_a_search", "a slot is freed without its epoch"),
    Mutant("skipped_version_check", "test_hnsw", "an_item_that_is_replaced", "a search drops replaced items"),
    Mutant(
        "blind_drop", "test_hnsw", "a_link_is_protected_or_dropped", "a link is dropped whatever it became"
    ),
    Mutant("no_settle", "test_hnsw", "two_that_add_the_same_link", "a link is made twice"),
    Mutant("no_redirect", "test_hnsw", "a_round_ends_whatever", "a sweep passes over links to moved nodes"),
    Mutant("open_gate", "test_hnsw", "in_every_order", "one who is alone does not wait for sharers"),
]


def build(mutant: str, program: str) -> Path:
    """The folder with the program; optimised little, since compiling is what takes the time."""
    folder = ROOT / "build" / "mutants"
    configure = ["cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", "--log-level=WARNING"]
    options = ["EMBEDCORE_PYTHON=OFF", "EMBEDCORE_TESTS=ON", "CMAKE_BUILD_TYPE=None", "CMAKE_CXX_FLAGS=-O1"]
    flags = [f"-D{option}" for option in [*options, f"EMBEDCORE_MUTANT={mutant}"]]
    subprocess.run([*configure, *flags], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", folder, "--target", program], check=True, stdout=subprocess.DEVNULL)
    return folder / "tests" / "cpp"


def passes(mutant: str, program: str, test: str) -> bool:
    path = build(mutant, program) / program
    try:
        done = subprocess.run([path, test], capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        return False  # a fault may well hang
    if "0 passed, 0 failed" in done.stdout:
        raise SystemExit(f"no test of {program} is named {test}; correct {Path(__file__).name}")
    return done.returncode == 0


def main(names: list[str]) -> int:
    known = {m.name for m in MUTANTS}
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"unknown mutants {unknown}; there are {sorted(known)}")
    chosen = [m for m in MUTANTS if not names or m.name in names]
    wrong = [m for m in chosen if not passes("", m.program, m.test)]
    for m in wrong:
        print(f"{m.test} fails without a fault")
    for m in chosen:
        found = not passes(m.name, m.program, m.test)
        print(f"{'found    ' if found else 'NOT FOUND'} {m.name}: {m.fault}", flush=True)
        if not found:
            wrong.append(m)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
