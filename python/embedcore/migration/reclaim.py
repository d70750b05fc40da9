"""The end of a migration: one generation is retired, its lanes stop, its storage is reclaimed.

Retiring and leaving the routes is one transaction; what follows is repeated until it is done, so a crash
between any two steps is healed by the next tick. Decommission retires the source, abort the target.
"""

from __future__ import annotations

from contextlib import suppress

from embedcore.errors import FailedPrecondition, NotFound
from embedcore.migration.context import Context, enforce, need_phase
from embedcore.migration.gates import evidence_of, grace_gate, irreplaceable_gate
from embedcore.migration.journal import CONTROLLER, Change, Note
from embedcore.migration.preflight import LOOKED_AT
from embedcore.migration_types import GateResult, Migration, Phase


def decommission_gates(context: Context, migration: Migration) -> list[GateResult]:
    missing = context.store.missing_items(migration.target, LOOKED_AT)
    return [
        grace_gate(migration, context.grace.lasted(migration), context.now()),
        irreplaceable_gate(missing, migration.source, context.now()),
    ]


def begin_decommission(
    context: Context, migration: Migration, *, who: str, why: str, override: str
) -> Migration:
    """Retires the source after grace. From here on there is no way back."""
    need_phase(
        migration, frozenset({Phase.GRACE}), "decommission", "the source is reclaimed after cutover only"
    )
    if migration.source in context.retired():
        return migration
    gates = decommission_gates(context, migration)
    notes = enforce(context, migration, "decommission", gates, who=who, override=override)

    def retire(current: Migration) -> Change | None:
        if current.phase is not Phase.GRACE:
            return None
        source = context.generation(current.source).model_copy(update={"state": "retired"})
        evidence = {"gates": evidence_of(gates), "retired": current.source}
        note = Note("decommission", why or "grace is over", who, evidence)
        return Change(current, [*notes, note], [source])

    changed = context.journal.update(migration.id, retire)
    if changed.phase is not Phase.GRACE:
        raise FailedPrecondition(f"decommission: migration {migration.id} went to {changed.phase} meanwhile")
    return changed


def reclaim(context: Context, migration: Migration) -> Migration:
    """Finishes a decommission or an abort that has begun; every step may be repeated.

    The routes no longer name the retired generation when its lanes stop, and its lanes have stopped when
    its rows are dropped.
    """
    retired = context.retired()
    decommission = migration.source in retired
    number = migration.source if decommission else migration.target
    phase = Phase.DONE if decommission else Phase.ABORTED
    context.journal.require_publish()
    context.journal.publish()
    with suppress(NotFound):  # not attached in this process: detached before a restart
        context.deps.serving.detach_generation(number)
    dropped = context.store.drop_generation_vectors(number)

    def end(current: Migration) -> Change | None:
        if current.finished:
            return None
        update = {"phase": phase, "ended_at": context.now()}
        why = f"generation {number} is gone, {dropped} vectors reclaimed"
        evidence = {"generation": number, "dropped": dropped}
        return Change(current.model_copy(update=update), [Note("phase", why, CONTROLLER, evidence)])

    return context.journal.update(migration.id, end)
