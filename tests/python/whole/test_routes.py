"""Routes are a pure function of the documents: every phase, every kind of progress."""

from __future__ import annotations

import pytest

from embedcore.migration_types import ConsumerProgress, Migration, Phase, Plan
from embedcore.serving.routes import Route, routes_of, running_migration
from embedcore.types import DEFAULT_CONSUMERS, Consumer, Fingerprint, Generation

SEARCH = DEFAULT_CONSUMERS[0]


def generation(number: int, state: str) -> Generation:
    fingerprint = Fingerprint(model=f"m{number}", revision="1", dimension=8)
    return Generation.model_validate(
        {"number": number, "model": f"m{number}", "fingerprint": fingerprint, "state": state, "created_at": 0}
    )


def migration(phase: Phase, **progress: float | None) -> Migration:
    return Migration(
        id="m-1",
        source=1,
        target=2,
        target_model="m2",
        phase=phase,
        plan=Plan(),
        created_at=0,
        created_by="test",
        consumers={"search": ConsumerProgress.model_validate(progress)},
    )


LIVE = [generation(1, "serving"), generation(2, "filling")]


def route(phase: Phase, generations: list[Generation] = LIVE, **progress: float | None) -> Route:
    (made,) = routes_of([SEARCH], generations, migration(phase, **progress))
    return made


def test_without_a_generation_nothing_is_routed() -> None:
    assert routes_of([SEARCH], [], None) == []
    assert routes_of([SEARCH], [generation(1, "retired")], None) == []


def test_without_a_migration_the_serving_generation_answers() -> None:
    (made,) = routes_of([SEARCH], [generation(1, "retired"), generation(2, "serving")], None)
    assert made == Route("search", SEARCH.ef_search, 2)


def test_of_two_serving_generations_without_a_migration_the_first_answers() -> None:
    (made,) = routes_of([SEARCH], [generation(1, "serving"), generation(2, "serving")], None)
    assert made == Route("search", SEARCH.ef_search, 1)


@pytest.mark.parametrize(
    "phase",
    [Phase.PREFLIGHT, Phase.DUAL_WRITE, Phase.BACKFILL, Phase.ROLLED_BACK, Phase.HALTED, Phase.DEFERRED],
)
def test_phases_on_the_source(phase: Phase) -> None:
    assert route(phase, weight=0.5, canary_since=1.0) == Route("search", SEARCH.ef_search, 1)


def test_grace_is_on_the_target_alone() -> None:
    both = [generation(1, "serving"), generation(2, "serving")]
    assert route(Phase.GRACE, both, weight=1.0) == Route("search", SEARCH.ef_search, 2)


def test_blended_follows_weight_and_canary() -> None:
    start = route(Phase.BLENDED, weight=0.0)
    assert (start.target, start.weight, start.canary_share) == (2, 0.0, 0.0)
    half = route(Phase.BLENDED, weight=0.5)
    assert (half.source, half.target, half.weight, half.canary_share) == (1, 2, 0.5, 0.0)
    canary = route(Phase.BLENDED, weight=0.0, canary_since=5.0)
    assert (canary.target, canary.weight, canary.canary_share) == (2, 0.0, 0.05)
    full = route(Phase.BLENDED, weight=1.0, canary_since=5.0)
    assert (full.weight, full.canary_share) == (1.0, 0.0)


def test_a_consumer_registered_during_the_migration_reads_the_source() -> None:
    late = Consumer(name="late", k=3, quality_target=0.1)
    routes = routes_of([SEARCH, late], LIVE, migration(Phase.BLENDED, weight=1.0))
    assert {r.consumer: (r.source, r.target) for r in routes} == {"search": (1, 2), "late": (1, 0)}


def test_a_target_that_is_gone_is_not_routed_to() -> None:
    gone = [generation(1, "serving"), generation(2, "retired")]
    assert route(Phase.BLENDED, gone, weight=0.9) == Route("search", SEARCH.ef_search, 1)


def test_a_source_that_is_gone_leaves_the_target() -> None:
    gone = [generation(1, "retired"), generation(2, "serving")]
    assert route(Phase.GRACE, gone, weight=1.0) == Route("search", SEARCH.ef_search, 2)


def test_only_an_unfinished_migration_runs() -> None:
    done = migration(Phase.DONE)
    running = migration(Phase.GRACE)
    assert running_migration([done]) is None
    assert running_migration([done, running]) is running
