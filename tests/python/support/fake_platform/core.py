"""What all parts of the fake platform share: its items, and how a method fails or blocks when told to."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from embedcore.migration_types import GateResult
from embedcore.types import DEFAULT_CONSUMERS, Consumer, Fingerprint, ModelSpec, StoredItem

NOW = 1_700_000_000.0
DIMENSION = 8
TOY = ModelSpec(
    name="toy",
    backend="callable",
    fingerprint=Fingerprint(model="toy", revision="1", dimension=DIMENSION, tokenizer_hash="t1"),
)
DIGEST = TOY.fingerprint.digest


def toy_vector(text: str) -> np.ndarray:
    """float32 (DIMENSION,), unit: one text, one direction."""
    vector = np.random.default_rng(zlib.crc32(text.encode())).standard_normal(DIMENSION)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def gates(count: int) -> list[dict[str, Any]]:
    """Evidence of a refusal, as large as real gates make it."""
    return [
        GateResult(
            gate=f"gate-{number}",
            passed=False,
            summary=f"gate {number} is not met: -3.10 pp, must be at least 0",
            evidence={f"measure_{place}": place / 7 for place in range(40)},
            at=NOW,
        ).model_dump()
        for number in range(count)
    ]


class FakeCore:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.items: dict[tuple[str, str], StoredItem] = {}
        self.sequence = 0
        self.registered: dict[str, ModelSpec] = {TOY.name: TOY}
        self.known: dict[str, Consumer] = {one.name: one for one in DEFAULT_CONSUMERS}
        self.failing: dict[str, Any] = {}
        self.blocking: dict[str, threading.Event] = {}
        self.entered = threading.Event()
        self.closed = False

    def _enter(self, method: str) -> None:
        if method in self.blocking:
            self.entered.set()
            assert self.blocking[method].wait(30)
        error = self.failing.get(method)
        if isinstance(error, Iterator):
            error = next(error)
        if error is not None:
            raise error

    def close(self) -> None:
        self.closed = True
