"""What must hold: each planted failure fails the demo, and is told in the page, escaped."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from demo.outcomes import good, record, status
from embedcore.demo import plots
from embedcore.demo.acts import Refusal
from embedcore.demo.oracle import Loss, Verdict
from embedcore.demo.outcome import Outcome
from embedcore.demo.report import render
from embedcore.migration_types import Phase


def test_a_demo_in_which_everything_held_passes() -> None:
    outcome = good()
    assert outcome.passed, outcome.musts()
    # A query that the planned kill met is told apart, not hidden.
    assert any("1 queries met it, 0 answered, 1 not" in line for line in outcome.facts())


def damage_phase(outcome: Outcome) -> None:
    outcome.status = status(Phase.HALTED)


def damage_query(outcome: Outcome) -> None:
    outcome.records.append(record("partial answer"))


def damage_traffic(outcome: Outcome) -> None:
    outcome.records = []


def damage_item(outcome: Outcome) -> None:
    outcome.verdict = Verdict(10, 9, 1, 0, (Loss("i7", "not found"),))


def damage_oracle(outcome: Outcome) -> None:
    outcome.verdict = None


def damage_refusal(outcome: Outcome) -> None:
    outcome.refusals = [Refusal("bad", "unnormalised", True, False, "let through", (), 0.5)]


def damage_exit(outcome: Outcome) -> None:
    outcome.exit_code = -9


def damage_act(outcome: Outcome) -> None:
    outcome.errors = ["canary of ads: gone"]


def damage_kill(outcome: Outcome) -> None:
    outcome.outages = []


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (damage_phase, "halted"),
        (damage_query, "partial answer"),
        (damage_traffic, "0 of 0"),
        (damage_item, "i7: not found"),
        (damage_oracle, "0 of 0"),
        (damage_refusal, "let through"),
        (damage_exit, "exit code -9"),
        (damage_act, "canary of ads: gone"),
        (damage_kill, "never killed"),
    ],
)
def test_each_planted_failure_fails_the_demo(damage: Callable[[Outcome], None], told: str) -> None:
    outcome = good()
    damage(outcome)
    assert not outcome.passed
    (broken,) = [must for must in outcome.musts() if not must.held]
    assert told in str(broken.found)


def test_a_faulty_model_that_loses_nowhere_is_told_and_no_failure() -> None:
    outcome = good()
    outcome.refusals.append(Refusal("odd", "different", False, False, "no consumer loses", (), 1.0))
    assert outcome.passed
    assert any("odd (different): NOT refused: no consumer loses" in line for line in outcome.facts())


def test_the_page_is_escaped_and_holds_the_evidence() -> None:
    page = render(good())
    assert "&lt;b&gt;a corpus&lt;/b&gt;" in page
    assert "<b>a corpus" not in page
    assert "off by &lt;5&gt;" in page
    assert "+3.0 pp" in page
    assert "Simulated and real" in page


def test_the_page_has_its_tables_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "available", lambda: False)
    page = render(good())
    assert "<svg" not in page
    assert "Install matplotlib" in page
    assert "+3.0 pp" in page


def test_the_document_leaves_out_what_is_large() -> None:
    document = good().document()
    assert "per_query" not in document["before"]["ads"]
    assert document["passed"] is True
    assert document["time_scales"] == [500.0, 5_000.0]
