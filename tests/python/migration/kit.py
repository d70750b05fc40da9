"""A migration and its surroundings for tests: the real SQLite store and the doubles around it. Everything is
stepped by hand and driven by a manual clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from embedcore.clock import ManualClock
from embedcore.migration.controller import MigrationController, MigrationDeps
from embedcore.migration_types import (
    DAY,
    Migration,
    MigrationEvent,
    Phase,
    Plan,
)
from embedcore.store import SqlStore, open_store
from embedcore.store.interface import ItemWrite
from embedcore.types import WriteReceipt
from migration.doubles import (
    CONSUMERS,
    DIMENSION,
    BruteServing,
    Plenty,
    ScriptedJudge,
    ToyEncoders,
    embed,
    spec,
)
from store.builders import pragma


def lead_as_one(store: SqlStore) -> None:
    """The controller writes through this very object, so that what a test replaces in it is replaced for the
    controller as well. Epochs are checked all the same."""

    def leading(epoch: int) -> SqlStore:
        store._epoch = epoch
        return store

    store.leading = leading  # type: ignore[method-assign]


@dataclass
class World:
    """A data directory that can be closed and opened again, with everything around it."""

    path: Path
    shards: int = 1
    clock: ManualClock = field(default_factory=ManualClock)
    encoders: ToyEncoders = field(default_factory=ToyEncoders)
    probe: Plenty = field(default_factory=Plenty)

    def __post_init__(self) -> None:
        self.judge = ScriptedJudge(self.clock)
        self.store: SqlStore = None  # type: ignore[assignment]
        self.serving: BruteServing = None  # type: ignore[assignment]
        self.controller: MigrationController = None  # type: ignore[assignment]
        self.open()
        for name in DIMENSION:
            self.store.put_model(spec(name))
        for consumer in CONSUMERS:
            self.store.put_consumer(consumer)
        if not self.store.generations():
            self.serving.attach_generation(self.store.create_generation("old", "serving", self.clock.now()))
            self.serving.refresh_routes()

    def open(self) -> None:
        self.store = open_store(self.path, self.clock, shards=self.shards)
        # Power failures are the store's own tests; without fsync these here take a fifth of the time.
        pragma(self.store, "synchronous=OFF")
        lead_as_one(self.store)
        self.serving = BruteServing(self.store)
        self.controller = MigrationController(
            MigrationDeps(
                store=self.store,
                clock=self.clock,
                encoders=self.encoders,
                harness=None,
                serving=self.serving,
                seed=7,
                judge=self.judge,
                probe=self.probe,
            )
        )
        self.controller.resume()

    def reopen(self) -> None:
        """As after a crash: nothing is closed in order but the file."""
        self.store.close()
        self.open()

    def close(self) -> None:
        self.controller.close()
        self.store.close()

    # Writing as the platform does: a vector for every live generation.

    def write(self, *names: str, text: str = "text", ages: Sequence[float] | None = None) -> WriteReceipt:
        live = [g for g in self.store.generations() if g.live]
        writes = []
        for place, name in enumerate(names):
            content = f"{text} of {name}"
            writes.append(
                ItemWrite(
                    name,
                    content=content,
                    created_at=None if ages is None else self.clock.now() - ages[place],
                    vectors={g.number: embed(g.model, content) for g in live},
                )
            )
        receipt = self.store.write_items(writes)
        self.serving.drain()
        return receipt

    def corpus(self, count: int) -> list[str]:
        """Items a day apart, the first one the newest, in a shuffled order of writing."""
        names = [f"item{number:03d}" for number in range(count)]
        order = np.random.default_rng(3).permutation(count)
        self.write(*(names[i] for i in order), ages=[float(i) * DAY for i in order])
        return names

    # Running.

    def start(self, plan: Plan | None = None, **options: Any) -> str:
        return self.controller.start("new", plan, who="tester", **options).migration.id

    def tick(self, seconds: float = 1.0) -> None:
        self.clock.advance(seconds)
        self.serving.drain()
        self.controller.tick()

    def fill(self) -> int:
        """Runs the backfill until it has nothing to do; returns how many items it looked at."""
        total = 0
        while count := self.controller.backfill.step():
            total += count
        self.serving.drain()
        return total

    def blended(self, plan: Plan | None = None, items: int = 20) -> str:
        """A migration in phase BLENDED with the whole corpus in the target."""
        self.corpus(items)
        migration = self.start(plan)
        self.tick()
        self.fill()
        self.tick()
        assert self.phase is Phase.BLENDED
        return migration

    def days(self, days: float, *, step: float = 0.25, traffic: bool = True) -> None:
        """Time passes, with traffic on both arms and in the shadow."""
        left = days * DAY
        while left > 1e-6:
            if traffic:
                self.traffic()
            move = min(step * DAY, left)
            self.tick(move)
            left -= move

    def traffic(self, count: float = 100.0) -> None:
        running = next((m for m in self.store.migrations() if not m.finished), None)
        for name, route in self.serving.routes.items():
            if running is None:
                continue
            self.engage(running.id, name, "control", count)
            if route.canary_share > 0:
                self.engage(running.id, name, "canary", count)
            if self.serving.shadow is not None:
                for _ in range(30):
                    self.serving.shadow[2](name, 0.9, True)

    def engage(self, migration: str, name: str, arm: str, count: float) -> None:
        self.store.add_engagement(migration, name, arm, {"impressions": count, "clicks": count / 2}, False)

    # Looking.

    @property
    def migration(self) -> Migration:
        return self.store.migrations()[-1]

    @property
    def phase(self) -> Phase:
        return self.migration.phase

    def reads(self, name: str) -> tuple[int, ...]:
        """The generations that a consumer's queries are answered from, the canary's included."""
        route = self.serving.routes[name]
        if route.weight == 0 and route.canary_share == 0:
            return (route.source,)
        return (route.target,) if route.weight == 1 else (route.source, route.target)

    def weights(self) -> dict[str, float]:
        return {name: progress.weight for name, progress in self.migration.consumers.items()}

    def events(self, what: str = "") -> list[MigrationEvent]:
        found = self.store.events(self.migration.id)
        return [event for event in found if not what or event.what == what]

    def lacking(self, generation: int) -> list[str]:
        return [item.id for item in self.store.missing_items(generation, 10_000)]

    def number(self, name: str) -> int:
        item = self.store.get_item(name)
        assert item is not None
        return item.item
