"""``embedcore search``: one query of one consumer, with the provenance of its answer."""

from __future__ import annotations

from typing import Annotated

import typer

from embedcore.cli import parse
from embedcore.cli.context import Session, command
from embedcore.types import SearchRequest


def register(app: typer.Typer) -> None:
    command(app, "search")(search)


def search(
    session: Session,
    text: Annotated[str, typer.Argument(help="The query.")],
    consumer: Annotated[str, typer.Option("--consumer", "-c", help="Who asks.")] = "search",
    k: Annotated[
        int | None, typer.Option("--k", "-k", min=1, help="Results; the consumer's by default.")
    ] = None,
    namespace: Annotated[str, typer.Option("--namespace", help="Only items of this namespace.")] = "",
    filters: Annotated[
        list[str] | None, typer.Option("--filter", "-f", help="key=text or key:=JSON; all must be equal.")
    ] = None,
    user_key: Annotated[str, typer.Option("--user-key", help="Decides the canary arm.")] = "",
    timeout: Annotated[float, typer.Option("--timeout", min=0.001, help="Seconds.")] = 10.0,
    contents: Annotated[bool, typer.Option("--contents/--no-contents", help="Show what was found.")] = True,
) -> None:
    """Search as one consumer."""
    request = SearchRequest(
        consumer=consumer,
        text=text,
        k=k,
        namespace=namespace,
        filter=parse.attributes(filters or ()),
        user_key=user_key,
        deadline_s=timeout,
    )
    with session.platform() as platform:
        answer = platform.search(request)
        if session.out.as_json:
            session.out.document(answer)
            return
        rows = [
            (rank, hit.id, round(hit.score, 4), _content(platform.get_item(hit.id, hit.namespace).content))
            if contents
            else (rank, hit.id, round(hit.score, 4))
            for rank, hit in enumerate(answer.hits, start=1)
        ]
    columns = ("", "id", "score", "content") if contents else ("", "id", "score")
    session.out.table(columns, rows, data=answer)
    made = answer.provenance
    session.out.note(
        f"{len(answer.hits)} of generation {' + '.join(map(str, made.generations))}"
        f" ({' + '.join(made.models)}), weight {made.weight:g}, {made.arm},"
        f" {made.shards_answered}/{made.shards_asked} shards{', PARTIAL' if made.partial else ''},"
        f" {answer.took_ms:.1f} ms"
    )


def _content(text: str | None) -> str:
    if text is None:
        return "(vectors only)"
    return text if len(text) <= 100 else text[:97] + "..."
