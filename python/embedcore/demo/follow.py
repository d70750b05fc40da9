"""Follows the demo's migration to its end: samples for the report, and the acts that wait for a moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from embedcore.client import Client
from embedcore.demo.acts import Canary, revert_and_back
from embedcore.demo.pace import Pace
from embedcore.demo.processes import ServerProcess, TrafficProcess
from embedcore.demo.summary import Sample, sample_of
from embedcore.demo.workload import Workload
from embedcore.errors import Cancelled, EmbedcoreError, FailedPrecondition, NotFound, Unavailable
from embedcore.migration_types import DAY, MigrationStatus, Phase

# The kill comes when this much of the corpus is backfilled.
_KILL_AT = 0.25
_TICK_S = 0.2
_TRIES, _PAUSE_S = 5, 2.0
_STUCK = frozenset({Phase.HALTED, Phase.DEFERRED, Phase.ROLLED_BACK})


@dataclass
class Watch:
    """The newest status, and a sample of each, from one WatchMigration stream that outlives a restart."""

    client: Client
    samples: list[Sample] = field(default_factory=list)
    status: MigrationStatus | None = None

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                for status in self.client.watch_migration():
                    self.status = status
                    self.samples.append(sample_of(status, time.time()))
                    if stop.is_set() or status.migration.finished:
                        break
            except NotFound:
                pass  # not started yet
            except EmbedcoreError:
                pass  # the server was killed; the stream is opened again
            if self.status is not None and self.status.migration.finished:
                return
            stop.wait(_TICK_S)


@dataclass
class Acts:
    """What happens at its moment, each once, in threads of their own; errors are kept, not raised."""

    client: Client
    server: ServerProcess
    canary: Canary
    workload: Workload
    kill: bool
    say: Callable[[str], None]
    revert: dict[str, float] | None = None
    errors: list[str] = field(default_factory=list)
    _done: set[str] = field(default_factory=set)
    _threads: list[threading.Thread] = field(default_factory=list)
    _serial: threading.Lock = field(default_factory=threading.Lock)

    def due(self, status: MigrationStatus) -> None:
        """Starts what this status is the moment for."""
        migration = status.migration
        filling = migration.phase in (Phase.BACKFILL, Phase.BLENDED)
        if self.kill and filling and _KILL_AT <= status.coverage < 0.95 and self._first("kill"):
            self._kill()
        blended = [n for n, p in sorted(migration.consumers.items()) if 0 < p.weight < 1]
        if blended and migration.phase is Phase.BLENDED and self._first("revert"):
            name = "search" if "search" in blended else blended[0]
            weight = migration.consumers[name].weight
            self._start("revert", lambda: self._revert(name, weight))
        for name, progress in migration.consumers.items():
            if progress.canary_since is not None and self._first(f"canary {name}"):
                self._start(f"canary of {name}", lambda name=name: self.canary.report(name))  # type: ignore[misc]

    @property
    def canaries_told(self) -> bool:
        """Every consumer's canary has been reported."""
        return set(self.canary.told) >= set(self.workload.golden)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _first(self, name: str) -> bool:
        if name in self._done:
            return False
        self._done.add(name)
        return True

    def _start(self, what: str, act: Callable[[], None]) -> None:
        def run() -> None:
            with self._serial:  # one at a time: they share the machine with the traffic that is measured
                error = _tried(act)
            if error is None:
                self.say(f"{what}: done")
            else:
                self.errors.append(f"{what}: {error.message}")
                self.say(f"{what} failed: {error.message}")

        thread = threading.Thread(target=run, name=what)
        self._threads.append(thread)
        thread.start()

    def _kill(self) -> None:
        self.say("killing the server with -9")
        outage = self.server.kill_and_restart()
        self.say(f"the server is back after {outage.ended - outage.began:.1f} s")

    def _revert(self, name: str, weight: float) -> None:
        self.revert = revert_and_back(self.client, name, self.workload.golden[name].queries[0], weight)
        self.say(
            f"{name} was put back on the source in {self.revert['effective_ms']:.0f} ms, and forward again"
        )


def _tried(act: Callable[[], None]) -> EmbedcoreError | None:
    """Plays an act; once more, a few times, when the server went away in the middle of it."""
    for left in reversed(range(_TRIES)):
        try:
            act()
            return None
        except (Unavailable, Cancelled) as error:
            if left == 0:
                return error
            time.sleep(_PAUSE_S)
        except EmbedcoreError as error:
            return error
    return None


def follow(
    watch: Watch,
    acts: Acts,
    pace: Pace,
    traffic: TrafficProcess,
    show: Callable[[MigrationStatus], None],
    last_day: float,
) -> None:
    """Returns when the migration has ended. FailedPrecondition when it cannot: it is stuck, out of time
    (``last_day``: days of the platform since its first dual write), or the traffic died. A server that was
    killed from outside is started again, like one killed by plan."""
    shown: MigrationStatus | None = None
    while True:
        status = watch.status
        if status is not None and status is not shown:
            shown = status
            show(status)
            acts.due(status)
            _keep_pace(pace, acts, status)
            if status.migration.finished:
                acts.join()
                return
            _check_progress(status, last_day)
        if not traffic.alive:
            raise FailedPrecondition("the traffic process ended by itself; see traffic.log")
        if not acts.server.alive:
            acts.say("the server was killed from outside; starting it again")
            acts.server.restart()
        time.sleep(_TICK_S)


def _keep_pace(pace: Pace, acts: Acts, status: MigrationStatus) -> None:
    progress = status.migration.consumers.values()
    waiting = not acts.canaries_told or any(p.shadow_since is None for p in progress)
    try:
        pace.adjust(status, time.time(), waiting=waiting)
    except EmbedcoreError as error:
        acts.say(f"the time scale was not changed: {error.message}")


def _check_progress(status: MigrationStatus, last_day: float) -> None:
    migration = status.migration
    blockers = "; ".join(status.cutover_blockers) or "nothing was reported as missing"
    if migration.phase in _STUCK:
        raise FailedPrecondition(f"the migration went to {migration.phase.value}: {blockers}")
    began = migration.dual_write_at
    if began is not None and status.now - began > last_day * DAY:
        raise FailedPrecondition(
            f"the migration did not end within {last_day:g} simulated days: {blockers}; if the machine was"
            " busy with other work, give the week more time with a smaller --time-scale"
        )
