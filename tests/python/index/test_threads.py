"""Concurrency as Python sees it: the GIL is free while the core works, Ctrl-C is answered, and everything
may happen at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

import embedcore

from .vectors import DATA, clustered

SNAPSHOT = DATA / "index-v3.ecx"


def _others_ran_during(work: Callable[[], object]) -> bool:
    """Whether this thread got to run, often, while another was inside work()."""
    worker = threading.Thread(target=work)
    turns = 0
    worker.start()
    while worker.is_alive():
        turns += 1
        time.sleep(0)
    worker.join()
    return turns > 20


def test_the_gil_is_released() -> None:
    # A call that held the GIL would let this thread run a handful of times at most.
    vectors = clustered(4000, 32, 20, seed=10)
    index = embedcore.Index(32)
    assert _others_ran_during(lambda: index.add(np.arange(4000), vectors, threads=1))
    assert _others_ran_during(lambda: index.search(np.tile(vectors, (2, 1)), k=10, threads=1))
    assert _others_ran_during(lambda: embedcore.exact_search(vectors, vectors, 10, threads=1))


def test_everything_at_once() -> None:
    vectors = clustered(1200, 16, 12, seed=11)
    index = embedcore.Index(16, "l2", m=8, ef_construction=50)
    index.add(np.arange(600), vectors[:600])
    stop = threading.Event()
    failures: list[BaseException] = []

    def guarded(work: Callable[[np.random.Generator], None], seed: int) -> Callable[[], None]:
        def run() -> None:
            rng = np.random.default_rng(seed)
            try:
                while not stop.is_set():
                    work(rng)
            except BaseException as error:
                failures.append(error)

        return run

    def search(rng: np.random.Generator) -> None:
        # Items 0 to 299 are replaced all the time, by themselves, and never removed.
        rows = rng.integers(0, 300, 8)
        found = index.search(vectors[rows], k=3, ef_search=2000)
        assert (found.ids == rows[:, None]).sum(axis=1).tolist() == [1] * 8
        assert index.get(rows).tolist() == vectors[rows].tolist()

    def replace(rng: np.random.Generator) -> None:
        rows = rng.choice(300, 20, replace=False)
        index.add(rows, vectors[rows], threads=2)

    def churn(rng: np.random.Generator) -> None:
        rows = rng.choice(np.arange(300, 1200), 50, replace=False)
        index.add(rows, vectors[rows], threads=1)
        index.remove(rows[:40])

    def maintain(rng: np.random.Generator) -> None:
        index.compact()
        index.relocate()
        assert index.check() == []
        time.sleep(0.01)

    threads = [
        threading.Thread(target=guarded(work, seed))
        for seed, work in enumerate([search, search, replace, churn, maintain])
    ]
    for thread in threads:
        thread.start()
    time.sleep(2)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    assert index.check() == []
    assert set(range(300)) <= set(index.ids().tolist())


def test_progress_is_reported_and_may_stop_the_add() -> None:
    vectors = clustered(3000, 32, 5, seed=12)
    index = embedcore.Index(32)
    seen: list[tuple[int, int]] = []
    index.add(np.arange(3000), vectors, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3000, 3000)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert {total for _, total in seen} == {3000}

    class Enough(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Enough

    other = embedcore.Index(32, ef_construction=1000)
    with pytest.raises(Enough):
        other.add(np.arange(3000), vectors, threads=1, progress=stop)
    assert len(other) < 3000
    assert other.check() == []


def started(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


INTERRUPTED = """
import sys, numpy as np, embedcore
vectors = np.random.default_rng(0).normal(size=(200_000, 64)).astype(np.float32)
index = embedcore.Index(64)
try:
    index.add(np.arange(len(vectors)), vectors, threads=1,
              progress=lambda done, total: print("running", flush=True))
except KeyboardInterrupt:
    problems = index.check()
    print("stopped", 0 < len(index) < len(vectors), problems, flush=True)
