"""migrate and backfill: what is shown, what is recorded, what refuses."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from cli.runner import Run
from embedcore import remote
from embedcore.cli.durations import duration, rate
from embedcore.errors import GateNotMet
from embedcore.migration_types import Phase
from support.fake_platform import FakePlatform


@pytest.fixture
def served(platform: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> FakePlatform:
    """As if behind a server, where a migration is carried on after the command has ended."""
    monkeypatch.setattr(remote, "RemotePlatform", FakePlatform)
    return platform


@pytest.fixture
def running(run: Run, served: FakePlatform) -> FakePlatform:
    assert run("migrate", "start", "toy", "--who", "ann", "--why", "better").code == 0
    return served


def test_start_takes_the_plan_from_file_and_options(run: Run, served: FakePlatform, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text("margin = 0.01\nshadow_share = 0.2\n[[steps]]\nday = 2\nweight = 0.5\n")
    ran = run(
        *("migrate", "start", "toy", "--plan", plan, "--policy", "non-inferior", "--auto-cutover"),
        *("--window-days", "5", "--json"),
    )
    assert ran.code == 0
    made = ran.json["migration"]["plan"]
    assert (made["margin"], made["shadow_share"], made["policy"]) == (0.01, 0.2, "non-inferior")
    assert (made["window_seconds"], made["auto_cutover"]) == (432_000.0, True)
    assert made["steps"] == [{"day": 2.0, "weight": 0.5}]


def test_start_needs_someone_to_carry_it_on(run: Run, platform: FakePlatform) -> None:
    ran = run("migrate", "start", "toy")
    assert ran.code == 1
    assert "embedcore serve" in ran.err
    assert platform.running is None


def test_start_registers_a_builtin_target(run: Run, served: FakePlatform) -> None:
    assert run("migrate", "start", "minilm-l6").code == 0
    assert "minilm-l6" in served.registered


@pytest.mark.parametrize(
    "plan", ['{"margins": 1}', '{"policy": "lax"}', "[1]", "no-such-plan.json", "no-such-plan.toml"]
)
def test_a_wrong_plan_starts_nothing(run: Run, served: FakePlatform, plan: str) -> None:
    ran = run("migrate", "start", "toy", "--plan", plan)
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 1
    assert served.running is None


def test_a_refusal_shows_the_evidence_of_each_gate(run: Run, served: FakePlatform) -> None:
    evidence = [
        {"gate": "ads.quality", "passed": False, "summary": "ads: recall@5 0.75 -> 0.61"},
        {"gate": "norms", "passed": True, "summary": "norms: 64 vectors finite"},
    ]
    served.failing["start_migration"] = GateNotMet("pre-flight refused", {"evidence": evidence})
    ran = run("migrate", "start", "toy")
    assert ran.code == 1
    assert ran.err.splitlines() == [
        "embedcore: pre-flight refused",
        "  NOT MET ads.quality: ads: recall@5 0.75 -> 0.61",
        "  passed  norms: norms: 64 vectors finite",
    ]


def test_status_says_what_is_missing(run: Run, running: FakePlatform) -> None:
    ran = run("migrate", "status")
    assert "generation 1 -> 2 (toy), dual_write, coverage 62.5%" in ran.out
    assert "before cutover: coverage 62.5%" in ran.out
    assert "canary runs" in ran.out
    assert run("migrate", "status", "m1", "--json").json["migration"]["id"] == "m1"
    assert run("migrate", "status", "m9").code == 1


def test_list_events_and_gates(run: Run, running: FakePlatform) -> None:
    listed = run("migrate", "list")
    assert "m1" in listed.out
    assert "ann" in listed.out
    run("migrate", "pause", "--who", "bob", "--why", "lunch")
    events = run("migrate", "events", "--json").json
    assert [(e["what"], e["who"], e["why"]) for e in events] == [
        ("start", "ann", "better"),
        ("pause", "bob", "lunch"),
    ]
    assert len(run("migrate", "events", "--what", "pause", "--json").json) == 1
    gates = run("migrate", "gates")
    assert gates.code == 0
    assert "+1.20 pp" in gates.out


def test_gates_exit_code_tells_whether_all_are_met(run: Run, running: FakePlatform) -> None:
    assert running.running is not None
    progress = running.running.consumers["ads"]
    gate = progress.gates["quality"].model_copy(update={"passed": False})
    consumers = {"ads": progress.model_copy(update={"gates": {"quality": gate}})}
    running.running = running.running.model_copy(update={"consumers": consumers})
    ran = run("migrate", "gates")
    assert ran.code == 1
    assert "NOT MET" in ran.out


def test_every_verb_reaches_the_platform_with_who_and_why(run: Run, running: FakePlatform) -> None:
    by = ("--who", "ann", "--why", "because")
    assert run("migrate", "weight", "ads", "0.5", *by, "--override", "outage").code == 0
    assert running.running is not None
    assert running.running.consumers["ads"].weight == 0.5
    assert run("migrate", "revert", "ads", *by).code == 0
    assert running.running.consumers["ads"].reverted
    assert run("migrate", "pause", *by).code == 0
    assert running.running.paused
    assert run("migrate", "resume", *by).code == 0
    assert not running.running.paused
    assert run("migrate", "extend", "2", "--who", "ann").code == 2, "a reason is required"
    assert run("migrate", "extend", "2", *by).code == 0
    for verb, phase in (
        ("rollback", Phase.ROLLED_BACK),
        ("abort", Phase.ABORTED),
        ("decommission", Phase.DONE),
    ):
        assert run("migrate", verb, *by).code == 0
        assert running.running.phase is phase
    recorded = [(event.what, event.who) for event in running.events[1:]]
    verbs = ["weight", "revert", "pause", "resume", "extend", "rollback", "abort", "decommission"]
    assert recorded == [(verb, "ann") for verb in verbs]
    assert running.events[1].why == "outage"


def test_cutover_needs_its_gates_or_an_override(run: Run, running: FakePlatform) -> None:
    refused = run("migrate", "cutover")
    assert refused.code == 1
    assert refused.err.count("NOT MET") == 4
    assert run("migrate", "cutover", "--override", "emergency").code == 0
    assert running.running is not None
    assert running.running.phase is Phase.GRACE


def end_once_watched(running: FakePlatform, ending: Phase) -> threading.Thread:
    def end() -> None:
        assert running.watched.wait(30)
        running._record("end", "ann", "", phase=ending)

    thread = threading.Thread(target=end)
    thread.start()
    return thread


@pytest.mark.parametrize(("ending", "code"), [(Phase.DONE, 0), (Phase.ABORTED, 1)])
def test_watch_ends_with_the_migration(run: Run, running: FakePlatform, ending: Phase, code: int) -> None:
    ender = end_once_watched(running, ending)
    ran = run("migrate", "watch", "--json")
    ender.join()
    phases = [json.loads(line)["migration"]["phase"] for line in ran.out.splitlines()]
    assert ran.code == code
    assert phases[0] == "dual_write"
    assert phases[-1] == ending.value


def test_watch_without_a_terminal_writes_a_line_per_change(run: Run, running: FakePlatform) -> None:
    ender = end_once_watched(running, Phase.DONE)
    ran = run("migrate", "watch")
    ender.join()
    assert [line.split(", ")[1] for line in ran.out.splitlines()] == ["dual_write", "done"]


def test_backfill_status(run: Run, running: FakePlatform) -> None:
    ran = run("backfill", "status")
    assert "62.50% of 3 live items" in ran.out
    assert "12.5/s" in ran.out
    found = run("backfill", "status", "--json").json
    assert (found["coverage"], found["repair_queue"], found["backfilled"]) == (0.625, 1, 5)


def test_durations_as_people_say_them() -> None:
    spoken = {0.42: "0.4 s", 59: "59 s", 61: "1 min 1 s", 3_600: "1 h", 7 * 86_400: "7 d", 90_000: "1 d 1 h"}
    assert {seconds: duration(seconds) for seconds in spoken} == spoken
    assert duration(-120) == "-2 min"
    assert [rate(r) for r in (12.46, 1.0, 0.01, 0.0)] == ["12.5/s", "1.0/s", "36/h", "0.0/s"]
