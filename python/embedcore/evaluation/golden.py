"""Golden sets: the labelled queries that a consumer's gate is computed from.

A set is a document (queries with the ids of their relevant items), imported whole or not at all, kept in
versions and named by the hash of its content, so that every verdict says which labels it rests on.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from embedcore.errors import FailedPrecondition, InvalidArgument, NotFound
from embedcore.types import Document

if TYPE_CHECKING:
    from embedcore.store.interface import Store

BLOB_KIND = "golden"  # one blob per version, "<set name>/<version>", never rewritten
HEAD_KIND = "golden-head"  # set name -> its newest version, written last
GATE_KIND = "golden-gate"  # consumer -> name of the set that its gates use
PROBLEMS_SHOWN = 10


class GoldenQuery(Document):
    """One labelled query.

    ``relevant``: item id -> grade; a grade above 0 is relevant, 0 is judged and not relevant.
    ``exclude``: item ids that are never an answer (the query's own item); they are removed before ranking.
    """

    id: str
    text: str
    relevant: dict[str, float]
    exclude: tuple[str, ...] = ()
    bucket: str = ""


class Labelling(Document):
    """How the labels came about, with the evidence of what was done about bias."""

    kind: Literal["given", "clicks", "raters"] = "given"
    evidence: dict[str, Any] = Field(default_factory=dict)


class GoldenSet(Document):
    """The labelled queries of one consumer. ``namespace``: where the item ids are looked up.

    A set marked ``public`` (a published benchmark) is a signal: it is never accepted as a gate, because
    models are trained on it.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    consumer: str
    queries: tuple[GoldenQuery, ...]
    public: bool = False
    source: str = ""
    namespace: str = ""
    labelling: Labelling | None = None

    @cached_property
    def digest(self) -> str:
        """``gs1-`` and 32 hexadecimal digits of what the set says; its name, its source and how it was
        labelled are left out. Computed once: it takes 20 ms for 4,000 queries, all of it under the GIL."""
        content = self.model_dump(mode="json", exclude={"name", "source", "labelling"})
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return "gs1-" + hashlib.sha256(canonical.encode()).hexdigest()[:32]


class GoldenVersion(Document):
    """What an import returns: the name, version and digest by which verdicts cite the set."""

    name: str
    consumer: str
    version: int
    digest: str
    queries: int
    gate: bool
    public: bool = False
    labelling: Labelling | None = None


class GoldenRegistry:
    """The golden sets of a store. Safe to call from any thread.

    One set per consumer is its gate; other sets (public ones among them) are kept as signals.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._loaded: dict[tuple[str, int], GoldenSet] = {}

    def put(
        self, golden: GoldenSet, *, gate: bool = True, unknown: Literal["refuse", "keep"] = "refuse"
    ) -> GoldenVersion:
        """Validates, then stores a new version; the same content again keeps its version.

        ``unknown="keep"`` accepts labels of items that are not in the store (yet); evaluation leaves their
        queries out and counts them. Raises one InvalidArgument with all problems counted and the first of
        them listed by position, NotFound for an unknown consumer, FailedPrecondition for a public set as a
        gate. Nothing is stored unless everything is right.
        """
        if gate and golden.public:
            raise FailedPrecondition(
                f"golden set {golden.name!r} is marked public: a public benchmark is a signal, never a gate; "
                "import it with gate=False, or label a set of your own"
            )
        known = [consumer.name for consumer in self._store.consumers()]
        if golden.consumer not in known:
            raise NotFound(
                f"golden set {golden.name!r} is for consumer {golden.consumer!r}, which does not exist; "
                f"known: {', '.join(known) or 'none'}"
            )
        problems = list(_problems(golden))
        if unknown == "refuse":
            problems += _unknown_items(golden, self._store)
        refuse(f"golden set {golden.name!r}", problems)
        with self._lock:
            head = self._head(golden.name)
            digest = golden.digest
            if head is None or head["digest"] != digest:
                version = 1 if head is None else int(head["version"]) + 1
                self._store.put_blob(BLOB_KIND, f"{golden.name}/{version}", golden.model_dump_json().encode())
                head = {"version": version, "digest": digest}
                # Until this line the new version is unreachable, so a crash leaves the old one in force.
                self._store.put_blob(HEAD_KIND, golden.name, json.dumps(head).encode())
            if gate:
                self._store.put_blob(GATE_KIND, golden.consumer, golden.name.encode())
            return GoldenVersion(
                name=golden.name,
                consumer=golden.consumer,
                version=int(head["version"]),
                digest=digest,
                queries=len(golden.queries),
                gate=gate,
                public=golden.public,
                labelling=golden.labelling,
            )

    def get(self, consumer: str) -> GoldenSet:
        """The newest version of the set that gates this consumer; NotFound when it has none."""
        name = self._store.get_blob(GATE_KIND, consumer)
        if name is None:
            raise NotFound(f"consumer {consumer!r} has no golden set; import one before evaluating it")
        return self.get_named(name.decode())

    def get_named(self, name: str, version: int | None = None) -> GoldenSet:
        """A set by its own name, newest version by default."""
        with self._lock:
            if version is None:
                head = self._head(name)
                if head is None:
                    raise NotFound(
                        f"golden set {name!r} does not exist; known: {', '.join(self.names()) or 'none'}"
                    )
                version = int(head["version"])
            found = self._loaded.get((name, version))
            if found is None:
                blob = self._store.get_blob(BLOB_KIND, f"{name}/{version}")
                if blob is None:
                    raise NotFound(f"golden set {name!r} has no version {version}")
                found = GoldenSet.model_validate_json(blob)
                self._loaded = {key: value for key, value in self._loaded.items() if key[0] != name}
                self._loaded[(name, version)] = found
            return found

    def names(self) -> list[str]:
        """Names of all sets, gates and signals."""
        return sorted(self._store.blob_names(HEAD_KIND))

    def versions(self) -> list[GoldenVersion]:
        """The newest version of every set, and whether it gates its consumer."""
        found = []
        for name in self.names():
            golden = self.get_named(name)
            head = self._head(name)
            gate = self._store.get_blob(GATE_KIND, golden.consumer)
            found.append(
                GoldenVersion(
                    name=name,
                    consumer=golden.consumer,
                    version=0 if head is None else int(head["version"]),
                    digest=golden.digest,
                    queries=len(golden.queries),
                    gate=gate is not None and gate.decode() == name,
                    public=golden.public,
                    labelling=golden.labelling,
                )
            )
        return found

    def consumers(self) -> list[str]:
        """Consumers that have a set for their gates."""
        return sorted(self._store.blob_names(GATE_KIND))

    def _head(self, name: str) -> dict[str, Any] | None:
        blob = self._store.get_blob(HEAD_KIND, name)
        return None if blob is None else dict(json.loads(blob))


def _problems(golden: GoldenSet) -> Iterator[str]:
    """What is wrong with a set whatever the store holds, one line each, by 1-based position."""
    if not golden.queries:
        yield "it has no queries"
    first: dict[str, int] = {}
    for position, query in enumerate(golden.queries, start=1):
        where = query_label(position, golden)
        if query.id in first:
            yield f"{where}: same id as query {first[query.id]}"
        first.setdefault(query.id, position)
        if not query.text.strip():
            yield f"{where}: empty text"
        bad = [item for item, grade in query.relevant.items() if not (math.isfinite(grade) and grade >= 0)]
        if bad:
            yield f"{where}: grade of {bad[0]!r} is {query.relevant[bad[0]]}, expected a finite number >= 0"
        elif not any(grade > 0 for grade in query.relevant.values()):
            yield f"{where}: no relevant item"
        both = [item for item in query.exclude if query.relevant.get(item, 0.0) > 0]
        if both:
            yield f"{where}: item {both[0]!r} is both relevant and excluded"


def _unknown_items(golden: GoldenSet, store: Store) -> list[str]:
    """Relevant items that the store does not hold live, by the first query that names each."""
    first: dict[str, int] = {}
    for position, query in enumerate(golden.queries, start=1):
        for item in query.relevant:
            first.setdefault(item, position)
    dense = store.items_of(list(first), golden.namespace) if first else ()
    missing = [item for item, number in zip(first, dense, strict=True) if number < 0]
    return [
        f"{query_label(first[item], golden)}: {_absence(store, item, golden.namespace)} item {item!r}"
        for item in missing
    ]


def _absence(store: Store, item: str, namespace: str) -> str:
    found = store.get_item(item, namespace)
    return "unknown" if found is None or not found.deleted else "deleted"


def query_label(position: int, golden: GoldenSet) -> str:
    """How problems name a query; ``importing`` finds its line in the file by it."""
    return f"query {position} ({golden.queries[position - 1].id!r})"


def refuse(what: str, problems: list[str]) -> None:
    if problems:
        shown = "; ".join(problems[:PROBLEMS_SHOWN])
        more = len(problems) - PROBLEMS_SHOWN
        raise InvalidArgument(
            f"{what}: nothing was imported, problems found: {len(problems)}: {shown}"
            + (f"; and {more} more" if more > 0 else ""),
            {"problems": problems[:1000], "count": len(problems)},
        )
