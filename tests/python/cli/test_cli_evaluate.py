"""embedcore eval: golden sets of every format, samples, reports, calibrations, parity, engagement."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from cli.runner import Run
from embedcore.encoders.models import builtin_models
from embedcore.errors import InvalidArgument
from embedcore.migration_types import Plan
from support.fake_platform import FakePlatform


def rows_file(path: Path, text: str = "q1,red bike,a,1\n") -> Path:
    path.write_text("query_id,text,item,grade\n" + text)
    return path


def test_rows_are_imported_for_a_named_consumer(run: Run, platform: FakePlatform, tmp_path: Path) -> None:
    path = rows_file(tmp_path / "mine.csv")
    ran = run("eval", "golden", "import", path, "-c", "ads", "--json")
    assert ran.code == 0
    assert (ran.json[0]["name"], ran.json[0]["consumer"], ran.json[0]["gate"]) == ("mine", "ads", True)
    assert run("eval", "golden", "import", path).code == 2, "rows do not say whose queries they are"
    signal = run("eval", "golden", "import", path, "-c", "ads", "--public", "--signal", "--name", "bench")
    assert signal.code == 0
    assert "public signal" in signal.out
    listed = run("eval", "golden", "list")
    assert "bench" in listed.out
    assert "mine" in listed.out


def test_a_refused_import_names_lines(run: Run, platform: FakePlatform, tmp_path: Path) -> None:
    bad = rows_file(tmp_path / "bad.csv", "q1,red bike,a,1\nq1,,a,1\nq2,,b,much\n")
    ran = run("eval", "golden", "import", bad, "-c", "ads")
    assert ran.code == 2
    assert "bad.csv line 3: item 'a' of query 'q1' again" in ran.err
    assert "bad.csv line 4: grade is 'much'" in ran.err
    assert platform.golden == {}
    platform.failing["import_golden_set"] = InvalidArgument(
        "golden set 'good': nothing was imported, problems found: 1: query 1 ('q1'): unknown item 'a'",
        {"problems": ["query 1 ('q1'): unknown item 'a'"], "count": 1},
    )
    ran = run("eval", "golden", "import", rows_file(tmp_path / "good.csv"), "-c", "ads")
    assert ran.code == 2
    assert "good.csv line 2: query 1 ('q1'): unknown item 'a'" in ran.err


def test_clicks_and_raters_are_said_to_be(run: Run, platform: FakePlatform, tmp_path: Path) -> None:
    clicks = tmp_path / "clicks.csv"
    clicks.write_text(
        "query_id,text,item,position,impressions,clicks\nq1,bike,a,1,100,60\nq1,bike,b,2,100,9\n"
    )
    ran = run("eval", "golden", "import", clicks, "-c", "ads", "--propensities", "1=1,2=0.5")
    assert "position corrected" in ran.out
    assert run("eval", "golden", "import", clicks, "-c", "ads").code == 1, "not identifiable without them"
    assert run("eval", "golden", "import", clicks, "-c", "ads", "--propensities", "1=2").code == 2
    rated = tmp_path / "rated.csv"
    rated.write_text(
        "query_id,text,item,rater,grade\nq,t,a,x,1\nq,t,a,y,0\nq,t,b,x,0\nq,t,b,y,1\nq,t,c,x,1\nq,t,c,y,1\n"
    )
    ran = run("eval", "golden", "import", rated, "-c", "ads")
    assert "raters, alpha -" in ran.out
    assert "raters agree little" in ran.err


def test_a_sample_is_written_to_be_labelled_and_imported(
    run: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    out = tmp_path / "label.csv"
    ran = run("eval", "golden", "sample", "-c", "ads", "--buckets", "head=3,tail=9", "--out", out)
    assert ran.code == 0
    assert platform.asked[-1] == ("ads", {"head": 3, "tail": 9}, 10, 2, 0)
    with out.open() as file:
        (row,) = list(csv.DictReader(file))
    assert (row["query_id"], row["item"], row["position"], row["grade"]) == ("q-1", "a", "1", "")
    assert run("eval", "golden", "import", out, "-c", "ads").code == 2, "not labelled yet"
    out.write_text(out.read_text().replace("a red bicycle,1,,", "a red bicycle,1,me,2"))
    assert run("eval", "golden", "import", out, "-c", "ads").code == 0
    assert run("eval", "golden", "sample", "-c", "ads", "--out", tmp_path / "x.txt").code == 2


def test_policy_margin_and_freshness_are_passed_on(run: Run, platform: FakePlatform) -> None:
    call = ("eval", "compare", "--source", 1, "--target", 2, "-c", "ads")
    assert run(*call).code == 0
    assert platform.asked[-1] == ("ads", None, False, "")
    more = ("--policy", "non-inferior", "--margin", "0.03", "--equal-freshness", "--golden", "other")
    assert run(*call, *more).code == 0
    assert platform.asked[-1] == ("ads", Plan(policy="non-inferior", margin=0.03), True, "other")
    assert run(*call, "--policy", "lax").code == 2


def test_a_report_is_a_table_a_page_and_json(run: Run, platform: FakePlatform, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    ran = run("eval", "report", "--source", 1, "--target", 2, "--html", page)
    assert ran.code == 0
    assert "NO GO: 1 of 1 consumers refuse" in ran.out
    assert "NO GO" in page.read_text()
    assert platform.asked[-1] == (1, 2, (), None, "")
    assert run("eval", "report", "--check").code == 1
    assert run("eval", "report", "--json").json["go"] is False
    assert run("eval", "report", "--html", tmp_path / "no" / "folder.html").code == 2
    platform.report["go"] = True
    assert run("eval", "report", "--check").code == 0


def test_ef_is_calibrated_and_a_target_out_of_reach_fails(run: Run, platform: FakePlatform) -> None:
    ran = run("eval", "calibrate", "ef", "-c", "ads", "--apply")
    assert ran.code == 0
    assert "applied" in ran.out
    assert "0.9700 (> 0.9600)" in ran.out
    short = run("eval", "calibrate", "ef")
    assert short.code == 1
    assert "dedup" in short.err
    fitted = run("eval", "calibrate", "scores", "--source", 1, "--target", 2)
    assert "fitted on 500 pairs" in fitted.out


def test_parity_exits_1_when_something_differs(run: Run, platform: FakePlatform, tmp_path: Path) -> None:
    assert run("eval", "parity").code == 0
    row = {"where": "generation 1", "part": "tokenizer_hash", "query": "x", "index": "y", "equal": False}
    platform.parity = {"equal": False, "rows": [row]}
    ran = run("eval", "parity")
    assert ran.code == 1
    assert "DIFFERS" in ran.out
    assert "preprocessing" in ran.err
    spec = builtin_models()["minilm-l6"].model_dump(mode="json")
    (tmp_path / "index.json").write_text(json.dumps(spec))
    spec["options"]["manifest"]["tokenizer"]["lowercase"] = False
    (tmp_path / "query.json").write_text(json.dumps(spec))
    files = ("eval", "parity", "--index", tmp_path / "index.json", "--query")
    assert run(*files, tmp_path / "index.json").code == 0
    assert run(*files, tmp_path / "query.json", "--json").code == 1


def test_preflight_exits_1_when_it_refuses(run: Run, platform: FakePlatform) -> None:
    ran = run("eval", "preflight", "toy")
    assert ran.code == 0
    assert "canary set of 10 items: full" in ran.out
    refused = run("eval", "preflight", "bad")
    assert refused.code == 1
    assert "NOT MET norms" in refused.err


def test_engagement_is_reported_and_compared(run: Run, platform: FakePlatform) -> None:
    call = ("eval", "engagement", "report", "-c", "ads", "--arm", "canary")
    assert run(*call, "--impressions", 100, "--clicks", 7).code == 0
    assert platform.engagement == [("ads", "canary", {"impressions": 100.0, "clicks": 7.0}, False, "")]
    assert run(*call).code == 2
    assert run(*call, "--impressions", 1, "--clicks", 7).code == 2
    ran = run("eval", "engagement", "compare", "-c", "ads", "--check")
    assert ran.code == 0
    assert "no fall" in ran.out


@pytest.mark.parametrize("corpus", ["demo", "whole"])
def test_the_simulation_prints_its_table(run: Run, corpus: str) -> None:
    ran = run("eval", "simulate", "--runs", 20, "--resamples", 100, "--corpus", corpus, "--json")
    assert ran.code == 0
    assert {row["policy"] for row in ran.json["rows"]} == {"strict", "non-inferior"}
    assert [row["shift"] for row in ran.json["rows"][:5]] == [-0.02, -0.01, 0.0, 0.01, 0.02]
    assert ran.json["sequential"]["confidence_sequence"] <= 0.3
    assert run("eval", "simulate", "--corpus", "none").code == 2
