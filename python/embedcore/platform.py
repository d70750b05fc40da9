"""The platform: one object that the command line, the server and the tests use.

It wires store, encoders, serving, evaluation and migration together, and decides nothing itself.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import embedcore
from embedcore.api import GenerationStatus, PlatformApi, PlatformStatus, SnapshotTaken
from embedcore.clock import Clock, ScaledClock, SystemClock
from embedcore.encoders.interface import Encoder
from embedcore.encoders.registry import EncoderRegistry
from embedcore.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from embedcore.evaluation.desk import EvaluationDesk
from embedcore.evaluation.golden import GoldenRegistry, GoldenSet
from embedcore.evaluation.harness import Harness
from embedcore.evaluation.query_log import QueryLog
from embedcore.migration.controller import MigrationController, MigrationDeps
from embedcore.migration_types import MigrationEvent, MigrationStatus, Plan
from embedcore.remote import RemotePlatform
from embedcore.serving.counters import summarise
from embedcore.serving.encoding import QueryEncoder
from embedcore.serving.query import QueryService
from embedcore.serving.serving import Serving
from embedcore.serving.shadow import ShadowRunner
from embedcore.serving.snapshots import SnapshotSettings
from embedcore.serving.verifying import Verifier
from embedcore.serving.writing import ItemWriter
from embedcore.startup import Startup
from embedcore.store import open_store
from embedcore.store.backup import SnapshotFile, write_backup
from embedcore.store.dialect import Durability
from embedcore.store.ownership import DirectoryOwned, Ownership
from embedcore.store.reserve import ReserveSettings
from embedcore.types import (
    DEFAULT_CONSUMERS,
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

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]


class Platform(PlatformApi):
    """A platform in this process, owner of its data directory. Use :meth:`open`."""

    def __init__(
        self,
        data_dir: Path,
        ownership: Ownership,
        *,
        clock: Clock | None = None,
        time_scale: float = 1.0,
        simulated: bool | None = None,
        shards: int | None = None,
        seed: int = 0,
        threads: bool = True,
        progress: Progress | None = None,
        snapshots: SnapshotSettings | None = None,
        wait: bool = True,
        durability: Durability = "fsync",
        reserve: ReserveSettings | None = None,
    ) -> None:
        self.data_dir = data_dir
        self._ownership = ownership
        self._closed = False
        self.store = open_store(
            data_dir,
            clock or SystemClock(),
            shards=shards,
            simulated=simulated,
            ownership=ownership,
            durability=durability,
            reserve=reserve,
        )
        self.clock = clock or self._clock(time_scale)
        self.store.use_clock(self.clock)
        for consumer in DEFAULT_CONSUMERS if not self.store.consumers() else ():
            self.store.put_consumer(consumer)
        self.encoders = EncoderRegistry()
        for spec in self.store.models():
            self.encoders.register(spec)
        self.serving = Serving(
            self.store, self.clock, data_dir, seed=seed, threads=threads, snapshots=snapshots
        )
        self.serving.expect()
        self.golden = GoldenRegistry(self.store)
        self.harness = Harness(self.store, self.encoders, self.serving, seed, clock=self.clock)
        query_encoder = QueryEncoder(self.serving, self.encoders)
        self._shadow = ShadowRunner(self.serving, query_encoder, seed=seed)
        query_log = QueryLog(self.store, seed)
        self.desk = EvaluationDesk(self.store, self.harness, self.serving, self.encoders, query_log)
        self._queries = QueryService(self.store, self.serving, query_encoder, self._shadow, query_log)
        self._writer = ItemWriter(self.store, self.encoders)
        self._controller = MigrationController(
            MigrationDeps(
                store=self.store,
                clock=self.clock,
                encoders=self.encoders,
                harness=self.harness,
                serving=self.serving,
                seed=seed,
                data_dir=data_dir,
            )
        )
        self._startup = Startup(
            partial(self._recover, progress), {"migration": self._controller.run, "query-log": query_log.run}
        )
        self._startup.begin(wait=wait or not threads, follow=threads)

    def _recover(self, progress: Progress | None) -> None:
        self.serving.start(progress)
        self._controller.resume()

    def wait_recovered(self, timeout: float | None = None) -> bool:
        """Whether every index was at the head within ``timeout`` seconds; raises what made recovery fail."""
        return self._startup.wait(timeout)

    @property
    def controller(self) -> MigrationController:
        """Unavailable while the indexes are being recovered: gates need them."""
        self._must_have_recovered()
        return self._controller

    def _must_have_recovered(self) -> None:
        self._startup.require(self.serving.recovery.line)

    @staticmethod
    def open(
        where: str | Path,
        *,
        clock: Clock | None = None,
        time_scale: float = 1.0,
        simulated: bool | None = None,
        create: bool = True,
        shards: int | None = None,
        seed: int = 0,
        threads: bool = True,
        token: str | None = None,
        progress: Progress | None = None,
        snapshots: SnapshotSettings | None = None,
        wait: bool = True,
        durability: Durability = "fsync",
        reserve: ReserveSettings | None = None,
    ) -> Platform | RemotePlatform:
        """Opens a data directory, or connects to ``grpc://host:port``.

        A directory that a live server owns is reached through that server. ``simulated=True`` marks a new
        directory as simulated, which alone allows ``time_scale`` other than 1. ``threads=False`` runs
        nothing in the background: lanes and the migration controller are stepped by hand. ``wait=False``
        returns before the indexes are recovered: writes are taken at once, what needs an index is Unavailable
        until :meth:`wait_recovered`. ``snapshots``: when they are taken and how they are used.
        ``durability``:
        when a write is acknowledged, "fsync" or "os"; ``reserve``: what writes leave free of disk and memory;
        both are the owner's and not a server's clients' (docs/durability.md). Raises Unavailable when the
        directory is owned by a process that serves no address.
        """
        if isinstance(where, str) and where.startswith("grpc://"):
            return RemotePlatform(where.removeprefix("grpc://"), token=token)
        data_dir = Path(where)
        if not create and not data_dir.is_dir():
            raise NotFound(f"no data directory at {data_dir}: create one with `embedcore serve --data`")
        try:
            ownership = Ownership.acquire(data_dir)
        except DirectoryOwned as owned:
            owner = owned.owner
            if not owner.address:
                raise Unavailable(
                    f"{data_dir} is owned by process {owner.pid}, which serves no address; stop it first"
                ) from None
            return RemotePlatform(owner.address, stream_address=owner.stream_address or None, token=token)
        try:
            return Platform(
                data_dir,
                ownership,
                clock=clock,
                time_scale=time_scale,
                simulated=simulated,
                shards=shards,
                seed=seed,
                threads=threads,
                progress=progress,
                snapshots=snapshots,
                wait=wait,
                durability=durability,
                reserve=reserve,
            )
        except BaseException:
            ownership.release()
            raise

    def _clock(self, time_scale: float) -> Clock:
        """The clock of this directory. Scaled time goes on from where it was, also across restarts."""
        if not self.store.simulated:
            if time_scale != 1.0:
                raise FailedPrecondition(
                    f"time scale {time_scale} needs a data directory marked as simulated: create a new one "
                    f"with --simulated"
                )
            return SystemClock()
        now = time.time()
        saved = self.store.get_meta("clock")
        base = now
        if saved is not None:
            scale, origin, origin_reads = (float(part) for part in saved.split())
            base = ScaledClock(scale, origin=origin, base=origin_reads).now()
        self.store.set_meta("clock", f"{time_scale!r} {now!r} {base!r}")
        return ScaledClock(time_scale, origin=now, base=base)

    def set_time_scale(self, scale: float) -> float:
        """Runs simulated time at another speed from now on, without a jump; returns the clock's reading.

        FailedPrecondition outside a data directory marked as simulated."""
        if not isinstance(self.clock, ScaledClock):
            raise FailedPrecondition("the time scale can only be set in a simulated data directory")
        if not (math.isfinite(scale) and scale > 0):
            raise InvalidArgument(f"the time scale must be positive and finite, got {scale}")
        state = self.clock.rescale(scale)
        self.store.set_meta("clock", " ".join(repr(part) for part in state))
        return self.clock.now()

    def publish_address(self, address: str, stream_address: str) -> None:
        """Lets other processes that open this directory connect to the server of this one."""
        self._ownership.publish_address(address, stream_address)

    def close(self) -> None:
        """Stops the workers, saves snapshots, releases the directory. Calling it again does nothing. A
        recovery that is under way is given up, without a snapshot."""
        if self._closed:
            return
        self._closed = True
        self._startup.stop()
        recovered = self._startup.done
        if not recovered:
            self.serving.stop()
        self._controller.close()
        self._startup.join(timeout=60)
        self._shadow.close()
        try:
            self.desk.query_log.flush()
            if recovered and self.serving.snapshots.settings.at_close:
                self.serving.save_snapshots()
        finally:
            self.serving.close()
            self.store.close()  # gives up the directory

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def snapshot(self) -> list[SnapshotTaken]:
        self._must_have_recovered()
        return [
            SnapshotTaken(lane.generation, lane.shard, int(path.stem), str(path), path.stat().st_size)
            for lane, path in self.serving.save_snapshots()
        ]

    def verify(self, sample: int = 1000) -> dict[str, Any]:
        if sample < 0:
            raise InvalidArgument(f"the sample must be 0 or more vectors, got {sample}")
        self._must_have_recovered()
        return Verifier(self.store, self.serving).run(sample).document()

    def backup(self, destination: str, *, progress: Progress | None = None) -> dict[str, Any]:
        """``progress`` is told what is done, how many bytes of it, of how many."""
        found = [
            SnapshotFile(generation.number, shard, *newest)
            for generation in self.store.generations()
            if generation.live
            for shard in range(generation.shards)
            if (newest := self.serving.snapshots.newest(generation.number, shard)) is not None
        ]
        return write_backup(self.store, destination, found, version=embedcore.__version__, progress=progress)

    # Items and queries.

    def upsert(self, items: Sequence[Item]) -> WriteReceipt:
        return self._writer.upsert(items)

    def delete(self, ids: Sequence[str], namespace: str = "") -> WriteReceipt:
        if any(not item_id for item_id in ids):
            raise InvalidArgument("an id to delete is empty")
        return self.store.delete_items(ids, namespace)

    def get_item(self, item_id: str, namespace: str = "") -> StoredItem:
        item = self.store.get_item(item_id, namespace)
        if item is None or item.deleted:
            raise NotFound(f"no item {item_id!r} in namespace {namespace!r}")
        return item

    def search(self, request: SearchRequest) -> SearchAnswer:
        return self._queries.search(request)

    def search_batch(self, requests: Sequence[SearchRequest]) -> list[SearchAnswer]:
        return self._queries.search_batch(requests)

    def embed(self, model: str, texts: Sequence[str]) -> tuple[Fingerprint, Vectors]:
        encoder = self.encoders.get(model)
        return encoder.fingerprint, self.encoders.encode_queries(model, texts)

    # Registries.

    def consumers(self) -> list[Consumer]:
        return self.store.consumers()

    def set_consumer(self, consumer: Consumer) -> Consumer:
        self.store.put_consumer(consumer)
        self.serving.refresh_routes()
        self.desk.query_log.flush()  # a consumer that opts out is forgotten at once
        return consumer

    def models(self) -> list[ModelSpec]:
        return self.store.models()

    def register_model(self, spec: ModelSpec, encoder: Encoder | None = None) -> ModelSpec:
        """Registers a model; ``encoder`` gives the implementation of a ``callable`` one in this process."""
        known = {m.name: m for m in self.store.models()}.get(spec.name)
        if known is not None and known != spec:
            raise FailedPrecondition(
                f"model {spec.name!r} is registered with fingerprint {known.fingerprint.digest}: a changed "
                f"model needs a new name"
            )
        self.encoders.register(spec, encoder)
        self.store.put_model(spec)
        return spec

    def generations(self) -> list[GenerationStatus]:
        return [
            GenerationStatus(
                generation=g,
                items=self.serving.index_size(g.number),
                applied=self.serving.lanes_at(g.number),
            )
            for g in self.store.generations()
        ]

    def create_generation(self, model: str) -> Generation:
        if self.store.generations():
            raise FailedPrecondition(
                "a generation exists: a further one comes from `embedcore migrate start`"
            )
        if model not in {m.name for m in self.store.models()}:
            raise NotFound(f"model {model!r} is not registered: register it with `embedcore models register`")
        generation = self.store.create_generation(model, "serving", self.clock.now())
        self.serving.attach_generation(generation)
        self.serving.refresh_routes()
        return generation

    def status(self) -> PlatformStatus:
        return PlatformStatus(
            ready=bool(self.serving.routes) and self.serving.recovery.done,
            live_items=self.store.live_items(),
            repair_queue=self.store.repair_count(),
            simulated=self.store.simulated,
            now=self.clock.now(),
            time_scale=self.clock.scale,
            version=embedcore.__version__,
            details={
                "counters": {
                    name: summarise(self.serving.router.counters(slot))
                    for name, slot in self.serving.slots.items()
                    if name in self.serving.routes
                },
                "lanes": self.serving.lanes.stats(),
                "recovery": self.serving.recovery.status(),
                "store": self.store.stats(),
            },
        )

    # Migrations.

    def start_migration(
        self, target_model: str, plan: Plan | None = None, *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus:
        return self.controller.start(target_model, plan, who=who, why=why, override=override)

    def migration(self, migration_id: str = "") -> MigrationStatus:
        return self.controller.status(migration_id)

    def migrations(self) -> list[MigrationStatus]:
        return self.controller.list()

    def migration_events(self, migration_id: str = "", after: int = 0) -> list[MigrationEvent]:
        return self.controller.events(migration_id, after)

    def watch_migration(self, migration_id: str = "") -> Iterator[MigrationStatus]:
        return self.controller.watch(migration_id)

    def set_weight(
        self, migration_id: str, consumer: str, weight: float, *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus:
        return self.controller.set_weight(migration_id, consumer, weight, who=who, why=why, override=override)

    def pause_migration(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus:
        return self.controller.pause(migration_id, who=who, why=why)

    def resume_migration(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus:
        return self.controller.unpause(migration_id, who=who, why=why)

    def extend_window(self, migration_id: str, seconds: float, *, who: str, why: str) -> MigrationStatus:
        return self.controller.extend_window(migration_id, seconds, who=who, why=why)

    def revert_consumer(
        self, migration_id: str, consumer: str, *, who: str, why: str = ""
    ) -> MigrationStatus:
        return self.controller.revert(migration_id, consumer, who=who, why=why)

    def cutover(
        self, migration_id: str = "", *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus:
        return self.controller.cutover(migration_id, who=who, why=why, override=override)

    def rollback(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus:
        return self.controller.rollback(migration_id, who=who, why=why)

    def abort_migration(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus:
        return self.controller.abort(migration_id, who=who, why=why)

    def decommission(
        self, migration_id: str = "", *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus:
        return self.controller.decommission(migration_id, who=who, why=why, override=override)

    # Evaluation and engagement.

    def import_golden_set(self, golden: GoldenSet, *, gate: bool = True) -> dict[str, Any]:
        return self.desk.import_golden_set(golden, gate)

    def golden_sets(self) -> list[dict[str, Any]]:
        return self.desk.golden_sets()

    def sample_queries(
        self,
        consumer: str,
        buckets: Mapping[str, int],
        *,
        depth: int = 10,
        min_count: int = 2,
        seed: int = 0,
    ) -> dict[str, Any]:
        return self.desk.sample_queries(consumer, buckets, depth=depth, min_count=min_count, seed=seed)

    def evaluate(self, consumer: str, generation: int = 0, *, golden_set: str = "") -> dict[str, Any]:
        who, number = self._consumer(consumer), generation or self._serving()
        return self.harness.evaluate(who, number, golden_set=golden_set).to_document()

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
        return self.harness.compare(
            self._consumer(consumer),
            source,
            target,
            plan,
            equal_freshness=equal_freshness,
            golden_set=golden_set,
        ).to_document()

    def evaluation_report(
        self,
        source: int = 0,
        target: int = 0,
        *,
        consumers: Sequence[str] = (),
        plan: Plan | None = None,
        migration_id: str = "",
    ) -> dict[str, Any]:
        if bool(source) != bool(target):
            raise InvalidArgument("a report is of a source and a target generation: name both, or neither")
        if not source:
            migration = self.controller.status(migration_id).migration
            if not migration.target:
                raise FailedPrecondition(f"migration {migration.id} has no target generation yet")
            source, target, plan = migration.source, migration.target, plan or migration.plan
        return self.desk.report(source, target, consumers, plan)

    def calibrate_ef(self, consumer: str, generation: int = 0, *, apply: bool = False) -> dict[str, Any]:
        who, number = self._consumer(consumer), generation or self._serving()
        found = self.harness.calibrator.ef_search(who, number)
        if apply:
            if found.ef_search is None:
                raise FailedPrecondition(
                    f"no ef_search up to {found.tested[0].ef_search} reaches recall {found.target} with "
                    f"95% confidence (recall {found.tested[0].recall:.3f}); rebuild the index, or lower "
                    "index_recall"
                )
            current = self._consumer(consumer)
            known = {**current.ef_by_generation, number: found.ef_search}
            self.set_consumer(current.model_copy(update={"ef_by_generation": known}))
        return found.to_document() | {"applied": apply}

    def calibrate_scores(self, source: int, target: int) -> dict[str, Any]:
        return self.desk.calibrate_scores(source, target)

    def check_parity(self) -> dict[str, Any]:
        return self.desk.check_parity()

    def preflight(self, target_model: str, plan: Plan | None = None) -> dict[str, Any]:
        return self.desk.preflight(self._serving(), target_model, plan)

    def report_engagement(
        self, consumer: str, arm: str, totals: Mapping[str, float], *, simulated: bool, migration_id: str = ""
    ) -> None:
        self._consumer(consumer)
        if arm not in ("control", "canary"):
            raise InvalidArgument(f"arm must be 'control' or 'canary', got {arm!r}")
        if simulated and not self.store.simulated:
            raise FailedPrecondition("simulated engagement is refused outside a simulated data directory")
        migration = self.controller.status(migration_id).migration
        self.store.add_engagement(migration.id, consumer, arm, totals, simulated)

    def compare_engagement(self, consumer: str, migration_id: str = "") -> dict[str, Any]:
        gate = self.controller.engagement_gate(self._consumer(consumer), migration_id).model_dump()
        migration = self.controller.status(migration_id).migration
        prediction = self.desk.lift.get(migration.id, consumer)
        return gate | {"prediction": None if prediction is None else prediction.model_dump()}

    def _consumer(self, name: str) -> Consumer:
        consumer = {c.name: c for c in self.store.consumers()}.get(name)
        if consumer is None:
            raise NotFound(f"unknown consumer {name!r}; `embedcore consumers list` shows the known ones")
        return consumer

    def _serving(self) -> int:
        route = next(iter(self.serving.routes.values()), None)
        if route is None:
            raise Unavailable("no generation serves yet")
        return route.target if route.target and route.weight == 1.0 else route.source
