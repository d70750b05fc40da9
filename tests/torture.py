"""The stress tests for as long as wanted, round after round with other random numbers: ``make torture``.

Every round runs the programs below as built for release and under ThreadSanitizer, there also what
``make sanitize`` leaves out, then the tests of pytest below and the simulation study of the gates, then kills
a platform some hundred times. The first failure ends it, with the command that repeats it.

    python tests/torture.py --minutes 60
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PRESETS = ("release", "tsan")
LONGER = 10  # times as long as in `make test`, for each test of a round

# Program of build/*/tests/cpp, and a part of the names of its tests.
TESTS = [
    ("test_hnsw", "at_once"),
    ("test_hnsw", "explored"),
    ("test_hnsw", "calls_on_an_item_can_be_ordered"),
    ("test_dualwrite", "threads_"),
]
RELEASE_TESTS = [("test_hnsw", "every_flipped_byte"), ("test_memory", "memory_runs_out")]
TSAN_TESTS = [("test_hnsw", "--slow"), ("test_memory", "--slow")]  # not longer than in `make test`
KILLS = 500  # of the crash loop, in each round

# Of pytest, once a round: each draws its random numbers from the same two settings.
PYTHON_TESTS = ["tests/python/store/test_power_loss.py"]


def build(preset: str) -> None:
    subprocess.run(["cmake", "--preset", preset, "--log-level=WARNING"], cwd=ROOT, check=True)
    programs = sorted({program for program, _ in TESTS + RELEASE_TESTS + TSAN_TESTS})
    subprocess.run(["cmake", "--build", "--preset", preset, "--target", *programs], cwd=ROOT, check=True)


def crash_loop(seed: int) -> bool:
    command = [sys.executable, "-m", "crash.loop", "--kills", str(KILLS), "--seed", str(seed)]
    paths = {"PYTHONPATH": str(ROOT / "tests" / "python")}
    done = subprocess.run(command, env={**os.environ, **paths}, capture_output=True, text=True, check=False)
    print(done.stdout, end="")
    if done.returncode != 0:
        print(f"{done.stderr}failed; again with: PYTHONPATH=tests/python {shlex.join(command)}")
    return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1, help="number of the first round")
    given = parser.parse_args()
    for preset in PRESETS:
        build(preset)
    end = time.monotonic() + 60 * given.minutes
    number = given.seed
    while True:
        settings = {"EMBEDCORE_STRESS": str(LONGER), "EMBEDCORE_SEED": str(number)}
        commands = [
            [str(ROOT / "build" / preset / "tests" / "cpp" / program), test]
            for preset in PRESETS
            for program, test in TESTS + (RELEASE_TESTS if preset == "release" else TSAN_TESTS)
        ]
        commands.append(
            [sys.executable, "-m", "pytest", "-q", "--timeout=1800", "-p", "no:cacheprovider", *PYTHON_TESTS]
        )
        study = str(ROOT / "tests" / "simulation_study.py")
        commands.append([sys.executable, study, "--seed", str(number)])
        for command in commands:
            settings["EMBEDCORE_STRESS"] = "1" if command[-1] == "--slow" else str(LONGER)
            done = subprocess.run(
                command, cwd=ROOT, env={**os.environ, **settings}, capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                print(done.stdout + done.stderr)
                words = [f"{name}={value}" for name, value in settings.items()]
                print(f"failed; again with: {' '.join(words)} {shlex.join(command)}")
                return 1
        if not crash_loop(number):
            return 1
        print(f"round {number}: {', '.join(PRESETS)} and {KILLS} kills passed", flush=True)
        number += 1
        if time.monotonic() >= end:
            return 0


if __name__ == "__main__":
    sys.exit(main())
