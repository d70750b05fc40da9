"""Pre-flight, phase 0 of a migration: the target model is judged on a sample before any dual-write is paid.

Both models embed the same sample whole, so this is the comparison of *models* at equal freshness, by exact
search: no index and no backfill has a part in it. Labels are restricted to the sample, equally for both.
The policy's "not worse as observed" is left to the cutover gate (see ``quality_gate``, screening).
Norms come first: a model that lost its normalisation is refused after its first batch, not after its last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from embedcore.clock import Clock
from embedcore.encoders.checks import NORM_TOLERANCE as DTYPE_TOLERANCE
from embedcore.errors import DataLoss, NotFound
from embedcore.evaluation.canary_set import CanaryVerdict, canary_verdict
from embedcore.evaluation.gates import (
    long_tail_gate,
    no_evidence,
    quality_gate,
    sufficient_gate,
    target_gate,
)
from embedcore.evaluation.golden import GoldenRegistry
from embedcore.evaluation.interface import ExactSearch, Ints, Lists, Progress, QueryEncoders
from embedcore.evaluation.norms import NORM_TOLERANCE, norms_gate
from embedcore.evaluation.queries import QueryVectors
from embedcore.evaluation.resolve import ResolvedGolden, Resolver
from embedcore.evaluation.result import Compared, Evaluation, paired
from embedcore.evaluation.sample import choose_sample
from embedcore.evaluation.scoring import depth_of, evaluate_lists
from embedcore.evaluation.seeds import derive
from embedcore.evaluation.significance import compare_paired
from embedcore.migration_types import GateResult, Plan
from embedcore.types import Consumer, Fingerprint, Generation, ModelSpec, Vectors

if TYPE_CHECKING:
    from embedcore.store.interface import Store

QUERIES_PER_CONSUMER = 1_500
FIRST_BATCH = 64  # enough to see a lost normalisation
_BATCH = 256
_FETCH = 1_000


@dataclass(frozen=True)
class PreflightReport:
    """``gates``: "norms", and per consumer "<name>.quality", "<name>.target", "<name>.long_tail".

    ``advice``: per consumer whether the sample could see a difference of the margin. It does not refuse by
    itself: the quality gate's own lower bound already fails when there is too little evidence.
    """

    source: int
    target_model: str
    gates: dict[str, GateResult]
    verdict: CanaryVerdict | None = None
    compared: dict[str, Compared] = field(default_factory=dict)
    advice: dict[str, GateResult] = field(default_factory=dict)
    items: int = 0
    items_left_out: int = 0  # sampled, without content to embed
    source_encoded: int = 0  # not held by the source at their current version, so encoded here
    seed: int = 0

    @property
    def passed(self) -> bool:
        return bool(self.gates) and all(gate.passed for gate in self.gates.values())

    @property
    def refusals(self) -> list[str]:
        """One line per gate that is not met."""
        return [gate.summary for gate in self.gates.values() if not gate.passed]

    @property
    def baseline(self) -> dict[str, float]:
        """Consumer -> the source's metric on the sample (easier than the corpus: fewer items compete)."""
        return {name: compared.source.metric for name, compared in self.compared.items()}

    def to_document(self, arrays: bool = False) -> dict[str, Any]:
        return {
            "source": self.source,
            "target_model": self.target_model,
            "passed": self.passed,
            "refusals": self.refusals,
            "gates": {name: gate.model_dump() for name, gate in self.gates.items()},
            "advice": {name: gate.model_dump() for name, gate in self.advice.items()},
            "verdict": None if self.verdict is None else self.verdict.model_dump(),
            "compared": {name: compared.to_document(arrays) for name, compared in self.compared.items()},
            "items": self.items,
            "items_left_out": self.items_left_out,
            "source_encoded": self.source_encoded,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Preflight:
    """One run's collaborators; :meth:`run` may be called from any thread."""

    store: Store
    encoders: QueryEncoders
    vectors: QueryVectors
    resolver: Resolver
    golden: GoldenRegistry
    exact_search: ExactSearch
    clock: Clock
    seed: int
    progress: Progress

    def run(
        self, consumers: Sequence[Consumer], source: Generation, target: ModelSpec, plan: Plan
    ) -> PreflightReport:
        """A report that did not pass refuses the start. Raises what an encoder raises for a model that
        cannot be loaded; vectors that the encoder's own checks refuse are a gate not met."""
        resolved = self._resolve(consumers)
        seed = derive(self.seed, "pre-flight")
        sample = choose_sample(
            self.store, list(resolved.values()), plan.preflight_items, plan.canary_items, seed
        )
        items, texts = self._contents(sample.items)
        report = PreflightReport(
            source.number,
            target.name,
            gates={},
            items=len(items),
            items_left_out=len(sample.items) - len(items),
            seed=self.seed,
        )
        queries = {
            consumer.name: self._some(consumer, resolved[consumer.name].restrict(items))
            for consumer in consumers
            if consumer.name in resolved
        }
        norms, new = self._target_vectors(target, texts, list(queries.values()))
        report = _with(report, gates={"norms": norms})
        if not norms.passed:
            return report
        old, encoded = self._source_vectors(source, items, texts)
        canary = np.isin(items, sample.canary)
        report = _with(
            report,
            verdict=canary_verdict(old[canary], new[canary]) if canary.any() else None,
            source_encoded=encoded,
        )
        for consumer in consumers:
            if consumer.name in queries:
                report = self._judge(
                    report, consumer, queries[consumer.name], items, old, new, source, target, plan
                )
            else:
                reason = f"consumer {consumer.name!r} has no golden set; import one"
                gate = no_evidence("quality", reason, at=self.clock.now())
                report = _with(report, gates={**report.gates, f"{consumer.name}.quality": gate})
        return report

    def _judge(
        self,
        report: PreflightReport,
        consumer: Consumer,
        queries: ResolvedGolden,
        items: Ints,
        old: Vectors,
        new: Vectors,
        source: Generation,
        target: ModelSpec,
        plan: Plan,
    ) -> PreflightReport:
        at = self.clock.now()
        before = self._evaluate(
            consumer, queries, items, old, source.model, source.fingerprint, source.number
        )
        after = self._evaluate(consumer, queries, items, new, target.name, target.fingerprint, None)
        seed = derive(self.seed, "pre-flight", consumer.name)
        comparison = compare_paired(*paired(before, after), seed=seed)
        gates = {
            "quality": quality_gate(
                consumer, before, after, plan, at=at, seed=seed, comparison=comparison, screening=True
            ),
            "target": target_gate(consumer, after, at=at),
            "long_tail": long_tail_gate(consumer, before, after, plan, at=at),
        }
        return _with(
            report,
            gates=report.gates | {f"{consumer.name}.{name}": gate for name, gate in gates.items()},
            compared=report.compared | {consumer.name: Compared(before, after, comparison, gates)},
            advice=report.advice | {consumer.name: sufficient_gate(consumer, comparison, plan, at=at)},
        )

    def _evaluate(
        self,
        consumer: Consumer,
        queries: ResolvedGolden,
        items: Ints,
        base: Vectors,
        model: str,
        fingerprint: Fingerprint,
        generation: int | None,
    ) -> Evaluation:
        vectors = self._query_vectors(model, fingerprint, queries)
        depth = min(depth_of(consumer, queries), max(1, len(items)))
        lists: Lists = np.full((0, depth), -1, np.int64), np.full((0, depth), np.inf, np.float32)
        if len(queries):
            found = self.exact_search(base, vectors, depth, fingerprint.metric)
            lists = np.where(found.ids >= 0, items[found.ids], -1), found.distances
        return evaluate_lists(
            consumer,
            queries,
            lists,
            model=model,
            generation=generation,
            at=self.clock.now(),
            seed=self.seed,
        )

    def _query_vectors(self, model: str, fingerprint: Fingerprint, queries: ResolvedGolden) -> Vectors:
        return self.vectors.get(
            model, fingerprint, queries.golden, queries.digest, queries.rows, self.progress
        )

    def _resolve(self, consumers: Sequence[Consumer]) -> dict[str, ResolvedGolden]:
        resolved: dict[str, ResolvedGolden] = {}
        for consumer in consumers:
            try:
                resolved[consumer.name] = self.resolver.resolve(self.golden.get(consumer.name))
            except NotFound:
                continue  # judged later: a consumer without a golden set has a gate that is not met
        return resolved

    def _some(self, consumer: Consumer, queries: ResolvedGolden) -> ResolvedGolden:
        if len(queries) <= QUERIES_PER_CONSUMER:
            return queries
        rng = np.random.default_rng(derive(self.seed, "pre-flight queries", consumer.name))
        chosen = np.sort(rng.choice(len(queries), QUERIES_PER_CONSUMER, replace=False))
        return queries.take(chosen.astype(np.int64))

    def _contents(self, items: Ints) -> tuple[Ints, list[str]]:
        """Of the sample, what is live and has content, ascending, with the content."""
        found: list[tuple[int, str]] = []
        for start in range(0, len(items), _FETCH):
            for stored in self.store.get_items(items[start : start + _FETCH].tolist()):
                if not stored.deleted and stored.content is not None:
                    found.append((stored.item, stored.content))
        found.sort()
        return np.array([item for item, _ in found], dtype=np.int64), [text for _, text in found]

    def _target_vectors(
        self, target: ModelSpec, texts: list[str], queries: Sequence[ResolvedGolden]
    ) -> tuple[GateResult, Vectors]:
        """The norms gate over everything that the target made, and the items' vectors (n, dim)."""
        try:
            vectors = self._encode(target.name, texts[:FIRST_BATCH])
            norms = self._norms(vectors, target.fingerprint)
            if not norms.passed or len(texts) <= FIRST_BATCH:
                rest = np.zeros((0, target.fingerprint.dimension), np.float32)
            else:
                rest = self._encode(target.name, texts[FIRST_BATCH:], len(vectors))
            if norms.passed:
                asked = [self._query_vectors(target.name, target.fingerprint, one) for one in queries]
                norms = self._norms(np.concatenate([vectors, rest, *asked]), target.fingerprint)
        except DataLoss as error:  # the encoder's own checks refused a batch
            return no_evidence("norms", error.message, at=self.clock.now()), np.zeros((0, 0), np.float32)
        return norms, np.concatenate([vectors, rest]) if norms.passed else vectors

    def _norms(self, vectors: Vectors, fingerprint: Fingerprint) -> GateResult:
        return norms_gate(
            vectors,
            at=self.clock.now(),
            unit=fingerprint.normalisation == "l2",
            dimension=fingerprint.dimension,
            tolerance=max(NORM_TOLERANCE, DTYPE_TOLERANCE.get(fingerprint.dtype, 0.0)),
        )

    def _source_vectors(self, source: Generation, items: Ints, texts: list[str]) -> tuple[Vectors, int]:
        """(n, dim) by item: from the store when current, else encoded; and how many were encoded."""
        vectors = np.zeros((len(items), source.fingerprint.dimension), np.float32)
        held, rows = self.store.stored_vectors(source.number, items)
        vectors[np.searchsorted(items, held)] = rows
        missing = np.flatnonzero(~np.isin(items, held))
        if missing.size:
            vectors[missing] = self._encode(source.model, [texts[row] for row in missing])
        return vectors, int(missing.size)

    def _encode(self, model: str, texts: list[str], done: int = 0) -> Vectors:
        parts = [np.zeros((0, 0), np.float32)]
        for start in range(0, len(texts), _BATCH):
            part = self.encoders.encode_bulk(model, texts[start : start + _BATCH])
            parts.append(part)
            self.progress(f"pre-flight: items by {model}", done + start + len(part), done + len(texts))
        return np.concatenate(parts[1:]) if len(parts) > 1 else parts[0]


def _with(report: PreflightReport, **changes: Any) -> PreflightReport:
    return PreflightReport(**{**report.__dict__, **changes})
