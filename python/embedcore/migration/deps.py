"""What a migration controller is given: the store, time, encoders, evaluation and serving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from embedcore.clock import Clock
from embedcore.migration.interface import ServingControl
from embedcore.migration.judge import Judge
from embedcore.resources import ResourceProbe
from embedcore.store.interface import Store
from embedcore.types import Vectors

if TYPE_CHECKING:
    from embedcore.evaluation.harness import Harness


class BulkEncoders(Protocol):
    """The part of the encoder registry that backfill and repair need. Safe from any thread."""

    def encode_bulk(self, model: str, texts: Sequence[str]) -> Vectors:
        """float32 (n, dim); refuses the whole batch when one text or vector is bad."""


@dataclass(frozen=True, slots=True)
class MigrationDeps:
    """``judge`` and ``probe`` default to the evaluation harness and to this machine; tests replace them.

    ``seed`` feeds every random choice: evaluation subsets, consistency samples.
    """

    store: Store
    clock: Clock
    encoders: BulkEncoders
    harness: Harness | None
    serving: ServingControl
    seed: int = 0
    data_dir: Path | None = None  # whose disk the pre-flight looks at
    judge: Judge | None = None
    probe: ResourceProbe | None = None


def machine_seconds(clock: Clock) -> float:
    """Seconds of the machine's clock: what limits work that costs the machine, however time is scaled."""
    return clock.now() / clock.scale


def at_least(clock: Clock, seconds: float, machine: float) -> float:
    """A period of ``seconds`` of the clock, but never shorter than ``machine`` seconds of the machine's."""
    return max(seconds, machine * clock.scale)
