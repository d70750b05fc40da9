"""Files, pickles and copies."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import embedcore
from embedcore.compat import hnswlib as ours

from .conftest import SPACES, made, vectors


def assert_same(a: Any, b: Any, queries: Any) -> None:
    for name in ("space", "dim", "M", "ef_construction", "max_elements", "element_count"):
        assert getattr(a, name) == getattr(b, name), name
    assert sorted(a.get_ids_list()) == sorted(b.get_ids_list())
    for mine, other in zip(a.knn_query(queries, k=5), b.knn_query(queries, k=5), strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("deleted", [0, 30])
def test_save_and_load(module: ModuleType, space: str, deleted: int, tmp_path: Path) -> None:
    data = vectors(200, 6, seed=60)
    index = made(module, space, 6, 250, M=5, ef_construction=70)
    index.add_items(data, np.arange(200) * 2)
    items = index.get_items(np.arange(200) * 2)
    for label in range(deleted):
        index.mark_deleted(label * 2)
    path = str(tmp_path / "index.bin")
    index.save_index(path)
    assert index.index_file_size() == Path(path).stat().st_size
    assert [file.name for file in tmp_path.iterdir()] == ["index.bin"]
    loaded = module.Index(space=space, dim=6)
    loaded.set_ef(77)
    loaded.load_index(path)
    assert loaded.ef == 10
    assert_same(index, loaded, data)
    for label in range(deleted):
        loaded.unmark_deleted(label * 2)
    np.testing.assert_array_equal(loaded.get_items(np.arange(200) * 2), items)
    loaded.add_items(data[0])  # the next label is the number of items
    assert loaded.element_count == 200
    loaded.add_items(data[0], 999)
    assert (loaded.element_count, index.element_count) == (201, 200)


@pytest.mark.parametrize(("asked", "expected"), [(0, 30), (5, 30), (20, 20), (100, 100)])
def test_max_elements_of_load(module: ModuleType, asked: int, expected: int, tmp_path: Path) -> None:
    index = made(module, "l2", 6, 30)
    index.add_items(vectors(20, 6, seed=61))
    index.mark_deleted(3)
    index.save_index(str(tmp_path / "index"))
    loaded = module.Index("l2", 6)
    loaded.load_index(str(tmp_path / "index"), max_elements=asked)
    assert loaded.max_elements == expected


def test_replacing_is_allowed_by_load(module: ModuleType, tmp_path: Path) -> None:
    data = vectors(11, 6, seed=62)
    index = made(module, "l2", 6, 10, allow_replace_deleted=True)
    index.add_items(data[:10])
    index.mark_deleted(3)
    index.save_index(str(tmp_path / "index"))
    loaded = module.Index("l2", 6)
    loaded.load_index(str(tmp_path / "index"))
    with pytest.raises(RuntimeError, match="disabled"):
        loaded.add_items(data[10], 10, replace_deleted=True)
    loaded = module.Index("l2", 6)
    loaded.load_index(str(tmp_path / "index"), allow_replace_deleted=True)
    loaded.add_items(data[10], 10, replace_deleted=True)
    assert sorted(loaded.get_ids_list()) == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10]


def test_an_empty_index_can_be_saved(module: ModuleType, tmp_path: Path) -> None:
    made(module, "l2", 6, 30).save_index(str(tmp_path / "index"))
    loaded = module.Index("l2", 6)
    loaded.load_index(str(tmp_path / "index"), max_elements=40)
    assert (loaded.element_count, loaded.max_elements) == (0, 40)
    if module is ours:  # hnswlib keeps 0 of an empty index, and no item fits
        loaded = module.Index("l2", 6)
        loaded.load_index(tmp_path / "index")
        assert loaded.max_elements == 30
    loaded.add_items(vectors(1, 6, seed=63))
    assert loaded.get_ids_list() == [0]


@pytest.mark.parametrize("how", ["pickle", "deepcopy", "copy", "index", "params"])
@pytest.mark.parametrize("space", SPACES)
def test_copies_are_independent(module: ModuleType, space: str, how: str) -> None:
    data = vectors(120, 6, seed=64)
    index = made(module, space, 6, 130, M=5, ef_construction=70, allow_replace_deleted=True)
    index.set_ef(40)
    index.num_threads = 2
    index.add_items(data)
    index.mark_deleted(7)
    copied = {
        "pickle": lambda: pickle.loads(pickle.dumps(index)),
        "deepcopy": lambda: copy.deepcopy(index),
        "copy": lambda: copy.copy(index),
        "index": lambda: module.Index(index),
        "params": lambda: module.Index(params=index.__getstate__()[0]),
    }[how]()
    assert type(copied) is module.Index
    assert (copied.ef, copied.num_threads) == (40, 2)
    assert_same(index, copied, data)
    copied.add_items(data[0], 500, replace_deleted=True)
    assert 7 not in copied.get_ids_list()
    index.unmark_deleted(7)
    assert 500 not in index.get_ids_list()


def test_an_index_before_init_can_be_pickled(module: ModuleType) -> None:
    index = module.Index("cosine", 6)
    index.set_ef(55)
    copied = pickle.loads(pickle.dumps(index))
    assert (copied.space, copied.dim, copied.ef, copied.element_count) == ("cosine", 6, 55, 0)
    copied.init_index(5)
    copied.add_items(np.ones(6))
    assert copied.element_count == 1


def test_names_in_the_state(module: ModuleType) -> None:
    index = made(module, "ip", 6, 130, random_seed=9)
    index.add_items(np.ones(6))
    index.mark_deleted(0)
    (state,) = index.__getstate__()
    expected = {"space": "ip", "dim": 6, "seed": 9, "max_elements": 130, "cur_element_count": 1, "M": 16}
    expected |= {
        "ef": 10,
        "ef_construction": 200,
        "index_inited": True,
        "has_deletions": True,
        "ser_version": 1,
    }
    assert {name: state[name] for name in expected} == expected


# Ours alone.


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    index = made(ours, "l2", 6, 50)
    index.add_items(vectors(40, 6, seed=65))
    for label in (3, 1, 2):
        index.mark_deleted(label)
    index.save_index(tmp_path / "index")
    return tmp_path / "index"


def test_damage_anywhere_is_found_and_changes_nothing(saved: Path) -> None:
    whole = saved.read_bytes()
    index = made(ours, "l2", 6, 50)
    index.add_items(np.ones(6))
    rng = np.random.default_rng(66)
    cases = [whole[:-1], whole[:-32], whole[:100], b"", whole + b"x", whole[:5] * 99]
    tail = len(whole) - 3 * (8 + 24) - 32  # where the deleted items begin
    for at in [*rng.integers(0, len(whole), 60), *rng.integers(tail, len(whole), 60)]:
        cases.append(whole[:at] + bytes([whole[at] ^ 1 << int(rng.integers(8))]) + whole[at + 1 :])
    for case in cases:
        saved.write_bytes(case)
        with pytest.warns(RuntimeWarning, match="already inited"), pytest.raises(RuntimeError) as caught:
            index.load_index(saved)
        assert "\n" not in str(caught.value)
        assert (index.get_ids_list(), index.ef) == ([0], 10)


def test_the_order_of_deletion_survives(saved: Path) -> None:
    index = ours.Index("l2", 6)
    index.load_index(saved, max_elements=40, allow_replace_deleted=True)
    index.add_items(np.ones(6), 77, replace_deleted=True)
    assert sorted({1, 2, 3} - set(index.get_ids_list())) == [3]


def test_without_deleted_items_the_file_is_a_plain_snapshot(tmp_path: Path) -> None:
    data = vectors(40, 6, seed=67)
    index = made(ours, "l2", 6, 50)
    index.add_items(data)
    index.save_index(str(tmp_path / "index"))
    plain = embedcore.Index.load(tmp_path / "index")
    np.testing.assert_array_equal(plain.get(range(40)), data)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "index"
    plain = embedcore.Index(6, "l2")
    plain.save(path)
    with pytest.raises(RuntimeError, match=r"load it with embedcore\.Index\.load"):
        ours.Index("l2", 6).load_index(path)
    with pytest.raises(RuntimeError, match="is no file of BFIndex, neither of embedcore nor of hnswlib"):
        ours.BFIndex("l2", 6).load_index(path)
    np.savez(path.with_suffix(".npz"), a=np.ones(3))
    with pytest.raises(RuntimeError, match="was not saved by BFIndex"):
        ours.BFIndex("l2", 6).load_index(path.with_suffix(".npz"))


@pytest.mark.parametrize(("space", "dim"), [("l2", 7), ("ip", 6), ("cosine", 6)])
def test_files_of_another_space_or_dim_are_refused(saved: Path, space: str, dim: int) -> None:
    with pytest.raises(RuntimeError, match=r"of dim 6 for 'l2', this index is of dim"):
        ours.Index(space, dim).load_index(saved)


def test_hnswlibs_own_pickles_are_refused() -> None:
    real = pytest.importorskip("hnswlib")
    for count in (0, 20):
        index = made(real, "l2", 6, 50)
        if count:
            index.add_items(vectors(count, 6, seed=68))
        with pytest.raises(RuntimeError, match=r"save it by save_index, and load that file"):
            ours.Index(index.__getstate__()[0])


@pytest.mark.parametrize("kind", ["Index", "BFIndex"])
def test_a_file_that_cannot_be_written(kind: str, tmp_path: Path) -> None:
    index = getattr(ours, kind)("l2", 6)
    index.init_index(5)
    with pytest.raises(RuntimeError, match="Cannot write file"):
        index.save_index(tmp_path / "no folder" / "index")
    (tmp_path / "folder").mkdir()
    with pytest.raises(RuntimeError, match="Cannot write file"):
        index.save_index(tmp_path / "folder")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]
