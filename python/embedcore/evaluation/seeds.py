"""Seeds for independent streams of randomness from one seed, by what each is for."""

from __future__ import annotations

import numpy as np


def derive(seed: int, *purpose: str) -> int:
    """A 32-bit seed that depends on the seed and on every word of the purpose; the same on every machine."""
    words = [seed, *(byte for word in purpose for byte in (*word.encode(), 0))]
    return int(np.random.SeedSequence(words).generate_state(1)[0])
