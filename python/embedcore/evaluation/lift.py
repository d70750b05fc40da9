"""From offline to online: how much engagement a gain in recall is expected to bring, and how that came out.

Before a canary begins, the lift that its recall gain predicts is put on record with an interval; when the
canary is decided, what was observed is put beside it. The slope (relative lift of the engagement metric per
unit of recall) is least squares through the origin over the consumer's scored canaries, the interval that
of a new observation (Student's t), so it holds what canaries differ by as well as their noise. Below three
scored canaries there is no fit: the lift is taken to be in proportion to the recall, without an interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from embedcore.evaluation.quantiles import t_quantile
from embedcore.migration_types import GateResult
from embedcore.types import Consumer, Document

if TYPE_CHECKING:
    from embedcore.store.interface import Store

BLOB_KIND = "lift-prediction"  # "<consumer>/<migration>"
MIN_CANARIES = 3


class LiftPrediction(Document):
    """Lifts are relative to the control's engagement: 0.02 is 2% more. ``visible_gain``: what of the recall
    gain the control arm, answered at ``weight``, does not have already."""

    migration: str
    consumer: str
    recall_gain: float
    weight: float
    visible_gain: float
    method: Literal["fitted", "proportional"]
    fitted_on: int  # scored canaries
    slope: float  # relative lift per 1.0 of recall
    predicted: float
    lower: float | None  # 95% interval of a new canary's observed lift
    upper: float | None
    recorded_at: float
    scored_at: float | None = None
    observed: float | None = None
    observed_lower: float | None = None  # the canary's always-valid interval
    observed_upper: float | None = None
    inside: bool | None = None  # the observed lift is within the predicted interval; None without one


class LiftFit(NamedTuple):
    """The slope of past canaries, and the 95% interval of a new canary's lift at the gain asked for."""

    slope: float
    lower: float | None
    upper: float | None
    canaries: int  # that it was fitted on; 0: too few, and no fit


class LiftBook:
    """The predictions of a store. Safe to call from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def predict(
        self, migration: str, consumer: Consumer, quality: GateResult, weight: float, *, at: float
    ) -> LiftPrediction | None:
        """Records the prediction of a canary that is about to begin. One that is on record stays as it is:
        it was made before the data. None for consumers judged by agreement, and without a quality verdict."""
        known = self.get(migration, consumer.name)
        gain, base = quality.evidence.get("difference"), quality.evidence.get("source")
        if known is not None or consumer.engagement == "agreement" or gain is None or not base:
            return known
        visible = float(gain) * (1 - weight)
        slope, low, high, used = self.fitted(migration, consumer.name, visible)
        made = LiftPrediction(
            migration=migration,
            consumer=consumer.name,
            recall_gain=float(gain),
            weight=weight,
            visible_gain=visible,
            method="fitted" if used else "proportional",
            fitted_on=used,
            slope=slope if used else 1 / float(base),
            predicted=visible * (slope if used else 1 / float(base)),
            lower=low,
            upper=high,
            recorded_at=at,
        )
        return self._put(made)

    def score(
        self, migration: str, consumer: str, engagement: GateResult, *, at: float
    ) -> LiftPrediction | None:
        """Puts what the canary showed beside its prediction, once. None when there is nothing to score."""
        known, evidence = self.get(migration, consumer), engagement.evidence
        control, canary = evidence.get("control"), evidence.get("canary")
        if known is None or known.scored_at is not None or not control or canary is None:
            return known
        observed = float(canary) / float(control) - 1
        inside = None
        if known.lower is not None and known.upper is not None:
            inside = known.lower <= observed <= known.upper
        bounds = {
            f"observed_{side}": None if evidence.get(side) is None else float(evidence[side]) / float(control)
            for side in ("lower", "upper")
        }
        return self._put(
            known.model_copy(update={"scored_at": at, "observed": observed, "inside": inside, **bounds})
        )

    def fitted(self, migration: str, consumer: str, gain: float) -> LiftFit:
        """By the consumer's canaries of other migrations: a canary is no evidence about itself."""
        return fit([one for one in self.history(consumer) if one.migration != migration], gain)

    def get(self, migration: str, consumer: str) -> LiftPrediction | None:
        blob = self._store.get_blob(BLOB_KIND, f"{consumer}/{migration}")
        return None if blob is None else LiftPrediction.model_validate_json(blob)

    def history(self, consumer: str) -> list[LiftPrediction]:
        """All predictions of a consumer, oldest first."""
        names = [name for name in self._store.blob_names(BLOB_KIND) if name.startswith(f"{consumer}/")]
        found = [self.get(name.partition("/")[2], consumer) for name in names]
        return sorted((one for one in found if one is not None), key=lambda one: one.recorded_at)

    def _put(self, made: LiftPrediction) -> LiftPrediction:
        self._store.put_blob(BLOB_KIND, f"{made.consumer}/{made.migration}", made.model_dump_json().encode())
        return made


def fit(history: Sequence[LiftPrediction], gain: float) -> LiftFit:
    """Least squares through the origin over what was scored; see the module."""
    scored = [one for one in history if one.observed is not None and one.visible_gain != 0]
    if len(scored) < MIN_CANARIES:
        return LiftFit(0.0, None, None, 0)
    x = np.array([one.visible_gain for one in scored])
    y = np.array([one.observed for one in scored], dtype=np.float64)
    squares = float(x @ x)
    slope = float(x @ y) / squares
    spread = math.sqrt(float(np.sum((y - slope * x) ** 2)) / (len(x) - 1))
    half = t_quantile(0.975, len(x) - 1) * spread * math.sqrt(1 + gain**2 / squares)
    return LiftFit(slope, slope * gain - half, slope * gain + half, len(x))
