"""What the harness asks of an engine."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class NotInstalled(Exception):
    """The library is not there: its numbers and every ratio to it are "not measured"."""


class NotAvailable(Exception):
    """The library is there and refuses this configuration."""


@dataclass(frozen=True)
class Configuration:
    """The same for every engine: links per node and breadth of construction decide cost and quality most."""

    dim: int
    metric: str
    items: int
    m: int = 16
    ef_construction: int = 200


@dataclass(frozen=True)
class Searcher:
    """The calls that are timed, as a user would write them, with k and ef set before the clock starts.

    ``one`` takes a row as ``prepare`` makes it, ``many`` (q, dim); None where the library has no call for a
    batch. ``ids`` turns the result of either into (q, k) row numbers, outside the clock.
    """

    one: Callable[[Any], Any]
    many: Callable[[Floats], Any] | None
    ids: Callable[[Any], NDArray[np.integer]]
    prepare: Callable[[Floats], Any] = lambda row: row


class Engine(ABC):
    """One index in one process, built and searched by one thread."""

    exact = False
    package = ""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration

    @abstractmethod
    def build(self, base: Floats) -> None:
        """Everything until the first query can be answered."""

    def tune(self) -> None:  # noqa: B027 - most have nothing to offer
        """What a library offers to fit itself to the machine after the build; no clock runs."""

    @abstractmethod
    def searcher(self, k: int, ef: int) -> Searcher: ...

    def memory_bytes(self) -> int | None:
        """What the library itself says that it holds."""
        return None

    def settings(self) -> str:
        """For the report: what differs from m and ef_construction."""
        return ""

    def version(self) -> str:
        try:
            return metadata.version(self.package)
        except metadata.PackageNotFoundError:
            return "unknown"


def library(module: str, hint: str) -> ModuleType:
    """Imports what an adapter drives, or raises NotInstalled."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise NotInstalled(f"{hint} is not installed ({error})") from error


def padded(rows: list[list[int]], k: int) -> NDArray[np.int64]:
    """Answers of fewer than k, as (q, k) with -1."""
    answer = np.full((len(rows), k), -1, dtype=np.int64)
    for row, ids in enumerate(rows):
        answer[row, : len(ids)] = ids[:k]
    return answer
