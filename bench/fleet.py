"""The processes of a run, from the side of the harness."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from bench.engines import Configuration
from bench.worker import Built, Half, Mode, Pass, serve

# One thread each, also inside linear algebra and OpenMP, which read these when they load.
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
DEFAULT_PATIENCE_S = 3600.0

STATUS = {"absent": "not measured", "refused": "not available", "failed": "failed"}


class Unmeasured(Exception):
    """``status`` is "not measured" (not installed), "not available" (configuration refused) or "failed"."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Worker:
    """One engine. Every method raises Unmeasured, after which the worker is of no use."""

    def __init__(
        self,
        name: str,
        configuration: Configuration,
        folder: Path,
        patience_s: float = DEFAULT_PATIENCE_S,
    ) -> None:
        self.name = name
        self.built: Built | None = None
        self._patience_s = patience_s
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._connection: Connection[Any, Any] = ours
        self._process: BaseProcess = context.Process(
            target=serve, args=(theirs, name, configuration, folder), daemon=True
        )
        with _environment():
            self._process.start()
        theirs.close()
        try:
            self.version = cast(str, self._answer())
        except Unmeasured:
            self.close()
            raise

    def build(self) -> Built:
        self.built = cast(Built, self._call("build"))
        return self.built

    def search(
        self, half: Half, mode: Mode, k: int, ef: int, count: int | None = None
    ) -> tuple[NDArray[np.int64], float]:
        return cast(tuple[NDArray[np.int64], float], self._call("search", half, mode, k, ef, count))

    def timed(self, mode: Mode, k: int, ef: int, count: int, sweeps: int) -> Pass:
        return cast(Pass, self._call("timed", mode, k, ef, count, sweeps))

    def close(self) -> None:
        self._connection.close()  # the process ends when its side reads the end
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _call(self, method: str, *arguments: object) -> object:
        try:
            self._connection.send((method, arguments))
        except OSError:
            self._died()
        return self._answer()

    def _answer(self) -> object:
        if not self._connection.poll(self._patience_s):
            self._process.kill()
            raise Unmeasured("failed", f"no answer within {self._patience_s:.0f} s")
        try:
            kind, value = self._connection.recv()
        except (EOFError, OSError):
            self._died()
        if kind != "ok":
            raise Unmeasured(STATUS[kind], value)
        return value

    def _died(self) -> NoReturn:
        self._process.join(timeout=10)
        raise Unmeasured("failed", f"its process ended with {self._process.exitcode}")


@contextmanager
def _environment() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
