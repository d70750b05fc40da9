"""What a migration needs from the serving side. Serving implements it; tests use a fake."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedcore.types import Generation


class ServingControl(Protocol):
    """All methods may be called from any thread."""

    def attach_generation(self, generation: Generation) -> None:
        """Creates the generation's indexes and lanes; from the moment this returns every committed write
        of the generation reaches them. Attaching what is attached does nothing."""

    def detach_generation(self, number: int) -> None:
        """Stops the lanes, drops indexes and snapshots. Routes must not name the generation any more."""

    def refresh_routes(self) -> None:
        """Publishes a routing table from the consumers, generations and migrations in the store. Queries
        that start after this returns follow it."""

    def applied(self, generation: int) -> Mapping[int, int]:
        """Shard -> sequence number that the generation's lane has applied."""

    def refused(self, generation: int) -> Sequence[int]:
        """Dense items whose current vector the generation's indexes refused: they hold none, or an older
        one, whatever :meth:`applied` says."""

    def index_holds(self, generation: int, items: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which dense items the generation's indexes hold now."""

    def index_vectors_agree(
        self, generation: int, items: NDArray[np.int64], vectors: NDArray[np.float32]
    ) -> NDArray[np.bool_]:
        """Which of the items the indexes hold with exactly these vectors: the consistency job."""

    def index_size(self, generation: int) -> int: ...

    def set_shadow(
        self, share: float, generation: int, record: Callable[[str, float, bool], None] | None
    ) -> None:
        """Runs a share of live queries on ``generation`` as well, after they were answered, and calls
        record(consumer, share of common ids in the top k, same first id). None turns it off."""
