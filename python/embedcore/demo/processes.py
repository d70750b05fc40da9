"""The demo's processes: the server, which can be killed and started again, and the traffic."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from embedcore.errors import Unavailable

_START_S = 300.0  # a killed server replays its lanes before it is ready
_STOP_S = 120.0


@dataclass(frozen=True, slots=True)
class Outage:
    """Machine time from a kill to the next ready line."""

    began: float
    ended: float


class ServerProcess:
    """``embedcore serve`` over a data directory marked as simulated; the same ports after every start."""

    def __init__(self, data_dir: Path, log: Path, *, environment: Mapping[str, str]) -> None:
        self._data_dir = data_dir
        self.time_scale = 1.0  # of the next start
        self._log = log
        self._environment = dict(environment)
        self._process: subprocess.Popen[str] | None = None
        self.address = "127.0.0.1:0"
        self.stream_address = "127.0.0.1:0"
        self.outages: list[Outage] = []

    def start(self) -> None:
        """Returns when the server said that it is ready; Unavailable with the end of its log otherwise."""
        command = [
            *(sys.executable, "-m", "embedcore", "serve", "--json", "--simulated", "--callable-targets"),
            *("--data", str(self._data_dir), "--time-scale", repr(self.time_scale)),
            *("--listen", self.address, "--stream-listen", self.stream_address),
        ]
        with self._log.open("a", encoding="utf-8") as log:
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self._environment,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops it in order
            )
        self._process = process
        assert process.stdout is not None
        ready = read_line(process.stdout, _START_S)
        try:
            said = json.loads(ready)
            self.address, self.stream_address = said["address"], said["stream_address"]
        except (ValueError, KeyError) as error:
            process.kill()
            process.wait()
            tail = "\n".join(self._log.read_text(encoding="utf-8").splitlines()[-20:])
            raise Unavailable(f"the server did not start: {ready or tail or 'it said nothing'}") from error

    def kill_and_restart(self) -> Outage:
        """SIGKILL, at once, then a new process over the same data."""
        assert self._process is not None
        began = time.time()
        self._process.kill()
        return self.restart(began)

    def restart(self, began: float | None = None) -> Outage:
        """A new process in place of one that was killed, at ``began`` or just now."""
        assert self._process is not None
        began = time.time() if began is None else began
        self._process.wait()
        self._close()
        self.start()
        outage = Outage(began, time.time())
        self.outages.append(outage)
        return outage

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> int:
        """SIGTERM, and the exit code of the drained server: 0 is good."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            self._close()

    def _close(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()


class TrafficProcess:
    """``python -m embedcore.demo.traffic``; ends when its standard input is closed, also by our death."""

    def __init__(
        self,
        directory: Path,
        server: ServerProcess,
        *,
        rate: float,
        write_rate: float,
        fresh: float,
        seed: int,
        environment: Mapping[str, str],
    ) -> None:
        command = [
            *(sys.executable, "-m", "embedcore.demo.traffic", str(directory)),
            *("--address", server.address, "--stream-address", server.stream_address),
            *("--rate", repr(rate), "--write-rate", repr(write_rate), "--seed", str(seed)),
            *("--fresh", repr(fresh)),
        ]
        self._log = directory / "traffic.log"
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=dict(environment),
                start_new_session=True,
            )
        assert self._process.stdout is not None
        if read_line(self._process.stdout, 60.0).strip() != "ready":
            self._process.kill()
            raise Unavailable(f"the traffic did not start: {self._log.read_text(encoding='utf-8')[-2000:]}")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> int:
        """Returns its exit code when every query in flight has been answered and written down."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it ended by itself; the exit code tells how
            self._process.stdin.close()
        try:
            return self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            self._process.stdout.close()


def child_environment() -> dict[str, str]:
    """The environment, without what would point a child at another server or configuration."""
    dropped = {"EMBEDCORE_DATA", "EMBEDCORE_SERVER", "EMBEDCORE_CONFIG"}
    return {key: value for key, value in os.environ.items() if key not in dropped}


def read_line(stream: IO[str], timeout: float) -> str:
    """The next line, or "" when none came in time or the other end closed."""
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(stream.readline()), daemon=True)
    reader.start()
    reader.join(timeout)
    return found[0] if found else ""
