"""Registry, controller and evaluation documents; marks fixed at creation."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from embedcore.clock import ManualClock
from embedcore.errors import (
    AlreadyExists,
    EmbedcoreError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from embedcore.migration_types import Migration, MigrationEvent, Phase, Plan
from embedcore.store import SqlStore, open_store
from embedcore.types import DEFAULT_CONSUMERS
from store.builders import generation, model, raw, write


def migration(name: str = "m1", phase: Phase = Phase.DUAL_WRITE) -> Migration:
    return Migration(
        id=name,
        source=1,
        target=2,
        target_model="new",
        phase=phase,
        plan=Plan(),
        created_at=1.0,
        created_by="tester",
    )


def happening(number: int, name: str = "m1") -> MigrationEvent:
    return MigrationEvent(
        migration=name, number=number, at=1.0, who="tester", what="phase", why="test", evidence={"n": number}
    )


def test_shards_and_the_simulated_mark_are_fixed_at_creation(open_at: Callable[..., SqlStore]) -> None:
    store = open_at(shards=4, simulated=True)
    assert (store.shards, store.simulated) == (4, True)
    store.close()
    for arguments, says in (({"shards": 1}, "4 shards, not 1"), ({"simulated": False}, "simulated time")):
        with pytest.raises(FailedPrecondition, match=says):
            open_at(**arguments)
    store = open_at()  # and a refusal left nothing locked
    assert (store.shards, store.simulated) == (4, True)


def test_a_new_store_has_one_shard_and_real_time(store: SqlStore) -> None:
    assert (store.shards, store.simulated) == (1, False)


@pytest.mark.parametrize("shards", [0, 3, -2, 1 << 20])
def test_an_impossible_shard_count_is_refused(open_at: Callable[..., SqlStore], shards: int) -> None:
    with pytest.raises(InvalidArgument, match="power of two"):
        open_at(shards=shards)


def test_a_store_of_a_newer_embedcore_is_refused(open_at: Callable[..., SqlStore]) -> None:
    store = open_at()
    raw(store, "UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    store.close()
    with pytest.raises(FailedPrecondition, match=r"schema version 99.*upgrade embedcore"):
        open_at()


def test_meta_survives_and_reserved_keys_are_protected(open_at: Callable[..., SqlStore]) -> None:
    store = open_at()
    assert store.get_meta("clock") is None
    store.set_meta("clock", "1")
    store.set_meta("clock", "2")
    store.close()
    assert open_at().get_meta("clock") == "2"


def test_consumers_and_models_are_replaced_by_name(store: SqlStore) -> None:
    for consumer in DEFAULT_CONSUMERS:
        store.put_consumer(consumer)
    changed = DEFAULT_CONSUMERS[0].model_copy(update={"k": 33})
    store.put_consumer(changed)
    assert {consumer.name: consumer for consumer in store.consumers()} == {
        **{consumer.name: consumer for consumer in DEFAULT_CONSUMERS},
        "search": changed,
    }
    store.put_model(model("a"))
    store.put_model(model("a").model_copy(update={"options": {"threads": 2}}))
    assert [spec.options for spec in store.models()] == [{"threads": 2}]


def test_a_model_with_generations_keeps_its_vector_space(store: SqlStore) -> None:
    generation(store, "a")
    with pytest.raises(AlreadyExists, match="another name"):
        store.put_model(model("a", dimension=8))
    store.put_model(model("a").model_copy(update={"options": {"threads": 2}}))


def test_generations_are_numbered_and_keep_their_identity(store: SqlStore) -> None:
    first = generation(store, "old")
    second = generation(store, "new", "filling")
    assert [found.number for found in (first, second)] == [1, 2]
    retired = first.model_copy(update={"state": "retired"})
    store.put_generation(retired)
    assert store.generations() == [retired, second]
    assert store.create_generation("new", "filling", 0.0).number == 3
    cases: list[tuple[Callable[[], object], type[EmbedcoreError]]] = [
        (lambda: store.create_generation("unknown", "serving", 0.0), NotFound),
        (lambda: store.create_generation("old", "sleeping", 0.0), InvalidArgument),
        (lambda: store.put_generation(second.model_copy(update={"number": 9})), NotFound),
        (lambda: store.put_generation(second.model_copy(update={"model": "old"})), InvalidArgument),
        # It missed writes while it was retired.
        (lambda: store.put_generation(first), FailedPrecondition),
    ]
    for call, error in cases:
        with pytest.raises(error):
            call()
    assert [found.state for found in store.generations()] == ["retired", "filling", "filling"]


def test_a_replaced_leader_can_change_nothing(store: SqlStore) -> None:
    generation(store, "old")
    target = generation(store, "new", "filling")
    first = store.acquire_epoch("a")
    store.put_migration(migration(), [happening(1)], first)
    second = store.acquire_epoch("b")
    assert second > first
    retired = target.model_copy(update={"state": "retired"})
    for epoch in (first, second + 1, 0):
        with pytest.raises(FailedPrecondition, match="epoch"):
            store.put_migration(migration(phase=Phase.ABORTED), [happening(2)], epoch, [retired])
    assert store.migration("m1") == migration()
    assert store.generations()[1] == target
    store.put_migration(migration(phase=Phase.ABORTED), [happening(2), happening(3)], second, [retired])
    assert store.migration("m1") == migration(phase=Phase.ABORTED)
    assert store.generations()[1] == retired
    assert store.events("m1") == [happening(1), happening(2), happening(3)]
    assert store.events("m1", after=2) == [happening(3)]


def test_events_have_no_holes_and_are_never_rewritten(store: SqlStore) -> None:
    epoch = store.acquire_epoch("a")
    store.put_migration(migration(), [happening(1)], epoch)
    for events, error in (
        ([happening(1)], AlreadyExists),
        ([happening(3)], InvalidArgument),
        ([happening(2), happening(2)], AlreadyExists),
        ([happening(2, "other")], InvalidArgument),
    ):
        with pytest.raises(error):
            store.put_migration(migration(phase=Phase.DONE), events, epoch)
    assert store.migration("m1") == migration()
    assert store.events("m1") == [happening(1)]


def test_migrations_are_listed_in_order_of_creation(open_at: Callable[..., SqlStore]) -> None:
    store = open_at()
    epoch = store.acquire_epoch("a")
    for name in ("z", "a", "m"):
        store.put_migration(migration(name), [], epoch)
    store.put_migration(migration("z", Phase.DONE), [], epoch)
    store.close()
    store = open_at()
    assert [found.id for found in store.migrations()] == ["z", "a", "m"]
    assert store.migration("unknown") is None


def test_blobs_are_kept_by_kind_and_name(store: SqlStore) -> None:
    store.put_blob("golden_set", "search", b"\0\1")
    store.put_blob("golden_set", "ads", b"")
    store.put_blob("evaluation", "search", b"x" * 100_000)
    store.put_blob("golden_set", "search", b"\2")
    assert store.get_blob("golden_set", "search") == b"\2"
    assert store.get_blob("golden_set", "ads") == b""
    assert store.get_blob("golden_set", "dedup") is None
    assert store.blob_names("golden_set") == ["ads", "search"]


def test_engagement_adds_up_and_stays_marked_as_simulated(store: SqlStore) -> None:
    store.add_engagement("m", "ads", "canary", {"impressions": 10, "clicks": 1}, simulated=False)
    store.add_engagement("m", "ads", "control", {"impressions": 90}, simulated=False)
    store.add_engagement("m", "ads", "canary", {"impressions": 5, "depth": 2.5}, simulated=True)
    store.add_engagement("m", "ads", "canary", {"clicks": 1}, simulated=False)
    store.add_engagement("other", "ads", "canary", {"clicks": 7}, simulated=False)
    assert store.engagement("m", "ads") == {
        "canary": {"impressions": 15, "clicks": 2, "depth": 2.5, "simulated": 1.0},
        "control": {"impressions": 90, "simulated": 0.0},
    }
    assert store.engagement("m", "search") == {}
    with pytest.raises(InvalidArgument):
        store.add_engagement("m", "ads", "canary", {"clicks": float("nan")}, simulated=False)
    with pytest.raises(InvalidArgument):
        store.add_engagement("m", "ads", "canary", {"simulated": 0.0}, simulated=False)


def test_the_clock_can_be_changed_after_opening(store: SqlStore) -> None:
    store.use_clock(ManualClock(42.0))
    store.write_items([write("a")])
    stored = store.get_item("a")
    assert stored is not None
    assert stored.created_at == 42.0


def test_a_closed_store_says_so(open_at: Callable[..., SqlStore], clock: ManualClock) -> None:
    store = open_at()
    store.close()
    store.close()
    for call in (store.live_items, lambda: store.write_items([write("a")])):
        with pytest.raises(EmbedcoreError, match="closed"):
            call()
    with open_store(store.data_dir, clock).database.read():
        pass
