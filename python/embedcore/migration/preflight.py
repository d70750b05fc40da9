"""Phase 0: the target model is judged on a sample before any dual-write cost is paid.

A refusal leaves the migration on record as REFUSED with all its evidence, and nothing attached: the target's
generation is created only after everything has passed, or was overridden on record.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from embedcore.errors import EmbedcoreError, FailedPrecondition, GateNotMet, NotFound
from embedcore.migration.context import Context, enforce
from embedcore.migration.gates import evidence_of, irreplaceable_gate
from embedcore.migration.journal import Change, Note
from embedcore.migration.judge import PreflightVerdict
from embedcore.migration.plan import check_plan
from embedcore.migration.resources import estimate, resource_gates
from embedcore.migration_types import ConsumerProgress, GateResult, Migration, Phase, Plan
from embedcore.resources import SystemProbe
from embedcore.types import Generation, ModelSpec

log = logging.getLogger(__name__)

# Items without content are looked for among this many missing ones.
LOOKED_AT = 10_000


def open_migration(
    context: Context, target_model: str, plan: Plan, *, who: str, why: str, override: str
) -> Migration:
    """The record of a migration that is about to be judged. Refuses, before anything is recorded: a second
    migration beside a running one, an unknown model, the source's own vector space, an impossible plan."""
    check_plan(plan)
    running = context.journal.running()
    if running is not None:
        raise FailedPrecondition(
            f"migration {running.id} to {running.target_model!r} is running (phase {running.phase}): finish "
            f"it, or abort it with `embedcore migrate abort`"
        )
    spec = _spec(context, target_model)
    source = _source(context)
    if spec.fingerprint == source.fingerprint:
        raise FailedPrecondition(
            f"model {target_model!r} has the fingerprint of the serving generation {source.number} "
            f"({source.fingerprint.digest}): its vectors are there already"
        )
    consumers = context.consumers()
    if not consumers:
        raise FailedPrecondition("no consumer is registered: a migration is judged per consumer, add one")
    document = Migration(
        id="",
        source=source.number,
        target=0,
        target_model=target_model,
        phase=Phase.PREFLIGHT,
        plan=plan,
        created_at=context.now(),
        created_by=who,
        consumers={name: ConsumerProgress() for name in sorted(consumers)},
    )
    evidence = {"override": override, "plan": plan.model_dump(mode="json")}
    return context.journal.create(document, Note("start", why or f"to {target_model}", who, evidence))


def run_preflight(context: Context, migration: Migration, *, who: str, override: str) -> Migration:
    """Judges, then begins dual-write; or records the refusal and raises GateNotMet with all evidence."""
    try:
        gates, verdict = _judge(context, migration)
    except Exception as error:  # whatever it was, it is no evidence
        _refuse(context, migration, _failed(error, who))
        raise
    evidence = {
        "verdict": verdict.verdict,
        "baseline": dict(verdict.baseline),
        "gates": evidence_of(gates),
        "report": dict(verdict.evidence),
    }
    try:
        notes = enforce(context, migration, "start", gates, who=who, override=override)
    except GateNotMet:
        _refuse(context, migration, Note("phase", "refused by the pre-flight", who, evidence))
        raise
    summary = f"{sum(gate.passed for gate in gates)} of {len(gates)} gates met"
    if verdict.verdict:
        summary += f", canary set: {verdict.verdict}"
    try:
        return _begin(context, migration, verdict, [*notes, Note("preflight", summary, who, evidence)])
    except EmbedcoreError as error:
        _refuse(context, migration, _failed(error, who))
        retire_orphans(context)
        raise


def retire_orphans(context: Context) -> None:
    """Retires generations that no migration knows of: created for one which never began, when the process
    ended between two transactions; or serving beside the first one, when two callers had created the first
    generation at once. Every write would go on paying for them. One of the latter that holds what cannot be
    made again stays."""
    known = {number for m in context.journal.all() for number in (m.source, m.target)}
    generations = context.store.generations()
    first = next((g.number for g in generations if g.state == "serving"), 0)
    for generation in generations:
        if generation.number in known or generation.number == first:
            continue
        if generation.state == "serving":
            missing = context.store.missing_items(first, LOOKED_AT)
            gate = irreplaceable_gate(missing, generation.number, context.now())
            if not gate.passed:
                log.error("generations %d and %d both serve: %s", first, generation.number, gate.summary)
                continue
        if generation.live:
            context.store.put_generation(generation.model_copy(update={"state": "retired"}))
            context.deps.serving.refresh_routes()
            context.deps.serving.detach_generation(generation.number)
        context.store.drop_generation_vectors(generation.number)


def _judge(context: Context, migration: Migration) -> tuple[list[GateResult], PreflightVerdict]:
    spec = _spec(context, migration.target_model)
    source = context.generation(migration.source)
    probe = context.deps.probe or SystemProbe(context.deps.data_dir)
    need = estimate(context.store.live_items(), spec.fingerprint.dimension)
    resources = resource_gates(need, probe, context.now())
    consumers = list(context.consumers().values())
    verdict = context.judge.preflight(consumers, source, spec.name, migration.plan)
    at = context.now()
    return [*resources, *(gate.model_copy(update={"at": at}) for gate in verdict.gates)], verdict


def _begin(
    context: Context, migration: Migration, verdict: PreflightVerdict, notes: Sequence[Note]
) -> Migration:
    """From the transaction that creates the generation on, every write goes to both."""
    target = context.store.create_generation(migration.target_model, "filling", context.now())
    heads = context.measures.heads()

    def begin(current: Migration) -> Change | None:
        if current.phase is not Phase.PREFLIGHT:
            return None
        now = context.now()
        document = current.model_copy(
            update={
                "target": target.number,
                "phase": Phase.DUAL_WRITE,
                "dual_write_at": now,
                "window_until": now + current.plan.window_seconds,
                "verdict": verdict.verdict,
                "baseline": dict(verdict.baseline),
            }
        )
        why = f"generation {target.number} receives every write; reads are 100% source"
        return Change(
            document, [*notes, Note("phase", why, evidence={"phase": "dual_write", "heads": heads})]
        )

    begun = context.journal.update(migration.id, begin)
    if begun.phase is not Phase.DUAL_WRITE:
        raise FailedPrecondition(f"migration {migration.id} was ended ({begun.phase}) during its pre-flight")
    return begun


def _failed(error: Exception, who: str) -> Note:
    if isinstance(error, EmbedcoreError):
        return Note("refused", error.message, who, {"error": error.code, **error.details})
    return Note("refused", str(error) or type(error).__name__, who, {"error": type(error).__name__})


def _refuse(context: Context, migration: Migration, note: Note) -> None:
    def end(current: Migration) -> Change | None:
        if current.phase is not Phase.PREFLIGHT:
            return None
        update = {"phase": Phase.REFUSED, "ended_at": context.now()}
        return Change(current.model_copy(update=update), [note])

    context.journal.update(migration.id, end)


def _spec(context: Context, model: str) -> ModelSpec:
    known = {spec.name: spec for spec in context.store.models()}
    if model not in known:
        raise NotFound(
            f"model {model!r} is not registered (known: {', '.join(sorted(known)) or 'none'}); register it "
            f"with `embedcore models register`"
        )
    return known[model]


def _source(context: Context) -> Generation:
    serving = [g for g in context.store.generations() if g.state == "serving"]
    if len(serving) != 1:
        raise FailedPrecondition(
            f"a migration needs one serving generation to start from, there are {len(serving)}: "
            + ("ingest items under a first model" if not serving else "retire all but one")
        )
    return serving[0]
