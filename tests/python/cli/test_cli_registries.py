"""search, consumers, models, eval, doctor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.runner import Run
from embedcore.errors import Unavailable
from embedcore.evaluation.golden import GoldenQuery, GoldenSet
from embedcore.evaluation.golden_files import save_golden
from support.fake_platform import DIGEST, TOY, FakePlatform


def test_search_shows_hits_with_contents_and_provenance(run: Run, platform: FakePlatform) -> None:
    ran = run("search", "a blue car [fast]", "--k", "2")
    assert ran.code == 0
    first = next(line for line in ran.out.splitlines() if line.startswith("1"))
    assert "b" in first.split()
    assert "a blue car [fast]" in first  # square brackets are text, not markup
    assert "generation 1 (toy)" in ran.err
    assert "control" in ran.err


def test_search_passes_every_option_on(run: Run, platform: FakePlatform) -> None:
    ran = run(
        *("search", "bicycle", "-c", "ads", "-k", "3", "-f", "pos=noun", "-f", "wheels:=4"),
        *("--namespace", "", "--user-key", "canary", "--timeout", "2", "--json"),
    )
    request = platform.searched[-1]
    assert (request.consumer, request.k, request.user_key, request.deadline_s) == ("ads", 3, "canary", 2.0)
    assert request.filter == {"pos": "noun", "wheels": 4}
    assert [hit["id"] for hit in ran.json["hits"]] == ["b"]
    assert ran.json["provenance"]["arm"] == "canary"


def test_consumers_are_listed_and_shown(run: Run, platform: FakePlatform) -> None:
    ran = run("consumers", "list")
    assert all(name in ran.out for name in ("search", "recsys", "ads", "dedup", "recall@10", "async"))
    assert run("consumers", "show", "ads", "--json").json["quality_target"] == 0.9
    missing = run("consumers", "show", "nobody")
    assert missing.code == 1
    assert "known: search, recsys, ads, dedup" in missing.err


def test_a_consumer_is_changed_and_the_rest_of_it_kept(run: Run, platform: FakePlatform) -> None:
    before = platform.known["ads"]
    assert run("consumers", "set", "ads", "--quality-target", "0.7", "--ef-search", "256").code == 0
    after = platform.known["ads"]
    assert (after.quality_target, after.ef_search) == (0.7, 256)
    assert after == before.model_copy(update={"quality_target": 0.7, "ef_search": 256})


def test_a_consumer_is_added_from_a_file(run: Run, platform: FakePlatform, tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    file.write_text(json.dumps({"name": "mail", "k": 3, "quality_target": 0.5}))
    ran = run("consumers", "set", "--file", file, "--latency-objective-ms", "0", "--json")
    assert ran.code == 0
    assert platform.known["mail"].latency_objective_ms is None
    assert ran.json["name"] == "mail"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["set", "new"], "nothing to set"),
        (["set", "new", "--k", "3"], "quality_target"),
        (["set", "Bad Name", "--k", "3"], "name"),
        (["set", "ads", "--engagement", "joy"], "engagement"),
        (["set", "ads", "--file", '{"colour": 1}'], "colour"),
        (["set", "--file", "[1]"], "object"),
        (["set", "ads", "--file", "no-such-file.json"], "no-such-file.json"),
    ],
)
def test_a_wrong_consumer_changes_nothing(
    run: Run, platform: FakePlatform, arguments: list[str], said: str
) -> None:
    before = dict(platform.known)
    ran = run("consumers", *arguments)
    assert ran.code == 2
    assert said in ran.err
    assert platform.known == before


def test_a_breadth_set_by_hand_wins_over_a_calibrated_one(run: Run, platform: FakePlatform) -> None:
    calibrated = platform.known["ads"].model_copy(update={"ef_by_generation": {1: 90}})
    platform.known["ads"] = calibrated
    assert run("consumers", "set", "ads", "--query-log", "500").code == 0
    assert platform.known["ads"].ef_for(1) == 90
    assert platform.known["ads"].query_log == 500
    assert run("consumers", "set", "ads", "--ef-search", "70").code == 0
    assert platform.known["ads"].ef_for(1) == 70


def test_models_are_listed_with_generations_and_builtins(run: Run, platform: FakePlatform) -> None:
    ran = run("models", "list")
    toy = next(line for line in ran.out.splitlines() if line.startswith("toy"))
    assert DIGEST in toy
    assert "1 serving (3 items)" in toy
    assert "minilm-l3" in ran.out
    found = run("models", "list", "--json").json
    assert [spec["name"] for spec in found["registered"]] == ["toy"]
    assert "minilm-l6" in {spec["name"] for spec in found["available"]}


def test_models_are_registered_by_name_by_spec_and_as_callables(run: Run, platform: FakePlatform) -> None:
    assert run("models", "register", "minilm-l6").code == 0
    spec = TOY.model_copy(update={"name": "toy2"}).model_dump_json()
    assert run("models", "register", "--spec", spec).code == 0
    fingerprint = TOY.fingerprint.model_dump_json()
    call = ("models", "register", "mine", "--callable", "package.module:function")
    assert run(*call, "--fingerprint", fingerprint).code == 0
    assert set(platform.registered) == {"toy", "minilm-l6", "toy2", "mine"}
    assert platform.registered["mine"].options == {"target": "package.module:function"}
    unknown = run("models", "register", "gpt")
    assert unknown.code == 1
    assert "minilm-l3" in unknown.err
    assert run(*call).code == 2
    assert run("models", "register", "x", "--spec", spec).code == 2


def test_golden_sets_are_imported(run: Run, platform: FakePlatform, tmp_path: Path) -> None:
    golden = GoldenSet(
        name="mine", consumer="ads", queries=(GoldenQuery(id="q1", text="bike", relevant={"a": 1.0}),)
    )
    save_golden(golden, tmp_path / "mine.jsonl")
    ran = run("eval", "golden", "import", tmp_path / "mine.jsonl", "--json")
    assert ran.code == 0
    assert ran.json[0]["digest"] == golden.digest
    (tmp_path / "mine.jsonl").write_text("{}\n")
    assert run("eval", "golden", "import", tmp_path / "mine.jsonl").code == 2


def test_evaluations_and_comparisons(run: Run, platform: FakePlatform) -> None:
    ran = run("eval", "run")
    assert ran.code == 0
    assert all(name in ran.out for name in ("search", "recsys", "ads", "dedup", "[0.8900, 0.9100]"))
    compared = run("eval", "compare", "--source", "1", "--target", "2", "-c", "ads", "--check")
    assert compared.code == 0
    assert "[0.0100, 0.0300]" in compared.out


def test_a_gate_that_is_not_met_fails_a_checked_comparison(
    run: Run, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = {"gate": "quality", "passed": False, "summary": "ads recall@5 0.75 -> 0.70"}
    worse = {"source": {}, "target": {}, "comparison": {}, "gates": {"quality": gate}}
    monkeypatch.setattr(platform, "compare", lambda *_, **__: worse)
    call = ("eval", "compare", "--source", "1", "--target", "2", "-c", "ads")
    assert run(*call).code == 0
    ran = run(*call, "--check")
    assert ran.code == 1
    assert "NOT MET quality: ads recall@5 0.75 -> 0.70" in ran.err


def test_doctor_tells_a_broken_server_from_a_missing_one(
    run: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    absent = tmp_path / "none"
    healthy = run("doctor", "--data", absent, "--json")
    states = {check["name"]: check["state"] for check in healthy.json}
    assert healthy.code == 0
    assert states["python"] == states["native module"] == states["packages"] == "ok"
    assert states["data directory"] == states["server"] == "warning"
    assert run("doctor", "--data", absent, "--server", "x:1").code == 0  # the fake platform answers
    platform.failing["status"] = Unavailable("no server at x:1")
    broken = run("doctor", "--data", absent, "--server", "x:1")
    assert broken.code == 1
    assert "no server at x:1" in broken.out
