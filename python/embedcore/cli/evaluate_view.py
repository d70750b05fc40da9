"""Tables of evaluations, comparisons and reports for people; the documents as they are for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from embedcore.cli.output import Output
from embedcore.evaluation.points import pp, pp_interval

if TYPE_CHECKING:
    from embedcore.api import PlatformApi

Documents = Sequence[Mapping[str, Any]]


def interval(found: Mapping[str, Any], lower: str = "lower", upper: str = "upper") -> str | None:
    """[lower, upper] of an evaluation or a comparison, or None."""
    low, high = found.get(lower), found.get(upper)
    return None if low is None or high is None else f"[{low:.4f}, {high:.4f}]"


def evaluations(out: Output, documents: Documents) -> None:
    rows = [
        (
            d.get("consumer"),
            d.get("generation"),
            d.get("metric_name"),
            d.get("metric"),
            interval(d),
            d.get("n"),
            d.get("left_out"),
            d.get("long_tail"),
            d.get("index_recall"),
            _measure(d, "nDCG"),
            _measure(d, "RR"),
            d.get("found_share"),
        )
        for d in documents
    ]
    columns = (
        *("consumer", "generation", "metric", "value", "95% interval", "queries", "left out"),
        *("long tail", "index recall", "nDCG", "MRR", "found"),
    )
    out.table(columns, rows, data=documents)


def comparisons(out: Output, names: Sequence[str], documents: Documents) -> list[dict[str, Any]]:
    """Shows them; returns the gates that are not met."""
    rows, refused = [], []
    for name, found in zip(names, documents, strict=True):
        missing = [gate for gate in found.get("gates", {}).values() if not gate["passed"]]
        refused += missing
        rows.append(
            (
                name,
                found["source"].get("metric"),
                found["target"].get("metric"),
                found["comparison"].get("difference"),
                interval(found["comparison"]),
                found["comparison"].get("p_value"),
                found["comparison"].get("mde"),
                ", ".join(gate["gate"] for gate in missing) or "all met",
            )
        )
    columns = (
        *("consumer", "source", "target", "difference", "95% interval", "p", "detects"),
        "gates not met",
    )
    out.table(columns, rows, data=documents)
    fresh = next((found["freshness"] for found in documents if found.get("freshness")), None)
    if fresh:
        out.say(
            f"at equal freshness: {fresh['both']} of {fresh['live']} items are held by both (the source "
            f"lacks {fresh['source_lacks']}, the target {fresh['target_lacks']})"
        )
    return refused


def report(out: Output, found: Mapping[str, Any]) -> None:
    rows = []
    for name, one in found["consumers"].items():
        compared, claim = one["compared"], one["claim"]
        source, target = compared["source"], compared["target"]
        numbers, fresh = compared["comparison"], one["equal_freshness"]
        missing = [gate for gate, said in compared["gates"].items() if not said["passed"]]
        rows.append(
            (
                name,
                target["metric_name"],
                source["metric"],
                target["metric"],
                pp(numbers["difference"]),
                pp_interval(numbers["lower"], numbers["upper"]),
                pp(numbers["one_sided_lower"]),
                pp(fresh["comparison"]["difference"]) if fresh["available"] else None,
                pp(_tail(one)),
                _pair(source["index_recall"], target["index_recall"]),
                claim["verdict"],
                ", ".join(missing) or "all met",
            )
        )
    rows += [(name, *[None] * 10, "no evidence") for name in found["no_evidence"]]
    columns = (
        *("consumer", "metric", "source", "target", "difference", "95% interval", "bound"),
        *("equal freshness", "long tail", "index recall", "claim (Holm)", "gates not met"),
    )
    source, target = found["source"], found["target"]
    title = (
        f"generation {source['generation']} ({source['model']}) to {target['generation']} "
        f"({target['model']}), {found['policy']}, margin {100 * found['margin']:g} pp"
    )
    out.table(columns, rows, data=found, title=title)
    out.say(f"{'GO' if found['go'] else 'NO GO'}: {found['headline']}")


def refusals(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The gates of a report that are not met."""
    return [
        gate
        for one in found["consumers"].values()
        for gate in one["compared"]["gates"].values()
        if not gate["passed"]
    ]


def preflight(out: Output, found: Mapping[str, Any]) -> None:
    rows = [
        (name, "met" if gate["passed"] else "NOT MET", gate["summary"])
        for name, gate in found["gates"].items()
    ]
    rows += [(f"{name} (advice)", "", gate["summary"]) for name, gate in found["advice"].items()]
    out.table(("gate", "", "evidence"), rows, data=found)
    verdict = found["verdict"]
    if verdict is not None:
        out.say(f"canary set of {verdict['items']} items: {verdict['verdict']} ({verdict['reason']})")


def register_builtin(platform: PlatformApi, model: str) -> None:
    """A built-in model that the platform does not know yet is registered when it is first named."""
    from embedcore.encoders import builtin_models

    builtin = builtin_models().get(model)
    if builtin is not None and model not in {spec.name for spec in platform.models()}:
        platform.register_model(builtin)


def _measure(document: Mapping[str, Any], kind: str) -> float | None:
    measures = document.get("measures") or {}
    return next((value for name, value in measures.items() if name.startswith(f"{kind}@")), None)


def _tail(one: Mapping[str, Any]) -> float | None:
    return next((row["difference"] for row in one["buckets"] if row["bucket"] == "tail"), None)


def _pair(source: float | None, target: float | None) -> str | None:
    return None if source is None or target is None else f"{source:.3f} / {target:.3f}"
