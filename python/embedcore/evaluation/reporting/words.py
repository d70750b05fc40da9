"""What a gate that is not met means, in the words of a person who has to decide."""

from __future__ import annotations

from collections.abc import Iterable

_WORDS = {
    "sufficient": "too few queries",
    "target": "below its target",
    "long_tail": "long tail loses",
}


def in_words(gates: Iterable[str]) -> str:
    """The gates that are not met, the most telling first."""
    order = {"quality": 0, "long_tail": 1, "target": 2, "sufficient": 3}
    return ", ".join(_WORDS.get(gate, gate) for gate in sorted(gates, key=lambda gate: order.get(gate, 9)))
