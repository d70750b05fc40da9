"""The report as one HTML file that needs nothing else: no network, no scripts. Texts are escaped.

The verdict and the intervals come first, at a size that is read across a room; what is below explains them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from string import Template
from typing import Any

from embedcore.evaluation.points import pp, pp_interval
from embedcore.evaluation.reporting.charts import forest, recall_latency, scatter
from embedcore.evaluation.reporting.tables import STYLE, table
from embedcore.evaluation.reporting.words import in_words

_PAGE = Template(
    """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
$style
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2024; background: #fff; max-width: 900px;
  margin: 1.5rem auto; padding: 0 1rem }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .5rem } h3 { font-size: .95rem; margin: 1.2rem 0 .3rem }
.verdict { border-radius: 10px; color: #fff; padding: 1rem 1.4rem; margin-bottom: .6rem }
.verdict b { font-size: 2.6rem; line-height: 1.1; letter-spacing: .02em }
.verdict span { display: block; font-size: 1.1rem }
.go { background: #1f7a3d } .no { background: #b3261e }
.ok { color: #1f7a3d; font-weight: 600; white-space: nowrap }
.bad { color: #b3261e; font-weight: 600; white-space: nowrap }
.pair { display: flex; gap: 1rem; flex-wrap: wrap }
details { border-top: 1px solid #e4e7ec; padding: .3rem 0 } summary { cursor: pointer }
ol { margin: .3rem 0 .3rem 1.2rem; padding: 0; font-size: 12.5px } .two { display: grid;
  grid-template-columns: 1fr 1fr; gap: 1.2rem } li.hit { background: #e8f3eb }
</style>
<div class="verdict $class"><b>$verdict</b><span>$headline</span></div>
<p class="note">$facts</p>
$body
</html>
"""
)


def render(report: Mapping[str, Any]) -> str:
    """The page of a report document (:func:`embedcore.evaluation.reporting.document.build_report`)."""
    go = bool(report["go"])
    source, target = report["source"], report["target"]
    title = f"{source['model']} to {target['model']}: {'go' if go else 'no go'}"
    moment = datetime.fromtimestamp(float(report["at"]), UTC).strftime("%Y-%m-%d %H:%M UTC")
    facts = (
        f"Generation {source['generation']} ({escape(source['model'])}) against generation "
        f"{target['generation']} ({escape(target['model'])}), as they stand: an item that the target lacks "
        f"is a miss. Policy {escape(report['policy'])}, margin {100 * report['margin']:g} pp; {moment}. "
        "Line: 95% interval of the paired difference; tick: the one-sided 95% bound that the gate asks for."
    )
    consumers = report["consumers"]
    body = [
        forest([_forest_row(name, one) for name, one in consumers.items()], float(report["margin"])),
        *(
            f'<p class="bad">{escape(name)}: no evidence: {escape(reason)}</p>'
            for name, reason in report["no_evidence"].items()
        ),
        _gates(consumers),
        *(_consumer(name, one, report) for name, one in consumers.items()),
    ]
    return _PAGE.substitute(
        style=STYLE,
        title=escape(title),
        verdict="GO" if go else "NO GO",
        headline=escape(str(report["headline"])),
        facts=facts,
        body="\n".join(body),
        **{"class": "go" if go else "no"},
    )


def _forest_row(name: str, one: Mapping[str, Any]) -> dict[str, Any]:
    compared = one["compared"]
    numbers = compared["comparison"]
    before, after = compared["source"]["metric"], compared["target"]["metric"]
    failed = [gate for gate, found in compared["gates"].items() if not found["passed"]]
    change = f"{_share(before)} → {_share(after)} ({pp(numbers['difference'])})"
    return {
        "name": name,
        "passed": one["passed"],
        "loses": any(gate != "sufficient" for gate in failed),
        "text": f"{compared['target']['metric_name']} {change}",
        "verdict": "passes" if not failed else f"refused: {in_words(failed)}",
        **{key: numbers[key] for key in ("difference", "lower", "upper", "one_sided_lower")},
    }


def _gates(consumers: Mapping[str, Any]) -> str:
    rows = [
        (name, gate, found["passed"], found["summary"])
        for name, one in consumers.items()
        for gate, found in one["compared"]["gates"].items()
    ]
    refused = [row for row in rows if not row[2]]
    met = [row for row in rows if row[2]]
    columns = ("consumer", "gate", "", "evidence")
    parts = ["<h2>Gates</h2>"]
    if refused:
        parts.append(table(columns, refused))
    parts.append(
        f"<details{'' if refused else ' open'}><summary>{len(met)} gates met</summary>"
        f"{table(columns, met)}</details>"
    )
    return "\n".join(parts)


def _consumer(name: str, one: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    compared = one["compared"]
    source, target = compared["source"], compared["target"]
    precision = str(target["metric_name"]).startswith("precision")
    names = (f"source: {report['source']['model']}", f"target: {report['target']['model']}")
    claim = one["claim"]
    passes = '<span class="ok">passes</span>' if one["passed"] else '<span class="bad">refused</span>'
    said = {
        "improvement": "an improvement may be claimed",
        "loss": "a loss is shown",
        "none": "no difference may be claimed",
    }[claim["verdict"]]
    curves = recall_latency(one["curves"], one["ef_search"], float(one.get("index_target", 0.95)))
    return "\n".join(
        [
            f"<h2>{escape(name)}: {passes}</h2>",
            _measures(source, target),
            f'<p class="note">Over all consumers {said} (Holm-adjusted p = {_number(claim["p_adjusted"])}). '
            f"{_fresh(one['equal_freshness'])} Golden set {escape(str(target['golden']))} "
            f"({escape(str(target['golden_digest']))}): {target['n']} queries judged, {target['left_out']} "
            f"left out, detects {pp(compared['comparison']['mde'], sign=False)} at 95% / 80%."
            f"{_labels(one['labelling'])}</p>",
            "<h3>Buckets</h3>",
            table(
                ("bucket", "queries", "source", "target", "difference", "95% interval"),
                [
                    (
                        row["bucket"],
                        row["n"],
                        _share(row["source"]),
                        _share(row["target"]),
                        pp(row["difference"]),
                        pp_interval(row["lower"], row["upper"]),
                    )
                    for row in one["buckets"]
                ],
            ),
            f'<div class="pair">{scatter(one["scatter"], names, precision)}{curves}</div>',
            _regressions(one["regressions"], names),
        ]
    )


def _measures(source: Mapping[str, Any], target: Mapping[str, Any]) -> str:
    rows: list[tuple[Any, ...]] = [
        (
            "the model",
            f"{target['metric_name']} against labels",
            *_with_interval(source, target, "metric", "lower", "upper"),
        ),
        (
            "the index",
            f"recall against exact search ({target['index_recall_n']} queries)",
            *_with_interval(source, target, "index_recall", "index_recall_lower", "index_recall_upper"),
        ),
    ]
    if target.get("found_share") is not None:
        rows.append(
            (
                "the model",
                "share of duplicates found",
                _share(source["found_share"]),
                _share(target["found_share"]),
            )
        )
    rows += [
        ("the model", name, _share(source["measures"].get(name)), _share(value))
        for name, value in target["measures"].items()
    ]
    return table(("judges", "measure", "source", "target"), rows)


def _with_interval(
    source: Mapping[str, Any], target: Mapping[str, Any], value: str, lower: str, upper: str
) -> tuple[str, str]:
    found = []
    for side in (source, target):
        text = _share(side[value])
        if side[lower] is not None:
            text += f" [{side[lower]:.3f}, {side[upper]:.3f}]"
        found.append(text)
    return found[0], found[1]


def _fresh(fresh: Mapping[str, Any]) -> str:
    if not fresh["available"]:
        return f"The models cannot be compared at equal freshness: {escape(str(fresh['reason']))}."
    return (
        f"At equal freshness ({fresh['both']} of {fresh['live']} items, {fresh['queries_left_out']} queries "
        f"left out) the models differ by {pp(fresh['comparison']['difference'])}; what is missing costs the "
        f"target {pp(fresh['backfill_costs'], sign=False)}."
    )


def _labels(labelling: Mapping[str, Any]) -> str:
    evidence = labelling.get("evidence") or {}
    if labelling.get("kind") == "clicks":
        return (
            f" Labels from {evidence.get('clicks', 0):,} clicks, corrected for position by "
            f"{escape(str(evidence.get('estimator', '')))}; propensities: "
            f"{escape(str(evidence.get('propensities_from', '')))}."
        )
    if labelling.get("kind") == "raters":
        effect = evidence.get("position_effect")
        order = "not recorded" if effect is None else "has an effect" if effect else "no effect shown"
        return (
            f" {evidence.get('raters', 0)} raters, Krippendorff's alpha {_number(evidence.get('alpha'))}; "
            f"order of presentation: {order}."
        )
    return ""


def _regressions(rows: Sequence[Mapping[str, Any]], names: tuple[str, str]) -> str:
    if not rows:
        return '<p class="note">No query lost anything.</p>'
    parts = [f"<h3>The {len(rows)} queries that lost most</h3>"]
    for number, row in enumerate(rows):
        summary = (
            f"<b>{escape(row['text'])}</b> <span class='note'>{row['source']:.2f} to {row['target']:.2f}, "
            f"{escape(row['bucket'])}, {row['relevant']} relevant</span>"
        )
        sides = "".join(
            f"<div><span class='note'>{escape(name)}</span>{_results(row[key])}</div>"
            for name, key in zip(names, ("source_results", "target_results"), strict=True)
        )
        opened = " open" if number == 0 else ""
        parts.append(f"<details{opened}><summary>{summary}</summary><div class='two'>{sides}</div></details>")
    return "\n".join(parts)


def _results(results: Sequence[Mapping[str, Any]]) -> str:
    items = "".join(
        f"<li{' class=hit' if result['relevant'] else ''}>{escape(result['content'] or result['id'])} "
        f"<span class='note'>{result['distance']:.3f}</span></li>"
        for result in results
    )
    return f"<ol>{items}</ol>" if items else "<p class='note'>nothing</p>"


def _share(value: Any) -> str:
    return "-" if value is None else f"{value:.3f}"


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.3g}"
