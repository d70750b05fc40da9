"""Calibrations over the parts of a harness: scores between generations, ef_search of a consumer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embedcore.evaluation.calibration import (
    ENOUGH_ITEMS,
    CalibrationPairs,
    FittedCalibration,
    background_pairs,
    collect_pairs,
    fit_pairs,
)
from embedcore.evaluation.ef_search import EF_QUERIES, EfCalibration, calibrate_ef
from embedcore.evaluation.interface import Progress
from embedcore.evaluation.searching import subset
from embedcore.evaluation.seeds import derive
from embedcore.types import Consumer, Generation, Vectors

if TYPE_CHECKING:
    from embedcore.evaluation.harness import Harness

CALIBRATION_KIND = "score-calibration"  # "<target>/<source>" -> FittedCalibration
CALIBRATION_QUERIES = 256


class Calibrator:
    """Thread-safe as the harness is."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness

    def pairs(
        self,
        source: int,
        target: int,
        queries: int = CALIBRATION_QUERIES,
        *,
        progress: Progress | None = None,
    ) -> CalibrationPairs:
        """Score pairs for the map from source to target distances, over golden queries of all consumers in
        equal parts; ``.fit()`` makes the ScoreCalibration, or raises FailedPrecondition below 8 pairs."""
        return self._pairs(*self._sides(source, target, queries, progress))

    def scores(
        self,
        source: int,
        target: int,
        queries: int = CALIBRATION_QUERIES,
        *,
        progress: Progress | None = None,
    ) -> FittedCalibration:
        """Fits the map from source to target distances and keeps it with the target generation. While both
        hold few items it is the match of the two background distributions. FailedPrecondition when the
        target holds fewer than 8 items: let the backfill go on."""
        store, seed = self._harness.store, self._harness.seed
        sides = self._sides(source, target, queries, progress)
        pairs = self._pairs(*sides)
        background = background_pairs(store, *sides, seed=seed) if pairs.items < ENOUGH_ITEMS else None
        fitted = fit_pairs(pairs, background, source, target, at=self._harness.now(), seed=seed)
        store.put_blob(CALIBRATION_KIND, f"{target}/{source}", fitted.model_dump_json().encode())
        return fitted

    def stored(self, source: int, target: int) -> FittedCalibration | None:
        """The last one fitted from ``source`` onto ``target``."""
        blob = self._harness.store.get_blob(CALIBRATION_KIND, f"{target}/{source}")
        return None if blob is None else FittedCalibration.model_validate_json(blob)

    def ef_search(
        self,
        consumer: Consumer | str,
        generation: int,
        *,
        queries: int = EF_QUERIES,
        progress: Progress | None = None,
    ) -> EfCalibration:
        """The smallest ef_search at which this index finds the consumer's ``index_recall`` of what exact
        search finds, with 95% confidence, and what it costs. Changes nothing."""
        who, where = self._harness.consumer(consumer), self._harness.generation(generation)
        report = progress or self._harness.progress
        resolved = self._harness.resolver.resolve(self._harness.golden.get(who.name))
        rng = np.random.default_rng(derive(self._harness.seed, "ef", who.name))
        some = resolved.take(subset(len(resolved), queries, rng))
        return calibrate_ef(self._harness.evaluator, who, where, some, report)

    def _pairs(self, old: Generation, new: Generation, before: Vectors, after: Vectors) -> CalibrationPairs:
        backend, seed = self._harness.evaluator.backend, self._harness.seed
        return collect_pairs(self._harness.store, backend, old, new, before, after, seed=seed)

    def _sides(
        self, source: int, target: int, queries: int, progress: Progress | None
    ) -> tuple[Generation, Generation, Vectors, Vectors]:
        """Both generations, and :meth:`_queries` under each."""
        old, new = self._harness.generation(source), self._harness.generation(target)
        return old, new, *self._queries(old, new, queries, progress or self._harness.progress)

    def _queries(
        self, old: Generation, new: Generation, queries: int, report: Progress
    ) -> tuple[Vectors, Vectors]:
        """(q, d) and (q, e): the same golden queries under both models, of all consumers in equal parts."""
        names = self._harness.golden.consumers()
        sides: list[list[Vectors]] = [[], []]
        for name in names:
            golden = self._harness.golden.get(name)
            rng = np.random.default_rng(derive(self._harness.seed, "calibration", name))
            rows = subset(len(golden.queries), max(1, queries // len(names)), rng)
            for side, generation in zip(sides, (old, new), strict=True):
                found = self._harness.evaluator.vectors.get(
                    generation.model, generation.fingerprint, golden, golden.digest, rows, report
                )
                side.append(found)
        before, after = (
            np.concatenate(side) if side else np.zeros((0, generation.fingerprint.dimension), np.float32)
            for side, generation in zip(sides, (old, new), strict=True)
        )
        return before, after
