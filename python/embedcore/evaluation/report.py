"""Evaluations and comparisons as rows of plain data, for a table in a terminal or a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from embedcore.evaluation.result import Compared, Evaluation
from embedcore.evaluation.significance import finite

Row = dict[str, str | int | float | bool | None]


def summary_table(evaluations: Sequence[Evaluation], comparisons: Mapping[str, Compared]) -> list[Row]:
    """One row per consumer, by name: the latest evaluation's metric with its interval, and from its
    comparison (by consumer) both metrics, the difference with its interval and bound, and the verdict.

    Values are JSON-serialisable; None where there is nothing. ``refused_by``: summaries of gates not met.
    """
    latest: dict[str, Evaluation] = {}
    for evaluation in evaluations:
        known = latest.get(evaluation.consumer)
        if known is None or evaluation.at >= known.at:
            latest[evaluation.consumer] = evaluation
    names = sorted(latest.keys() | comparisons.keys())
    return [_row(name, latest.get(name), comparisons.get(name)) for name in names]


def _row(name: str, evaluation: Evaluation | None, compared: Compared | None) -> Row:
    shown = compared.target if evaluation is None and compared is not None else evaluation
    row: dict[str, Any] = {"consumer": name, "metric_name": None if shown is None else shown.metric_name}
    fields = ("metric", "lower", "upper", "n", "left_out", "long_tail", "long_tail_n", "index_recall")
    row |= {field: None if shown is None else finite(getattr(shown, field)) for field in fields}
    if compared is None:
        return row | dict.fromkeys(_COMPARED)
    result = compared.comparison
    values = (
        finite(compared.source.metric),
        finite(compared.target.metric),
        finite(result.difference),
        finite(result.lower),
        finite(result.upper),
        finite(result.one_sided_lower),
        finite(result.p_value),
        finite(result.mde),
        compared.passed,
        "; ".join(gate.summary for gate in compared.gates.values() if not gate.passed) or None,
    )
    return row | dict(zip(_COMPARED, values, strict=True))


_COMPARED = (
    "source",
    "target",
    "difference",
    "difference_lower",
    "difference_upper",
    "one_sided_lower",
    "p_value",
    "mde",
    "passed",
    "refused_by",
)
