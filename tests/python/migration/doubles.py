"""What stands in for models, indexes, judgement and the machine around a migration: toy encoders, brute-force
serving, a scripted judge."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcore.clock import ManualClock
from embedcore.errors import NotFound
from embedcore.evaluation.lift import LiftFit
from embedcore.migration.gates import result
from embedcore.migration.judge import Arms, PreflightVerdict
from embedcore.migration_types import (
    ConsumerProgress,
    GateResult,
    Plan,
)
from embedcore.serving.routes import Route, routes_of, running_migration
from embedcore.store import SqlStore
from embedcore.types import Consumer, Fingerprint, Generation, ModelSpec, Vector, Vectors

DIMENSION = {"old": 8, "new": 12, "other": 12}
NAMES = ("ads", "search")
CONSUMERS = tuple(Consumer(name=name, k=3, quality_target=0.5, engagement_min_count=10) for name in NAMES)


def spec(name: str) -> ModelSpec:
    fingerprint = Fingerprint(model=name, revision="1", dimension=DIMENSION[name])
    return ModelSpec(name=name, backend="callable", fingerprint=fingerprint)


def embed(model: str, text: str) -> Vector:
    """A unit vector that depends on the model and on every character of the text."""
    seed = int.from_bytes(hashlib.blake2b(f"{model}/{text}".encode(), digest_size=8).digest())
    row = np.random.default_rng(seed).standard_normal(DIMENSION[model])
    return (row / np.linalg.norm(row)).astype(np.float32)


class ToyEncoders:
    """Counts every text per model. ``before`` is called with a batch's texts before it is encoded: to write
    in the middle of an encoding, to fail, or to die."""

    def __init__(self) -> None:
        self.encoded: dict[str, list[str]] = {name: [] for name in DIMENSION}
        self.before: Callable[[str, Sequence[str]], None] = lambda model, texts: None

    def encode_bulk(self, model: str, texts: Sequence[str]) -> Vectors:
        self.before(model, texts)
        self.encoded[model] += texts
        return np.stack([embed(model, text) for text in texts])


class BruteServing:
    """Serving without indexes: per generation a dict that follows the store's lanes when stepped."""

    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self.held: dict[int, dict[int, Vector]] = {}
        self.at: dict[int, dict[int, int]] = {}
        self.routes: dict[str, Route] = {}
        self.calls: list[str] = []
        self.refusing: dict[int, list[int]] = {}
        self.shadow: tuple[float, int, Callable[[str, float, bool], None]] | None = None
        self.fail: dict[str, Exception] = {}
        for generation in store.generations():
            if generation.live:
                self.attach_generation(generation)
        self.refresh_routes()

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name.split(" ")[0] in self.fail:
            raise self.fail[name.split(" ")[0]]

    def attach_generation(self, generation: Generation) -> None:
        self._call(f"attach {generation.number}")
        self.held.setdefault(generation.number, {})
        self.at.setdefault(generation.number, dict.fromkeys(range(self.store.shards), 0))

    def detach_generation(self, number: int) -> None:
        self._call(f"detach {number}")
        assert all(number not in route.generations for route in self.routes.values()), "still routed"
        self.held.pop(number, None)
        self.at.pop(number, None)

    def refresh_routes(self) -> None:
        self._call("refresh")
        routes = routes_of(
            self.store.consumers(), self.store.generations(), running_migration(self.store.migrations())
        )
        self.routes = {route.consumer: route for route in routes}

    def applied(self, generation: int) -> Mapping[int, int]:
        if generation not in self.at:
            raise NotFound(f"generation {generation} is not attached")
        return dict(self.at[generation])

    def drain(self) -> None:
        for generation, shards in list(self.at.items()):  # the controller's thread attaches and detaches
            held = self.held.get(generation, {})
            for shard in shards:
                while (batch := self.store.read_lane(generation, shard, shards[shard], 512)) is not None:
                    for item in batch.removed.tolist():
                        held.pop(item, None)
                    held.update(zip(batch.ids.tolist(), batch.vectors, strict=True))
                    shards[shard] = batch.upto

    def index_holds(self, generation: int, items: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.array([int(i) in self.held[generation] for i in items], np.bool_)

    def index_vectors_agree(
        self, generation: int, items: NDArray[np.int64], vectors: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        held = self.held[generation]
        return np.array(
            [int(i) in held and np.array_equal(held[int(i)], v) for i, v in zip(items, vectors, strict=True)],
            np.bool_,
        )

    def refused(self, generation: int) -> list[int]:
        return self.refusing.get(generation, [])

    def index_size(self, generation: int) -> int:
        return len(self.held.get(generation, {}))

    def set_shadow(
        self, share: float, generation: int, record: Callable[[str, float, bool], None] | None
    ) -> None:
        self._call(f"shadow {share}")
        self.shadow = None if record is None else (share, generation, record)


def good(gate: str, at: float, **evidence: Any) -> GateResult:
    return result(gate, True, f"{gate}: good", at, **{"difference": 0.01, **evidence})


def bad(gate: str, why: str = "bad", **evidence: Any) -> GateResult:
    return result(gate, False, f"{gate}: {why}", 0.0, **evidence)


class ScriptedJudge:
    """Passes everything until told otherwise: ``say[method, consumer]`` are the gates to answer with (""
    for all consumers). Every question is in ``asked``."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.say: dict[tuple[str, str], Sequence[GateResult]] = {}
        self.fail: dict[str, Exception] = {}
        self.asked: list[tuple[str, str, float]] = []
        self.seeds: list[int] = []
        self.fitted: dict[str, LiftFit] = {}  # consumer -> what its past canaries say

    def _ask(self, method: str, consumer: str = "", weight: float = 0.0) -> Sequence[GateResult] | None:
        self.asked.append((method, consumer, weight))
        if method in self.fail:
            raise self.fail[method]
        return self.say.get((method, consumer)) or self.say.get((method, ""))

    def preflight(
        self, consumers: Sequence[Consumer], source: Generation, target_model: str, plan: Plan
    ) -> PreflightVerdict:
        said = self._ask("preflight")
        gates = said or [good("norms", self.clock.now())]
        return PreflightVerdict(gates, "full", {c.name: 0.8 for c in consumers}, {"items": 3})

    def offline(self, consumer: Consumer, source: int, target: int, plan: Plan) -> Sequence[GateResult]:
        said = self._ask("offline", consumer.name)
        at = self.clock.now()
        return said or [good("quality", at), good("long_tail", at), good("target", at)]

    def blended(
        self, consumer: Consumer, source: int, target: int, weight: float, plan: Plan, seed: int
    ) -> GateResult:
        self.seeds.append(seed)
        said = self._ask("blended", consumer.name, weight)
        return said[0] if said else good("blended", self.clock.now())

    def engagement(
        self, consumer: Consumer, progress: ConsumerProgress, arms: Arms, plan: Plan, at: float
    ) -> GateResult:
        said = self._ask("engagement", consumer.name)
        if said:
            return said[0]
        counted = min(arms.get(arm, {}).get("impressions", 0.0) for arm in ("control", "canary"))
        enough = counted >= consumer.engagement_min_count
        summary = f"{consumer.name}: engagement: {counted:.0f} events" + ("" if enough else ", no evidence")
        return result("engagement", enough, summary, at, counted=counted)

    def calibrate(self, source: int, target: int) -> bytes:
        self._ask("calibrate")
        return b"calibration %d" % len([1 for method, _, _ in self.asked if method == "calibrate"])

    def predict_lift(self, migration: str, consumer: Consumer, progress: ConsumerProgress, at: float) -> None:
        self._ask("predict_lift", consumer.name)

    def fitted_lift(self, migration: str, consumer: str, gain: float) -> LiftFit | None:
        self._ask("fitted_lift", consumer, gain)
        return self.fitted.get(consumer)

    def score_lift(self, migration: str, consumer: str, canary: GateResult, at: float) -> None:
        self._ask("score_lift", consumer)


@dataclass
class Plenty:
    """A machine with room."""

    memory: int = 1 << 40
    disk: int = 1 << 40

    def free_memory(self) -> int:
        return self.memory

    def free_disk(self) -> int:
        return self.disk
