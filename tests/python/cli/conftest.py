"""The command line in this process, over the fake platform."""

from __future__ import annotations

import pytest

from cli.runner import Ran, Run
from embedcore.cli import context
from embedcore.cli.main import main
from embedcore.types import Item
from support.fake_platform import FakePlatform


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EMBEDCORE_DATA", "EMBEDCORE_SERVER", "EMBEDCORE_CONFIG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> Ran:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> FakePlatform:
    """What every command reaches. Holds three items."""
    fake = FakePlatform()
    fake.upsert(
        [
            Item("a", content="a red bicycle", attributes={"pos": "noun"}),
            Item("b", content="a blue car [fast]", attributes={"pos": "noun", "wheels": 4}),
            Item("c", content="to swim", attributes={"pos": "verb"}),
        ]
    )
    monkeypatch.setattr(context, "open_platform", lambda session: fake)
    return fake
