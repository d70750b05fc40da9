"""How a platform comes up: its indexes are recovered, then the migration controller runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from embedcore.errors import Unavailable

_logger = logging.getLogger(__name__)


class Startup:
    """Recovery in the foreground or in the background, and the one thread that follows it. Thread-safe."""

    def __init__(self, recover: Callable[[], None], run: Callable[[threading.Event], None]) -> None:
        """``run`` goes on until the event that it is given is set."""
        self._recover = recover
        self._run = run
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    def begin(self, *, wait: bool, follow: bool) -> None:
        """``wait``: recovers before it returns, and raises what made it fail. ``follow``: runs afterwards."""
        if wait:
            self._recovery()
            if follow:
                self._start("migration", self._run, self._stop)
        else:
            self._start("recovery", self._in_background)

    def wait(self, timeout: float | None = None) -> bool:
        """Whether recovery was done within ``timeout`` seconds; raises what made it fail."""
        ended = self._ended.wait(timeout)
        if self._failure is not None:
            raise self._failure
        return ended

    @property
    def done(self) -> bool:
        """Recovered, without a failure."""
        return self._ended.is_set() and self._failure is None

    def require(self, line: Callable[[], str]) -> None:
        """Unavailable before recovery is done; ``line`` says how far it is."""
        if not self.wait(0):
            raise Unavailable(f"recovering ({line()}); try again")

    def stop(self) -> None:
        self._stop.set()

    def join(self, timeout: float) -> None:
        if self._thread is not None:
            self._thread.join(timeout)

    def _start(self, name: str, target: Callable[..., None], *args: object) -> None:
        self._thread = threading.Thread(target=target, args=args, name=name, daemon=True)
        self._thread.start()

    def _recovery(self) -> None:
        try:
            self._recover()
        except BaseException as error:
            self._failure = error
            raise
        finally:
            self._ended.set()

    def _in_background(self) -> None:
        try:
            self._recovery()
        except BaseException:
            if not self._stop.is_set():
                _logger.exception("recovery failed: nothing is served")
            return
        self._run(self._stop)
