"""The harness: evaluates consumers on generations, compares two, and runs the pre-flight of a migration.

What is judged is the live system as it stands: result lists come from the same indexes and the same
ef_search that answer the consumer's queries, so that an item the target misses is a miss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from embedcore.clock import Clock, SystemClock
from embedcore.errors import InvalidArgument, NotFound
from embedcore.evaluation.calibrator import Calibrator
from embedcore.evaluation.evaluator import Evaluator
from embedcore.evaluation.freshness import held_by_both
from embedcore.evaluation.gates import (
    blended_gate,
    long_tail_gate,
    quality_gate,
    sufficient_gate,
    target_gate,
)
from embedcore.evaluation.golden import GoldenRegistry, GoldenSet
from embedcore.evaluation.interface import (
    ExactSearch,
    Ints,
    Progress,
    QueryEncoders,
    SearchBackend,
    native_exact_search,
    no_progress,
)
from embedcore.evaluation.lift import LiftBook
from embedcore.evaluation.preflight import Preflight, PreflightReport
from embedcore.evaluation.queries import QueryVectors
from embedcore.evaluation.resolve import Resolver
from embedcore.evaluation.result import Compared, Evaluation, Freshness, paired
from embedcore.evaluation.searching import subset
from embedcore.evaluation.seeds import derive
from embedcore.evaluation.significance import compare_paired
from embedcore.evaluation.truth import ExactTruth
from embedcore.migration_types import Plan
from embedcore.types import Consumer, Generation

if TYPE_CHECKING:
    from embedcore.store.interface import Store

EXACT_QUERIES = 400  # recall of an index is near 1: its interval is within 2 pp on so many


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
        self.store = store
        self._encoders = encoders
        self._backend = backend
        self._seed = seed
        self._clock = clock or SystemClock()
        self.progress = progress
        self._exact = exact_search
        self.resolver = Resolver(store, seed)
        self._vectors = QueryVectors(encoders)
        self.evaluator = Evaluator(
            store,
            self._vectors,
            backend,
            ExactTruth(store, lambda: self._exact or native_exact_search()),
            self._clock,
            seed,
        )
        self.golden = GoldenRegistry(store)
        self.lift = LiftBook(store)
        self.calibrator = Calibrator(self)

    def evaluate(
        self,
        consumer: Consumer | str,
        generation: int,
        *,
        golden_set: str = "",
        exact_queries: int = EXACT_QUERIES,
        progress: Progress | None = None,
    ) -> Evaluation:
        """The consumer's metric on its whole golden set, and beside it the index's own recall: against exact
        search, on a seeded sample of ``exact_queries``, which reads all of the generation's vectors."""
        who = self.consumer(consumer)
        return self.evaluator.evaluate(
            who,
            self.generation(generation),
            self.resolver.resolve(self._golden(who, golden_set)),
            progress or self.progress,
            exact_queries=exact_queries,
            ranked=True,
        )

    def compare(
        self,
        consumer: Consumer | str,
        source: int,
        target: int,
        plan: Plan | None = None,
        *,
        equal_freshness: bool = False,
        golden_set: str = "",
        exact_queries: int = EXACT_QUERIES,
        ranked: bool = True,
        progress: Progress | None = None,
    ) -> Compared:
        """Both generations on the consumer's whole golden set, paired, with the gates ``quality``,
        ``sufficient``, ``target`` and ``long_tail``.

        As they stand, an item that one lacks is its miss: that is the cutover's gate. ``equal_freshness``
        compares the models instead, on the items that both hold and the queries that these answer;
        FailedPrecondition when there are none. ``ranked``: with nDCG, MRR and plain recall, which no gate
        asks for.
        """
        who, rules = self.consumer(consumer), plan or Plan()
        report = progress or self.progress
        resolved = self.resolver.resolve(self._golden(who, golden_set))
        allowed: Ints | None = None
        freshness: Freshness | None = None
        if equal_freshness:
            allowed, live, source_lacks, target_lacks = held_by_both(self.store, source, target)
            before_left_out = resolved.left_out
            resolved = resolved.restrict(allowed)
            freshness = Freshness(
                live, len(allowed), source_lacks, target_lacks, resolved.left_out - before_left_out
            )
        before, after = (
            self.evaluator.evaluate(
                who,
                self.generation(number),
                resolved,
                report,
                exact_queries=exact_queries,
                allowed=allowed,
                ranked=ranked,
            )
            for number in (source, target)
        )
        seed = derive(self._seed, "compare", who.name)
        comparison = compare_paired(*paired(before, after), seed=seed)
        at = self._clock.now()
        gates = {
            "quality": quality_gate(who, before, after, rules, at=at, seed=seed, comparison=comparison),
            "sufficient": sufficient_gate(who, comparison, rules, at=at),
            "target": target_gate(who, after, at=at),
            "long_tail": long_tail_gate(who, before, after, rules, at=at),
        }
        return Compared(before, after, comparison, gates, freshness)

    def prepare(self, consumers: Sequence[str], generation: int, progress: Progress | None = None) -> None:
        """Spares evaluations of several consumers a scan each: recall against exact search is asked for all
        of them at once. Consumers without a golden set are left out."""
        asked = []
        for name in consumers:
            try:
                asked.append((self.consumer(name), self.resolver.resolve(self.golden.get(name))))
            except NotFound:
                continue
        where = self.generation(generation)
        self.evaluator.prepare(where, asked, progress or self.progress, EXACT_QUERIES)

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
        who, rules = self.consumer(consumer), plan or Plan()
        report = progress or self.progress
        golden = self.golden.get(who.name)
        rows = subset(
            len(golden.queries),
            rules.evaluation_queries if queries is None else queries,
            rng or np.random.default_rng(derive(self._seed, "subset", who.name)),
        )
        resolved = self.resolver.resolve(golden, rows)
        old, new = self.generation(source), self.generation(target)
        before = self.evaluator.evaluate(who, old, resolved, report)
        after = self.evaluator.blended(who, (old, new), weight, resolved, report)
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
        specs = {spec.name: spec for spec in self.store.models()}
        if target_model not in specs:
            raise NotFound(f"unknown model {target_model!r}; known: {', '.join(specs) or 'none'}")
        run = Preflight(
            store=self.store,
            encoders=self._encoders,
            vectors=self._vectors,
            resolver=self.resolver,
            golden=self.golden,
            exact_search=self._exact or native_exact_search(),
            clock=self._clock,
            seed=self._seed,
            progress=progress or self.progress,
        )
        return run.run(
            [self.consumer(consumer) for consumer in consumers],
            self.generation(source_generation),
            specs[target_model],
            plan or Plan(),
        )

    def _golden(self, consumer: Consumer, name: str) -> GoldenSet:
        """The set that gates the consumer, or one of its others by name."""
        golden = self.golden.get_named(name) if name else self.golden.get(consumer.name)
        if golden.consumer != consumer.name:
            raise InvalidArgument(
                f"golden set {name!r} is of consumer {golden.consumer!r}, not {consumer.name!r}"
            )
        return golden

    @property
    def seed(self) -> int:
        return self._seed

    def now(self) -> float:
        return self._clock.now()

    def consumer(self, consumer: Consumer | str) -> Consumer:
        if isinstance(consumer, Consumer):
            return consumer
        known = {entry.name: entry for entry in self.store.consumers()}
        if consumer not in known:
            raise NotFound(f"unknown consumer {consumer!r}; known: {', '.join(known) or 'none'}")
        return known[consumer]

    def generation(self, number: int) -> Generation:
        known = {generation.number: generation for generation in self.store.generations()}
        if number not in known:
            raise NotFound(f"unknown generation {number}; known: {', '.join(map(str, known)) or 'none'}")
        return known[number]


__all__ = ["Harness", "SearchBackend"]
