"""What the parts of the controller share: the journal, the measures, the judge, and how a gate refuses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from embedcore.clock import Clock
from embedcore.errors import EmbedcoreError, FailedPrecondition, InvalidArgument, NotFound
from embedcore.migration.deps import MigrationDeps, machine_seconds
from embedcore.migration.gates import evidence_of, named, refusal
from embedcore.migration.grace import GraceWitness
from embedcore.migration.journal import Change, Journal, Note
from embedcore.migration.judge import Judge
from embedcore.migration.measures import Measures
from embedcore.migration.shadow import ShadowCounts
from embedcore.migration_types import GateResult, Migration, Phase
from embedcore.store.interface import Store
from embedcore.types import Consumer, Generation

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0  # of the machine, before a step that failed is tried again


@dataclass(frozen=True, slots=True)
class Context:
    deps: MigrationDeps
    journal: Journal
    judge: Judge
    measures: Measures
    shadow: ShadowCounts
    grace: GraceWitness

    @property
    def store(self) -> Store:
        """Every write through it is refused once another controller leads."""
        return self.journal.store

    @property
    def clock(self) -> Clock:
        return self.deps.clock

    def now(self) -> float:
        return self.deps.clock.now()

    def consumers(self) -> dict[str, Consumer]:
        """The registry, by name."""
        return {consumer.name: consumer for consumer in self.store.consumers()}

    def consumer(self, name: str) -> Consumer:
        known = self.consumers()
        if name not in known:
            raise NotFound(f"unknown consumer {name!r}; known: {', '.join(sorted(known)) or 'none'}")
        return known[name]

    def generation(self, number: int) -> Generation:
        for generation in self.store.generations():
            if generation.number == number:
                return generation
        raise NotFound(f"generation {number} does not exist")

    def retired(self) -> frozenset[int]:
        return frozenset(g.number for g in self.store.generations() if not g.live)


def need_who(who: str) -> None:
    """Every transition is recorded with who asked for it."""
    if not who.strip():
        raise InvalidArgument("who is empty: every change of a migration is recorded with who made it")


def need_phase(migration: Migration, allowed: frozenset[Phase], action: str, hint: str) -> None:
    """FailedPrecondition for a transition that this phase does not have."""
    if migration.phase not in allowed:
        raise FailedPrecondition(f"{action}: migration {migration.id} is in phase {migration.phase}; {hint}")


def enforce(
    context: Context,
    migration: Migration,
    action: str,
    gates: Sequence[GateResult],
    *,
    who: str,
    override: str = "",
) -> list[Note]:
    """Raises GateNotMet unless every gate passes; the refusal is recorded with its evidence.

    ``override`` (a reason, or ``gate,gate: reason``) skips gates on record: the note to commit together
    with the transition is returned.
    """
    failed = [gate for gate in gates if not gate.passed]
    skipped = named(failed, override) if override.strip() else set()
    left = [gate for gate in failed if gate.gate not in skipped]
    if left:
        error = refusal(action, left)
        context.journal.note(migration.id, Note("refused", error.message, who, dict(error.details)))
        raise error
    if not failed:
        return []
    evidence = {"action": action, "skipped": sorted(skipped), "gates": evidence_of(gates)}
    return [Note("override", override.strip(), who, evidence)]


class Guard:
    """Runs steps that may fail without ending the loop: an error is logged and recorded once, and the step
    is tried again after ``RETRY_SECONDS``. For one thread."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._failures: dict[str, tuple[str, float]] = {}  # step -> what was said, not before

    def run(self, step: str, action: Callable[[], object]) -> bool:
        """Whether the action ran to its end."""
        clock = self._context.clock
        known = self._failures.get(step)
        if known is not None and 0 <= known[1] - machine_seconds(clock) <= RETRY_SECONDS:
            return False
        try:
            action()
        except Exception as error:  # the loop outlives whatever a step raises
            self._failed(step, error)
            return False
        self._failures.pop(step, None)
        return True

    def _failed(self, step: str, error: Exception) -> None:
        message = str(error) or type(error).__name__
        known = self._failures.get(step)
        self._failures[step] = (message, machine_seconds(self._context.clock) + RETRY_SECONDS)
        if known is not None and known[0] == message:
            return
        if isinstance(error, EmbedcoreError):
            log.warning("%s failed and will be tried again: %s", step, message)
        else:
            log.exception("%s failed and will be tried again", step)
        try:
            migration = self._context.journal.running()
            if migration is not None:
                evidence = {"step": step, "error": type(error).__name__}
                self._context.journal.note(
                    migration.id, Note("error", f"{step}: {message}", evidence=evidence)
                )
        except Exception:  # the store itself may be what failed
            log.warning("the error of %s could not be recorded", step, exc_info=True)


def only_if(
    wanted: Callable[[Migration], bool], change: Callable[[Migration], Change]
) -> Callable[[Migration], Change | None]:
    """A change for :meth:`Journal.update` that gives way when the document has moved on meanwhile."""
    return lambda migration: change(migration) if wanted(migration) else None
