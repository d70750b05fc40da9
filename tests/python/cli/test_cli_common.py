"""Help, exit codes, one-line errors, JSON errors, configuration file and environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.runner import Run
from embedcore.cli import context
from embedcore.cli.context import Session
from embedcore.cli.output import Output
from embedcore.errors import InvalidArgument, Unavailable
from support.fake_platform import FakePlatform

COMMANDS = [
    ["serve"],
    ["demo"],
    ["ingest"],
    ["search"],
    ["doctor"],
    *(["consumers", name] for name in ("list", "show", "set")),
    *(["models", name] for name in ("list", "register")),
    *(["eval", name] for name in ("run", "compare", "report", "preflight", "parity", "simulate")),
    *(["eval", "golden", name] for name in ("import", "list", "sample")),
    *(["eval", "calibrate", name] for name in ("ef", "scores")),
    *(["eval", "engagement", name] for name in ("report", "compare")),
    *(
        ["migrate", name]
        for name in (
            *("start", "status", "watch", "list", "events", "gates", "weight", "pause", "resume"),
            *("revert", "cutover", "rollback", "abort", "decommission"),
        )
    ),
    ["backfill", "status"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_and_json(run: Run, command: list[str]) -> None:
    ran = run(*command, "--help")
    assert ran.code == 0
    assert "--json" in ran.out
    assert "--config" in ran.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["search"],
        ["search", "x", "--nonsense"],
        ["search", "x", "--k", "0"],
        ["search", "x", "--k", "many"],
        ["search", "x", "--filter", "no-equals-sign"],
        ["migrate", "weight", "ads", "1.5"],
        ["eval", "compare", "--source", "1"],
        ["ingest"],
        ["ingest", "--vectors", "x.npy"],
        ["eval", "golden", "import"],
        ["eval", "parity", "--query", "x.json"],
        ["eval", "golden", "sample", "--consumer", "ads", "--buckets", "head=many"],
    ],
    ids=" ".join,
)
def test_bad_usage_is_one_line_and_exit_code_2(
    run: Run, platform: FakePlatform, arguments: list[str]
) -> None:
    ran = run(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("embedcore")
    assert len(ran.err.splitlines()) == 1


def test_groups_without_a_command_show_their_help(run: Run) -> None:
    for arguments in ([], ["migrate"], ["consumers"]):
        ran = run(*arguments)
        assert ran.code == 2
        assert "Usage" in ran.out + ran.err


def test_failed_work_is_one_line_and_exit_code_1(run: Run, platform: FakePlatform) -> None:
    platform.failing["search"] = Unavailable("no server at 127.0.0.1:1;\n start one")
    ran = run("search", "bicycle")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "embedcore: no server at 127.0.0.1:1; start one\n"


def test_input_refused_by_the_platform_is_bad_usage(run: Run, platform: FakePlatform) -> None:
    platform.failing["search"] = InvalidArgument("the query text is empty")
    assert run("search", "x").code == 2


def test_json_errors_carry_code_and_details(run: Run, platform: FakePlatform) -> None:
    platform.failing["search"] = Unavailable("gone", {"address": "a:1"})
    ran = run("search", "x", "--json")
    assert ran.code == 1
    assert ran.err == (
        '{"error": {"code": "unavailable", "message": "gone", "details": {"address": "a:1"}}}\n'
    )


def test_a_bug_shows_a_traceback_only_with_debug(run: Run, platform: FakePlatform) -> None:
    platform.failing["search"] = ZeroDivisionError("oops")
    ran = run("search", "x")
    assert ran.code == 1
    assert ran.err == (
        "embedcore: unexpected ZeroDivisionError: oops (run again with --debug to see where)\n"
    )
    with pytest.raises(ZeroDivisionError):
        run("search", "x", "--debug")


def test_an_interruption_is_said(run: Run, platform: FakePlatform) -> None:
    platform.failing["search"] = KeyboardInterrupt()
    ran = run("search", "x")
    assert (ran.code, ran.err) == (130, "embedcore: interrupted\n")


def test_a_missing_data_directory_says_what_to_do(run: Run, tmp_path: Path) -> None:
    ran = run("search", "x", "--data", tmp_path / "none")
    assert ran.code == 1
    assert "embedcore serve" in ran.err
    assert not (tmp_path / "none").exists()


def test_an_unreachable_server_is_named(run: Run) -> None:
    ran = run("consumers", "list", "--server", "127.0.0.1:9")
    assert ran.code == 1
    assert "127.0.0.1:9" in ran.err
    assert len(ran.err.splitlines()) == 1


def _sessions(monkeypatch: pytest.MonkeyPatch, platform: FakePlatform) -> list[Session]:
    seen: list[Session] = []
    monkeypatch.setattr(context, "open_platform", lambda session: (seen.append(session), platform)[1])
    return seen


def test_every_option_can_be_set_in_the_file(
    run: Run, platform: FakePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "embedcore.toml"
    file.write_text('data = "/from/file"\njson = true\n[search]\nk = 2\nfilter = ["pos=noun"]\n')
    seen = _sessions(monkeypatch, platform)
    ran = run("search", "bicycle", "--config", file)
    assert ran.code == 0
    assert {hit["id"] for hit in ran.json["hits"]} == {"a", "b"}
    assert platform.searched[-1].k == 2
    assert seen[-1].data == Path("/from/file")


def test_command_line_beats_environment_beats_file(
    run: Run, platform: FakePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "embedcore.toml"
    file.write_text('data = "/from/file"\n[search]\nk = 2\n')
    monkeypatch.setenv("EMBEDCORE_CONFIG", str(file))
    seen = _sessions(monkeypatch, platform)
    run("search", "x")
    assert (seen[-1].data, platform.searched[-1].k) == (Path("/from/file"), 2)
    monkeypatch.setenv("EMBEDCORE_DATA", "/from/environment")
    run("search", "x")
    assert seen[-1].data == Path("/from/environment")
    run("search", "x", "--data", "/from/line", "--k", "1")
    assert (seen[-1].data, platform.searched[-1].k) == (Path("/from/line"), 1)


def test_a_directory_on_the_line_beats_a_server_in_the_environment(
    run: Run, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDCORE_SERVER", "127.0.0.1:7600")
    seen = _sessions(monkeypatch, platform)
    run("search", "x", "--data", "/from/line")
    assert (seen[-1].data, seen[-1].server) == (Path("/from/line"), None)
    monkeypatch.setenv("EMBEDCORE_DATA", "/from/environment")
    run("search", "x")
    assert seen[-1].server == "127.0.0.1:7600"
    run("search", "x", "--data", "/from/line", "--server", "127.0.0.1:7601")
    assert seen[-1].server == "127.0.0.1:7601"


def test_options_of_nested_commands(run: Run, platform: FakePlatform, tmp_path: Path) -> None:
    file = tmp_path / "embedcore.toml"
    file.write_text('[migrate.start]\nwho = "release team"\nauto_cutover = true\n')
    monkeypatched = run("migrate", "start", "toy", "--watch", "--json", "--config", file, "--policy", "odd")
    assert monkeypatched.code == 2  # the policy is refused, so the file was read and nothing was started
    assert platform.running is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('dta = "x"\n', "unknown key 'dta' (did you mean 'data'?)"),
        ("[search]\nkk = 3\n", "unknown key 'search.kk' (did you mean 'search.k'?)"),
        ("[serach]\nk = 3\n", "unknown table 'serach' (did you mean 'search'?)"),
        ("[migrate.start]\npolicies = 1\n", "unknown key 'migrate.start.policies'"),
        ("search = 3\n", "unknown key 'search'"),
        ("[search\n", "not valid TOML"),
    ],
)
def test_unknown_keys_are_refused_by_name(run: Run, tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "embedcore.toml"
    file.write_text(text)
    ran = run("search", "x", "--config", file)
    assert ran.code == 2
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_value_of_the_wrong_type_in_the_file_is_bad_usage(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "embedcore.toml"
    file.write_text('[search]\nk = "several"\n')
    ran = run("search", "x", "--config", file)
    assert ran.code == 2
    assert "'--k'" in ran.err


def test_a_missing_configuration_file_is_named(run: Run, tmp_path: Path) -> None:
    ran = run("search", "x", "--config", tmp_path / "none.toml")
    assert ran.code == 2
    assert "none.toml" in ran.err


def test_a_bar_passes_on_every_item(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (False, True):
        monkeypatch.setattr(Output, "terminal", terminal)
        told: list[int] = []
        for item in Output().each("counting", [3, 5, 8]):
            told.append(item)
        assert told == [3, 5, 8]
