"""serve as a process: ready line, other commands find it, refusals, SIGTERM, SIGKILL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.runner import Run
from embedcore.demo.processes import child_environment, read_line
from embedcore.types import Fingerprint

TESTS = str(Path(__file__).parents[1])
PORTS = ("--listen", "127.0.0.1:0", "--stream-listen", "127.0.0.1:0")


class Served:
    def __init__(self, *options: object) -> None:
        environment = child_environment()
        environment["PYTHONPATH"] = os.pathsep.join([TESTS, *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "embedcore", "serve", *PORTS, "--json", *map(str, options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.process.stdout is not None
        self.ready: dict[str, Any] = json.loads(read_line(self.process.stdout, 60))

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        _, self.errors = self.process.communicate(timeout=60)
        return self.process.returncode


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def served(data: Path) -> Iterator[Served]:
    made = Served("--data", data, "--simulated", "--time-scale", "60", "--callable-targets")
    yield made
    if made.process.poll() is None:
        made.end(signal.SIGKILL)


def fill(run: Run, data: Path, tmp_path: Path) -> None:
    """A model, its generation by way of vectors, two items."""
    import numpy as np

    np.save(tmp_path / "v.npy", np.eye(2, 8, dtype=np.float32))
    (tmp_path / "ids.txt").write_text("a\nb\n")
    declared = Fingerprint(model="mine", revision="1", dimension=8).model_dump_json()
    ran = run(
        *("ingest", "--vectors", tmp_path / "v.npy", "--ids", tmp_path / "ids.txt"),
        *("--fingerprint", declared, "--data", data),
    )
    assert ran.code == 0, ran.err


def test_other_commands_find_the_server_of_the_directory(
    run: Run, served: Served, data: Path, tmp_path: Path
) -> None:
    assert served.ready["simulated"] is True
    assert served.ready["time_scale"] == 60
    assert served.ready["generations"] == {}
    assert len(run("consumers", "list", "--data", data, "--json").json) == 4
    fill(run, data, tmp_path)
    models = run("models", "list", "--data", data, "--json").json
    assert [g["items"] for g in models["generations"]] == [2]
    text = run("search", "x", "--server", served.ready["address"])
    assert text.code == 1  # an external model has no encoder for texts
    assert "vector" in text.err
    checks = {c["name"]: c for c in run("doctor", "--data", data, "--json").json}
    assert served.ready["address"] in checks["data directory"]["found"]
    assert checks["server"]["state"] == "ok"


def test_sigterm_drains_saves_snapshots_and_ends_with_0(
    run: Run, served: Served, data: Path, tmp_path: Path
) -> None:
    fill(run, data, tmp_path)
    assert served.end(signal.SIGTERM) == 0, served.errors
    assert list((data / "snapshots").rglob("*.ecx"))
    # Nobody owns the directory now: it is opened in this process.
    again = run("models", "list", "--data", data, "--json")
    assert [g["items"] for g in again.json["generations"]] == [2]


def test_a_killed_server_leaves_a_directory_that_opens(
    run: Run, served: Served, data: Path, tmp_path: Path
) -> None:
    fill(run, data, tmp_path)
    assert served.end(signal.SIGKILL) == -signal.SIGKILL
    again = run("models", "list", "--data", data, "--json")
    assert [g["items"] for g in again.json["generations"]] == [2]


def test_a_second_server_of_the_directory_is_refused(run: Run, served: Served, data: Path) -> None:
    ran = run("serve", *PORTS, "--data", data)
    assert ran.code == 1
    assert "already served" in ran.err
    assert run("serve", *PORTS, "--data", data.parent / "other", "--listen", "nowhere").code == 2


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--time-scale", "100"), 1, "simulated"),
        (("--time-scale", "0", "--simulated"), 2, "above 0"),
        (("--listen", "0.0.0.0:0"), 1, "tls"),
        (("--tls-cert", "c.pem"), 2, "key"),
        (("--model", "gpt"), 1, "minilm-l3"),
        (("--shards", "3"), 2, "power of two"),
    ],
)
def test_what_cannot_be_served_is_refused(
    run: Run, data: Path, options: tuple[str, ...], code: int, said: str
) -> None:
    ran = run("serve", *PORTS, "--data", data, *options)
    assert ran.code == code, ran.err
    assert said in ran.err.lower()
    assert ran.out == ""
    assert len(ran.err.splitlines()) == 1
    assert not data.exists()
