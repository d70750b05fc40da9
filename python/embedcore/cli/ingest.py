"""``embedcore ingest``: items from files or a carried data set, in acknowledged batches."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedcore.cli import parse, vector_files
from embedcore.cli.context import Session, command
from embedcore.cli.output import Output
from embedcore.cli.records import Fields, count_records, read_items
from embedcore.errors import EmbedcoreError, FailedPrecondition, InvalidArgument
from embedcore.types import Fingerprint, Item, ModelSpec

if TYPE_CHECKING:
    from embedcore.api import PlatformApi


def register(app: typer.Typer) -> None:
    command(app, "ingest")(ingest)


@dataclass(frozen=True, slots=True)
class Source:
    """Where items come from. ``total``: how many, where that is known."""

    name: str
    items: Iterator[Item]
    total: int | None


def ingest(
    session: Session,
    file: Annotated[Path | None, typer.Argument(help="Items: .jsonl or .csv.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="wordnet: the carried corpus.")] = None,
    items: Annotated[
        int | None, typer.Option("--items", min=1, help="Of the data set.  [default: all]")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Chooses the data set's items.")] = 0,
    vectors: Annotated[
        Path | None, typer.Option("--vectors", help=".npy or .parquet, taken over without re-embedding.")
    ] = None,
    fingerprint: Annotated[
        str | None, typer.Option("--fingerprint", help="Of the vectors: JSON or a JSON file.")
    ] = None,
    ids: Annotated[
        Path | None,
        typer.Option("--ids", help="Ids of .npy rows: a text or .npy file, unless FILE has them."),
    ] = None,
    id_field: Annotated[str, typer.Option("--id-field")] = "id",
    content_field: Annotated[str, typer.Option("--content-field")] = "content",
    vector_field: Annotated[str, typer.Option("--vector-field", help="Parquet column.")] = "vector",
    created_at_field: Annotated[str, typer.Option("--created-at-field")] = "created_at",
    attribute_field: Annotated[
        list[str] | None, typer.Option("--attribute-field", help="Kept as attribute; repeatable.")
    ] = None,
    namespace_field: Annotated[str, typer.Option("--namespace-field")] = "",
    namespace: Annotated[str, typer.Option("--namespace")] = "",
    batch: Annotated[
        int, typer.Option("--batch", min=1, max=10_000, help="Items per acknowledgement.")
    ] = 256,
    skip: Annotated[int, typer.Option("--skip", min=0, help="Items acknowledged by an earlier run.")] = 0,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="File that remembers how far a run came.")
    ] = None,
) -> None:
    """Write items; each batch is durable in every live generation once it is acknowledged."""
    fields = Fields(
        id_field, content_field, tuple(attribute_field or ()), created_at_field, namespace_field, namespace
    )
    declared = None
    if vectors is not None:
        declared = _declared(fingerprint)
        source = _vector_source(vectors, declared, fields, vector_field, file, ids)
    elif file is not None and dataset is None:
        source = _records(file, fields)
    elif dataset == "wordnet" and file is None:
        source = None
    else:
        raise InvalidArgument("what shall be ingested? give FILE, --dataset wordnet, or --vectors")
    with session.platform() as platform:
        if declared is not None:
            _adopt(platform, declared)
        if source is None:
            source = _wordnet(items, seed, platform.status().now)
        remembered = _Checkpoint(checkpoint, source.name)
        _write(session.out, platform, source, batch, max(skip, remembered.done), remembered)


def _declared(fingerprint: str | None) -> Fingerprint:
    if fingerprint is None:
        raise InvalidArgument(
            "--vectors needs --fingerprint, which says what made them:"
            " model, revision, dimension, metric, normalisation, tokenizer_hash, dtype"
        )
    value = parse.json_value(fingerprint, "--fingerprint")
    return parse.document(Fingerprint, value, "--fingerprint")


def _records(file: Path, fields: Fields) -> Source:
    if not file.is_file():
        raise InvalidArgument(f"there is no file {file}")
    return Source(str(file), read_items(file, fields), count_records(file))


def _wordnet(items: int | None, seed: int, now: float) -> Source:
    """Its ages are counted from the platform's now."""
    from embedcore.datasets import wordnet

    found = wordnet.load(items, seed).items(now)
    return Source(f"wordnet:{len(found)}:{seed}", iter(found), len(found))


