"""The WordNet corpus: entries, the items made of them, and seeded subsets."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import lzma
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from embedcore.datasets.wordnet.sample import sample_rows
from embedcore.errors import DataLoss, InvalidArgument
from embedcore.types import Item

DATA_FILE = "wordnet.jsonl.xz"
DATA_SHA256 = "0e1ab0d1fdfdc2d073ce4cc46d3f3988ffb8eb51c4c4c3af58cf83f6e5c11bc5"
SYNSETS = 117_659
SPREAD_DAYS = 400
REFERENCE_TIME = 1_700_000_000.0  # seconds since the Unix epoch: 14 November 2023
PARTS_OF_SPEECH: Mapping[str, str] = MappingProxyType(
    {"n": "noun", "v": "verb", "a": "adjective", "r": "adverb"}
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A synset: words of one meaning. ``related``: relation (hypernym, antonym, ...) -> ids of synsets."""

    id: str
    lemmas: tuple[str, ...]
    definition: str
    examples: tuple[str, ...]
    related: Mapping[str, tuple[str, ...]]

    @property
    def pos(self) -> str:
        """Part of speech: noun, verb, adjective or adverb."""
        return PARTS_OF_SPEECH[self.id[0]]

    @property
    def text(self) -> str:
        """What is embedded: ``lemma, lemma: definition``. Examples are left out."""
        return f"{', '.join(self.lemmas)}: {self.definition}"


@dataclass(frozen=True)
class Corpus:
    """Entries in the order of WordNet. Immutable, so it may be shared between threads."""

    entries: tuple[Entry, ...]
    seed: int = 0

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    @cached_property
    def by_id(self) -> Mapping[str, Entry]:
        return MappingProxyType({entry.id: entry for entry in self.entries})

    def related(self, entry: Entry) -> list[str]:
        """Ids of the entry's related synsets that this corpus holds, itself left out, sorted."""
        ids = {other for others in entry.related.values() for other in others}
        return sorted(other for other in ids if other in self.by_id and other != entry.id)

    def age(self, entry_id: str) -> float:
        """Seconds in [0, 400 days), uniform by a hash of (seed, id): WordNet has no ages of its own."""
        digest = hashlib.blake2b(f"{self.seed}\0{entry_id}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") / 2**64 * SPREAD_DAYS * 86_400.0

    def items(self, reference_time: float = REFERENCE_TIME) -> list[Item]:
        """One item per entry: its text, attribute ``pos``, and created_at at its age before
        ``reference_time`` (seconds since the Unix epoch; pass the platform's now)."""
        return [
            Item(
                id=entry.id,
                content=entry.text,
                attributes={"pos": entry.pos},
                created_at=reference_time - self.age(entry.id),
            )
            for entry in self.entries
        ]


def load(items: int | None = None, seed: int = 0) -> Corpus:
    """The corpus, or ``items`` synsets of it; takes some two seconds. Same arguments, same corpus.

    A subset is a uniform sample, except that pairs of related synsets are drawn first where a small uniform
    sample would hold too few relations for a golden set (see :func:`sample_rows`). ``seed`` also decides the
    ages. Raises InvalidArgument when ``items`` is not in 1..117,659, DataLoss when the data are damaged.
    """
    if items is not None and not 1 <= items <= SYNSETS:
        raise InvalidArgument(f"items must be in 1..{SYNSETS}, got {items}")
    entries = _read()
    if items is not None and items < SYNSETS:
        row_of = {entry.id: row for row, entry in enumerate(entries)}
        related = [
            sorted({row_of[other] for ids in entry.related.values() for other in ids} - {row})
            for row, entry in enumerate(entries)
        ]
        entries = [entries[row] for row in sample_rows(related, items, seed)]
    return Corpus(tuple(entries), seed)


def _read() -> list[Entry]:
    data = importlib.resources.files("embedcore.datasets").joinpath("data", DATA_FILE)
    packed = data.read_bytes() if data.is_file() else b""
    digest = hashlib.sha256(packed).hexdigest()
    if digest != DATA_SHA256:
        raise DataLoss(
            f"{DATA_FILE} has sha256 {digest}, expected {DATA_SHA256}; reinstall embedcore",
            {"file": DATA_FILE, "expected": DATA_SHA256, "found": digest},
        )
    return [_entry(line) for line in lzma.decompress(packed).decode().splitlines()]


def _entry(line: str) -> Entry:
    row = json.loads(line)
    return Entry(
        id=row["id"],
        lemmas=tuple(row["lemmas"]),
        definition=row["definition"],
        examples=tuple(row["examples"]),
        related={relation: tuple(ids) for relation, ids in row["related"].items()},
    )
