"""Golden sets: nothing wrong gets in, nothing is half-imported, versions and digests name the content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from embedcore.errors import FailedPrecondition, InvalidArgument, NotFound
from embedcore.evaluation.golden import GoldenQuery, GoldenRegistry, GoldenSet
from embedcore.evaluation.golden_files import load_golden, save_golden


def query(name: str, **fields: Any) -> GoldenQuery:
    return GoldenQuery(**{"id": name, "text": f"text {name}", "relevant": {"a": 1.0}, **fields})


def golden(*queries: GoldenQuery, **fields: Any) -> GoldenSet:
    return GoldenSet(**{"name": "set", "consumer": "search", "queries": queries, **fields})


@pytest.fixture
def filled(store: Any) -> Any:
    for name in ("a", "b"):
        store.add(name, name)
    store.add("gone", "gone", deleted=True)
    return store


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_a_saved_set_loads_as_it_was(tmp_path: Path, suffix: str) -> None:
    original = golden(
        query("q1", relevant={"a": 1.0, "b": 0.5}, exclude=("x",), bucket="head"),
        query("q2", text='quotes " and\nlines, ünïcode'),
        public=True,
        source="people",
        namespace="ns",
    )
    path = tmp_path / f"set{suffix}"
    save_golden(original, path)
    assert load_golden(path) == original
    assert load_golden(path).digest == original.digest


def test_load_names_every_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    save_golden(golden(query("q1"), query("q2"), query("q3")), path)
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace('"relevant"', '"relevnat"')
    lines[3] = "{not json"
    path.write_text("\n".join(lines))
    with pytest.raises(InvalidArgument) as raised:
        load_golden(path)
    assert "problems found: 2" in raised.value.message
    assert "line 2: " in raised.value.message
    assert "line 4: " in raised.value.message


@pytest.mark.parametrize("text", ["", "[1]\n", '{"name": "x"}\n', "\udcff"])
def test_load_refuses_what_is_no_golden_set(tmp_path: Path, text: str) -> None:
    path = tmp_path / "set.jsonl"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InvalidArgument):
        load_golden(path)
    with pytest.raises(InvalidArgument):
        load_golden(tmp_path / "missing.json")


def test_the_digest_is_of_the_content() -> None:
    base = golden(query("q1"), query("q2"))
    assert base.digest == golden(query("q1"), query("q2"), name="other", source="elsewhere").digest
    different = [
        golden(query("q1")),
        golden(query("q2"), query("q1")),
        golden(query("q1"), query("q2", text="t")),
        golden(query("q1"), query("q2", relevant={"a": 0.5})),
        golden(query("q1"), query("q2", exclude=("b",))),
        golden(query("q1"), query("q2"), public=True),
        base.model_copy(update={"consumer": "ads"}),
    ]
    assert len({base.digest, *(one.digest for one in different)}) == 1 + len(different)


def test_a_copy_has_a_digest_of_its_own() -> None:
    base = golden(query("q1"), query("q2"))
    fresh = golden(query("q1"), query("q2"))
    known = base.digest
    assert base == fresh, "what was computed is no part of a set"
    fewer = base.model_copy(update={"queries": base.queries[:1]})
    assert fewer.digest == golden(query("q1")).digest != known
    assert base.model_copy().digest == known


def test_a_refused_import_lists_positions_and_stores_nothing(filled: Any) -> None:
    bad = golden(
        query("q1"),
        query("q1"),
        query("q3", relevant={}),
        query("q4", relevant={"a": 0.0}),
        query("q5", relevant={"nowhere": 1.0}),
        query("q6", relevant={"gone": 1.0, "a": 1.0}),
        query("q7", text="  "),
        query("q8", exclude=("a",)),
        query("q9", relevant={"a": float("nan")}),
        query("q10", relevant={"a": -1.0}),
    )
    registry = GoldenRegistry(filled)
    with pytest.raises(InvalidArgument) as raised:
        registry.put(bad)
    assert raised.value.details["count"] == 9
    problems = "\n".join(raised.value.details["problems"])
    for expected in (
        "query 2 ('q1'): same id as query 1",
        "query 3 ('q3'): no relevant item",
        "query 4 ('q4'): no relevant item",
        "query 5 ('q5'): unknown item 'nowhere'",
        "query 6 ('q6'): deleted item 'gone'",
        "query 7 ('q7'): empty text",
        "query 8 ('q8'): item 'a' is both relevant and excluded",
        "query 9 ('q9'): grade of 'a' is nan",
        "query 10 ('q10'): grade of 'a' is -1.0",
    ):
        assert expected in problems
    assert "\n" not in raised.value.message
    assert filled.blobs == {}


def test_only_the_first_problems_are_spelled_out(filled: Any) -> None:
    with pytest.raises(InvalidArgument) as raised:
        GoldenRegistry(filled).put(golden(*(query(f"q{i}", relevant={}) for i in range(50))))
    assert raised.value.message.count("no relevant item") == 10
    assert "and 40 more" in raised.value.message


def test_an_empty_set_and_an_unknown_consumer_are_refused(filled: Any) -> None:
    registry = GoldenRegistry(filled)
    with pytest.raises(InvalidArgument, match="no queries"):
        registry.put(golden())
    with pytest.raises(NotFound, match="'adds', which does not exist; known: search"):
        registry.put(golden(query("q1"), consumer="adds"))
    assert filled.blobs == {}


def test_items_that_come_later_can_be_kept(filled: Any) -> None:
    registry = GoldenRegistry(filled)
    late = golden(query("q1", relevant={"later": 1.0}))
    with pytest.raises(InvalidArgument):
        registry.put(late)
    assert registry.put(late, unknown="keep").queries == 1


def test_a_public_set_is_a_signal_and_no_gate(filled: Any) -> None:
    registry = GoldenRegistry(filled)
    public = golden(query("q1"), public=True, name="benchmark")
    with pytest.raises(FailedPrecondition, match="public"):
        registry.put(public)
    assert filled.blobs == {}
    assert not registry.put(public, gate=False).gate
    assert registry.get_named("benchmark") == public
    with pytest.raises(NotFound, match="no golden set"):
        registry.get("search")


def test_versions(filled: Any) -> None:
    registry = GoldenRegistry(filled)
    first, second = golden(query("q1")), golden(query("q1"), query("q2"))
    assert registry.put(first).version == 1
    assert registry.put(first).version == 1, "the same content is the same version"
    assert registry.put(second).version == 2
    assert registry.get("search") == second
    assert registry.get_named("set", 1) == first
    assert GoldenRegistry(filled).get("search") == second, "read back from the store"
    assert registry.names() == ["set"]
    assert registry.consumers() == ["search"]
    with pytest.raises(NotFound, match="version 3"):
        registry.get_named("set", 3)
    with pytest.raises(NotFound, match="known: set"):
        registry.get_named("sett")


def test_a_crash_before_the_head_is_written_leaves_the_old_version(filled: Any) -> None:
    registry = GoldenRegistry(filled)
    first = golden(query("q1"))
    registry.put(first)
    whole = dict(filled.blobs)

    def crash(kind: str, name: str, value: bytes) -> None:
        if kind == "golden-head":
            raise OSError("power")
        filled.blobs[(kind, name)] = value

    filled.put_blob = crash
    with pytest.raises(OSError, match="power"):
        registry.put(golden(query("q1"), query("q2")))
    assert len(filled.blobs) == len(whole) + 1, "the version was written, but nothing names it"
    assert GoldenRegistry(filled).get("search") == first
