"""``embedcore eval``: golden sets imported, a generation evaluated, two generations compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedcore.cli.context import Session, command
from embedcore.cli.output import plain
from embedcore.errors import FailedPrecondition, GateNotMet, InvalidArgument

if TYPE_CHECKING:
    from embedcore.api import PlatformApi

ConsumerOption = Annotated[
    list[str] | None, typer.Option("--consumer", "-c", help="Repeatable; all with a golden set by default.")
]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Golden sets, and recall measured on them.", no_args_is_help=True)
    command(group, "golden")(golden)
    command(group, "run")(run)
    command(group, "compare")(compare)
    app.add_typer(group, name="eval")


def golden(
    session: Session,
    files: Annotated[list[Path] | None, typer.Argument(help="Golden sets: .json or .jsonl.")] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="wordnet: sets from its relations.")
    ] = None,
    items: Annotated[int | None, typer.Option("--items", min=1, help="As ingested.  [default: all]")] = None,
    queries: Annotated[int, typer.Option("--queries", min=1, help="Per consumer.")] = 4_000,
    seed: Annotated[int, typer.Option("--seed")] = 0,
) -> None:
    """Import golden sets; each is taken whole or not at all."""
    from embedcore.evaluation.golden_files import load_golden

    if bool(files) == (dataset is not None):
        raise InvalidArgument("give files of golden sets, or --dataset wordnet")
    if dataset is not None:
        if dataset != "wordnet":
            raise InvalidArgument(f"unknown dataset {dataset!r}; there is: wordnet")
        from embedcore.datasets import wordnet

        sets = list(wordnet.golden_sets(wordnet.load(items, seed), queries, seed).values())
    else:
        sets = [load_golden(path) for path in files or ()]
    with session.platform() as platform:
        imported = [plain(platform.import_golden_set(one)) for one in sets]
    rows = [(i.get("name"), i.get("consumer"), i.get("queries"), i.get("digest")) for i in imported]
    session.out.table(("golden set", "consumer", "queries", "digest"), rows, data=imported)


def run(
    session: Session,
    consumer: ConsumerOption = None,
    generation: Annotated[int, typer.Option("--generation", min=0, help="0: the serving one.")] = 0,
) -> None:
    """Evaluate a generation on the golden sets."""
    with session.platform() as platform:
        names = consumer or _with_golden_set(platform)
        documents = [platform.evaluate(name, generation) for name in names]
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
        )
        for d in documents
    ]
    columns = (
        "consumer",
        "generation",
        "metric",
        "value",
        "95% interval",
        "queries",
        "left out",
        "long tail",
    )
    session.out.table(columns, rows, data=documents)


def compare(
    session: Session,
    source: Annotated[int, typer.Option("--source", min=1, help="Generation.")],
    target: Annotated[int, typer.Option("--target", min=1, help="Generation.")],
    consumer: ConsumerOption = None,
    check: Annotated[bool, typer.Option("--check", help="Exit 1 when a gate is not met.")] = False,
) -> None:
    """Compare two generations, paired per query, and show what the gates say."""
    with session.platform() as platform:
        names = consumer or _with_golden_set(platform)
        documents = [platform.compare(name, source, target) for name in names]
    rows = []
    refused: list[dict[str, Any]] = []
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
                ", ".join(gate["gate"] for gate in missing) or "all met",
            )
        )
    session.out.table(
        ("consumer", "source", "target", "difference", "95% interval", "gates not met"), rows, data=documents
    )
    if check and refused:
        raise GateNotMet(f"{len(refused)} gate(s) not met", {"evidence": refused})


def interval(found: dict[str, Any]) -> str | None:
    """[lower, upper] of an evaluation or a comparison, or None."""
    lower, upper = found.get("lower"), found.get("upper")
    if lower is None or upper is None:
        return None
    return f"[{lower:.4f}, {upper:.4f}]"


def _with_golden_set(platform: PlatformApi) -> list[str]:
    """Consumers; those without a golden set are an error of evaluate, which names the remedy."""
    names = [consumer.name for consumer in platform.consumers()]
    if not names:
        raise FailedPrecondition("there are no consumers: add one with `embedcore consumers set NAME`")
    return names
