"""What an encoder is: text in, vectors of one fingerprinted space out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from embedcore.types import Fingerprint, Vectors


@runtime_checkable
class Encoder(Protocol):
    """Implementations are safe to call from any number of threads at once."""

    @property
    def fingerprint(self) -> Fingerprint: ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """float32 (n, fingerprint.dimension), C-contiguous; one row per text, order kept.

        The same text gives the same vector whatever batch it is in (to within float rounding). Raises
        InvalidArgument for a text that cannot be encoded, refusing the whole batch; DataLoss when the
        artifact's checksum does not match.
        """
