"""One consumer on one generation (or blend): query vectors, result lists, metric, the index's own recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embedcore.clock import Clock
from embedcore.evaluation.exact import index_recall
from embedcore.evaluation.interface import Ints, Lists, Progress, SearchBackend
from embedcore.evaluation.metrics import PerQuery
from embedcore.evaluation.queries import QueryVectors
from embedcore.evaluation.resolve import ResolvedGolden
from embedcore.evaluation.result import Evaluation, Share
from embedcore.evaluation.scoring import depth_of, evaluate_lists
from embedcore.evaluation.searching import in_chunks, subset
from embedcore.evaluation.seeds import derive
from embedcore.evaluation.truth import ExactTruth, Question
from embedcore.types import Consumer, Generation, Vectors

if TYPE_CHECKING:
    from embedcore.store.interface import Store


@dataclass(frozen=True)
class Evaluator:
    """Safe to call from any thread."""

    store: Store
    vectors: QueryVectors
    backend: SearchBackend
    exact: ExactTruth
    clock: Clock
    seed: int

    def evaluate(
        self,
        consumer: Consumer,
        generation: Generation,
        resolved: ResolvedGolden,
        progress: Progress,
        *,
        exact_queries: int = 0,
        allowed: Ints | None = None,
        ranked: bool = False,
    ) -> Evaluation:
        """``exact_queries``: on a seeded sample of so many, recall against exact search, which reads all of
        the generation's vectors. ``allowed``: only these items can be answers. ``ranked``: nDCG, MRR too."""
        lists = self.lists(consumer, generation, resolved, progress, allowed)
        index: Share | None = None
        if exact_queries > 0 and len(resolved) > 0:
            some = self.exact_sample(consumer, resolved, exact_queries)
            truth = self.truth(consumer, generation, resolved.take(some), progress, allowed)
            found = lists[0][some, : consumer.k], lists[1][some, : consumer.k]
            recall = index_recall(found, truth)
            index = Share.of(PerQuery(recall, np.ones(len(recall))))
        return evaluate_lists(
            consumer,
            resolved,
            lists,
            model=generation.model,
            generation=generation.number,
            at=self.clock.now(),
            seed=self.seed,
            index=index,
            ranked=ranked,
        )

    def blended(
        self,
        consumer: Consumer,
        generations: tuple[Generation, Generation],
        weight: float,
        resolved: ResolvedGolden,
        progress: Progress,
    ) -> Evaluation:
        """As the consumer is answered at this weight: (source, target)."""
        vectors = {g.number: self.query_vectors(g, resolved, progress) for g in generations}
        depth = depth_of(consumer, resolved)

        def search(start: int, end: int) -> Lists:
            part: Mapping[int, Vectors] = {number: rows[start:end] for number, rows in vectors.items()}
            return self.backend.search_blended(consumer.name, part, depth, weight)

        return evaluate_lists(
            consumer,
            resolved,
            in_chunks(search, len(resolved), depth, f"{consumer.name}: blended", progress),
            model="+".join(g.model for g in generations),
            generation=None,
            weight=weight,
            at=self.clock.now(),
            seed=self.seed,
        )

    def lists(
        self,
        consumer: Consumer,
        generation: Generation,
        resolved: ResolvedGolden,
        progress: Progress,
        allowed: Ints | None = None,
    ) -> Lists:
        """Result lists (n, depth) of the resolved queries, at the consumer's ef_search."""
        vectors = self.query_vectors(generation, resolved, progress)
        depth, ef = depth_of(consumer, resolved), consumer.ef_for(generation.number)

        def search(start: int, end: int) -> Lists:
            part = vectors[start:end]
            if allowed is None:
                return self.backend.search_generation(generation.number, part, depth, ef)
            return self.backend.search_generation(generation.number, part, depth, ef, allowed)

        what = f"{consumer.name}: generation {generation.number}"
        return in_chunks(search, len(resolved), depth, what, progress)

    def exact_sample(self, consumer: Consumer, resolved: ResolvedGolden, queries: int) -> Ints:
        """Positions of the resolved queries that exact search is asked; the same each time."""
        rng = np.random.default_rng(derive(self.seed, "exact", consumer.name))
        return subset(len(resolved), queries, rng)

    def truth(
        self,
        consumer: Consumer,
        generation: Generation,
        resolved: ResolvedGolden,
        progress: Progress,
        allowed: Ints | None = None,
    ) -> Lists:
        """The exact k nearest of the resolved queries."""
        return self.exact.lists(
            generation, [self._question(consumer, generation, resolved, progress)], allowed
        )[0]

    def prepare(
        self,
        generation: Generation,
        asked: Sequence[tuple[Consumer, ResolvedGolden]],
        progress: Progress,
        exact_queries: int,
        allowed: Ints | None = None,
    ) -> None:
        """Answers by exact search what evaluations of these consumers will ask of it, in one scan."""
        if exact_queries > 0 and allowed is None:
            samples = [
                (who, resolved.take(self.exact_sample(who, resolved, exact_queries)))
                for who, resolved in asked
                if len(resolved)
            ]
            questions = [self._question(who, generation, some, progress) for who, some in samples]
            if questions:
                self.exact.lists(generation, questions)

    def _question(
        self, consumer: Consumer, generation: Generation, resolved: ResolvedGolden, progress: Progress
    ) -> Question:
        vectors = self.query_vectors(generation, resolved, progress)
        return Question(resolved.digest, resolved.rows, vectors, consumer.k)

    def query_vectors(self, generation: Generation, resolved: ResolvedGolden, progress: Progress) -> Vectors:
        return self.vectors.get(
            generation.model,
            generation.fingerprint,
            resolved.golden,
            resolved.digest,
            resolved.rows,
            progress,
        )
