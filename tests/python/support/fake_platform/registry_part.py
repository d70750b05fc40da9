"""Registries, and the state of the whole: status, snapshots, verification, backups, simulated time."""

from __future__ import annotations

from typing import Any

import numpy as np

from embedcore.api import GenerationStatus, PlatformStatus, SnapshotTaken
from embedcore.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from embedcore.types import Consumer, Generation, ModelSpec
from support.fake_platform.core import NOW, TOY, FakeCore


class RegistryPart(FakeCore):
    def __init__(self) -> None:
        super().__init__()
        self.made = [
            Generation(number=1, model="toy", fingerprint=TOY.fingerprint, state="serving", created_at=NOW)
        ]

    def consumers(self) -> list[Consumer]:
        self._enter("consumers")
        return list(self.known.values())

    def set_consumer(self, consumer: Consumer) -> Consumer:
        self._enter("set_consumer")
        self.known[consumer.name] = consumer
        return consumer

    def models(self) -> list[ModelSpec]:
        return list(self.registered.values())

    def register_model(self, spec: ModelSpec) -> ModelSpec:
        if self.registered.setdefault(spec.name, spec) != spec:
            raise AlreadyExists(f"model {spec.name!r} is registered with another fingerprint")
        return spec

    def generations(self) -> list[GenerationStatus]:
        return [GenerationStatus(one, len(self.items), {0: self.sequence}) for one in self.made]

    def create_generation(self, model: str) -> Generation:
        raise FailedPrecondition(f"generation 1 exists: start a migration to {model}")

    def status(self) -> PlatformStatus:
        self._enter("status")
        details = {"memory": {"index": 4096}, "lag": np.float32(0.5)}
        return PlatformStatus(True, len(self.items), 0, False, NOW, 1.0, "0.1.0", details)

    def snapshot(self) -> list[SnapshotTaken]:
        self._enter("snapshot")
        return [SnapshotTaken(1, 0, self.sequence, f"/data/snapshots/g1-s0/{self.sequence}.ecx", 4096)]

    def verify(self, sample: int = 1000) -> dict[str, Any]:
        self._enter("verify")
        return {
            "problems": ["store: planted"],
            "checked": [{"what": "store", "items": sample}],
            "seconds": 0.5,
        }

    def backup(self, destination: str) -> dict[str, Any]:
        self._enter("backup")
        if destination.startswith("/taken"):
            raise FailedPrecondition(f"{destination} is not empty: a backup goes to a new directory")
        files = [{"name": "store.sqlite", "bytes": 4096, "sha256": "00"}]
        return {"destination": destination, "live_items": len(self.items), "files": files, "problems": []}

    def set_time_scale(self, scale: float) -> float:
        self._enter("set_time_scale")
        if scale <= 0:
            raise InvalidArgument(f"the time scale must be positive, got {scale}")
        return NOW * scale
