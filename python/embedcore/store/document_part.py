"""Documents: the registries, the controller's migrations, blobs and engagement."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

from sqlalchemy import Connection

from embedcore.migration_types import Migration, MigrationEvent
from embedcore.store import controller, creation, evaluation_rows
from embedcore.store import generations as generation_rows
from embedcore.store.core import StorePart
from embedcore.types import Consumer, Generation, ModelSpec

T = TypeVar("T")


class DocumentPart(StorePart):
    """See :class:`embedcore.store.interface.Store`."""

    def get_meta(self, key: str) -> str | None:
        with self._read() as connection:
            return creation.read_meta(connection, key)

    def set_meta(self, key: str, value: str) -> None:
        self._run(lambda connection: creation.write_meta(connection, key, value))

    def consumers(self) -> list[Consumer]:
        return list(self._known("consumers", evaluation_rows.read_consumers))

    def put_consumer(self, consumer: Consumer) -> None:
        self._run_on_documents(lambda connection: evaluation_rows.put_consumer(connection, consumer))

    def models(self) -> list[ModelSpec]:
        with self._read() as connection:
            return generation_rows.read_models(connection)

    def put_model(self, spec: ModelSpec) -> None:
        self._run(lambda connection: generation_rows.put_model(connection, spec))

    def generations(self) -> list[Generation]:
        return list(self._known("generations", generation_rows.read_generations))

    def create_generation(self, model: str, state: str, created_at: float) -> Generation:
        return self._run_on_documents(
            lambda connection: generation_rows.create_generation(connection, model, state, created_at)
        )

    def put_generation(self, generation: Generation) -> None:
        self._run_on_documents(lambda connection: generation_rows.put_generation(connection, generation))

    # Of the controller.

    def acquire_epoch(self, owner: str) -> int:
        return self._core.database.write(
            lambda transaction: controller.acquire_epoch(transaction.connection, owner, self._now())
        )

    def migrations(self) -> list[Migration]:
        with self._read() as connection:
            return controller.read_migrations(connection)

    def migration(self, migration_id: str) -> Migration | None:
        with self._read() as connection:
            return controller.read_migration(connection, migration_id)

    def put_migration(
        self,
        migration: Migration,
        events: Sequence[MigrationEvent],
        epoch: int,
        generations: Sequence[Generation] = (),
    ) -> None:
        def work(connection: Connection) -> None:
            controller.put_migration(connection, migration, events, epoch, generations)

        if generations:
            self._run_on_documents(work)
        else:
            self._run(work)

    def events(self, migration_id: str, after: int = 0) -> list[MigrationEvent]:
        with self._read() as connection:
            return controller.read_events(connection, migration_id, after)

    # Of the evaluation.

    def put_blob(self, kind: str, name: str, value: bytes) -> None:
        self._run(lambda connection: evaluation_rows.put_blob(connection, kind, name, value))

    def get_blob(self, kind: str, name: str) -> bytes | None:
        with self._read() as connection:
            return evaluation_rows.get_blob(connection, kind, name)

    def blob_names(self, kind: str) -> list[str]:
        with self._read() as connection:
            return evaluation_rows.blob_names(connection, kind)

    def add_engagement(
        self, migration: str, consumer: str, arm: str, totals: Mapping[str, float], simulated: bool
    ) -> None:
        def work(connection: Connection) -> None:
            evaluation_rows.add_engagement(connection, migration, consumer, arm, totals, simulated)

        self._run_on_documents(work)

    def engagement(self, migration: str, consumer: str) -> dict[str, dict[str, float]]:
        found = self._known(
            ("engagement", migration, consumer),
            lambda connection: evaluation_rows.read_engagement(connection, migration, consumer),
        )
        return {arm: dict(totals) for arm, totals in found.items()}

    def _known(self, key: Hashable, read: Callable[[Connection], T]) -> T:
        """From memory, where no commit has changed a document since it was read."""

        def fresh() -> T:
            with self._read() as connection:
                return read(connection)

        return self._core.documents.get(key, fresh)
