"""What ``python -m bench compare`` times: a small index on one thread. Run by the Python of either commit.

It imports nothing but NumPy and embedcore, uses only what every version has, and prints one line of JSON:
CPU seconds by name.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import numpy as np

import embedcore

ITEMS, DIM, QUERIES = 10_000, 128, 1_000
CLUSTERS, INTRINSIC = 64, 16


def _cpu(work: Callable[[], object], times: int = 1) -> float:
    start = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - start) / times


def main() -> None:
    rng = np.random.default_rng(0)
    plane = rng.standard_normal((INTRINSIC, DIM))
    centres = rng.standard_normal((CLUSTERS, INTRINSIC))
    picked = centres[rng.integers(0, CLUSTERS, ITEMS + QUERIES)]
    rows = ((picked + 0.5 * rng.standard_normal(picked.shape)) @ plane).astype(np.float32)
    base, queries = rows[:ITEMS], rows[ITEMS:]
    index = embedcore.Index(DIM, "l2")
    seconds = {"add": _cpu(lambda: index.add(np.arange(ITEMS), base, threads=1))}
    index.search(queries, k=10, ef_search=64, threads=1)

    def one_by_one() -> None:
        for query in queries:
            index.search(query, k=10, ef_search=64, threads=1)

    seconds["search one by one"] = _cpu(one_by_one, 5)
    seconds["search batch"] = _cpu(lambda: index.search(queries, k=10, ef_search=64, threads=1), 5)
    seconds["exact"] = _cpu(lambda: embedcore.exact_search(base, queries[:100], 10, "l2", threads=1), 3)
    removed = np.arange(0, ITEMS, 5)
    seconds["remove and compact"] = _cpu(lambda: (index.remove(removed), index.compact()))
    json.dump(seconds, sys.stdout)


if __name__ == "__main__":
    main()
