"""Golden sets from files: every format gives the same set, every problem has its line, all or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from embedcore.errors import FailedPrecondition, InvalidArgument
from embedcore.evaluation.golden import GoldenQuery, GoldenRegistry, GoldenSet
from embedcore.evaluation.golden_files import save_golden
from embedcore.evaluation.importing import ImportOptions, read_golden

SEARCH = ImportOptions(consumer="search", name="set", public=False)
EXPECTED = (
    GoldenQuery(id="q1", text="red bicycle", relevant={"a": 2.0, "b": 0.0}, bucket="head"),
    GoldenQuery(id="q2", text='"quoted", with comma', relevant={"c": 1.0}, exclude=("a",)),
)
ROWS: list[dict[str, Any]] = [
    {"query_id": "q1", "text": "red bicycle", "bucket": "head", "item": "a", "grade": 2, "exclude": ""},
    {"query_id": "q1", "text": "", "bucket": "", "item": "b", "grade": 0, "exclude": ""},
    {"query_id": "q2", "text": '"quoted", with comma', "bucket": "", "item": "c", "grade": 1, "exclude": ""},
    {"query_id": "q2", "text": "", "bucket": "", "item": "a", "grade": "", "exclude": "true"},
]


def write(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
        from pyarrow import parquet

        table = [{k: None if v == "" else str(v) for k, v in row.items()} for row in rows]
        parquet.write_table(pyarrow.Table.from_pylist(table), path)
    else:
        import csv

        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="," if path.suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_rows_of_every_format_give_the_same_set(tmp_path: Path, suffix: str) -> None:
    imported = read_golden(write(tmp_path / f"set{suffix}"), SEARCH)
    assert imported.golden.queries == EXPECTED
    assert imported.golden.digest == GoldenSet(name="x", consumer="search", queries=EXPECTED).digest
    assert not imported.golden.public


def test_own_files_are_read_as_before(tmp_path: Path) -> None:
    golden = GoldenSet(name="mine", consumer="ads", queries=EXPECTED)
    for suffix in (".json", ".jsonl"):
        save_golden(golden, tmp_path / f"mine{suffix}")
        assert read_golden(tmp_path / f"mine{suffix}").golden == golden
    changed = read_golden(tmp_path / "mine.json", ImportOptions(consumer="search", public=True)).golden
    assert (changed.consumer, changed.public, changed.name) == ("search", True, "mine")


def test_trec_and_beir_are_public_unless_said_otherwise(tmp_path: Path) -> None:
    (tmp_path / "qrels.txt").write_text("q1 0 a 2\nq1 0 b -1\nq2 0 c 1\n")
    (tmp_path / "topics.tsv").write_text('q1\tred bicycle\nq2\t"quoted", with comma\nq3\tunjudged\n')
    options = ImportOptions(consumer="search", name="set", queries=tmp_path / "topics.tsv")
    trec = read_golden(tmp_path / "qrels.txt", options).golden
    assert [q.relevant for q in trec.queries] == [{"a": 2.0, "b": 0.0}, {"c": 1.0}]
    assert [q.text for q in trec.queries] == ["red bicycle", '"quoted", with comma']
    assert trec.public
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\ta\t2\nq1\tb\t0\nq2\tc\t1\n")
    queries = [{"_id": "q1", "text": "red bicycle"}, {"_id": "q2", "text": '"quoted", with comma'}]
    (folder / "queries.jsonl").write_text("".join(json.dumps(q) + "\n" for q in queries))
    beir = read_golden(folder, ImportOptions(consumer="search", name="set"))
    assert beir.golden.queries == trec.queries
    assert beir.golden.public
    assert not read_golden(folder, SEARCH).golden.public
    with pytest.raises(InvalidArgument, match="--query-texts"):
        read_golden(tmp_path / "qrels.txt", SEARCH)
    with pytest.raises(InvalidArgument, match=r"qrels/dev\.tsv"):
        read_golden(folder, ImportOptions(consumer="search", split="dev"))


def test_every_problem_is_named_with_its_line(tmp_path: Path) -> None:
    bad = [
        *ROWS,
        {**ROWS[0], "item": "a"},  # line 6: again
        {**ROWS[0], "item": "d", "text": "another"},  # line 7
        {**ROWS[0], "item": "e", "grade": "much"},  # line 8
        {**ROWS[0], "item": "f", "grade": -1},  # line 9
        {**ROWS[0], "item": ""},  # line 10
        {**ROWS[0], "item": "g", "grade": ""},  # line 11
        {**ROWS[0], "query_id": "q9", "item": "h", "text": ""},  # line 12
        {**ROWS[0], "item": "i", "exclude": "perhaps"},  # line 13
    ]
    with pytest.raises(InvalidArgument) as caught:
        read_golden(write(tmp_path / "bad.csv", bad), SEARCH)
    problems = "\n".join(caught.value.details["problems"])
    for line, said in (
        (6, "item 'a' of query 'q1' again, as in"),
        (7, "another text of query 'q1'"),
        (8, "grade is 'much'"),
        (9, "grade is '-1'"),
        (10, "no item"),
        (11, "no grade"),
        (12, "query 'q9' has no text"),
        (13, "exclude is 'perhaps'"),
    ):
        assert any(f"line {line}: " in one and said in one for one in problems.splitlines()), (line, problems)
    assert caught.value.details["count"] == 8
    with pytest.raises(InvalidArgument, match="name the consumer"):
        read_golden(write(tmp_path / "rows.csv"), ImportOptions())


def test_bad_qrels_are_named_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "topics.tsv").write_text("q1\tone\nno tab here\nq1\tagain\n")
    (tmp_path / "qrels").write_text("q1 0 a 1\nq1 0 b\n\nq1 0 c much\n")
    with pytest.raises(InvalidArgument) as caught:
        read_golden(
            tmp_path / "qrels", ImportOptions(consumer="search", queries=tmp_path / "topics.tsv", name="x")
        )
    problems = "\n".join(caught.value.details["problems"])
    for said in (
        "topics.tsv line 2: expected",
        "topics.tsv line 3: query 'q1' again",
        "qrels line 2: expected",
    ):
        assert said in problems
    assert "qrels line 4: grade is 'much'" in problems


def test_unlabelled_rows_are_left_out_on_purpose_only(tmp_path: Path) -> None:
    rows = [*ROWS, {**ROWS[0], "item": "g", "grade": ""}]
    path = write(tmp_path / "some.csv", rows)
    with pytest.raises(InvalidArgument, match="line 6: no grade"):
        read_golden(path, SEARCH)
    kept = ImportOptions(consumer="search", name="set", drop_unlabelled=True)
    assert read_golden(path, kept).golden.queries == EXPECTED


def test_refusals_of_the_store_name_lines_of_the_file(tmp_path: Path, store: Any) -> None:
    store.add("a", "a")
    store.add("c", "c", deleted=True)
    rows = [dict(ROWS[0]), {**ROWS[1], "grade": 1}, {**ROWS[2]}]
    for suffix in (".csv", ".jsonl"):
        imported = read_golden(write(tmp_path / f"rows{suffix}", rows), SEARCH)
        with pytest.raises(InvalidArgument) as caught:
            GoldenRegistry(store).put(imported.golden)
        explained = imported.explain(caught.value)
        first = 2 if suffix == ".csv" else 1
        assert f"rows{suffix} line {first + 1}: query 1 ('q1'): unknown item 'b'" in explained.message
        assert f"rows{suffix} line {first + 2}: query 2 ('q2'): deleted item 'c'" in explained.message
        assert any(f"line {first + 1}: " in one for one in explained.details["problems"])
    assert store.blobs == {}


def test_a_public_set_is_a_signal_and_never_a_gate(tmp_path: Path, store: Any) -> None:
    for name in ("a", "c"):
        store.add(name, name)
    rows = [dict(ROWS[0]), dict(ROWS[2])]
    golden = read_golden(
        write(tmp_path / "rows.csv", rows), ImportOptions(consumer="search", name="bench", public=True)
    ).golden
    registry = GoldenRegistry(store)
    with pytest.raises(FailedPrecondition, match="never a gate"):
        registry.put(golden)
    assert store.blobs == {}
    assert not registry.put(golden, gate=False).gate
    listed = registry.versions()
    assert [(one.name, one.public, one.gate) for one in listed] == [("bench", True, False)]
