"""The repair queue: drained first, backed off, never blocked by what cannot be repaired."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from embedcore.errors import InvalidArgument, Unavailable
from embedcore.migration_types import Plan
from embedcore.store.interface import ItemWrite
from migration.doubles import embed
from migration.kit import World


def unmade(world: World, *names: str, content: bool = True, text: str = "text") -> None:
    """Writes items for which no vector could be made."""
    world.store.write_items(
        [
            ItemWrite(name, content=f"{text} of {name}" if content else None, failures={1: "encoder down"})
            for name in names
        ]
    )


def test_repairs_of_every_live_generation_come_before_the_backfill(world: World) -> None:
    world.corpus(10)
    world.start(Plan(backfill_chunk=1))
    world.tick()
    unmade(world, "late")
    assert world.store.repair_count() == 2
    world.controller.backfill.step()
    assert world.store.repair_count() == 0
    assert world.encoders.encoded["old"] == ["text of late"]
    assert world.encoders.encoded["new"] == ["text of late"]
    world.serving.drain()
    assert np.array_equal(world.serving.held[2][world.number("late")], embed("new", "text of late"))


def test_repairs_need_no_migration(world: World) -> None:
    unmade(world, "a")
    assert world.controller.backfill.step() == 1
    assert world.lacking(1) == []


def test_a_failing_repair_is_counted_and_backs_off_by_the_clock(world: World) -> None:
    unmade(world, "a")

    def down(model: str, texts: Sequence[str]) -> None:
        raise Unavailable("still down")

    world.encoders.before = down
    tries = []
    for second in range(400):
        if world.controller.backfill.step():
            tries.append(second)
        world.clock.advance(1)
    assert tries == [0, 30, 90, 210], "30 s, then doubled"
    entry = world.store.repairs(None, 10)[0]
    assert (entry.attempts, entry.reason) == (4, "still down")
    world.encoders.before = lambda model, texts: None
    world.clock.advance(3_600)
    assert world.controller.backfill.step() == 1
    assert world.store.repair_count() == 0


def test_one_bad_text_does_not_keep_its_neighbours(world: World) -> None:
    unmade(world, "a", "b", "c")

    def refuse(model: str, texts: Sequence[str]) -> None:
        if "text of b" in texts:
            raise InvalidArgument("b cannot be encoded")

    world.encoders.before = refuse
    world.controller.backfill.step()
    assert world.lacking(1) == ["b"]
    assert world.store.repairs(None, 10)[0].attempts == 1


def test_entries_without_content_stay_and_block_nobody(world: World) -> None:
    unmade(world, *(f"bare{n}" for n in range(100)), content=False)
    unmade(world, "a")
    for _ in range(3):
        world.controller.backfill.step()
    assert "a" not in world.lacking(1)
    assert world.store.repair_count() == 100
    assert world.controller.backfill.repairs.without_content == 100


def test_a_new_version_while_it_is_repaired_wins(world: World) -> None:
    unmade(world, "a")

    def change(model: str, texts: Sequence[str]) -> None:
        world.encoders.before = lambda model, texts: None
        world.write("a", text="newer")

    world.encoders.before = change
    world.controller.backfill.step()
    world.serving.drain()
    assert np.array_equal(world.serving.held[1][world.number("a")], embed("old", "newer of a"))
    assert world.store.repair_count() == 0
    assert not world.store.verify()


def test_a_new_version_without_a_vector_is_tried_at_once(world: World) -> None:
    unmade(world, "a")

    def down(model: str, texts: Sequence[str]) -> None:
        raise Unavailable("down")

    world.encoders.before = down
    world.controller.backfill.step()
    world.encoders.before = lambda model, texts: None
    assert world.controller.backfill.step() == 0
    unmade(world, "a", text="newer")
    assert world.controller.backfill.step() == 1
    assert world.lacking(1) == []


def test_an_item_deleted_meanwhile_is_forgotten(world: World) -> None:
    unmade(world, "a")

    def delete(model: str, texts: Sequence[str]) -> None:
        world.store.delete_items(["a"])
        raise Unavailable("down")

    world.encoders.before = delete
    assert world.controller.backfill.step() == 1
    assert world.store.repair_count() == 0


@pytest.mark.parametrize("live", [True, False])
def test_entries_of_a_retired_generation_are_left_alone(world: World, live: bool) -> None:
    world.corpus(3)
    world.start()
    world.store.add_repairs(2, [world.number("item000")], "check")
    if not live:
        world.controller.abort(who="t")
    assert (world.controller.backfill.step() > 0) is live


def test_a_clock_that_is_set_back_puts_no_repair_off(world: World) -> None:
    unmade(world, "a")

    def down(model: str, texts: Sequence[str]) -> None:
        raise Unavailable("still down")

    world.encoders.before = down
    assert world.controller.backfill.step() == 1
    world.clock.advance(-30 * 86_400)
    world.encoders.before = lambda model, texts: None
    assert world.controller.backfill.step() == 1
    assert world.lacking(1) == []
