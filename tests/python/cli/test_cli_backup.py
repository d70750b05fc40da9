"""backup, restore and schema, over a real data directory and over the fake platform."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from cli.runner import Run
from cli.test_cli_serve import Served, fill
from embedcore.platform import Platform
from embedcore.types import Fingerprint, Item, ModelSpec
from support.fake_platform import FakePlatform

SPACE = Fingerprint(model="mine", revision="1", dimension=8)


def made(data: Path) -> None:
    """A data directory of three items with a snapshot."""
    with Platform.open(data) as platform:
        assert isinstance(platform, Platform)
        platform.register_model(ModelSpec(name="mine", backend="external", fingerprint=SPACE))
        platform.create_generation("mine")
        rows = np.eye(3, 8, dtype=np.float32)
        platform.upsert(
            [Item(name, vectors={SPACE.digest: row}) for name, row in zip("abc", rows, strict=True)]
        )


def test_there_and_back(run: Run, tmp_path: Path) -> None:
    made(tmp_path / "data")
    ran = run("backup", tmp_path / "copy", "--data", tmp_path / "data", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["live_items"] == 3
    assert ran.json["files"][0]["name"] == "store.sqlite"
    assert len(ran.json["files"]) == 2  # and the snapshot
    assert json.loads((tmp_path / "copy" / "manifest.json").read_text())["digest"] == ran.json["digest"]
    back = run("restore", tmp_path / "copy", "--data", tmp_path / "back")
    assert back.code == 0, back.err
    assert "3 items restored" in back.out
    assert "1 mine (serving)" in back.out
    with Platform.open(tmp_path / "back") as platform:
        assert platform.get_item("b").version == 1
        assert [status.items for status in platform.generations()] == [3]


def test_refusals_are_one_line_and_an_exit_code(run: Run, tmp_path: Path) -> None:
    made(tmp_path / "data")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    refused = run("backup", tmp_path / "full", "--data", tmp_path / "data")
    assert (refused.code, refused.out) == (1, "")
    assert "is not empty (x)" in refused.err
    assert refused.err.count("\n") == 1
    assert run("backup", "nosuch://x", "--data", tmp_path / "data").code == 2
    assert run("backup").code == 2
    none = run("restore", tmp_path / "full", "--data", tmp_path / "new")
    assert none.code == 1
    assert "never finished" in none.err
    assert not (tmp_path / "new").exists()
    assert (
        run("restore", tmp_path / "full", "--server", "x").code == 2
    )  # a directory is made here, or nowhere


def test_a_backup_with_problems_says_so_and_ends_with_1(
    run: Run, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = {**platform.backup("/x"), "problems": ["shard 0: checksum is 1, expected 2"]}
    monkeypatch.setattr(platform, "backup", lambda destination: document)
    ran = run("backup", "/x")
    assert ran.code == 1
    assert "problem: shard 0" in ran.err


def test_a_relative_destination_is_meant_from_here(run: Run, platform: FakePlatform) -> None:
    ran = run("backup", "copy", "--json")
    assert ran.code == 0
    assert ran.json["destination"] == str(Path.cwd() / "copy")
    assert run("backup", "memory://x", "--json").json["destination"] == "memory://x"


def test_a_served_directory_is_copied_by_its_server(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    served = Served("--data", data, "--durability", "os", "--reserve-disk", "1MiB")
    try:
        fill(run, data, tmp_path)
        status = run("doctor", "--data", data, "--json")
        assert status.code == 0
        ran = run("backup", tmp_path / "copy", "--data", data, "--json")
        assert ran.code == 0, ran.err
        assert ran.json["live_items"] == 2
        again = run("backup", tmp_path / "copy", "--data", data)
        assert again.code == 1
        assert "is not empty" in again.err
        refused = run("restore", tmp_path / "copy", "--data", data)
        assert refused.code == 1
        assert "is not empty" in refused.err
        schema = run("schema", "--data", data)
        assert schema.code == 1
        assert "in use by process" in schema.err
    finally:
        assert served.end(signal.SIGTERM) == 0
    assert run("restore", tmp_path / "copy", "--data", tmp_path / "back").code == 0
    with Platform.open(tmp_path / "back") as platform:
        assert platform.status().live_items == 2


def test_the_schema_goes_back_by_one_version_and_forth_again(run: Run, tmp_path: Path) -> None:
    made(tmp_path / "data")
    where = ("--data", tmp_path / "data", "--json")
    assert run("schema", *where).json == {"data": str(tmp_path / "data"), "before": 2, "version": 2}
    assert run("schema", "--to", "1", *where).json["version"] == 1
    assert run("schema", *where).json["version"] == 1
    far = run("schema", "--to", "3", *where)
    assert far.code == 1
    assert "one version back or forth" in far.err
    assert run("schema", "--to", "2", *where).json["version"] == 2
    run("schema", "--to", "1", *where)
    with Platform.open(tmp_path / "data") as platform:  # what opens it brings it up to date
        assert platform.status().details["store"]["schema_version"] == 2
        assert platform.get_item("c").version == 1
    assert run("schema", "--data", tmp_path / "nothing").code == 1


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--durability", "never", "one of fsync, os"),
        ("--reserve-disk", "lots", "is not a size such as 256MiB"),
        ("--reserve-memory", "-1", "is not a size such as"),
    ],
)
def test_bad_settings_of_serve_are_bad_usage(
    run: Run, tmp_path: Path, option: str, value: str, says: str
) -> None:
    ran = run("serve", "--data", tmp_path / "data", f"{option}={value}")
    assert ran.code == 2
    assert says in ran.err
    assert not (tmp_path / "data").exists()


def test_durability_can_be_set_in_the_configuration_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "embedcore.toml").write_text(f'data = "{tmp_path / "data"}"\n[serve]\ndurability = "never"\n')
    ran = run("serve", "--config", tmp_path / "embedcore.toml")
    assert ran.code == 2
    assert "got 'never'" in ran.err
