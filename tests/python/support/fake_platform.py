"""A platform in dicts, with PlatformApi's methods and refusals: what the server's tests stand on."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from embedcore.api import GenerationStatus, PlatformApi, PlatformStatus, SnapshotTaken
from embedcore.errors import AlreadyExists, FailedPrecondition, GateNotMet, InvalidArgument, NotFound
from embedcore.migration_types import (
    ConsumerProgress,
    GateResult,
    Migration,
    MigrationEvent,
    MigrationStatus,
    Phase,
    Plan,
)
from embedcore.types import (
    DEFAULT_CONSUMERS,
    Consumer,
    Fingerprint,
    Generation,
    Hit,
    Item,
    ModelSpec,
    Provenance,
    SearchAnswer,
    SearchRequest,
    StoredItem,
    Vectors,
    WriteReceipt,
)

if TYPE_CHECKING:
    from embedcore.evaluation.golden import GoldenSet

NOW = 1_700_000_000.0
DIMENSION = 8
TOY = ModelSpec(
    name="toy",
    backend="callable",
    fingerprint=Fingerprint(model="toy", revision="1", dimension=DIMENSION, tokenizer_hash="t1"),
)
DIGEST = TOY.fingerprint.digest


def toy_vector(text: str) -> np.ndarray:
    """float32 (DIMENSION,), unit: one text, one direction."""
    vector = np.random.default_rng(zlib.crc32(text.encode())).standard_normal(DIMENSION)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class FakePlatform(PlatformApi):
    """``failing[method]`` is raised by that method (an iterator: one after the other, None passes);
    ``blocking[method]`` is waited for; ``entered`` is set when a blocked method has begun."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.items: dict[tuple[str, str], StoredItem] = {}
        self.vectors: dict[tuple[str, str], np.ndarray] = {}
        self.sequence = 0
        self.registered: dict[str, ModelSpec] = {TOY.name: TOY}
        self.known: dict[str, Consumer] = {one.name: one for one in DEFAULT_CONSUMERS}
        self.made = [
            Generation(number=1, model="toy", fingerprint=TOY.fingerprint, state="serving", created_at=NOW)
        ]
        self.running: Migration | None = None
        self.events: list[MigrationEvent] = []
        self.changed = threading.Event()
        self.watched = threading.Event()  # a watcher has been given its first status
        self.engagement: list[tuple[str, str, dict[str, float], bool, str]] = []
        self.golden: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[Any, ...]] = []  # arguments of calls of evaluation
        self.parity: dict[str, Any] = {"equal": True, "rows": []}
        self.report: dict[str, Any] = {
            "go": False,
            "headline": "1 of 1 consumers refuse: ads: no evidence",
            "at": NOW,
            "policy": "strict",
            "margin": 0.02,
            "source": {"generation": 1, "model": "toy"},
            "target": {"generation": 2, "model": "toy2"},
            "no_evidence": {"ads": "no golden set"},
            "consumers": {},
        }
        self.searched: list[SearchRequest] = []
        self.failing: dict[str, Any] = {}
        self.blocking: dict[str, threading.Event] = {}
        self.entered = threading.Event()
        self.closed = False

    def _enter(self, method: str) -> None:
        if method in self.blocking:
            self.entered.set()
            assert self.blocking[method].wait(30)
        error = self.failing.get(method)
        if isinstance(error, Iterator):
            error = next(error)
        if error is not None:
            raise error

    def close(self) -> None:
        self.closed = True

    # Items.

    def _check_vectors(self, vectors: Mapping[str, np.ndarray]) -> None:
        for digest, vector in vectors.items():
            if digest != DIGEST:
                raise InvalidArgument(f"fingerprint {digest} is of no live generation: send {DIGEST}")
            if vector.shape != (DIMENSION,):
                raise InvalidArgument(f"the vector has dimension {len(vector)}, {digest} has {DIMENSION}")

    def upsert(self, items: Sequence[Item]) -> WriteReceipt:
        self._enter("upsert")
        for item in items:
            self._check_vectors(item.vectors)
        with self.lock:
            for item in items:
                key = (item.namespace, item.id)
                old = self.items.get(key)
                version = 1 if old is None else old.version + 1
                self.sequence += 1
                self.items[key] = StoredItem(
                    id=item.id,
                    namespace=item.namespace,
                    item=len(self.items) if old is None else old.item,
                    shard=0,
                    version=version,
                    created_at=item.created_at if item.created_at is not None else NOW,
                    updated_at=NOW + self.sequence,
                    content=item.content,
                    attributes=dict(item.attributes),
                    deleted=False,
                    held={1: version},
                )
                self.vectors[key] = item.vectors.get(DIGEST, toy_vector(item.content or ""))
            versions = [self.items[item.namespace, item.id].version for item in items]
            return WriteReceipt(token={0: self.sequence}, versions=versions)

    def delete(self, ids: Sequence[str], namespace: str = "") -> WriteReceipt:
        self._enter("delete")
        with self.lock:
            gone = [self.items.pop((namespace, one), None) for one in ids]
            self.sequence += 1
            return WriteReceipt({0: self.sequence}, [0 if one is None else one.version + 1 for one in gone])

    def get_item(self, item_id: str, namespace: str = "") -> StoredItem:
        self._enter("get_item")
        found = self.items.get((namespace, item_id))
        if found is None:
            raise NotFound(f"no item {item_id!r} in namespace {namespace!r}")
        return found

    # Queries.

    def search(self, request: SearchRequest) -> SearchAnswer:
        self._enter("search")
        self.searched.append(request)
        consumer = self.known.get(request.consumer)
        if consumer is None:
            raise NotFound(f"no consumer {request.consumer!r}: known are {', '.join(self.known)}")
        self._check_vectors(request.vectors)
        query = request.vectors.get(DIGEST, toy_vector(request.text or ""))
        scored = [
            Hit(item.id, float(np.float32(query @ self.vectors[key])), item.namespace)
            for key, item in self.items.items()
            if item.namespace == request.namespace
            and all(item.attributes.get(name) == value for name, value in request.filter.items())
        ]
        scored.sort(key=lambda hit: -hit.score)
        said = Provenance(
            generations=(1,),
            models=("toy",),
            fingerprints=(DIGEST,),
            weight=0.0,
            arm="canary" if request.user_key == "canary" else "control",
            table_version=7,
            shards_asked=1,
            shards_answered=1,
            partial=False,
        )
        return SearchAnswer(tuple(scored[: request.k or consumer.k]), said, took_ms=0.25)

    def search_batch(self, requests: Sequence[SearchRequest]) -> list[SearchAnswer]:
        self._enter("search_batch")
        return [self.search(request) for request in requests]

    def embed(self, model: str, texts: Sequence[str]) -> tuple[Fingerprint, Vectors]:
        self._enter("embed")
        if model not in self.registered:
            raise NotFound(f"no model {model!r}: known are {', '.join(self.registered)}")
        vectors = [toy_vector(text) for text in texts]
        return TOY.fingerprint, np.array(vectors, dtype=np.float32).reshape(len(texts), DIMENSION)

    # Registries.

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

    # Migrations.

    def _migration(self, migration_id: str) -> Migration:
        if self.running is None or migration_id not in ("", self.running.id):
            raise NotFound(f"no migration {migration_id!r}: start one")
        return self.running

    def _shown(self) -> MigrationStatus:
        assert self.running is not None
        return MigrationStatus(
            migration=self.running,
            now=NOW,
            coverage=0.625,
            live_items=len(self.items),
            backfilled=5,
            backfill_rate=12.5,
            eta_seconds=None,
            repair_queue=1,
            cutover_blockers=("coverage 62.5%",),
            window_left_seconds=600.0,
            last_event=len(self.events),
        )

    def _record(self, what: str, who: str, why: str, **changes: Any) -> MigrationStatus:
        self._enter(what)
        with self.lock:
            assert self.running is not None
            self.running = self.running.model_copy(update=changes)
            number = len(self.events) + 1
            evidence = {"value": float("nan"), "n": np.int64(3)}
            self.events.append(
                MigrationEvent(
                    migration=self.running.id,
                    number=number,
                    at=NOW + number,
                    who=who,
                    what=what,
                    why=why,
                    evidence=evidence,
                )
            )
            self.changed.set()
            return self._shown()

    def start_migration(
        self, target_model: str, plan: Plan | None = None, *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus:
        self._enter("start_migration")
        if target_model not in self.registered:
            raise NotFound(f"no model {target_model!r}: known are {', '.join(self.registered)}")
        gate = GateResult(gate="quality", passed=True, summary="+1.20 pp", evidence={"n": 500}, at=NOW)
        self.running = Migration(
            id="m1",
            source=1,
            target=2,
            target_model=target_model,
            phase=Phase.DUAL_WRITE,
            plan=plan or Plan(),
            created_at=NOW,
            created_by=who,
            consumers={"ads": ConsumerProgress(gates={"quality": gate}, held="canary runs")},
        )
        return self._record("start", who, why or override)

    def migration(self, migration_id: str = "") -> MigrationStatus:
        self._migration(migration_id)
        return self._shown()

    def migrations(self) -> list[MigrationStatus]:
        return [] if self.running is None else [self._shown()]

    def migration_events(self, migration_id: str = "", after: int = 0) -> list[MigrationEvent]:
        self._migration(migration_id)
        return [event for event in self.events if event.number > after]

    def watch_migration(self, migration_id: str = "") -> Iterator[MigrationStatus]:
        self._enter("watch_migration")
        self._migration(migration_id)
        while True:
            self.changed.clear()
            shown = self._shown()
            yield shown
            self.watched.set()
            if shown.migration.finished:
                return
            self.changed.wait(0.02)

    def set_weight(
        self, migration_id: str, consumer: str, weight: float, *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus:
        consumers = dict(self._migration(migration_id).consumers)
        if consumer not in consumers:
            raise NotFound(f"no consumer {consumer!r} in this migration")
        consumers[consumer] = consumers[consumer].model_copy(update={"weight": weight})
        return self._record("weight", who, override or why, consumers=consumers)

    def pause_migration(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus:
        self._migration(migration_id)
        return self._record("pause", who, why, paused=True)

    def resume_migration(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus:
        self._migration(migration_id)
        return self._record("resume", who, why, paused=False)

    def extend_window(self, migration_id: str, seconds: float, *, who: str, why: str) -> MigrationStatus:
        if not (seconds > 0 and why):
            raise InvalidArgument("the window is extended by a positive number of seconds, for a reason")
        return self._record("extend", who, why, window_until=NOW + seconds)

    def revert_consumer(
        self, migration_id: str, consumer: str, *, who: str, why: str = ""
    ) -> MigrationStatus:
        consumers = dict(self._migration(migration_id).consumers)
        consumers[consumer] = consumers[consumer].model_copy(update={"weight": 0.0, "reverted": True})
        return self._record("revert", who, why, consumers=consumers)

    def cutover(
        self, migration_id: str = "", *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus:
        self._migration(migration_id)
        if not override:
            raise GateNotMet("coverage is 62.5%, needs more than 99%", {"evidence": gates(4)})
        return self._record("cutover", who, override, phase=Phase.GRACE)

    def rollback(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus:
        self._migration(migration_id)
        return self._record("rollback", who, why, phase=Phase.ROLLED_BACK)

    def abort_migration(self, migration_id: str = "", *, who: str, why: str = "") -> MigrationStatus:
        self._migration(migration_id)
        return self._record("abort", who, why, phase=Phase.ABORTED)

    def decommission(
        self, migration_id: str = "", *, who: str, why: str = "", override: str = ""
    ) -> MigrationStatus:
        self._migration(migration_id)
        return self._record("decommission", who, override or why, phase=Phase.DONE)

    # Evaluation and engagement.

    def import_golden_set(self, golden: GoldenSet, *, gate: bool = True) -> dict[str, Any]:
        self._enter("import_golden_set")
        info = {
            "name": golden.name,
            "consumer": golden.consumer,
            "queries": len(golden.queries),
            "version": 1,
            "digest": golden.digest,
            "gate": gate,
            "public": golden.public,
            "labelling": None if golden.labelling is None else golden.labelling.model_dump(),
        }
        self.golden[golden.name] = info
        return info

    def golden_sets(self) -> list[dict[str, Any]]:
        return list(self.golden.values())

    def sample_queries(
        self,
        consumer: str,
        buckets: Mapping[str, int],
        *,
        depth: int = 10,
        min_count: int = 2,
        seed: int = 0,
    ) -> dict[str, Any]:
        self.asked.append((consumer, dict(buckets), depth, min_count, seed))
        shown = [{"item": "a", "content": "a red bicycle", "position": 1}]
        query = {"query_id": "q-1", "text": "bike", "bucket": "head", "count": 3, "candidates": shown}
        return {"consumer": consumer, "queries": [query]}

    def evaluate(self, consumer: str, generation: int = 0, *, golden_set: str = "") -> dict[str, Any]:
        self._enter("evaluate")
        return _evaluation(consumer, generation or 1, 0.9) | {"golden": golden_set}

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
        self.asked.append((consumer, plan, equal_freshness, golden_set))
        return {
            "source": _evaluation(consumer, source, 0.9),
            "target": _evaluation(consumer, target, 0.92),
            "comparison": {"difference": 0.02, "lower": 0.01, "upper": 0.03, "p_value": 0.001},
            "passed": True,
        }

    def evaluation_report(
        self,
        source: int = 0,
        target: int = 0,
        *,
        consumers: Sequence[str] = (),
        plan: Plan | None = None,
        migration_id: str = "",
    ) -> dict[str, Any]:
        self.asked.append((source, target, tuple(consumers), plan, migration_id))
        return self.report

    def calibrate_ef(self, consumer: str, generation: int = 0, *, apply: bool = False) -> dict[str, Any]:
        point = {"ef_search": 64, "recall": 0.97, "lower": 0.96, "p50_ms": 0.1, "p95_ms": 0.2}
        reached = consumer != "dedup"
        return {
            "consumer": consumer,
            "generation": generation or 1,
            "target": 0.95,
            "ef_search": 64 if reached else None,
            "now": point,
            "chosen": point if reached else None,
            "applied": apply,
        }

    def calibrate_scores(self, source: int, target: int) -> dict[str, Any]:
        return {"method": "pairs", "pairs": 500, "queries": 40, "error": 0.03, "data": "00"}

    def check_parity(self) -> dict[str, Any]:
        return self.parity

    def preflight(self, target_model: str, plan: Plan | None = None) -> dict[str, Any]:
        gate = GateResult(gate="norms", passed=target_model != "bad", summary="norms", at=NOW).model_dump()
        verdict = {"verdict": "full", "items": 10, "reason": "mean cosine 0.300 < 0.8"}
        return {"passed": gate["passed"], "gates": {"norms": gate}, "advice": {}, "verdict": verdict}

    def report_engagement(
        self, consumer: str, arm: str, totals: Mapping[str, float], *, simulated: bool, migration_id: str = ""
    ) -> None:
        self.engagement.append((consumer, arm, dict(totals), simulated, migration_id))

    def compare_engagement(self, consumer: str, migration_id: str = "") -> dict[str, Any]:
        return {"passed": True, "summary": "no fall", "arms": {"canary": 1000}, "migration": migration_id}


def _evaluation(consumer: str, generation: int, metric: float) -> dict[str, Any]:
    return {
        "consumer": consumer,
        "generation": generation,
        "metric_name": "recall@10",
        "metric": metric,
        "lower": metric - 0.01,
        "upper": metric + 0.01,
        "queries": 500,
        "long_tail": None,
    }


def gates(count: int) -> list[dict[str, Any]]:
    """Evidence of a refusal, as large as real gates make it."""
    return [
        GateResult(
            gate=f"gate-{number}",
            passed=False,
            summary=f"gate {number} is not met: -3.10 pp, must be at least 0",
            evidence={f"measure_{place}": place / 7 for place in range(40)},
            at=NOW,
        ).model_dump()
        for number in range(count)
    ]
