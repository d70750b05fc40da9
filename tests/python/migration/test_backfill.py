"""The backfill against an oracle: order, checkpoints, live writes, deletes, damage, limits."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np
import pytest

from embedcore.errors import InvalidArgument, ResourceExhausted, Unavailable
from embedcore.migration.backfill import SWEEP
from embedcore.migration_types import DAY, Phase, Plan
from embedcore.store.retention import lane_hold
from migration.doubles import embed
from migration.kit import World

Make = Callable[..., World]


def raw(world: World, statement: str, *values: object) -> int:
    with closing(sqlite3.connect(world.store.database.path)) as connection, connection:
        return connection.execute(statement, values).rowcount


def complete(world: World) -> None:
    """The target holds exactly the live items, each with the vector of its present content."""
    expected = {}
    for item in world.store.get_items(world.store.sample_items(10_000, 0).tolist()):
        expected[item.item] = embed("new", item.content or "")
    held = world.serving.held[world.migration.target]
    assert held.keys() == expected.keys()
    for item, vector in expected.items():
        assert np.array_equal(held[item], vector), item
    assert not world.store.verify()


def begin(world: World, plan: Plan | None = None) -> None:
    world.start(plan)
    world.tick()
    assert world.phase is Phase.BACKFILL


@pytest.mark.parametrize("shards", [1, 4])
def test_the_most_recent_items_come_first(make_world: Make, shards: int) -> None:
    world = make_world(shards=shards)
    names = world.corpus(60)
    begin(world, Plan(backfill_chunk=2))
    world.fill()
    done = [text.removeprefix("text of ") for text in world.encoders.encoded["new"]]
    assert sorted(done) == names, "every item once"
    places = [names.index(name) for name in done]
    if shards == 1:
        assert places == sorted(places)
    else:  # recency across shards holds to within a chunk of each
        assert max(abs(place - rank) for rank, place in enumerate(places)) <= 4 * shards
    complete(world)


def test_progress_rate_and_end_are_visible(world: World) -> None:
    world.corpus(40)
    begin(world, Plan(backfill_chunk=10, backfill_rate=2.0))
    for _ in range(3):
        world.controller.backfill.step()
    world.serving.drain()
    world.clock.advance(1)
    status = world.controller.status()
    assert (status.backfilled, status.live_items, status.coverage) == (30, 40, 0.75)
    assert status.backfill_rate == pytest.approx(2.0, rel=0.2)
    assert status.eta_seconds == pytest.approx(10 / status.backfill_rate)
    world.fill()
    world.tick()
    assert world.controller.status().coverage == 1.0
    assert world.migration.backfilled_at is not None
    assert world.events("backfill")[0].evidence["vectors"] == 40


def test_the_rate_limit_holds(world: World) -> None:
    world.corpus(40)
    begin(world, Plan(backfill_chunk=8, backfill_rate=0.5))
    before = world.clock.now()
    world.fill()
    # A second's worth may be saved up before, and the last chunk's debt is waited for by whoever is next.
    assert (40 - 8) / 0.5 - 1 <= world.clock.now() - before <= 40 / 0.5


def test_after_a_crash_only_the_last_chunk_is_encoded_again(world: World) -> None:
    names = world.corpus(50)
    begin(world, Plan(backfill_chunk=5))
    for _ in range(4):
        world.controller.backfill.step()
    write = world.store.write_vectors

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    world.store.write_vectors = die  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyboardInterrupt):
        world.controller.backfill.step()
    world.store.write_vectors = write  # type: ignore[method-assign]
    world.reopen()
    world.tick()
    world.fill()
    encoded = world.encoders.encoded["new"]
    twice = {text for text in encoded if encoded.count(text) > 1}
    assert twice == {f"text of {name}" for name in names[20:25]}
    assert len(encoded) == 55
    complete(world)


def test_tombstones_wait_for_the_sweep_that_began_before_them(world: World) -> None:
    """The lanes have passed the delete; a backfill may still have read the item before it. Then they go."""
    names = world.corpus(20)
    begin(world, Plan(backfill_chunk=5))
    world.controller.backfill.step()
    world.store.delete_items([names[0]])
    world.serving.drain()
    head = world.store.head(0)
    for number in (1, 2):
        world.store.hold(lane_hold(number), 0, head, generation=number)
    assert world.store.get_item(names[0]) is not None
    world.fill()  # to the end of the sweep in progress: it began before the delete
    world.clock.advance(SWEEP + 1)
    world.fill()
    world.store.prune()
    assert world.store.get_item(names[0]) is None
    assert world.store.verify() == []
    world.serving.drain()
    complete(world)


def test_a_chunk_that_could_not_be_written_is_not_skipped(world: World) -> None:
    world.corpus(20)
    begin(world, Plan(backfill_chunk=5))
    world.controller.backfill.step()
    write = world.store.write_vectors

    def full(*_: object, **__: object) -> None:
        raise ResourceExhausted("disk full")

    world.store.write_vectors = full  # type: ignore[method-assign,assignment]
    with pytest.raises(ResourceExhausted):
        world.controller.backfill.step()
    world.store.write_vectors = write  # type: ignore[method-assign]
    for _ in range(3):
        world.controller.backfill.step()
    world.serving.drain()
    complete(world)


def test_an_unreadable_checkpoint_costs_a_scan_and_no_encoding(world: World) -> None:
    world.corpus(30)
    begin(world, Plan(backfill_chunk=5))
    for _ in range(3):
        world.controller.backfill.step()
    world.store.put_checkpoint("backfill", 2, 0, {"created_at": "yesterday", "item": None})
    world.reopen()
    world.fill()
    assert len(world.encoders.encoded["new"]) == 30
    complete(world)


def test_a_live_write_wins_over_the_backfill(world: World) -> None:
    """The item changes after the backfill has read its text and before its vector is written."""
    world.corpus(10)
    begin(world, Plan(backfill_chunk=10))
    changed: list[str] = []

    def change(model: str, texts: Sequence[str]) -> None:
        if model == "new" and not changed:
            changed.append("item004")
            world.write("item004", text="newer text")

    world.encoders.before = change
    world.fill()
    assert changed
    assert "text of item004" in world.encoders.encoded["new"], "the older text was encoded and lost"
    complete(world)
    assert np.array_equal(
        world.serving.held[2][world.number("item004")], embed("new", "newer text of item004")
    )


def test_planted_a_backfill_that_ignores_versions_is_caught(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the test before this one is worth: the same race with the version check taken away."""
    world.corpus(10)
    begin(world, Plan(backfill_chunk=10))
    write = world.store.write_vectors

    def whatever(
        generation: int, rows: Sequence[tuple[int, int, object]], checkpoint: object = None
    ) -> object:
        now = {item.item: item.version for item in world.store.get_items([item for item, _, _ in rows])}
        return write(generation, [(i, now[i], v) for i, _, v in rows], checkpoint)  # type: ignore[misc,arg-type]

    monkeypatch.setattr(world.store, "write_vectors", whatever)

    def change(model: str, texts: Sequence[str]) -> None:
        world.encoders.before = lambda model, texts: None
        world.write("item004", text="newer text")

    world.encoders.before = change
    world.fill()
    with pytest.raises(AssertionError):
        complete(world)