"""


def test_ctrl_c_is_answered() -> None:
    child = started(INTERRUPTED)
    assert child.stdout is not None
    assert child.stdout.readline() == "running\n"
    child.send_signal(signal.SIGINT)
    output, _ = child.communicate(timeout=60)
    assert output.splitlines()[-1] == "stopped True []"


SEARCHING = """
import numpy as np, embedcore
vectors = np.random.default_rng(0).normal(size=(3000, 64)).astype(np.float32)
index = embedcore.Index(64, ef_construction=20)
index.add(np.arange(3000), vectors)
queries = np.tile(vectors, (40, 1))  # minutes of them
for more in ({}, {"filter": lambda item: True}, {"stats": True}):
    try:
        print("running", flush=True)
        index.search(queries, k=10, ef_search=3000, **more)
        print("finished", flush=True)
    except KeyboardInterrupt:
        print("stopped", index.check(), index.search(vectors[5], k=1).ids, flush=True)
"""


def test_ctrl_c_ends_a_batch_of_searches() -> None:
    child = started(SEARCHING)
    assert child.stdout is not None
    for _ in range(3):
        assert child.stdout.readline() == "running\n"
        time.sleep(0.2)  # into the search; any moment would do
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "stopped [] [5]\n"
    child.communicate(timeout=60)
    assert child.returncode == 0


OTHERS = """
import sys, numpy as np, embedcore
vectors = np.random.default_rng(0).normal(size=(60_000, 32)).astype(np.float32)
index = embedcore.Index(32, m=8, ef_construction=20)
index.add(np.arange(20_000), vectors[:20_000])
index.remove(np.arange(0, 20_000, 2))
work = {
    "exact_search": lambda: embedcore.exact_search(vectors, vectors, 10),
    "range_search": lambda: index.range_search(np.tile(vectors, (20, 1)), 1e9, ef_search=500),
    "compact": lambda: [index.compact() or index.add([1], vectors[:1]) for _ in iter(int, 1)],
}
try:
    print("running", flush=True)
    work[sys.argv[1]]()
    print("finished", flush=True)
except KeyboardInterrupt:
    compacted = index.compact().done
    found = index.search(vectors[1:2000:2], k=1, ef_search=1000).ids.ravel()
    print("stopped", len(index), compacted, index.check(), (found == np.arange(1, 2000, 2)).mean() > 0.9)
"""


@pytest.mark.parametrize("work", ["exact_search", "range_search", "compact"])
def test_ctrl_c_ends_whatever_takes_long(work: str) -> None:
    child = started(OTHERS, work)
    assert child.stdout is not None
    assert child.stdout.readline() == "running\n"
    time.sleep(0.2)
    child.send_signal(signal.SIGINT)
    output, _ = child.communicate(timeout=60)
    assert output == "stopped 10000 True [] True\n"


ISA = """
import numpy as np, embedcore
print(embedcore.build_info()["isa"])
vectors = np.random.default_rng(1).normal(size=(300, 37)).astype(np.float32)
for metric in ("cosine", "ip", "l2"):
    index = embedcore.Index(37, metric)
    index.add(np.arange(300), vectors, threads=1)
    print(index.search(vectors[:20], k=5, ef_search=300).ids.tolist())
"""


def _run_with_isa(isa: str, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "EMBEDCORE_ISA": isa},
    )


def test_every_instruction_set_finds_the_same() -> None:
    answers = []
    for isa in ("scalar", "avx2", "avx512"):
        done = _run_with_isa(isa, ISA)
        if done.returncode != 0:  # not on this processor: refused by name, never a crash
            assert f"EMBEDCORE_ISA is '{isa}'" in done.stderr
            continue
        lines = done.stdout.splitlines()
        assert lines[0] == isa
        answers.append(lines[1:])
    assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize(
    "call", ["Index(3)", "build_info()", "exact_search([[1.0]], [[1.0]], 1)", "Index.load(sys.argv[0])"]
)
def test_an_unknown_instruction_set_is_refused_with_the_names_of_others(call: str) -> None:
    code = f"""import embedcore, sys
try:
    embedcore.{call}
except ValueError as error:
    print(error)
"""
    done = _run_with_isa("pentium", code.replace("sys.argv[0]", repr(str(SNAPSHOT))))
    (line,) = done.stdout.splitlines()
    assert line.startswith("EMBEDCORE_ISA is 'pentium'")
    assert "scalar" in line
    assert done.stderr == ""


def test_an_empty_choice_of_instruction_set_is_none() -> None:
    done = _run_with_isa("", "import embedcore\nprint(embedcore.build_info()['isa'])")
    assert done.stdout.strip() == embedcore.build_info()["isa"] or "EMBEDCORE_ISA" in os.environ
