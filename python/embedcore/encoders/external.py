"""No encoder here: vectors of the space come with the items and with the queries.

What a team uses that keeps its embedding service and adopts the index and the migration alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from embedcore.errors import FailedPrecondition
from embedcore.types import Fingerprint, Vectors


class ExternalEncoder:
    """Has a fingerprint, and refuses to encode. Thread safe."""

    def __init__(self, fingerprint: Fingerprint) -> None:
        self._fingerprint = fingerprint

    @property
    def fingerprint(self) -> Fingerprint:
        return self._fingerprint

    def encode(self, texts: Sequence[str]) -> Vectors:
        raise FailedPrecondition(
            f"model {self._fingerprint.model!r} has no encoder here: give vectors of fingerprint"
            f" {self._fingerprint.digest} with the items and with the queries",
            {"fingerprint": self._fingerprint.digest, "texts": len(texts)},
        )
