"""The ways out: revert, rollback, abort, halt, defer, and the window's extension.

None of them asks a gate, a measurement or an encoder: they must work while all of those are broken.
"""

from __future__ import annotations

import math

from embedcore.errors import FailedPrecondition, InvalidArgument, NotFound
from embedcore.migration.context import Context, need_phase
from embedcore.migration.gates import evidence_of
from embedcore.migration.journal import CONTROLLER, Change, Note
from embedcore.migration.plan import WINDOWED, all_to_source, ending, with_consumer
from embedcore.migration_types import FINISHED, GateResult, Migration, Phase

_ROLLABLE = frozenset({Phase.BLENDED, Phase.GRACE})
REVERTIBLE = frozenset({Phase.DUAL_WRITE, Phase.BACKFILL, Phase.BLENDED})


def revert(context: Context, migration: Migration, consumer: str, *, who: str, why: str) -> Migration:
    """One consumer back on the source, alone, at once; it stays there until its weight is set by hand.

    In a unified migration consumers move together, so all go back."""
    if consumer not in migration.consumers:
        raise NotFound(
            f"consumer {consumer!r} has no part in migration {migration.id}; it has: "
            f"{', '.join(sorted(migration.consumers))}"
        )
    hint = (
        "cut over: use `embedcore migrate rollback`"
        if migration.phase is Phase.GRACE
        else ("every consumer is on one generation already")
    )
    need_phase(migration, REVERTIBLE, f"revert of {consumer!r}", hint)

    def back(current: Migration) -> Change | None:
        if current.phase not in REVERTIBLE:
            return None
        names = sorted(current.consumers) if current.plan.unified else [consumer]
        document = current
        for name in names:
            held = f"reverted by {who}" + (f": {why}" if why else "")
            document = with_consumer(document, name, weight=0.0, reverted=True, held=held, canary_since=None)
        evidence = {name: current.consumers[name].weight for name in names}
        return Change(document, [Note("revert", why or f"{consumer} to the source", who, {"from": evidence})])

    return context.journal.update(migration.id, back)


def rollback(context: Context, migration: Migration, *, who: str, why: str) -> Migration:
    """All consumers to the source; dual-write goes on, so nothing is stale and nothing is lost."""
    need_phase(migration, _ROLLABLE, "rollback", "reads are on one generation and nothing is blended")
    _need_not_ending(context, migration, "rollback")

    def back(current: Migration) -> Change | None:
        if current.phase not in _ROLLABLE or ending(current, context.retired()):
            return None
        document = all_to_source(current, Phase.ROLLED_BACK, f"rolled back by {who}")
        document = document.model_copy(update={"cutover_at": None})
        target = context.generation(current.target).model_copy(update={"state": "filling"})
        evidence = {"from": current.phase.value, "weights": _weights(current)}
        return Change(document, [Note("rollback", why or "all to the source", who, evidence)], [target])

    changed = context.journal.update(migration.id, back)
    if changed.phase is not Phase.ROLLED_BACK:
        raise FailedPrecondition(f"rollback: migration {migration.id} went to {changed.phase} meanwhile")
    return changed


def begin_abort(context: Context, migration: Migration, *, who: str, why: str) -> Migration:
    """All to the source and the target retired, in one transaction; :mod:`.reclaim` does the rest, also
    after a crash. A migration still in its pre-flight ends here."""
    if migration.phase in FINISHED:
        raise FailedPrecondition(f"abort: migration {migration.id} has ended ({migration.phase})")
    if migration.phase is Phase.GRACE:
        _need_not_ending(context, migration, "abort")

    def abort(current: Migration) -> Change | None:
        note = Note(
            "abort", why or "aborted", who, {"from": current.phase.value, "weights": _weights(current)}
        )
        if current.phase is Phase.PREFLIGHT:
            ended = {"phase": Phase.ABORTED, "ended_at": context.now()}
            return Change(current.model_copy(update=ended), [note])
        if current.finished or ending(current, context.retired()):
            return None
        target = context.generation(current.target).model_copy(update={"state": "retired"})
        document = all_to_source(current, Phase.ROLLED_BACK, f"aborted by {who}")
        return Change(document.model_copy(update={"cutover_at": None}), [note], [target])

    return context.journal.update(migration.id, abort)


def halt(context: Context, migration: Migration, consumer: str, gate: GateResult) -> Migration:
    """The parity gate's verdict: all to the source until the golden set was audited."""

    def stop(current: Migration) -> Change | None:
        if current.phase is not Phase.BLENDED:
            return None
        document = all_to_source(current, Phase.HALTED, f"halted: {gate.summary}")
        evidence = {"consumer": consumer, "gates": evidence_of([gate]), "weights": _weights(current)}
        return Change(document, [Note("halted", gate.summary, CONTROLLER, evidence)])

    return context.journal.update(migration.id, stop)


def defer(context: Context, migration: Migration) -> Migration:
    """A unified migration whose window is over with one consumer not ready: all are deferred."""

    def stop(current: Migration) -> Change | None:
        if current.phase not in REVERTIBLE:
            return None
        reasons = {name: p.held for name, p in sorted(current.consumers.items()) if p.held}
        why = "the window is over and not every consumer is ready: " + (
            "; ".join(f"{name}: {held}" for name, held in reasons.items()) or "no reason on record"
        )
        document = all_to_source(current, Phase.DEFERRED, "deferred: the window is over")
        return Change(document, [Note("deferred", why, CONTROLLER, {"weights": _weights(current)})])

    return context.journal.update(migration.id, stop)


def extend_window(context: Context, migration: Migration, seconds: float, *, who: str, why: str) -> Migration:
    """Lets the window go on for ``seconds`` from its end, or from now when it is over, on record."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise InvalidArgument(f"the window is extended by a positive number of seconds, got {seconds}")
    if not why.strip():
        raise InvalidArgument("why is empty: every day of a longer window is paid for, say what for")
    need_phase(migration, WINDOWED, "extension of the window", "its window does not count any more")

    def extend(current: Migration) -> Change | None:
        if current.window_until is None:
            return None
        until = max(current.window_until, context.now()) + seconds
        evidence = {"from": current.window_until, "until": until}
        return Change(
            current.model_copy(update={"window_until": until}), [Note("extend", why, who, evidence)]
        )

    return context.journal.update(migration.id, extend)


def set_paused(context: Context, migration: Migration, paused: bool, *, who: str, why: str) -> Migration:
    """A pause stops the backfill and the plan. Dual-write, repairs and the periodic checks go on."""
    if migration.finished:
        raise FailedPrecondition(f"migration {migration.id} has ended ({migration.phase})")

    def change(current: Migration) -> Change | None:
        if current.paused == paused or current.finished:
            return None
        what = "pause" if paused else "resume"
        return Change(current.model_copy(update={"paused": paused}), [Note(what, why or what, who)])

    return context.journal.update(migration.id, change)


def _need_not_ending(context: Context, migration: Migration, action: str) -> None:
    if ending(migration, context.retired()):
        raise FailedPrecondition(
            f"{action}: migration {migration.id} is being decommissioned or aborted, which cannot be undone"
        )


def _weights(migration: Migration) -> dict[str, float]:
    return {name: progress.weight for name, progress in migration.consumers.items()}
