"""What a platform can do, whether it runs in this process or behind a server.

``Platform.open`` returns something with these methods; the command line, the server and the tests use
nothing else. Every method may be called from any thread. Errors are those of :mod:`embedcore.errors`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from embedcore.migration_types import MigrationEvent, MigrationStatus, Plan
from embedcore.types import (
    Consumer,
    Fingerprint,
    Generation,
    Item,
    ModelSpec,
    SearchAnswer,
    SearchRequest,
    StoredItem,
    Vectors,
    WriteReceipt,
)

if TYPE_CHECKING:  # clients import this module, and need no store for it
    from embedcore.evaluation.golden import GoldenSet


@dataclass(frozen=True, slots=True)
class GenerationStatus:
    """A generation with what its indexes hold now."""

    generation: Generation
    items: int  # live items in the indexes; 0 when retired
    applied: Mapping[int, int]  # shard -> sequence


@dataclass(frozen=True, slots=True)
class PlatformStatus:
    ready: bool
    live_items: int
    repair_queue: int
    simulated: bool
    now: float
    time_scale: float
    version: str
    details: Mapping[str, Any]  # memory, lags, counters per consumer


@dataclass(frozen=True, slots=True)
class SnapshotTaken:
    """A file that holds one index; ``path`` on the machine that has it."""

    generation: int
    shard: int
    watermark: int  # every write up to this sequence number is in it
    path: str
    bytes: int


class PlatformApi(Protocol):
    def close(self) -> None: ...

    # Items.
    def upsert(self, items: Sequence[Item]) -> WriteReceipt:
        """All or none. Encodes content for every live generation; a generation whose vector cannot be
        made gets a durable repair entry in the same transaction."""

    def delete(self, ids: Sequence[str], namespace: str = "") -> WriteReceipt: ...
    def get_item(self, item_id: str, namespace: str = "") -> StoredItem:
        """NotFound when unknown or deleted."""

    # Queries.
    def search(self, request: SearchRequest) -> SearchAnswer: ...
    def search_batch(self, requests: Sequence[SearchRequest]) -> list[SearchAnswer]: ...
    def embed(self, model: str, texts: Sequence[str]) -> tuple[Fingerprint, Vectors]: ...

    # Registries.
    def consumers(self) -> list[Consumer]: ...
    def set_consumer(self, consumer: Consumer) -> Consumer:
        """Adds or replaces; takes effect for the next query."""

    def models(self) -> list[ModelSpec]: ...
    def register_model(self, spec: ModelSpec) -> ModelSpec: ...
    def generations(self) -> list[GenerationStatus]: ...
    def create_generation(self, model: str) -> Generation:
        """The first generation of an empty platform; later ones come from migrations."""

    def status(self) -> PlatformStatus: ...
    def snapshot(self) -> list[SnapshotTaken]:
        """Saves every live index now, so that the next start replays little; searches and writes go on."""

    def verify(self, sample: int = 1000) -> dict[str, Any]:
        """Store, snapshots and indexes against each other: ``problems``, one line each, empty is good, and
        what was ``checked``. ``sample``: vectors of each index that are compared bit by bit. Beside searches
        and writes, which wait while an index is checked for reachability."""

    def backup(self, destination: str) -> dict[str, Any]:
        """A consistent copy, while everything goes on, into an empty directory of the machine that owns the
        data, or to an fsspec URL; returns its manifest. See :mod:`embedcore.store.backup`."""

    def set_time_scale(self, scale: float) -> float:
        """Simulated data directories only: seconds of the clock per second; returns the clock's reading."""

    # Migrations. An empty id means the latest.
    def start_migration(
        self, target_model: str, plan: Plan | None = None, *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus:
        """Runs the pre-flight, then attaches the target. GateNotMet with evidence when it refuses."""

    def migration(self, migration_id: str = "") -> MigrationStatus: ...
    def migrations(self) -> list[MigrationStatus]: ...
    def migration_events(self, migration_id: str = "", after: int = 0) -> list[MigrationEvent]: ...
    def watch_migration(self, migration_id: str = "") -> Iterator[MigrationStatus]:
        """A status at once and at every change, at least every two seconds; ends when it has finished."""

    def set_weight(
        self, migration_id: str, consumer: str, weight: float, *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus: ...
    def pause_migration(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus: ...
    def resume_migration(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus: ...
    def extend_window(self, migration_id: str, seconds: float, *, who: str, why: str) -> MigrationStatus:
        """Lets the window go on for ``seconds`` from its end, or from now when it is over."""

    def revert_consumer(
        self, migration_id: str, consumer: str, *, who: str, why: str = ""
    ) -> MigrationStatus: ...
    def cutover(
        self, migration_id: str = "", *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus: ...
    def rollback(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus: ...
    def abort_migration(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus: ...
    def decommission(
        self, migration_id: str = "", *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus: ...

    # Evaluation and engagement. Documents are plain JSON-serialisable dicts.
    def import_golden_set(self, golden: GoldenSet, *, gate: bool = True) -> dict[str, Any]:
        """``gate`` False: kept as a signal beside the set that gates the consumer; the only way for a set
        that is marked public."""

    def golden_sets(self) -> list[dict[str, Any]]: ...
    def sample_queries(
        self,
        consumer: str,
        buckets: Mapping[str, int],
        *,
        depth: int = 10,
        min_count: int = 2,
        seed: int = 0,
    ) -> dict[str, Any]:
        """Logged queries to label, with the pooled first results of every live generation in random order.
        FailedPrecondition when the consumer keeps no query log."""

    def evaluate(self, consumer: str, generation: int = 0, *, golden_set: str = "") -> dict[str, Any]:
        """Generation 0: the serving one. ``golden_set``: another than the one that gates the consumer."""

    def compare(
        self,
        consumer: str,
        source: int,
        target: int,
        plan: Plan | None = None,
        *,
        equal_freshness: bool = False,
        golden_set: str = "",
    ) -> dict[str, Any]:
        """The target as it stands (the cutover's gate), or the models on items that both hold."""

    def evaluation_report(
        self,
        source: int = 0,
        target: int = 0,
        *,
        consumers: Sequence[str] = (),
        plan: Plan | None = None,
        migration_id: str = "",
    ) -> dict[str, Any]:
        """All consumers of two generations, by default those of a migration;
        ``embedcore.evaluation.reporting.page.render`` makes the page of it."""

    def calibrate_ef(self, consumer: str, generation: int = 0, *, apply: bool = False) -> dict[str, Any]:
        """The smallest sufficient ef_search and its latency. ``apply``: used for this consumer and
        generation from now on; FailedPrecondition when none is sufficient."""

    def calibrate_scores(self, source: int, target: int) -> dict[str, Any]: ...
    def check_parity(self) -> dict[str, Any]:
        """Query-side against index-side preprocessing; key ``equal``."""

    def preflight(self, target_model: str, plan: Plan | None = None) -> dict[str, Any]:
        """Phase 0 of a migration to this model, without starting one."""

    def report_engagement(
        self, consumer: str, arm: str, totals: Mapping[str, float], *, simulated: bool, migration_id: str = ""
    ) -> None: ...
    def compare_engagement(self, consumer: str, migration_id: str = "") -> dict[str, Any]: ...
