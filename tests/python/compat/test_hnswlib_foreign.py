"""Files of hnswlib itself are loaded: its items, under its settings, in a graph of our own.

tests/data/hnswlib-0.8.bin and hnswlib-0.8-flat.bin were written by hnswlib 0.8.0 on 64-bit Linux, by
`written` and `written_flat` below.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedcore.compat import hnswlib as ours

from .conftest import SPACES, distances, made, recall, vectors

DATA = Path(__file__).parents[2] / "data"
DIM, COUNT, LIMIT = 6, 60, 100
LABELS = np.arange(COUNT) * 7 + 3
DELETED = [int(label) for label in LABELS[5:45:10]]
HEADER = 96


def written(module: Any, space: str, path: Path) -> None:
    index = made(module, space, DIM, LIMIT, M=4, ef_construction=30)
    index.add_items(vectors(COUNT, DIM, seed=90), LABELS)
    for label in DELETED:
        index.mark_deleted(label)
    index.save_index(str(path))


def written_flat(module: Any, space: str, path: Path) -> None:
    index = module.BFIndex(space, DIM)
    index.init_index(LIMIT)
    index.add_items(vectors(COUNT, DIM, seed=91), LABELS)
    index.delete_vector(int(LABELS[9]))
    index.save_index(str(path))


def check_items(index: Any, space: str) -> None:
    assert (index.M, index.ef_construction, index.element_count) == (4, 30, COUNT)
    assert index.get_ids_list() == LABELS.tolist()
    live = np.setdiff1d(LABELS, DELETED)
    base = vectors(COUNT, DIM, seed=90)
    own = base / np.linalg.norm(base, axis=1, keepdims=True) if space == "cosine" else base
    rows = np.searchsorted(LABELS, live)
    np.testing.assert_allclose(index.get_items(live), own[rows], rtol=1e-6)
    index.set_ef(60)
    queries = vectors(40, DIM, seed=92)
    labels, found = index.knn_query(queries, k=10)
    exact = distances(space, queries, base[rows])
    assert recall(labels.astype(np.int64), exact, live) >= 0.99
    np.testing.assert_allclose(found[:, 0], exact.min(axis=1), rtol=1e-4, atol=1e-5)
    for label in DELETED:
        with pytest.raises(RuntimeError, match="not found"):
            index.get_items([label])
        index.unmark_deleted(label)
    np.testing.assert_allclose(index.get_items(LABELS), own, rtol=1e-6)


def test_a_kept_file_of_hnswlib(tmp_path: Path) -> None:
    index = ours.Index("cosine", DIM)
    index.load_index(DATA / "hnswlib-0.8.bin")
    assert index.max_elements == LIMIT
    check_items(index, "cosine")
    index.save_index(tmp_path / "own")  # as any other from now on
    again = ours.Index("cosine", DIM)
    again.load_index(tmp_path / "own")
    assert again.get_ids_list() == LABELS.tolist()


def test_a_kept_flat_file_of_hnswlib() -> None:
    index = ours.BFIndex("l2", DIM)
    index.load_index(DATA / "hnswlib-0.8-flat.bin")
    assert (index.get_current_count(), index.get_max_elements()) == (COUNT - 1, LIMIT)
    left = np.delete(np.arange(COUNT), 9)
    queries = vectors(20, DIM, seed=93)
    labels, _ = index.knn_query(queries, k=7)
    exact = distances("l2", queries, vectors(COUNT, DIM, seed=91)[left])
    assert recall(labels.astype(np.int64), exact, LABELS[left]) == 1.0


@pytest.mark.parametrize("space", SPACES)
def test_what_hnswlib_writes_now(space: str, tmp_path: Path) -> None:
    real = pytest.importorskip("hnswlib")
    written(real, space, tmp_path / "index")
    index = ours.Index(space, DIM)
    index.load_index(tmp_path / "index", max_elements=77)
    assert index.max_elements == 77
    check_items(index, space)
    written_flat(real, space, tmp_path / "flat")
    flat, theirs = ours.BFIndex(space, DIM), real.BFIndex(space, DIM)
    flat.load_index(tmp_path / "flat")
    theirs.load_index(str(tmp_path / "flat"))
    queries = vectors(20, DIM, seed=94)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)  # hnswlib's BFIndex does not
    np.testing.assert_array_equal(flat.knn_query(queries, k=5)[0], theirs.knn_query(queries, k=5)[0])


def test_an_empty_index_of_hnswlib(tmp_path: Path) -> None:
    real = pytest.importorskip("hnswlib")
    made(real, "l2", DIM, LIMIT).save_index(str(tmp_path / "index"))
    index = ours.Index("l2", DIM)
    index.load_index(tmp_path / "index")
    assert (index.element_count, index.max_elements) == (0, LIMIT)
    index.add_items(vectors(3, DIM, seed=95))
    assert index.knn_query(vectors(1, DIM, seed=95), k=1)[0].tolist() == [[0]]


def test_the_wrong_dim_or_space_is_refused() -> None:
    for index in (ours.Index("cosine", DIM + 1), ours.BFIndex("l2", DIM + 1)):
        name = "hnswlib-0.8.bin" if isinstance(index, ours.Index) else "hnswlib-0.8-flat.bin"
        with pytest.raises(RuntimeError, match=f"of dim {DIM}, this index is of dim {DIM + 1}"):
            index.load_index(DATA / name)
    with pytest.raises(RuntimeError, match="not of unit length"):
        ours.BFIndex("cosine", DIM).load_index(DATA / "hnswlib-0.8-flat.bin")


@pytest.mark.parametrize("name", ["hnswlib-0.8.bin", "hnswlib-0.8-flat.bin"])
def test_every_truncation_is_refused(name: str, tmp_path: Path) -> None:
    whole = (DATA / name).read_bytes()
    flat = "flat" in name
    index = ours.BFIndex("l2", DIM) if flat else ours.Index("cosine", DIM)
    for size in [*range(8, HEADER + 200), *range(HEADER + 200, len(whole), 97), len(whole) - 1]:
        (tmp_path / "cut").write_bytes(whole[:size])
        with pytest.raises(RuntimeError):
            index.load_index(tmp_path / "cut")
    (tmp_path / "longer").write_bytes(whole + b"\0")
    with pytest.raises(RuntimeError):
        index.load_index(tmp_path / "longer")
    with pytest.raises(RuntimeError, match="init_index"):
        index.knn_query(vectors(1, DIM, seed=96))


def test_a_refused_file_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes((DATA / "hnswlib-0.8.bin").read_bytes()[:-1])
    index = made(ours, "cosine", DIM, 2)
    index.add_items(vectors(2, DIM, seed=96))
    with pytest.warns(RuntimeWarning, match="load_index"), pytest.raises(RuntimeError, match="corrupted"):
        index.load_index(tmp_path / "cut")
    assert index.get_ids_list() == [0, 1]


def test_a_header_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    whole = bytearray((DATA / "hnswlib-0.8.bin").read_bytes())
    for at in (16, 24, 32, 40, 64):  # items, bytes of an item, of its label, of its vector; links
        for value in (0, 1, 2**31, 2**63):
            changed = bytearray(whole)
            struct.pack_into("<Q", changed, at, value)
            (tmp_path / "changed").write_bytes(changed)
            with pytest.raises(RuntimeError, match="corrupted"):
                ours.Index("cosine", DIM).load_index(tmp_path / "changed")


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.float32(np.nan).tobytes(), "NaN or infinity"), (np.float32(np.inf).tobytes(), "NaN or infinity")],
)
def test_values_that_no_search_could_use_are_refused(value: bytes, message: str, tmp_path: Path) -> None:
    whole = bytearray((DATA / "hnswlib-0.8.bin").read_bytes())
    vector_at = struct.unpack_from("<Q", whole, 40)[0]
    whole[HEADER + vector_at : HEADER + vector_at + 4] = value
    (tmp_path / "changed").write_bytes(whole)
    with pytest.raises(RuntimeError, match=message):
        ours.Index("cosine", DIM).load_index(tmp_path / "changed")


def test_labels_that_cannot_be_are_refused(tmp_path: Path) -> None:
    whole = bytearray((DATA / "hnswlib-0.8.bin").read_bytes())
    label_at = struct.unpack_from("<Q", whole, 32)[0]
    for label, message in ((2**63, "labels may be 0 to"), (int(LABELS[1]), "twice")):
        struct.pack_into("<Q", whole, HEADER + label_at, label)
        (tmp_path / "changed").write_bytes(whole)
        with pytest.raises(RuntimeError, match=message):
            ours.Index("cosine", DIM).load_index(tmp_path / "changed")


def test_random_damage_is_refused_or_gives_an_index_that_answers(tmp_path: Path) -> None:
    whole = (DATA / "hnswlib-0.8.bin").read_bytes()
    rng = np.random.default_rng(97)
    refused = 0
    for _ in range(300):
        changed = np.frombuffer(whole, dtype=np.uint8).copy()
        changed[rng.integers(8, len(changed), size=3)] = rng.integers(0, 256, size=3)
        (tmp_path / "changed").write_bytes(changed.tobytes())
        index = ours.Index("cosine", DIM)
        try:
            index.load_index(tmp_path / "changed")
        except RuntimeError:
            refused += 1
        else:
            live = index.element_count - len(DELETED) * 2
            assert index.knn_query(vectors(1, DIM, seed=98), k=max(1, live // 2))[0].size
    assert 30 < refused < 300
