"""How far the backfill of one shard has come: the cursor, and what the checkpoint says of it."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from embedcore.store.interface import BackfillCursor, BackfillItem, Store

log = logging.getLogger(__name__)

CHECKPOINT = "backfill"


@dataclass(slots=True)
class ShardProgress:
    """``sweep`` 1 is the backfill proper; later sweeps look for what is still missing."""

    shard: int
    cursor: BackfillCursor | None = None
    sweep: int = 1
    swept: int = 0  # vectors made in this sweep
    written: int = 0  # vectors made in all sweeps
    complete: bool = False  # a whole later sweep found nothing to do
    # Of this process only.
    checked: bool = False  # the shard's checksum was verified
    corrupt: bool = False
    not_before: float = -math.inf
    began: int | None = None  # head of the shard when the sweep began; None: in an earlier process

    @property
    def recency(self) -> float:
        """When the next item was created, at the latest: shards are filled most recent first."""
        return math.inf if self.cursor is None else self.cursor.created_at

    @classmethod
    def load(cls, store: Store, generation: int, shard: int) -> ShardProgress:
        """From the last valid checkpoint. One that cannot be read starts the shard anew: items that have
        their vector are not read again, so that costs a scan and no encoding."""
        state = store.get_checkpoint(CHECKPOINT, generation, shard)
        if state is None:
            return cls(shard)
        try:
            return cls._from_state(shard, state)
        except (KeyError, TypeError, ValueError) as error:
            log.warning("checkpoint of shard %d is unreadable (%s): starting from the top", shard, error)
            return cls(shard)

    @classmethod
    def _from_state(cls, shard: int, state: Mapping[str, Any]) -> ShardProgress:
        cursor = None
        if state["created_at"] is not None:
            cursor = BackfillCursor(float(state["created_at"]), int(state["item"]))
            if not math.isfinite(cursor.created_at):
                raise ValueError(f"created_at is {cursor.created_at}")
        return cls(
            shard,
            cursor,
            sweep=int(state["sweep"]),
            swept=int(state["swept"]),
            written=int(state["written"]),
            complete=bool(state["complete"]),
        )

    def state(self) -> dict[str, Any]:
        """What the checkpoint keeps."""
        return {
            "created_at": None if self.cursor is None else self.cursor.created_at,
            "item": None if self.cursor is None else self.cursor.item,
            "sweep": self.sweep,
            "swept": self.swept,
            "written": self.written,
            "complete": self.complete,
        }

    def after(self, last: BackfillItem, made: int) -> ShardProgress:
        """The progress once a chunk that ends with ``last`` is committed."""
        return replace(
            self,
            cursor=BackfillCursor(last.created_at, last.item),
            swept=self.swept + made,
            written=self.written + made,
        )

    def advance(self, to: ShardProgress) -> None:
        self.cursor, self.swept, self.written = to.cursor, to.swept, to.written

    def end_sweep(self) -> bool:
        """Back to the top; True when the sweep that ended was a later one and found nothing to do."""
        nothing = self.sweep > 1 and self.swept == 0
        self.complete = self.complete or nothing
        self.sweep, self.swept, self.cursor = self.sweep + 1, 0, None
        return nothing
