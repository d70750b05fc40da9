"""``embedcore consumers``: the registry of readers, listed, shown, added and changed at run time."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from embedcore.cli import parse
from embedcore.cli.context import Session, command
from embedcore.errors import InvalidArgument, NotFound
from embedcore.types import Consumer

_COLUMNS = ("name", "metric", "target", "k", "p95 ms", "ef_search", "engagement", "replicas", "owner")


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Readers of the index and their targets.", no_args_is_help=True)
    command(group, "list")(list_consumers)
    command(group, "show")(show)
    command(group, "set")(set_consumer)
    app.add_typer(group, name="consumers")


def list_consumers(session: Session) -> None:
    """All consumers."""
    with session.platform() as platform:
        found = platform.consumers()
    rows = [
        (
            c.name,
            f"{c.quality}@{c.k}",
            c.quality_target,
            c.k,
            "async" if c.latency_objective_ms is None else f"{c.latency_objective_ms:g}",
            c.ef_search,
            c.engagement,
            c.replicas,
            c.owner,
        )
        for c in found
    ]
    session.out.table(_COLUMNS, rows, data=found)


def show(session: Session, name: Annotated[str, typer.Argument(help="Its name.")]) -> None:
    """Every setting of one consumer."""
    with session.platform() as platform:
        found = _find(platform.consumers(), name)
    session.out.table(("setting", "value"), list(found.model_dump(mode="json").items()), data=found)


def set_consumer(
    session: Session,
    name: Annotated[str | None, typer.Argument(help="Its name; a new one is added.")] = None,
    file: Annotated[
        str | None, typer.Option("--file", help="JSON, or a JSON file: the whole consumer, or what changes.")
    ] = None,
    k: Annotated[int | None, typer.Option("--k", min=1)] = None,
    quality: Annotated[str | None, typer.Option("--quality", help="recall or precision.")] = None,
    quality_target: Annotated[float | None, typer.Option("--quality-target", min=0, max=1)] = None,
    latency_objective_ms: Annotated[
        float | None, typer.Option("--latency-objective-ms", min=0, help="p95; 0: asynchronous batch.")
    ] = None,
    ef_search: Annotated[int | None, typer.Option("--ef-search", min=1)] = None,
    min_found_share: Annotated[float | None, typer.Option("--min-found-share", min=0, max=1)] = None,
    engagement: Annotated[
        str | None, typer.Option(help="click_through, session_depth, click_success or agreement.")
    ] = None,
    engagement_margin: Annotated[float | None, typer.Option("--engagement-margin", min=0)] = None,
    engagement_min_count: Annotated[int | None, typer.Option("--engagement-min-count", min=1)] = None,
    tokenizer_pin: Annotated[str | None, typer.Option("--tokenizer-pin")] = None,
    replicas: Annotated[int | None, typer.Option("--replicas", min=1)] = None,
    owner: Annotated[str | None, typer.Option("--owner")] = None,
    query_log: Annotated[
        int | None,
        typer.Option("--query-log", min=0, help="Distinct query texts kept for labelling; 0: none."),
    ] = None,
) -> None:
    """Add a consumer, or change some of its settings; takes effect for the next query."""
    given: dict[str, Any] = {
        "k": k,
        "quality": quality,
        "quality_target": quality_target,
        "latency_objective_ms": latency_objective_ms,
        "ef_search": ef_search,
        "min_found_share": min_found_share,
        "engagement": engagement,
        "engagement_margin": engagement_margin,
        "engagement_min_count": engagement_min_count,
        "tokenizer_pin": tokenizer_pin,
        "replicas": replicas,
        "owner": owner,
        "query_log": query_log,
    }
    changes = {key: value for key, value in given.items() if value is not None}
    if changes.get("latency_objective_ms") == 0:
        changes["latency_objective_ms"] = None
    if ef_search is not None:
        changes["ef_by_generation"] = {}  # what is set by hand wins over what was calibrated
    if file is not None:
        value = parse.json_value(file, "--file")
        if not isinstance(value, dict):
            raise InvalidArgument(f"--file holds a {type(value).__name__}; give one consumer as an object")
        changes = {**value, **changes}
    name = name or changes.get("name")
    if not name:
        raise InvalidArgument("which consumer? give its name, or a --file with a name")
    if not changes:
        raise InvalidArgument(f"nothing to set for {name!r}: give an option, or --file")
    with session.platform() as platform:
        known = next((c for c in platform.consumers() if c.name == name), None)
        start = {} if known is None else known.model_dump()
        # Nothing is sent before the whole document is right.
        consumer = parse.document(Consumer, {**start, **changes, "name": name}, f"consumer {name!r}")
        saved = platform.set_consumer(consumer)
    session.out.result(saved, f"consumer {saved.name}: {'added' if known is None else 'changed'}")


def _find(consumers: list[Consumer], name: str) -> Consumer:
    for consumer in consumers:
        if consumer.name == name:
            return consumer
    known = ", ".join(c.name for c in consumers) or "none"
    raise NotFound(f"unknown consumer {name!r}; known: {known}")
