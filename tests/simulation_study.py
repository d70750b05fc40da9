"""The full simulation study of the gates: must hold what docs/evaluation.md states. Part of ``make torture``.

python tests/simulation_study.py --seed 1
"""

from __future__ import annotations

import argparse
import math
import sys

from embedcore.evaluation.populations import populations
from embedcore.evaluation.simulation import sequential_error, study

RUNS, RESAMPLES = 2_000, 2_000


def problems(seed: int, runs: int = RUNS, resamples: int = RESAMPLES) -> list[str]:
    """What does not hold, beyond three standard deviations of a rate over the runs."""
    found = study(populations("demo"), runs=runs, resamples=resamples, seed=seed)
    rows = {(row["policy"], row["shift"]): row for row in found["rows"]}
    looked = sequential_error(runs=runs, looks=200, batch=100, rate=0.3, fall=0.02, seed=seed)
    refused, passed = "one_shifted", "all_shifted"
    wanted = [
        ("strict refuses -2 pp of one", 1 - rows["strict", -0.02][refused], 0.95),
        ("strict passes +1 pp of all", rows["strict", 0.01][passed], 0.80),
        ("non-inferior passes an equal model", rows["non-inferior", 0.0][passed], 0.90),
        ("non-inferior refuses -2 pp of one", 1 - rows["non-inferior", -0.02][refused], 0.95),
        ("the sequential test does not err", 1 - looked["confidence_sequence"], 0.95),
    ]
    return [
        f"{what}: {rate:.4f}, wanted {least:.2f}"
        for what, rate, least in wanted
        if rate < least - 3 * math.sqrt(least * (1 - least) / runs)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=1)
    seed = parser.parse_args().seed
    wrong = problems(seed)
    for line in wrong:
        print(line)
    print(f"simulation study, seed {seed}: {'does not hold' if wrong else 'holds'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
