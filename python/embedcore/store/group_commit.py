"""Group commit: writers that come while a commit is under way share the next one.

Guarantees: :meth:`GroupCommit.submit` returns, or raises, when its member's outcome is decided. Members are
executed one at a time, in the order in which they came; the first waiting member leads, i.e. its thread takes
those behind it along and executes them all. A lone writer leads at once, on its own thread, and waits for
nobody. Nothing but a leader runs between a leader's first and last step.

Who may touch what: ``_waiting``, ``_led`` and ``Member.heir`` are changed under the mutex; the rest of a
member by its leader alone, until the leader releases the member's ``turn`` (released once; acquiring it is
what makes the outcome visible).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from embedcore.errors import Unavailable

T = TypeVar("T")

# Bounds of one shared commit, so that its first member does not wait long for its last.
MOST_MEMBERS: Final = 128
MOST_WEIGHT: Final = 8192


class Member(Generic[T]):
    """One writer's work and, later, its outcome. ``weight``: rows, roughly. ``alone``: shares with nobody."""

    __slots__ = ("_error", "_result", "alone", "heir", "settled", "turn", "weight", "work")

    def __init__(self, work: Callable[[Any], T], weight: int = 1, alone: bool = False) -> None:
        self.work = work
        self.weight = weight
        self.alone = alone
        self.settled = False
        self.heir = False  # leads next
        self.turn = threading.Lock()
        self.turn.acquire()
        self._result: T | None = None
        self._error: BaseException | None = None

    def settle(self, result: T) -> None:
        self._result = result
        self.settled = True

    def fail(self, error: BaseException) -> None:
        self._error = error
        self.settled = True

    def outcome(self) -> T:
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # settled, so it is a T


class GroupCommit:
    """The queue. ``commit`` executes the members it is given in one transaction and settles each."""

    def __init__(self, commit: Callable[[Sequence[Member[Any]]], None]) -> None:
        self._commit = commit
        self._mutex = threading.Lock()
        self._idle = threading.Condition(self._mutex)
        self._waiting: deque[Member[Any]] = deque()
        self._led = False
        self._closed = False

    def submit(self, member: Member[T]) -> T:
        """Executes the member, on this thread or on another writer's. Unavailable when closed."""
        with self._mutex:
            if self._closed:
                raise Unavailable("the store is closed: open it again")
            leads = not self._led
            if leads:
                self._led = True
            else:
                self._waiting.append(member)
        if not leads:
            try:
                member.turn.acquire()
            except BaseException:
                self._abandon(member)
                raise
            leads = not member.settled
        if leads:
            self._lead(member)
        return member.outcome()

    def close(self) -> bool:
        """Refuses newcomers and waits for those who came before; False when it was closed already."""
        with self._mutex:
            first = not self._closed
            self._closed = True
            self._idle.wait_for(lambda: not self._led)
            return first

    def _lead(self, leader: Member[Any]) -> None:
        batch = [leader]
        try:
            with self._mutex:
                self._take_along(batch)
            self._commit(batch)
        finally:
            for member in batch:
                if not member.settled:  # an interrupt of the leader's thread
                    member.fail(
                        Unavailable(
                            "the writer was interrupted: whether this write is durable is not known;"
                            " read it back, or write it again"
                        )
                    )
            self._hand_over()
            for member in batch[1:]:
                member.turn.release()

    def _take_along(self, batch: list[Member[Any]]) -> None:
        weight = batch[0].weight
        while not batch[0].alone and self._waiting and len(batch) < MOST_MEMBERS:
            candidate = self._waiting[0]
            weight += candidate.weight
            if candidate.alone or weight > MOST_WEIGHT:
                return
            batch.append(self._waiting.popleft())

    def _hand_over(self) -> None:
        with self._mutex:
            if not self._waiting:
                self._led = False
                self._idle.notify_all()
                return
            heir = self._waiting.popleft()
            heir.heir = True
        heir.turn.release()

    def _abandon(self, member: Member[Any]) -> None:
        """The member's thread was interrupted while it waited: the others must still be led."""
        with self._mutex:
            if member in self._waiting:
                self._waiting.remove(member)
                return
            if not member.heir:
                return  # a leader has it: its outcome is decided and nobody hears of it
        self._lead(member)
