"""Migrations: the controller's verbs, refused while the indexes are being recovered."""

from __future__ import annotations

from collections.abc import Iterator

from embedcore.migration_types import MigrationEvent, MigrationStatus, Plan
from embedcore.platform.core import PlatformCore


class MigrationPart(PlatformCore):
    """See :class:`embedcore.api.PlatformApi`."""

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
