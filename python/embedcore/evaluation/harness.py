"""The harness: evaluates consumers on generations, compares two, and runs the pre-flight of a migration.

What is judged is the live system as it stands: result lists come from the same indexes and the same
ef_search that answer the consumer's queries, so that an item the target misses is a miss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from embedcore.clock import Clock, SystemClock
from embedcore.errors import NotFound
from embedcore.evaluation.calibration import CalibrationPairs, collect_pairs
from embedcore.evaluation.exact import exact_lists, index_recall
from embedcore.evaluation.gates import (
    blended_gate,
    long_tail_gate,
    quality_gate,
    sufficient_gate,
    target_gate,
)
from embedcore.evaluation.golden import GoldenRegistry
from embedcore.evaluation.interface import (
    ExactSearch,
    Lists,
    Progress,
    QueryEncoders,
    SearchBackend,
    native_exact_search,
    no_progress,
)
from embedcore.evaluation.preflight import Preflight, PreflightReport
from embedcore.evaluation.queries import QueryVectors
from embedcore.evaluation.resolve import ResolvedGolden, Resolver
from embedcore.evaluation.result import Compared, Evaluation, paired
from embedcore.evaluation.scoring import depth_of, evaluate_lists
from embedcore.evaluation.searching import in_chunks, subset
from embedcore.evaluation.seeds import derive
from embedcore.evaluation.significance import compare_paired
from embedcore.migration_types import Plan
from embedcore.types import Consumer, Generation, Vectors

if TYPE_CHECKING:
    from embedcore.store.interface import Store

CALIBRATION_QUERIES = 256


class Harness:
    """Evaluations over one store, its encoders and its serving indexes. Safe to call from any thread.

    ``seed`` fixes every sample, resample and tie: the same store and seed give the same verdict. Consumers
    are given as documents or by name. NotFound: unknown consumer or generation, or no golden set.
    """

    def __init__(
        self,
        store: Store,
        encoders: QueryEncoders,
        backend: SearchBackend,
        seed: int = 0,
        *,
        clock: Clock | None = None,
        progress: Progress = no_progress,
        exact_search: ExactSearch | None = None,
    ) -> None:
        self._store = store
        self._encoders = encoders
        self._backend = backend
        self._seed = seed
        self._clock = clock or SystemClock()
        self._progress = progress
        self._exact = exact_search
        self._resolver = Resolver(store, seed)
        self._vectors = QueryVectors(encoders)
        self.golden = GoldenRegistry(store)

    def evaluate(
        self,
        consumer: Consumer | str,
        generation: int,
        *,
        exact_queries: int = 0,
        progress: Progress | None = None,
    ) -> Evaluation:
        """The consumer's metric on its whole golden set. ``exact_queries``: on a seeded sample of so many,
        also recall against exact search, which reads all of the generation's vectors."""
        who = self._consumer(consumer)
        report = progress or self._progress
        resolved = self._resolver.resolve(self.golden.get(who.name))
        return self._evaluate(who, self._generation(generation), resolved, report, exact_queries)

    def compare(
        self,
        consumer: Consumer | str,
        source: int,
        target: int,
        plan: Plan | None = None,
        *,
        progress: Progress | None = None,
    ) -> Compared:
        """Both generations on the consumer's whole golden set, as they stand, paired, with the gates
        ``quality``, ``sufficient``, ``target`` and ``long_tail``."""
        who, rules = self._consumer(consumer), plan or Plan()
        report = progress or self._progress
        resolved = self._resolver.resolve(self.golden.get(who.name))
        before = self._evaluate(who, self._generation(source), resolved, report)
        after = self._evaluate(who, self._generation(target), resolved, report)
        seed = derive(self._seed, "compare", who.name)
        comparison = compare_paired(*paired(before, after), seed=seed)
        at = self._clock.now()
        gates = {
            "quality": quality_gate(who, before, after, rules, at=at, seed=seed, comparison=comparison),
            "sufficient": sufficient_gate(who, comparison, rules, at=at),
            "target": target_gate(who, after, at=at),
            "long_tail": long_tail_gate(who, before, after, rules, at=at),
        }
        return Compared(before, after, comparison, gates)

    def evaluate_blended(
        self,
        consumer: Consumer | str,
        source: int,
        target: int,
        weight: float,
        queries: int | None = None,
        rng: np.random.Generator | None = None,
        *,
        plan: Plan | None = None,
        progress: Progress | None = None,
    ) -> Compared:
        """The periodic check of a consumer at ``weight``: blended answers against the source's, on a
        seeded subset of ``queries`` (default: the plan's), with the gate ``blended``.

        ``rng`` draws the subset; without one it is the same subset each time.
        """
        who, rules = self._consumer(consumer), plan or Plan()
        report = progress or self._progress
        golden = self.golden.get(who.name)
        rows = subset(
            len(golden.queries),
            rules.evaluation_queries if queries is None else queries,
            rng or np.random.default_rng(derive(self._seed, "subset", who.name)),
        )
        resolved = self._resolver.resolve(golden, rows)
        old, new = self._generation(source), self._generation(target)
        before = self._evaluate(who, old, resolved, report)
        vectors = {number.number: self._query_vectors(number, resolved, report) for number in (old, new)}
        depth = depth_of(who, resolved)

        def search(start: int, end: int) -> Lists:
            part = {number: rows[start:end] for number, rows in vectors.items()}
            return self._backend.search_blended(who.name, part, depth, weight)

        after = evaluate_lists(
            who,
            resolved,
            in_chunks(search, len(resolved), depth, f"{who.name}: blended", report),
            model=f"{old.model}+{new.model}",
            generation=None,
            weight=weight,
            at=self._clock.now(),
            seed=self._seed,
        )
        seed = derive(self._seed, "blended", who.name)
        comparison = compare_paired(*paired(before, after), seed=seed)
        gate = blended_gate(who, before, after, comparison, rules, at=self._clock.now())
        return Compared(before, after, comparison, {"blended": gate})

    def preflight(
        self,
        consumers: Sequence[Consumer | str],
        source_generation: int,
        target_model: str,
        plan: Plan | None = None,
        *,
        progress: Progress | None = None,
    ) -> PreflightReport:
        """Phase 0: the target model on a sample that both models embed whole, before any cost is paid."""
        specs = {spec.name: spec for spec in self._store.models()}
        if target_model not in specs:
            raise NotFound(f"unknown model {target_model!r}; known: {', '.join(specs) or 'none'}")
        run = Preflight(
            store=self._store,
            encoders=self._encoders,
            vectors=self._vectors,
            resolver=self._resolver,
            golden=self.golden,
            exact_search=self._exact or native_exact_search(),
            clock=self._clock,
            seed=self._seed,
            progress=progress or self._progress,
        )
        return run.run(
            [self._consumer(consumer) for consumer in consumers],
            self._generation(source_generation),
            specs[target_model],
            plan or Plan(),
        )

    def calibration_pairs(
        self,
        source: int,
        target: int,
        queries: int = CALIBRATION_QUERIES,
        *,
        progress: Progress | None = None,
    ) -> CalibrationPairs:
        """Score pairs for the map from source to target distances, over golden queries of all consumers in
        equal parts; ``.fit()`` makes the ScoreCalibration, or raises FailedPrecondition below 8 pairs."""
        old, new = self._generation(source), self._generation(target)
        report = progress or self._progress
        names = self.golden.consumers()
        before: list[Vectors] = []
        after: list[Vectors] = []
        for name in names:
            golden = self.golden.get(name)
            rng = np.random.default_rng(derive(self._seed, "calibration", name))
            rows = subset(len(golden.queries), max(1, queries // len(names)), rng)
            before.append(self._vectors.get(old.model, old.fingerprint, golden, golden.digest, rows, report))
            after.append(self._vectors.get(new.model, new.fingerprint, golden, golden.digest, rows, report))
        return collect_pairs(
            self._store,
            self._backend,
            old,
            new,
            np.concatenate(before) if before else np.zeros((0, old.fingerprint.dimension), np.float32),
            np.concatenate(after) if after else np.zeros((0, new.fingerprint.dimension), np.float32),
            seed=self._seed,
        )

    def _evaluate(
        self,
        consumer: Consumer,
        generation: Generation,
        resolved: ResolvedGolden,
        progress: Progress,
        exact_queries: int = 0,
    ) -> Evaluation:
        vectors = self._query_vectors(generation, resolved, progress)
        depth = depth_of(consumer, resolved)

        def search(start: int, end: int) -> Lists:
            return self._backend.search_generation(
                generation.number, vectors[start:end], depth, consumer.ef_search
            )

        what = f"{consumer.name}: generation {generation.number}"
        lists = in_chunks(search, len(resolved), depth, what, progress)
        recall: float | None = None
        if exact_queries > 0 and len(resolved) > 0:
            rng = np.random.default_rng(derive(self._seed, "exact", consumer.name))
            some = subset(len(resolved), exact_queries, rng)
            truth = exact_lists(
                self._store,
                generation.number,
                vectors[some],
                consumer.k,
                generation.fingerprint.metric,
                self._exact or native_exact_search(),
            )
            found = lists[0][some, : consumer.k], lists[1][some, : consumer.k]
            recall = float(index_recall(found, truth).mean())
        return evaluate_lists(
            consumer,
            resolved,
            lists,
            model=generation.model,
            generation=generation.number,
            at=self._clock.now(),
            seed=self._seed,
            index_recall=recall,
        )

    def _query_vectors(self, generation: Generation, resolved: ResolvedGolden, progress: Progress) -> Vectors:
        return self._vectors.get(
            generation.model,
            generation.fingerprint,
            resolved.golden,
            resolved.digest,
            resolved.rows,
            progress,
        )

    def _consumer(self, consumer: Consumer | str) -> Consumer:
        if isinstance(consumer, Consumer):
            return consumer
        known = {entry.name: entry for entry in self._store.consumers()}
        if consumer not in known:
            raise NotFound(f"unknown consumer {consumer!r}; known: {', '.join(known) or 'none'}")
        return known[consumer]

    def _generation(self, number: int) -> Generation:
        known = {generation.number: generation for generation in self._store.generations()}
        if number not in known:
            raise NotFound(f"unknown generation {number}; known: {', '.join(map(str, known)) or 'none'}")
        return known[number]


__all__ = ["Harness", "SearchBackend"]
