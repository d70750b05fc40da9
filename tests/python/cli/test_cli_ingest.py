"""ingest: every source, every refusal, resumption."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cli.runner import Run
from embedcore.cli.records import Fields, read_items
from embedcore.errors import InvalidArgument, Unavailable
from support.fake_platform import DIMENSION, TOY, FakePlatform

FINGERPRINT = TOY.fingerprint.model_dump_json()


@pytest.fixture
def records(tmp_path: Path) -> Path:
    path = tmp_path / "items.jsonl"
    lines = [{"id": f"i{n}", "content": f"text {n}", "attributes": {"n": n}} for n in range(10)]
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n")
    return path


def rows(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, DIMENSION)).astype(np.float32)


def test_json_lines_in_batches(run: Run, platform: FakePlatform, records: Path) -> None:
    before = platform.sequence
    ran = run("ingest", records, "--batch", "4", "--json")
    assert ran.json == {"source": str(records), "items": 10, "skipped": 0, "repairs": 0}
    assert platform.sequence == before + 10
    assert platform.items["", "i7"].content == "text 7"
    assert platform.items["", "i7"].attributes == {"n": 7}


def test_csv_with_named_fields(run: Run, platform: FakePlatform, tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text('sku,text,kind,when\nA1,"two\nlines",big,2024-05-01\nA2,plain,,1700000000.5\n')
    ran = run(
        *("ingest", path, "--id-field", "sku", "--content-field", "text", "--attribute-field", "kind"),
        *("--created-at-field", "when", "--namespace", "shop"),
    )
    assert ran.code == 0
    first, second = platform.items["shop", "A1"], platform.items["shop", "A2"]
    assert (first.content, first.attributes) == ("two\nlines", {"kind": "big"})
    assert first.created_at == 1_714_521_600.0
    assert second.created_at == 1_700_000_000.5


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"content": "x"}', "no field 'id'"),
        ("[1]", "expected a JSON object"),
        ("{", "not JSON"),
        ('{"id": "x", "content": 3}', "'content' is not text"),
        ('{"id": "x", "attributes": {"a": [1]}}', "attribute 'a'"),
        ('{"id": "x", "created_at": "soon"}', "'soon'"),
    ],
)
def test_a_bad_record_names_file_and_line(
    run: Run, platform: FakePlatform, records: Path, line: str, said: str
) -> None:
    records.write_text('{"id": "good", "content": "x"}\n' + line + "\n")
    ran = run("ingest", records, "--batch", "1")
    assert ran.code == 2
    assert f"{records} line 2: " in ran.err
    assert said in ran.err
    assert ("", "good") in platform.items


def test_an_interrupted_run_goes_on_where_it_was(
    run: Run, platform: FakePlatform, records: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "progress.json"
    call = ("ingest", records, "--batch", "3", "--checkpoint", checkpoint)
    platform.failing["upsert"] = iter([None, None, Unavailable("gone"), None, None, None])
    broken = run(*call)
    assert broken.code == 1
    assert "6 items are acknowledged; go on with --skip 6" in broken.err
    assert run(*call, "--json").json["skipped"] == 6
    versions = [platform.items["", f"i{n}"].version for n in range(10)]
    assert versions == [1] * 10
    del platform.failing["upsert"]
    assert run("ingest", records, "--skip", "8", "--json").json["skipped"] == 8
    other = tmp_path / "other.jsonl"
    other.write_text('{"id": "x", "content": "y"}\n')
    refused = run("ingest", other, "--checkpoint", checkpoint)
    assert refused.code == 2
    assert "another source" in refused.err


def test_npy_vectors_with_ids(run: Run, platform: FakePlatform, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", rows(5).astype(np.float16))
    (tmp_path / "ids.txt").write_text("\n".join(f"v{n}" for n in range(5)))
    call = ("ingest", "--vectors", tmp_path / "v.npy", "--fingerprint", FINGERPRINT)
    assert "either --ids, or FILE" in run(*call).err
    assert run(*call, "--ids", tmp_path / "ids.txt").code == 0
    stored = platform.vectors["", "v3"]
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored, rows(5).astype(np.float16).astype(np.float32)[3])
    assert platform.items["", "v3"].content is None


def test_npy_vectors_beside_records(run: Run, platform: FakePlatform, records: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", rows(10))
    ran = run("ingest", records, "--vectors", tmp_path / "v.npy", "--fingerprint", FINGERPRINT)
    assert ran.code == 0
    np.testing.assert_array_equal(platform.vectors["", "i9"], rows(10)[9])
    assert platform.items["", "i9"].content == "text 9"


def test_parquet_vectors(run: Run, platform: FakePlatform, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    made = {
        "sku": ["a1", "a2"],
        "embedding": [row.tolist() for row in rows(2)],
        "content": ["one", None],
        "kind": ["x", "y"],
    }
    parquet.write_table(pyarrow.table(made), tmp_path / "v.parquet")
    call = ("ingest", "--vectors", tmp_path / "v.parquet", "--fingerprint", FINGERPRINT)
    columns = ("--id-field", "sku", "--vector-field", "embedding", "--attribute-field", "kind")
    assert run(*call, *columns).code == 0
    np.testing.assert_array_equal(platform.vectors["", "a2"], rows(2)[1])
    assert (platform.items["", "a1"].content, platform.items["", "a1"].attributes) == ("one", {"kind": "x"})
    assert "no column 'id'" in run(*call).err
    short = {"id": ["a"], "vector": [[1.0, 2.0]]}
    parquet.write_table(pyarrow.table(short), tmp_path / "v.parquet")
    ran = run(*call)
    assert ran.code == 2
    assert "row 0 has 2 values" in ran.err


def test_vectors_of_another_space_are_refused(run: Run, platform: FakePlatform, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", rows(1))
    (tmp_path / "ids.txt").write_text("v0\n")
    other = TOY.fingerprint.model_copy(update={"revision": "2"}).model_dump_json()
    ran = run(
        *("ingest", "--vectors", tmp_path / "v.npy", "--ids", tmp_path / "ids.txt", "--fingerprint", other)
    )
    assert ran.code == 1
    assert TOY.fingerprint.digest in ran.err
    assert ("", "v0") not in platform.items


@pytest.mark.parametrize(
    ("shape", "dtype", "ids", "said"),
    [
        ((3, DIMENSION + 1), np.float32, 3, f"the fingerprint says (n, {DIMENSION})"),
        ((3,), np.float32, 3, "shape (3,)"),
        ((3, DIMENSION), np.int64, 3, "int64"),
        ((3, DIMENSION), np.float32, 2, "has 3 vectors"),
    ],
)
def test_wrong_vector_files_write_nothing(
    run: Run,
    platform: FakePlatform,
    tmp_path: Path,
    shape: tuple[int, ...],
    dtype: type,
    ids: int,
    said: str,
) -> None:
    np.save(tmp_path / "v.npy", np.ones(shape, dtype=dtype))
    (tmp_path / "ids.txt").write_text("\n".join(f"v{n}" for n in range(ids)))
    before = dict(platform.items)
    call = ("ingest", "--vectors", tmp_path / "v.npy", "--fingerprint", FINGERPRINT)
    ran = run(*call, "--ids", tmp_path / "ids.txt")
    assert ran.code == 2
    assert said in ran.err
    assert platform.items == before


def test_vectors_need_a_complete_fingerprint(run: Run, platform: FakePlatform, tmp_path: Path) -> None:
    ran = run("ingest", "--vectors", tmp_path / "v.npy", "--fingerprint", '{"model": "m"}')
    assert ran.code == 2
    assert "revision" in ran.err


def test_records_of_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"id": "\xff"}\n')
    with pytest.raises(InvalidArgument, match="not UTF-8"):
        list(read_items(path, Fields()))


def test_the_carried_data_set(run: Run, platform: FakePlatform) -> None:
    ran = run("ingest", "--dataset", "wordnet", "--items", "50", "--json")
    assert ran.json["items"] == 50
    entry = next(
        item for (_, name), item in platform.items.items() if name[0] in "nvar" and name[1:].isdigit()
    )
    assert entry.attributes["pos"] in {"noun", "verb", "adjective", "adverb"}
    assert run("ingest", "--dataset", "imagenet").code == 2
