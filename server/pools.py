"""The threads of a server, by what they may be held up by.

Queries and control calls have their own, so that neither a bulk write being encoded nor an open stream
makes them wait. gRPC takes the pool of a method from an attribute of its function.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

# Calls that encode many texts or wait for the store's single writer.
BULK = ("BatchSearch", "UpsertItems", "DeleteItems", "Embed")
REFLECTION_WORKERS = 2


class Pools:
    """``long`` serves the streaming port; the other three serve the data port, reflection serves both."""

    def __init__(self, workers: int, bulk_workers: int, long_workers: int) -> None:
        self.queries = ThreadPoolExecutor(workers, "embedcore-query")
        self.bulk = ThreadPoolExecutor(bulk_workers, "embedcore-bulk")
        self.long = ThreadPoolExecutor(long_workers, "embedcore-stream")
        self.reflection = ThreadPoolExecutor(REFLECTION_WORKERS, "embedcore-reflection")

    def shutdown(self, seconds: float) -> bool:
        """Waits until handlers have returned, so that what they use can be closed; False when some have
        not after ``seconds``."""
        waiting = threading.Thread(target=self._shutdown, daemon=True)
        waiting.start()
        waiting.join(seconds)
        return not waiting.is_alive()

    def _shutdown(self) -> None:
        for pool in (self.queries, self.bulk, self.long, self.reflection):
            pool.shutdown(wait=True, cancel_futures=True)


def run_on(pool: ThreadPoolExecutor, service: object, method: str) -> None:
    """Makes this instance of a service run one of its methods on ``pool``. Before it is registered."""
    handler: Callable[[Any, Any], Any] = getattr(service, method)

    def behavior(request: Any, context: Any) -> Any:
        return handler(request, context)

    behavior.experimental_thread_pool = pool  # type: ignore[attr-defined]
    setattr(service, method, behavior)
