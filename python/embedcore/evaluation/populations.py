"""What can happen to a golden query when the model changes: measured, as tables for the simulation.

Measured between paraphrase-MiniLM-L3-v2 and all-MiniLM-L6-v2 on WordNet with 4,000 queries per consumer: how
often the new model finds so much more or less for one query. ``demo``: 10,000 items, where the consumers are
near their targets. ``whole``: all 117,659, where they are below them and an upgrade changes twice as many
queries. The simulation tilts a table until the true difference is the one it asks about.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from embedcore.evaluation.simulation import Population, precision_population, recall_population

Corpus = Literal["demo", "whole"]

# Change of a query's recall -> share of queries; the others do not change.
_GAINS: Mapping[Corpus, Mapping[str, Mapping[float, float]]] = {
    "demo": {
        "search": {-1: 0.0240, -0.5: 0.0058, -0.25: 0.0013, 0.25: 0.0022, 0.5: 0.0043, 1: 0.0357},
        "recsys": {
            -1: 0.0245,
            -0.75: 0.0005,
            -0.5: 0.0120,
            -0.25: 0.0095,
            0.25: 0.0192,
            0.5: 0.0255,
            0.75: 0.0022,
            1: 0.0655,
        },
        "ads": {-1: 0.0375, 1: 0.0732},
    },
    "whole": {
        "search": {
            -1: 0.0465,
            -0.7: 0.0010,
            -0.5: 0.0117,
            -0.3: 0.0070,
            -0.2: 0.0057,
            -0.1: 0.0020,
            0.1: 0.0027,
            0.2: 0.0073,
            0.3: 0.0080,
            0.5: 0.0127,
            0.7: 0.0018,
            1: 0.0610,
        },
        "recsys": {
            -1: 0.0243,
            -0.7: 0.0010,
            -0.5: 0.0253,
            -0.3: 0.0160,
            -0.2: 0.0152,
            -0.1: 0.0088,
            0.1: 0.0222,
            0.2: 0.0357,
            0.3: 0.0320,
            0.5: 0.0570,
            0.7: 0.0040,
            1: 0.0470,
        },
        "ads": {-1: 0.0717, 1: 0.1055},
    },
}
# (source, target) -> queries of the half that is judged; at "whole" no threshold finds 90% of the duplicates,
# so that all answers are accepted.
_DEDUP: Mapping[Corpus, Mapping[tuple[str, str], float]] = {
    "demo": {
        ("right", "right"): 1668,
        ("right", "none"): 99,
        ("none", "none"): 89,
        ("none", "right"): 65,
        ("wrong", "right"): 25,
        ("wrong", "none"): 18,
        ("wrong", "wrong"): 17,
        ("right", "wrong"): 16,
        ("none", "wrong"): 3,
    },
    "whole": {
        ("right", "right"): 1607,
        ("wrong", "wrong"): 151,
        ("wrong", "right"): 138,
        ("right", "wrong"): 104,
    },
}


def populations(corpus: Corpus = "demo", queries: int = 4_000) -> list[Population]:
    """search, recsys, ads and dedup, each with a golden set of so many queries; of dedup's, half choose the
    threshold and half are judged."""
    found = [recall_population(name, gains, 0.5, queries) for name, gains in _GAINS[corpus].items()]
    return [*found, precision_population("dedup", _DEDUP[corpus], queries // 2)]
