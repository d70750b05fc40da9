"""snapshot and verify, over the fake platform and on a directory that nobody serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.runner import Run
from embedcore.platform import Platform
from support.fake_platform import FakePlatform
from support.toys import OLD, toy_items


@pytest.fixture
def data(tmp_path: Path) -> Path:
    with Platform.open(tmp_path / "data") as platform:
        platform.register_model(OLD)
        platform.create_generation("toy-old")
        platform.upsert(toy_items(60))
    return tmp_path / "data"


def test_what_the_platform_says_is_shown(run: Run, platform: FakePlatform) -> None:
    shown = run("snapshot", "--json")
    assert shown.code == 0
    assert [one["watermark"] for one in shown.json] == [platform.sequence]
    found = run("verify", "--json", "--sample", 5)
    assert found.code == 1
    assert found.json == platform.verify(5)
    lines = run("verify").out.splitlines()
    assert lines[-2:] == ["problem: store: planted", "1 problems"]
    assert run("verify", "--sample", -1).code == 2


def test_a_directory_that_nobody_serves(run: Run, data: Path) -> None:
    taken = run("snapshot", "--data", data, "--json")
    assert taken.code == 0, taken.err
    (file,) = [Path(one["path"]) for one in taken.json]
    assert file == data / "snapshots" / "g1-s0" / "60.ecx"
    sound = run("verify", "--data", data)
    assert (sound.code, sound.out.splitlines()[-1]) == (0, "no problems"), sound.out
    bad = bytearray(file.read_bytes())
    bad[-1] ^= 1
    file.write_bytes(bad)
    for _ in range(2):  # verifying mends nothing
        broken = run("verify", "--data", data)
        assert broken.code == 1
        assert f"problem: snapshot {file}" in broken.out
    assert run("snapshot", "--data", data).code == 0
    assert run("verify", "--data", data).code == 0
