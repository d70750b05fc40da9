"""What a platform offers of evaluation, as plain documents: one place between its methods and the harness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from embedcore.errors import FailedPrecondition, InvalidArgument
from embedcore.evaluation.golden import GoldenSet
from embedcore.evaluation.golden_sample import draw, to_label
from embedcore.evaluation.harness import Harness
from embedcore.evaluation.interface import QueryEncoders, SearchBackend
from embedcore.evaluation.parity import check_platform
from embedcore.evaluation.query_log import QueryLog
from embedcore.migration_types import Plan

if TYPE_CHECKING:
    from embedcore.store.interface import Store

MAX_DEPTH = 100


class EvaluationDesk:
    """Thread-safe as the harness is. Errors are those of the parts it calls."""

    def __init__(
        self,
        store: Store,
        harness: Harness,
        backend: SearchBackend,
        encoders: QueryEncoders,
        query_log: QueryLog,
    ) -> None:
        self._store = store
        self._harness = harness
        self._backend = backend
        self._encoders = encoders
        self.query_log = query_log
        self.lift = harness.lift

    def import_golden_set(self, golden: GoldenSet, gate: bool) -> dict[str, Any]:
        return self._harness.golden.put(golden, gate=gate).model_dump()

    def golden_sets(self) -> list[dict[str, Any]]:
        return [version.model_dump() for version in self._harness.golden.versions()]

    def sample_queries(
        self, consumer: str, buckets: Mapping[str, int], *, depth: int, min_count: int, seed: int
    ) -> dict[str, Any]:
        who = self._harness.consumer(consumer)
        if not 1 <= depth <= MAX_DEPTH or min_count < 1:
            raise InvalidArgument(
                f"depth is 1 to {MAX_DEPTH} and min_count at least 1, got {depth} and {min_count}"
            )
        if not who.query_log:
            raise FailedPrecondition(
                f"consumer {consumer!r} keeps no query log; opt in with "
                f"`embedcore consumers set {consumer} --query-log 10000`, then wait for traffic"
            )
        counts = self.query_log.counts(consumer)
        drawn = draw(counts, buckets, min_count=min_count, seed=seed)
        live = [generation for generation in self._store.generations() if generation.live]

        def pool(texts: Sequence[str]) -> list[Mapping[int, Sequence[tuple[str, str | None]]]]:
            found: list[dict[int, list[tuple[str, str | None]]]] = [{} for _ in texts]
            for generation in live:
                vectors = self._encoders.encode_bulk(generation.model, list(texts))
                ids, _ = self._backend.search_generation(
                    generation.number, vectors, depth, who.ef_for(generation.number)
                )
                wanted = sorted({int(item) for item in ids.ravel() if item >= 0})
                items = {item.item: item for item in self._store.get_items(wanted)}
                for row, listed in zip(found, ids.tolist(), strict=True):
                    row[generation.number] = [
                        (items[item].id, items[item].content) for item in listed if item in items
                    ]
            return list(found)

        return {
            "consumer": consumer,
            "seed": seed,
            "min_count": min_count,
            "logged": len(counts),
            "generations": [generation.number for generation in live],
            "queries": to_label(drawn, pool, seed=seed),
        }

    def report(self, source: int, target: int, consumers: Sequence[str], plan: Plan | None) -> dict[str, Any]:
        from embedcore.evaluation.reporting.document import build_report

        return build_report(self._harness, self._store, source, target, plan, consumers=list(consumers))

    def calibrate_scores(self, source: int, target: int) -> dict[str, Any]:
        return self._harness.calibrator.scores(source, target).model_dump()

    def check_parity(self) -> dict[str, Any]:
        return check_platform(
            self._store.generations(), self._store.models(), self._store.consumers()
        ).to_document()

    def preflight(self, source: int, target_model: str, plan: Plan | None) -> dict[str, Any]:
        report = self._harness.preflight(self._store.consumers(), source, target_model, plan)
        return report.to_document()
