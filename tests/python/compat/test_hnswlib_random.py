"""Random sequences of calls on Index against a model of a few dicts, and, where it is installed, on hnswlib
against the same model: what the model says is what both do.

Left out is what differs, see the module's docstring: adds that do not fit, and replacing deleted items by
labels that exist.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from .conftest import made

DIM = 3
LABELS = 40
LIMIT = 36


class Model:
    """Live and deleted items by label; vectors are small whole numbers, so that distances are exact."""

    def __init__(self, index: Any, replaces: bool, rng: np.random.Generator) -> None:
        self.index, self.replaces, self.rng = index, replaces, rng
        self.live: dict[int, list[float]] = {}
        self.deleted: dict[int, list[float]] = {}

    def add(self) -> None:
        labels = self.rng.choice(LABELS, size=int(self.rng.integers(1, 6)), replace=False).tolist()
        new = [label for label in labels if label not in self.live and label not in self.deleted]
        if len(self.live) + len(self.deleted) + len(new) > LIMIT:
            return
        rows = self.rng.integers(-9, 9, size=(len(labels), DIM)).tolist()
        if self.replaces and self.deleted.keys() & set(labels):
            with pytest.raises(RuntimeError, match="Can't use addPoint to update deleted"):
                self.index.add_items(rows[:1], [next(a for a in labels if a in self.deleted)])
            return
        self.index.add_items(rows, labels)
        for label, row in zip(labels, rows, strict=True):
            self.live[label] = row
            self.deleted.pop(label, None)

    def replace(self) -> None:
        free = [label for label in range(LABELS) if label not in self.live and label not in self.deleted]
        label, row = int(self.rng.choice(free)), self.rng.integers(-9, 9, size=DIM).tolist()
        if not self.replaces:
            with pytest.raises(RuntimeError, match="disabled"):
                self.index.add_items(row, label, replace_deleted=True)
            return
        if len(self.live) + len(self.deleted) == LIMIT and not self.deleted:
            with pytest.raises(RuntimeError, match="exceeds the specified limit"):
                self.index.add_items(row, label, replace_deleted=True)
            return
        had = bool(self.deleted)
        self.index.add_items(row, label, replace_deleted=True)
        self.live[label] = row
        left = set(self.index.get_ids_list())
        gone = [other for other in self.deleted if other not in left]
        assert len(gone) == had
        for other in gone:  # which one is the index's choice
            del self.deleted[other]

    def mark(self) -> None:
        label = int(self.rng.integers(LABELS))
        if label in self.live:
            self.index.mark_deleted(label)
            self.deleted[label] = self.live.pop(label)
        else:
            with pytest.raises(
                RuntimeError, match="already deleted" if label in self.deleted else "not found"
            ):
                self.index.mark_deleted(label)

    def unmark(self) -> None:
        label = int(self.rng.integers(LABELS))
        if label in self.deleted:
            self.index.unmark_deleted(label)
            self.live[label] = self.deleted.pop(label)
        else:
            with pytest.raises(RuntimeError, match="not deleted" if label in self.live else "not found"):
                self.index.unmark_deleted(label)

    def check(self) -> None:
        assert self.index.element_count == len(self.live) + len(self.deleted)
        assert sorted(self.index.get_ids_list()) == sorted([*self.live, *self.deleted])
        assert self.index.get_items(list(self.live), "list") == list(self.live.values())
        query = self.rng.integers(-9, 9, size=DIM)
        if self.live:
            labels, found = self.index.knn_query(query, k=1)
            assert labels[0, 0] in self.live
            row = np.array(self.live[int(labels[0, 0])])
            assert found[0, 0] == ((row - query) ** 2).sum()
        with pytest.raises(RuntimeError, match="Cannot return"):
            self.index.knn_query(query, k=len(self.live) + 1)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("replaces", [False, True])
def test_random_calls(module: ModuleType, replaces: bool, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng([90, seed])
    index = made(module, "l2", DIM, LIMIT, M=8, ef_construction=40, allow_replace_deleted=replaces)
    index.set_ef(LIMIT)
    model = Model(index, replaces, rng)
    for _ in range(150):
        match int(rng.integers(20)):
            case 0:
                model.index = pickle.loads(pickle.dumps(model.index))
            case 1:
                model.index.save_index(str(tmp_path / "index"))
                model.index = module.Index("l2", DIM)
                model.index.load_index(str(tmp_path / "index"), LIMIT, replaces)
                model.index.set_ef(LIMIT)
            case step:
                (model.add, model.add, model.replace, model.mark, model.mark, model.unmark)[step % 6]()
        model.check()
