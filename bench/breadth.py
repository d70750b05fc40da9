"""The smallest ef that reaches a level of recall, found on one half of the queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """``ef`` is None where no ef up to the limit reaches the level; ``recall`` is then the best seen."""

    level: float
    ef: int | None
    recall: float


class Chooser:
    """Bisection over whole numbers, with every recall measured once.

    ``recall_at`` need not be strictly monotone: the answer reaches the level, and ef - 1 does not (or is
    below ``least``).
    """

    def __init__(self, recall_at: Callable[[int], float], least: int, most: int) -> None:
        self._recall_at = recall_at
        self._least = least
        self._most = max(least, most)
        self.measured: dict[int, float] = {}

    def recall(self, ef: int) -> float:
        if ef not in self.measured:
            self.measured[ef] = self._recall_at(ef)
        return self.measured[ef]

    def choose(self, level: float, guess: int | None = None) -> Choice:
        """``guess``: tried first, with its neighbours; saves most of the work where it is right."""
        inside = guess is not None and self._least < guess <= self._most
        if guess is not None and inside and self.recall(guess) >= level > self.recall(guess - 1):
            return Choice(level, guess, self.recall(guess))
        high = self._least
        while self.recall(high) < level:
            if high == self._most:
                return Choice(level, None, max(self.measured.values()))
            high = min(2 * high, self._most)
        low = high // 2 if high > self._least else self._least - 1
        low = max([low, *(ef for ef, found in self.measured.items() if ef < high and found < level)])
        while high - low > 1:
            middle = (low + high) // 2
            if self.recall(middle) >= level:
                high = middle
            else:
                low = middle
        return Choice(level, high, self.recall(high))
