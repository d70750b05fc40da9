"""Encoders of tests: small fakes, and the real models once per run where their packages are installed."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from embedcore.encoders import OnnxEncoder
from embedcore.encoders.artifacts import INSTALL_HINT, installed
from embedcore.encoders.models import MINILM_L3, MINILM_L6
from embedcore.types import Fingerprint, Vectors

DIMENSION = 8


def fingerprint(**changes: object) -> Fingerprint:
    return Fingerprint.model_validate(
        {"model": "fake", "revision": "1", "dimension": DIMENSION, "tokenizer_hash": "none", **changes}
    )


def unit_vectors(texts: Sequence[str], dimension: int = DIMENSION) -> Vectors:
    """A unit vector per text, decided by the text alone."""
    seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") for text in texts]
    rows = np.array([np.random.default_rng(seed).normal(size=dimension) for seed in seeds])
    rows = rows.reshape(len(texts), dimension)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class FakeEncoder:
    """Deterministic by text; records what it was asked, and can be told to fail."""

    def __init__(self, print_: Fingerprint | None = None) -> None:
        self._fingerprint = fingerprint() if print_ is None else print_
        self._lock = threading.Lock()
        self.calls: list[list[str]] = []
        self.make: Callable[[Sequence[str]], Vectors] = unit_vectors

    @property
    def fingerprint(self) -> Fingerprint:
        return self._fingerprint

    def encode(self, texts: Sequence[str]) -> Vectors:
        with self._lock:
            self.calls.append(list(texts))
        return self.make(texts)


@pytest.fixture
def fake() -> FakeEncoder:
    return FakeEncoder()


def need_models() -> None:
    for package in ("onnxruntime", "tokenizers"):
        pytest.importorskip(package, reason=f"needs {package}: {INSTALL_HINT}")
    for manifest in (MINILM_L3, MINILM_L6):
        if not installed(manifest.weights):
            pytest.skip(f"needs {manifest.weights.distribution}: {INSTALL_HINT}")


@pytest.fixture(scope="session")
def minilm_l3() -> OnnxEncoder:
    need_models()
    return OnnxEncoder(MINILM_L3)


@pytest.fixture(scope="session")
def minilm_l6() -> OnnxEncoder:
    need_models()
    return OnnxEncoder(MINILM_L6)
