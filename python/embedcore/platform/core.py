"""What all parts of one platform share: what it is wired of, how it comes up and how it ends."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

from embedcore.clock import Clock, SystemClock
from embedcore.encoders.registry import EncoderRegistry
from embedcore.errors import ResourceExhausted, Unavailable
from embedcore.evaluation.desk import EvaluationDesk
from embedcore.evaluation.golden import GoldenRegistry
from embedcore.evaluation.harness import Harness
from embedcore.evaluation.query_log import QueryLog
from embedcore.migration.controller import MigrationController, MigrationDeps
from embedcore.platform.clocks import clock_of
from embedcore.platform.startup import Startup
from embedcore.serving.encoding import QueryEncoder
from embedcore.serving.query import QueryService
from embedcore.serving.serving import Serving
from embedcore.serving.shadow import ShadowRunner
from embedcore.serving.snapshots import SnapshotSettings
from embedcore.serving.writing import ItemWriter
from embedcore.store import open_store
from embedcore.store.dialect import Durability
from embedcore.store.ownership import Ownership
from embedcore.store.reserve import ReserveSettings
from embedcore.types import DEFAULT_CONSUMERS

_logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a data directory is opened: the arguments of :meth:`embedcore.Platform.open`."""

    clock: Clock | None = None
    time_scale: float = 1.0
    simulated: bool | None = None
    shards: int | None = None
    seed: int = 0
    threads: bool = True
    progress: Progress | None = None
    snapshots: SnapshotSettings | None = None
    wait: bool = True
    durability: Durability = "fsync"
    reserve: ReserveSettings | None = None


class PlatformCore:
    """The wiring and the life of a platform; every method may be called from any thread."""

    def __init__(self, ownership: Ownership, settings: Settings) -> None:
        self.data_dir = ownership.data_dir
        self._ownership = ownership
        self._closed = False
        self._creating = threading.Lock()  # of the first generation: two callers must not both find none
        self.store = open_store(
            self.data_dir,
            settings.clock or SystemClock(),
            shards=settings.shards,
            simulated=settings.simulated,
            ownership=ownership,
            durability=settings.durability,
            reserve=settings.reserve,
        )
        self.clock = settings.clock or clock_of(self.store, settings.time_scale)
        self.store.use_clock(self.clock)
        for consumer in DEFAULT_CONSUMERS if not self.store.consumers() else ():
            self.store.put_consumer(consumer)
        self.encoders = EncoderRegistry()
        for spec in self.store.models():
            self.encoders.register(spec)
        seed, threads = settings.seed, settings.threads
        self.serving = Serving(
            self.store, self.clock, self.data_dir, seed=seed, threads=threads, snapshots=settings.snapshots
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
                data_dir=self.data_dir,
            )
        )
        self._startup = Startup(
            partial(self._recover, settings.progress),
            {"migration": self._controller.run, "query-log": query_log.run},
        )
        self._startup.begin(wait=settings.wait or not threads, follow=threads)

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

    def _serving_generation(self) -> int:
        """The generation that answers; while two do, the source."""
        route = next(iter(self.serving.routes.values()), None)
        if route is None:
            raise Unavailable("no generation serves yet")
        return route.target if route.target and route.weight == 1.0 else route.source

    def publish_address(self, address: str, stream_address: str) -> None:
        """Lets other processes that open this directory connect to the server of this one. On a full disk
        they have to be told where it listens."""
        try:
            self._ownership.publish_address(address, stream_address)
        except ResourceExhausted as error:
            _logger.warning("name %s to those who open this directory: %s", address, error.message)

    def close(self) -> None:
        """Stops the workers, saves snapshots, releases the directory. Calling it again does nothing. A
        recovery that is under way is given up, without a snapshot. On a full disk it ends as well: what is
        lost then are snapshots and the last of the query log."""
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
            self.desk.query_log.flush_or_log()
            if recovered and self.serving.snapshots.settings.at_close:
                self.serving.save_last_snapshots()
        finally:
            self.serving.close()
            self.store.close()  # gives up the directory

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
