"""What the demo serves and asks: items, items held back for live writes, golden sets; files of them.

The files hand the same workload to the traffic process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embedcore.errors import InvalidArgument
from embedcore.evaluation.golden import GoldenSet
from embedcore.types import Item

# Share of the items that arrive while the migration runs.
HELD_BACK = 0.03
_FILE = "workload.json"


@dataclass(frozen=True, slots=True)
class Workload:
    """``items`` are ingested before anything else, ``held_back`` arrive live. Golden sets by consumer."""

    items: Sequence[Item]
    held_back: Sequence[Item]
    golden: Mapping[str, GoldenSet]
    told: str  # one line for the report: what corpus this is


def wordnet_workload(items: int, queries: int, seed: int, now: float) -> Workload:
    """``items`` synsets to ingest, 3% more (as far as there are) to arrive live.

    The golden sets know the ingested items only: what arrives later is unlabelled, alike for both models.
    ``now``: the platform's, from which ages are counted.
    """
    from embedcore.datasets import wordnet

    everything = wordnet.load(None, seed)
    if not 1 <= items <= len(everything):
        raise InvalidArgument(f"--items must be in 1..{len(everything)}, got {items}")
    wanted = min(items + max(50, round(items * HELD_BACK)), len(everything))
    corpus = everything if wanted == len(everything) else wordnet.load(wanted, seed)
    # With all of WordNet ingested nothing would be left to arrive.
    held = max(wanted - items, round(wanted * HELD_BACK) if wanted == items else 0)
    rng = np.random.default_rng([seed, 1])
    late = {corpus.entries[int(row)].id for row in rng.permutation(wanted)[:held]}
    ingested = wordnet.Corpus(tuple(e for e in corpus if e.id not in late), seed)
    golden = wordnet.golden_sets(ingested, queries, seed)
    made = corpus.items(now)
    return Workload(
        items=[item for item in made if item.id not in late],
        # Written live, so created when written.
        held_back=[
            Item(id=item.id, content=item.content, attributes=item.attributes)
            for item in made
            if item.id in late
        ],
        golden=golden,
        told=f"WordNet 3.0, {len(ingested)} of {len(everything)} synsets",
    )


def save(workload: Workload, directory: Path) -> None:
    """Writes the file that :func:`load` reads."""
    body = {
        "items": [_plain(item) for item in workload.items],
        "held_back": [_plain(item) for item in workload.held_back],
        "golden": {name: golden.model_dump() for name, golden in workload.golden.items()},
        "told": workload.told,
    }
    (directory / _FILE).write_text(json.dumps(body), encoding="utf-8")


def load(directory: Path) -> Workload:
    """What :func:`save` wrote."""
    body = json.loads((directory / _FILE).read_text(encoding="utf-8"))
    return Workload(
        items=[_item(found) for found in body["items"]],
        held_back=[_item(found) for found in body["held_back"]],
        golden={name: GoldenSet.model_validate(found) for name, found in body["golden"].items()},
        told=body["told"],
    )


def _plain(item: Item) -> dict[str, Any]:
    return {
        "id": item.id,
        "content": item.content,
        "attributes": dict(item.attributes),
        "created_at": item.created_at,
    }


def _item(found: dict[str, Any]) -> Item:
    return Item(
        id=found["id"],
        content=found["content"],
        attributes=found["attributes"],
        created_at=found["created_at"],
    )
