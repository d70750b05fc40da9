"""The store that tests of lanes run over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from embedcore.clock import ManualClock
from embedcore.store import SqlStore, open_store
from embedcore.types import Fingerprint, ModelSpec
from serving.lanes_kit import DIMENSION


@pytest.fixture(params=[1, 4], ids=["one shard", "four shards"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SqlStore]:
    store = open_store(tmp_path, ManualClock(), shards=request.param)
    fingerprint = Fingerprint(model="m", revision="1", dimension=DIMENSION)
    store.put_model(ModelSpec(name="m", backend="external", fingerprint=fingerprint))
    store.create_generation("m", "serving", 0.0)
    yield store
    store.close()
