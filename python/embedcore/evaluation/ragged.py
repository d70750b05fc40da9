"""Rows of different length in two flat arrays: the relevant and the excluded items of many queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from embedcore.evaluation.interface import Bools, Ints


@dataclass(frozen=True)
class Ragged:
    """``items[offsets[i]:offsets[i + 1]]`` are the dense item numbers of row i. Immutable by convention."""

    items: Ints  # (total,)
    offsets: Ints  # (n + 1,)

    @classmethod
    def of(cls, rows: Sequence[Sequence[int] | Ints]) -> Self:
        lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        items = np.fromiter((item for row in rows for item in row), dtype=np.int64, count=int(offsets[-1]))
        return cls(items, offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Ints:
        return np.diff(self.offsets)

    @property
    def row_numbers(self) -> Ints:
        """The row of each entry of ``items``."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    def row(self, index: int) -> Ints:
        return self.items[self.offsets[index] : self.offsets[index + 1]]

    def keep(self, mask: Bools) -> Self:
        """The same rows with the entries where ``mask`` (over ``items``) is true."""
        lengths = np.bincount(self.row_numbers[mask], minlength=len(self)).astype(np.int64)
        return type(self)(self.items[mask], np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]))

    def places(self, rows: Ints) -> Ints:
        """Where in ``items`` the entries of the named rows lie, in the order given."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        within = np.arange(int(offsets[-1]), dtype=np.int64) - np.repeat(offsets[:-1], lengths)
        found: Ints = np.repeat(self.offsets[:-1][rows], lengths) + within
        return found

    def take(self, rows: Ints) -> Self:
        """The named rows, in the order given."""
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.lengths[rows])])
        return type(self)(self.items[self.places(rows)], offsets)

    def holds(self, ids: NDArray[np.int64]) -> Bools:
        """bool like ``ids`` (n, k): ids[i, j] is an item of row i."""
        if ids.shape[0] != len(self):
            raise ValueError(f"expected {len(self)} rows of ids, one per row here, got {ids.shape[0]}")
        if self.items.size == 0 or ids.size == 0:
            return np.zeros(ids.shape, dtype=np.bool_)
        # Items are renumbered 0.. so that (row, item) fits one 64-bit key whatever the dense numbers are.
        universe, renumbered = np.unique(self.items, return_inverse=True)
        keys = np.sort(self.row_numbers * len(universe) + renumbered)
        place = np.minimum(np.searchsorted(universe, ids), len(universe) - 1)
        wanted = np.arange(len(self), dtype=np.int64)[:, None] * len(universe) + place
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        found: Bools = (universe[place] == ids) & (keys[at] == wanted)
        return found
