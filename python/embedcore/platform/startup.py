"""How a platform comes up: its indexes are recovered, then what runs beside it begins."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from embedcore.errors import Unavailable

_logger = logging.getLogger(__name__)


class Startup:
    """Recovery in the foreground or in the background, and the threads that follow it. Thread-safe."""

    def __init__(
        self, recover: Callable[[], None], followers: Mapping[str, Callable[[threading.Event], None]]
    ) -> None:
        """``followers``: by the names of their threads; each goes on until its event is set."""
        self._recover = recover
        self._followers = followers
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self._threads: list[threading.Thread] = []

    def begin(self, *, wait: bool, follow: bool) -> None:
        """``wait``: recovers before it returns, and raises what made it fail.
        ``follow``: starts the followers afterwards; without ``wait`` they always are."""
        if wait:
            self._recovery()
            if follow:
                self._follow()
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
        """Waits for up to ``timeout`` seconds a thread; those that recovery still starts included."""
        for thread in self._threads:  # recovery appends its followers before it ends
            thread.join(timeout)

    def _start(self, name: str, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _follow(self) -> None:
        for name, run in self._followers.items():
            self._start(name, run, self._stop)

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
        self._follow()
