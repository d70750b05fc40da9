"""The corpus and one subset, loaded once per run."""

from __future__ import annotations

import pytest

from embedcore.datasets.wordnet import Corpus, load


@pytest.fixture(scope="session")
def whole() -> Corpus:
    return load()


@pytest.fixture(scope="session")
def small() -> Corpus:
    return load(2_000, seed=3)
