"""Stores in temporary directories."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embedcore.clock import ManualClock
from embedcore.store import SqlStore, open_store


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def open_at(tmp_path: Path, clock: ManualClock) -> Iterator[Callable[..., SqlStore]]:
    """Opens (or reopens) the store of this test; all are closed at the end."""
    opened: list[SqlStore] = []

    def open_(**arguments: object) -> SqlStore:
        store = open_store(tmp_path / "data", clock, **arguments)  # type: ignore[arg-type]
        opened.append(store)
        return store

    yield open_
    for store in opened:
        store.close()


@pytest.fixture
def store(open_at: Callable[..., SqlStore]) -> SqlStore:
    return open_at()