def test_a_delete_is_not_resurrected(world: World) -> None:
    world.corpus(10)
    begin(world, Plan(backfill_chunk=10))

    def delete(model: str, texts: Sequence[str]) -> None:
        world.store.delete_items(["item003"])

    world.encoders.before = delete
    world.fill()
    assert "text of item003" in world.encoders.encoded["new"]
    assert world.number("item003") not in world.serving.held[2]
    assert len(world.serving.held[2]) == 9
    complete(world)


def test_writes_deletes_and_backfill_in_any_order_end_complete(make_world: Make) -> None:
    for seed in range(3):
        world = make_world(shards=2)
        names = world.corpus(30)
        begin(world, Plan(backfill_chunk=3))
        rng = np.random.default_rng(seed)
        for round_ in range(25):
            name = names[rng.integers(len(names))]
            match rng.integers(4):
                case 0:
                    world.write(name, text=f"round {round_}")
                case 1:
                    world.store.delete_items([name])
                case 2:
                    world.write(f"new{round_}")
                case _:
                    world.controller.backfill.step()
        world.fill()
        complete(world)


def test_a_corrupt_shard_is_skipped_reported_and_retried_after_it_passes(make_world: Make) -> None:
    world = make_world(shards=4)
    names = world.corpus(60)
    of_shard = {name: world.store.get_item(name).shard for name in names}  # type: ignore[union-attr]
    begin(world, Plan(backfill_chunk=4))
    damaged = next(name for name in names if of_shard[name] == 2)
    original = world.store.get_item(damaged).content  # type: ignore[union-attr]
    assert raw(world, "UPDATE items SET content = 'rotten' WHERE id = ?", damaged) == 1
    world.fill()
    assert {of_shard[name] for name in world.lacking(2)} == {2}, "the rest went on"
    assert not any("rotten" in text for text in world.encoders.encoded["new"])
    event = world.events("corrupt_shard")[0]
    assert event.evidence["shard"] == 2
    assert event.evidence["stored"] != event.evidence["computed"]
    assert world.controller.status().corrupt_shards == (2,)
    assert world.migration.backfilled_at is None
    world.clock.advance(120)
    world.fill()
    assert len(world.events("corrupt_shard")) == 1, "reported once"
    assert {of_shard[name] for name in world.lacking(2)} == {2}
    raw(world, "UPDATE items SET content = ? WHERE id = ?", original, damaged)
    world.fill()
    assert {of_shard[name] for name in world.lacking(2)} == {2}, "not checked again at every step"
    world.clock.advance(120)
    world.fill()
    assert world.controller.status().corrupt_shards == ()
    assert world.events("shard_recovered")[0].evidence == {"shard": 2}
    complete(world)


