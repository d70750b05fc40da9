"""demo as a command: exit code and JSON of an outcome; what cannot be played is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.runner import Run
from demo.outcomes import good
from embedcore.demo import run as demo_run
from embedcore.demo.oracle import Loss, Verdict
from embedcore.demo.outcome import Outcome
from embedcore.demo.run import DemoOptions


@pytest.mark.parametrize(("damaged", "code"), [(False, 0), (True, 1)])
def test_the_exit_code_says_whether_everything_held(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damaged: bool, code: int
) -> None:
    seen: list[tuple[DemoOptions, bool]] = []

    def play(options: DemoOptions, *, quiet: bool) -> Outcome:
        seen.append((options, quiet))
        outcome = good()
        if damaged:
            outcome.verdict = Verdict(10, 9, 1, 0, (Loss("i7", "not found"),))
        return outcome

    monkeypatch.setattr(demo_run, "run_demo", play)
    ran = run(
        *("demo", "--json", "--items", "5000", "--seed", "3", "--rate", "20", "--kill", "--no-refusals"),
        *("--report", tmp_path / "r.html", "--time-scale", "900"),
    )
    assert ran.code == code
    document = json.loads(ran.out)
    assert document["passed"] is not damaged
    assert len(document["oracle"]["losses"]) == int(damaged)
    ((options, quiet),) = seen
    assert quiet
    assert (options.items, options.seed, options.rate, options.time_scale) == (5_000, 3, 20.0, 900.0)
    assert (options.kill, options.refusals, options.report) == (True, False, tmp_path / "r.html")


@pytest.mark.parametrize("options", [("--items", "100"), ("--queries", "5"), ("--rate", "0")])
def test_a_demo_that_could_decide_nothing_is_bad_usage(run: Run, options: tuple[str, ...]) -> None:
    ran = run("demo", *options)
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 1


def test_a_directory_in_use_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    ran = run("demo", "--keep", tmp_path)
    assert ran.code == 1
    assert "not empty" in ran.err