def _vector_source(
    path: Path,
    fingerprint: Fingerprint,
    fields: Fields,
    vector_field: str,
    records: Path | None,
    ids: Path | None,
) -> Source:
    if path.suffix == ".parquet":
        if ids is not None or records is not None:
            raise InvalidArgument("a Parquet file brings its own ids: leave out --ids and FILE")
        total, items = vector_files.parquet_items(path, fields, vector_field, fingerprint)
        return Source(str(path), items, total)
    if path.suffix != ".npy":
        raise InvalidArgument(f"--vectors {path}: give a .npy or a .parquet file")
    rows = vector_files.npy_rows(path, fingerprint)
    if records is not None and ids is None:
        items = _records(records, fields).items
    elif ids is not None and records is None:
        names = vector_files.read_ids(ids)
        if len(names) != len(rows):
            raise InvalidArgument(f"{path} has {len(rows)} vectors, {ids} has {len(names)} ids")
        items = vector_files.bare_items(names, fields.namespace)
    else:
        raise InvalidArgument("a .npy file has no ids: give either --ids, or FILE with one item per row")
    return Source(str(path), vector_files.with_vectors(items, rows, fingerprint, str(path)), len(rows))


def _adopt(platform: PlatformApi, fingerprint: Fingerprint) -> None:
    """An empty platform gets a first generation of the declared space; else the space must be live."""
    generations = [g.generation for g in platform.generations() if g.generation.live]
    live = [g.fingerprint.digest for g in generations]
    if fingerprint.digest in live:
        return
    if live:
        raise FailedPrecondition(
            f"the vectors are declared as {fingerprint.digest} ({fingerprint.model}), the live generations"
            f" are {', '.join(f'{g.fingerprint.digest} ({g.model})' for g in generations)}: correct the"
            " fingerprint, or ingest the texts"
        )
    spec = ModelSpec(name=fingerprint.model, backend="external", fingerprint=fingerprint)
    platform.register_model(spec)
    platform.create_generation(spec.name)


def _write(
    out: Output, platform: PlatformApi, source: Source, batch: int, skip: int, checkpoint: _Checkpoint
) -> None:
    done = sum(1 for _ in islice(source.items, skip))
    repairs = 0
    try:
        with out.progress(f"ingesting {source.name}", source.total) as advance:
            advance(done)
            while items := list(islice(source.items, batch)):
                repairs += platform.upsert(items).repairs
                done += len(items)
                checkpoint.save(done)
                advance(done)
    except (EmbedcoreError, KeyboardInterrupt):
        out.note(f"{done} items are acknowledged; go on with --skip {done}")
        raise
    remark = f", {repairs} vectors wait in the repair queue" if repairs else ""
    skipped = f" ({skip} skipped)" if skip else ""
    out.result(
        {"source": source.name, "items": done, "skipped": skip, "repairs": repairs},
        f"{done} items of {source.name} acknowledged{skipped}{remark}",
    )


class _Checkpoint:
    """How many items of a source are acknowledged, kept in a file when one is named."""

    def __init__(self, path: Path | None, source: str) -> None:
        self._path = path
        self._source = source
        self.done = 0
        if path is None or not path.exists():
            return
        found: Any = parse.json_value(str(path), "--checkpoint")
        if not isinstance(found, dict) or found.get("source") != source:
            raise InvalidArgument(
                f"checkpoint {path} belongs to another source than {source}; name another file"
            )
        self.done = int(found.get("done", 0))

    def save(self, done: int) -> None:
        if self._path is None:
            return
        temporary = self._path.with_name(self._path.name + ".tmp")
        temporary.write_text(json.dumps({"source": self._source, "done": done}), encoding="utf-8")
        os.replace(temporary, self._path)