def test_pause_stops_the_backfill_and_resume_goes_on(world: World) -> None:
    world.corpus(20)
    begin(world, Plan(backfill_chunk=5))
    world.controller.backfill.step()
    world.controller.pause(who="t", why="traffic peak")
    assert world.controller.backfill.step() == 0
    assert world.controller.status().eta_seconds is None
    world.write("live")
    lacking = world.lacking(2)
    assert len(lacking) == 15, "the backfill stands"
    assert "live" not in lacking, "dual-write goes on"
    world.controller.unpause(who="t")
    world.fill()
    complete(world)
    assert [e.what for e in world.events() if e.what in ("pause", "resume")] == ["pause", "resume"]


def test_a_text_that_cannot_be_encoded_holds_up_nobody(world: World) -> None:
    world.corpus(20)
    begin(world, Plan(backfill_chunk=20))

    def refuse(model: str, texts: Sequence[str]) -> None:
        if model == "new" and "text of item005" in texts:
            raise InvalidArgument("text 5 cannot be encoded")

    world.encoders.before = refuse
    world.fill()
    assert world.lacking(2) == ["item005"]
    entry = world.store.repairs(2, 10)[0]
    assert (entry.id, entry.reason) == ("item005", "text 5 cannot be encoded")
    assert world.controller.status().repair_queue == 1
    world.encoders.before = lambda model, texts: None
    world.clock.advance(2 * 3_600)
    world.fill()
    complete(world)
    assert world.store.repair_count() == 0


def test_an_encoder_that_is_down_is_waited_for(world: World) -> None:
    world.corpus(10)
    begin(world)

    def down(model: str, texts: Sequence[str]) -> None:
        raise Unavailable("the encoder is down")

    world.encoders.before = down
    with pytest.raises(Unavailable):
        world.controller.backfill.step()
    assert world.store.repair_count() == 0, "an outage does not put the corpus into the repair queue"
    world.encoders.before = lambda model, texts: None
    world.fill()
    complete(world)


def test_items_without_content_are_left_and_counted(world: World) -> None:
    from embedcore.store.interface import ItemWrite

    world.corpus(10)
    world.store.write_items([ItemWrite("vectors-only", vectors={1: embed("old", "x")})])
    begin(world)
    world.fill()
    assert world.lacking(2) == ["vectors-only"]
    assert world.controller.backfill.without_content > 0
    world.clock.advance(1)
    assert world.controller.status().coverage == pytest.approx(10 / 11)


def test_what_is_still_missing_after_the_first_sweep_is_found_by_a_later_one(world: World) -> None:
    """A vector row that vanished behind the cursor, as after a repair of the file."""
    world.corpus(20)
    begin(world, Plan(backfill_chunk=5))
    for _ in range(3):
        world.controller.backfill.step()
    gone = world.number("item002")
    assert raw(world, "DELETE FROM vectors WHERE generation = 2 AND item = ?", gone) == 1
    world.fill()
    assert world.lacking(2) == []
    assert world.encoders.encoded["new"].count("text of item002") == 2


def test_a_vector_lost_after_the_end_is_found_by_the_next_sweep(world: World) -> None:
    world.corpus(10)
    begin(world)
    world.fill()
    raw(world, "DELETE FROM vectors WHERE generation = 2 AND item = ?", world.number("item001"))
    world.clock.advance(DAY)
    world.fill()
    assert world.lacking(2) == []
