"""What the tests of DualWriter share: an index that is a dict, and a log to catch up from."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcore.dual_writer import DualWriter, Write

DIM = 4
ALL = 2**40  # more steps than there are writes


def vector(version: float, dim: int = DIM) -> NDArray[np.float32]:
    """(dim,), finite and not zero, told apart by its first value."""
    return np.array([version, *[1.0] * (dim - 1)], dtype=np.float32)


def rows(versions: list[float] | range, dim: int = DIM) -> NDArray[np.float32]:
    return np.stack([vector(version, dim) for version in versions])


ONE = rows([1])


class DictIndex:
    """id -> version. Refuses the ids in ``broken``, and hangs while ``stuck`` is set."""

    def __init__(self, dim: int = DIM) -> None:
        self.dim = dim
        self.items: dict[int, float] = {}
        self.broken: set[int] = set()
        self.free = threading.Event()
        self.free.set()

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        self.free.wait()
        for item in ids.tolist():
            if item in self.broken:
                raise RuntimeError(f"no room for {item}")
        for item, row in zip(ids.tolist(), vectors, strict=True):
            self.items[item] = float(row[0])

    def remove(self, ids: NDArray[np.int64]) -> None:
        self.free.wait()
        for item in ids.tolist():
            self.items.pop(item, None)


def pair(capacity: int = 8, **options: Any) -> tuple[DualWriter, DictIndex, DictIndex]:
    """A writer that is stepped by hand, and its two lanes' indexes."""
    old, new = DictIndex(), DictIndex()
    return DualWriter([old, new], capacity=capacity, threads=0, **options), old, new


def step_all(writer: DualWriter) -> None:
    for lane in writer.lanes:
        writer.step(lane, ALL)


class Log:
    """The source of record of one lane: every write, in order of sequence numbers."""

    def __init__(self) -> None:
        self.writes: list[Write] = []
        self.fails: Callable[[], None] | None = None

    def put(self, write: Write) -> None:
        at = bisect_left([old.sequence for old in self.writes], write.sequence)
        self.writes.insert(at, write)

    def __call__(self, from_sequence: int, limit: int) -> list[Write]:
        if self.fails is not None:
            self.fails()
        return [write for write in self.writes if write.sequence >= from_sequence][:limit]
