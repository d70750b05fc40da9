"""Which synsets a subset holds: a uniform sample that keeps enough relations to be evaluated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# As many queries as a golden set has by default.
RELATED_WANTED = 4_000


def sample_rows(related: Sequence[Sequence[int]], items: int, seed: int) -> list[int]:
    """``items`` distinct rows, ascending; ``related``: row -> rows.

    A uniform sample keeps a relation only when both ends are drawn: 20,000 of 117,659 synsets leave 6,400
    with one, 10,000 leave 1,900, 1,000 leave 20. When fewer than min(4,000, items / 2) would have one, as
    many pairs (a uniform synset and a uniform one of its relations) as are lacking come first and
    uniform synsets fill up. From about 15,000 items on the sample is uniform.
    """
    rng = np.random.default_rng(seed)
    order = [int(row) for row in rng.permutation(len(related))]
    uniform = set(order[:items])
    natural = sum(any(other in uniform for other in related[row]) for row in uniform)
    # Pairs displace uniform synsets, some of which have a relation too: solved for what comes out.
    lacking = (min(RELATED_WANTED, items / 2) - natural) / max(1 - natural / items, 1 / items)
    chosen: set[int] = set()
    for row in order:
        if len(chosen) >= lacking or len(chosen) + 2 > items:
            break
        partners = [other for other in related[row] if other not in chosen]
        if row not in chosen and partners:
            chosen |= {row, partners[int(rng.integers(len(partners)))]}
    for row in order:
        if len(chosen) >= items:
            break
        chosen.add(row)
    return sorted(chosen)
