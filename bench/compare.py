"""``python -m bench compare A B``: is one commit faster than another, and how sure is that.

The same work runs alternately (A B B A A B B A ...), each time in a fresh process, so that drift of the
machine falls on both. A pair gives one ratio; the interval is a bootstrap over pairs.
"""

from __future__ import annotations

import json
import os
import resource
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from bench import checkouts, machine
from bench.checkouts import Checkout, CheckoutError

WORKLOAD = Path(__file__).with_name("workload.py")
_RESAMPLES = 9_999
_CONFIDENCE = 0.95


def run(
    first: str, second: str, command: str | None, pairs: int, console: Console, out: Path | None
) -> dict[str, Any]:
    """The result document, shown and, on request, written. Raises CheckoutError, as for work that fails."""
    described = machine.describe()
    sides = []
    for name in (first, second):
        console.print(f"building {name}", style="dim")
        sides.append(checkouts.prepare(name))
    samples: tuple[list[dict[str, float]], list[dict[str, float]]] = ([], [])
    _work(sides[0], command)  # warm file caches and byte code of both, uncounted
    _work(sides[1], command)
    for number in range(pairs):
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            samples[side].append(_work(sides[side], command))
        console.print(f"pair {number + 1} of {pairs}", style="dim")
    result = {
        "schema": "embedcore-bench-compare/1",
        "machine": described,
        "commits": {"A": sides[0].commit, "B": sides[1].commit},
        "work": command or "bench/workload.py",
        "confidence": _CONFIDENCE,
        "rows": [
            paired(name, [one[name] for one in samples[0]], [one[name] for one in samples[1]])
            for name in samples[0][0]
            if name in samples[1][0]
        ],
    }
    _show(result, console)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


def paired(name: str, first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """Geometric mean of second / first over pairs, with its bootstrap interval (BCa; None under 3 pairs or
    where all ratios are equal)."""
    logs = np.log(np.asarray(second)) - np.log(np.asarray(first))
    low = high = None
    if len(logs) >= 3 and np.ptp(logs) > 0:
        found = stats.bootstrap(
            (logs,),
            np.mean,
            n_resamples=_RESAMPLES,
            confidence_level=_CONFIDENCE,
            rng=np.random.default_rng(0),
        ).confidence_interval
        low, high = float(np.exp(found.low)), float(np.exp(found.high))
    return {
        "name": name,
        "first_cpu_s": list(first),
        "second_cpu_s": list(second),
        "ratio": float(np.exp(logs.mean())),
        "low": low,
        "high": high,
    }


def _work(side: Checkout, command: str | None) -> dict[str, float]:
    """CPU seconds by name. A command of the user is timed as a whole; ``{python}`` in it is the side's."""
    if command is None:
        words = [str(side.python), str(WORKLOAD)]
    else:
        words = [word.replace("{python}", str(side.python)) for word in shlex.split(command)]
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise CheckoutError(f"{side.name}: the work ended with {done.returncode}:\n{done.stderr[-2000:]}")
    if command is not None:
        return {command: after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}
    return {name: float(value) for name, value in json.loads(done.stdout).items()}


def _show(result: dict[str, Any], console: Console) -> None:
    console.print(machine.line(result["machine"]), style="dim", soft_wrap=True)
    before, after = result["commits"]["A"], result["commits"]["B"]
    table = Table(
        title=f"CPU seconds of B ({after}) over A ({before}): below 1 is faster", title_justify="left"
    )
    for name in ("work", "A, median s", "B, median s", "B / A", "95% interval", ""):
        table.add_column(name, justify="left" if name in ("work", "") else "right")
    for row in result["rows"]:
        low, high = row["low"], row["high"]
        known = low is not None and high is not None
        verdict = "no difference seen"
        if known and (high < 1 or low > 1):
            verdict = "faster" if high < 1 else "slower"
        table.add_row(
            row["name"],
            f"{np.median(row['first_cpu_s']):.4f}",
            f"{np.median(row['second_cpu_s']):.4f}",
            f"{row['ratio']:.3f}",
            f"{low:.3f} to {high:.3f}" if known else "too few pairs",
            verdict if known else "",
        )
    console.print(table)
