"""The durable state of migrations: documents and events, each change one transaction, then the routes.

Every change goes through :meth:`Journal.update`: it reads the newest document under a lock, applies a small
pure function and commits the result with its events. Long work (an evaluation, an encoding) is done outside
and brings only its result, so a revert never waits for an evaluation, and an evaluation that comes too late
sees that its consumer has moved on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from embedcore.clock import Clock
from embedcore.errors import NotFound
from embedcore.migration.interface import ServingControl
from embedcore.migration_types import Migration, MigrationEvent
from embedcore.store.interface import Store
from embedcore.types import Generation

log = logging.getLogger(__name__)

CONTROLLER = "controller"  # who, for what the plan does by itself


class Note(NamedTuple):
    """An event to be recorded; number and time are given when it is."""

    what: str
    why: str
    who: str = CONTROLLER
    evidence: dict[str, Any] = {}  # noqa: RUF012  never changed in place


@dataclass(frozen=True, slots=True)
class Change:
    """A new document with its events and changed generations: one transaction."""

    migration: Migration
    notes: Sequence[Note] = ()
    generations: Sequence[Generation] = field(default=())


class Journal:
    """All methods may be called from any thread. One journal leads at a time: the store's epoch sees to it
    that a controller that was replaced can change nothing any more."""

    def __init__(self, store: Store, clock: Clock, serving: ServingControl) -> None:
        self._store: Store = store
        self._clock = clock
        self._serving = serving
        self._lock = threading.RLock()  # documents and event numbers
        self._routes = threading.Lock()  # one refresh at a time, so that the last one reads the newest
        self._epoch = 0
        self._documents: dict[str, Migration] = {}
        self._numbers: dict[str, int] = {}
        self._loaded = False
        self._stale = False  # documents changed and the routes have not followed yet
        self.changed = threading.Condition()
        self.version = 0  # grows with every change; guarded by ``changed``

    def lead(self) -> None:
        """Takes leadership once. Called by the first change, or by a restart before it reads anything."""
        with self._lock:
            if self._epoch == 0:
                self._epoch = self._store.acquire_epoch("migration controller")
                self._store = self._store.leading(self._epoch)
            self._load()

    @property
    def store(self) -> Store:
        """What the controller writes through: once it leads, every write checks that it still does."""
        return self._store

    # Reading.

    def all(self) -> list[Migration]:
        """Oldest first."""
        with self._lock:
            self._load()
            return sorted(self._documents.values(), key=lambda m: (m.created_at, m.id))

    def get(self, migration_id: str = "") -> Migration:
        """By id; empty: the latest. NotFound names what there is."""
        known = self.all()
        if not known:
            raise NotFound("there is no migration yet: start one with `embedcore migrate start MODEL`")
        if not migration_id:
            return known[-1]
        with self._lock:
            found = self._documents.get(migration_id)
        if found is None:
            raise NotFound(f"no migration {migration_id!r}; known: {', '.join(m.id for m in known)}")
        return found

    def running(self) -> Migration | None:
        """The one that has not finished."""
        return next((m for m in self.all() if not m.finished), None)

    def events(self, migration_id: str, after: int = 0) -> list[MigrationEvent]:
        """Oldest first, numbered from 1 without holes."""
        return self._store.events(migration_id, after)

    def last_number(self, migration_id: str) -> int:
        with self._lock:
            self._load()
            return self._number(migration_id)

    # Changing.

    def create(self, document: Migration, *notes: Note) -> Migration:
        """A new migration; its id is given here."""
        with self._lock:
            self.lead()
            number = len(self._documents) + 1
            return self._put(Change(document.model_copy(update={"id": f"m{number}"}), notes))

    def update(self, migration_id: str, change: Callable[[Migration], Change | None]) -> Migration:
        """Applies ``change`` to the newest document; None leaves it. The routes have followed on return.

        ``change`` runs under the lock: it must be short, and take no other lock.
        """
        with self._lock:
            self.lead()
            current = self._documents[migration_id]
            wanted = change(current)
            if wanted is None:
                return current
            document = self._put(wanted)
            if wanted.generations or _routing(document) != _routing(current):
                self._stale = True
        self.publish()
        return document

    def note(self, migration_id: str, *notes: Note) -> None:
        """Records events without changing the document."""
        self.update(migration_id, lambda m: Change(m, notes))

    def publish(self) -> None:
        """Refreshes the routes when documents changed since they were last; a failure is tried again."""
        with self._routes:
            if not self._stale:
                return
            self._stale = False
            try:
                self._serving.refresh_routes()
            except BaseException:
                self._stale = True
                raise

    def require_publish(self) -> None:
        """Makes the next :meth:`publish` refresh, whatever this process knows: after a restart."""
        with self._routes:
            self._stale = True

    def wait(self, seen: int, seconds: float) -> int:
        """Waits (machine time) until the version is not ``seen`` any more; returns the version."""
        with self.changed:
            self.changed.wait_for(lambda: self.version != seen, timeout=seconds)
            return self.version

    def wake(self) -> None:
        """Ends the waiting of watchers."""
        with self.changed:
            self.version += 1
            self.changed.notify_all()

    def _put(self, change: Change) -> Migration:
        document = change.migration
        number = self._number(document.id)
        now = self._clock.now()
        events = [
            MigrationEvent(
                migration=document.id,
                number=number + place,
                at=now,
                who=note.who,
                what=note.what,
                why=note.why,
                evidence=note.evidence,
            )
            for place, note in enumerate(change.notes, start=1)
        ]
        self._store.put_migration(document, events, self._epoch, change.generations)
        self._documents[document.id] = document
        self._numbers[document.id] = number + len(events)
        for event in events:
            log.info("migration %s: %s by %s: %s", document.id, event.what, event.who, event.why)
        self.wake()
        return document

    def _number(self, migration_id: str) -> int:
        if migration_id not in self._numbers:
            recorded = self._store.events(migration_id)
            self._numbers[migration_id] = recorded[-1].number if recorded else 0
        return self._numbers[migration_id]

    def _load(self) -> None:
        if not self._loaded:
            self._documents = {m.id: m for m in self._store.migrations()}
            self._loaded = True


def _routing(document: Migration) -> object:
    """What of a document decides routes: nothing else needs a refresh."""
    return (
        document.phase,
        document.calibration,
        {name: (p.weight, p.canary_since is not None) for name, p in document.consumers.items()},
    )
