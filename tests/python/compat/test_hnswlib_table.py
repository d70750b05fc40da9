"""What a caller may put in, call by call, on both modules: the same type and shape comes out, or both refuse
with the same kind of exception. Left out are calls on which hnswlib reads memory that is not its own."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from embedcore.compat import hnswlib as ours

from .conftest import made, vectors

DIM = 4
DATA = vectors(30, DIM, seed=110)
Call = Callable[[ModuleType], Any]


def _index(module: ModuleType, count: int = 20, **settings: Any) -> Any:
    index = made(module, "l2", DIM, 40, **settings)
    index.set_ef(50)
    index.add_items(DATA[:count])
    return index


def _exact(module: ModuleType) -> Any:
    index = module.BFIndex("l2", DIM)
    index.init_index(40)
    index.add_items(DATA[:20])
    return index


VECTORS: dict[str, Any] = {
    "float64": DATA.astype(np.float64),
    "float16": DATA.astype(np.float16),
    "long double": DATA.astype(np.longdouble),
    "big-endian": DATA.astype(">f4"),
    "int8": np.ones((3, DIM), np.int8),
    "bool": np.ones((3, DIM), np.bool_),
    "objects": DATA.astype(object),
    "digits": [["1", "2", "3", "4"]],
    "list": DATA.tolist(),
    "tuple": tuple(map(tuple, DATA.tolist())),
    "one": DATA[0],
    "list of one": DATA[0].tolist(),
    "Fortran": np.asfortranarray(DATA),
    "every other": np.repeat(DATA, 2, axis=1)[:, ::2],
    "scalar": np.float32(1),
    "three dimensions": DATA[None],
    "words": [["a"] * DIM],
    "None": None,
    "ragged": [[1, 2], [3]],
    "times": np.zeros((1, DIM), "datetime64[s]"),
}
LABELS: dict[str, Any] = {
    **{name: np.array([5, 6], name) for name in ("i8", "i4", "u8", "u1", "f4", "f8", "O")},
    "fractions": np.array([5.2, 6.7]),
    "bool": np.array([True, False]),
    "list": [5, 6],
    "tuple": (5, 6),
    "range": range(5, 7),
    "strided": np.arange(4)[::2],
    "digits": ["5", "6"],
    "words": ["a", "b"],
    "None": [None, 1],
    "row": [[5, 6]],
    "column": [[5], [6]],
    "three": [1, 2, 3],
    "empty": [],
    "set": {5, 6},
    "complex": [1j, 2j],
    "times": np.array([5, 6], "datetime64[s]"),
    "scalar": 5,
    "numpy scalar": np.int64(5),
    "fraction": 5.5,
}
NUMBERS: dict[str, Any] = {
    "1": 1,
    "0": 0,
    "20": 20,
    "numpy": np.int64(1),
    "unsigned": np.uint64(1),
    "array": np.array(1),
    "True": True,
    "fraction": 1.0,
    "negative": -1,
    "2^70": 2**70,
    "digit": "1",
    "None": None,
}


def _added(index: Any, *arguments: Any, **named: Any) -> Any:
    index.add_items(*arguments, **named)
    return sorted(index.get_ids_list()) if hasattr(index, "get_ids_list") else index.get_current_count()


def _pairs() -> list[tuple[str, Call]]:
    calls: dict[str, Call] = {}
    for name, given in VECTORS.items():
        calls[f"add_items {name}"] = lambda m, v=given: _added(_index(m, 1), v)
        calls[f"knn_query {name}"] = lambda m, v=given: _index(m).knn_query(v, k=2)
        calls[f"BFIndex.add_items {name}"] = lambda m, v=given: _added(_exact(m), v)
        calls[f"BFIndex.knn_query {name}"] = lambda m, v=given: _exact(m).knn_query(v, k=2)
    for name, given in LABELS.items():
        calls[f"labels {name}"] = lambda m, v=given: _added(_index(m), DATA[:2], v)
        calls[f"label {name}"] = lambda m, v=given: _added(_index(m), DATA[0], v)
        calls[f"BFIndex labels {name}"] = lambda m, v=given: _added(_exact(m), DATA[:2], v)
        if name != "row":  # of which hnswlib gives the first
            calls[f"get_items {name}"] = lambda m, v=given: _index(m).get_items(v)
            calls[f"get_items list {name}"] = lambda m, v=given: _index(m).get_items(v, "list")
    for name, given in NUMBERS.items():
        for method in ("mark_deleted", "unmark_deleted", "resize_index", "set_ef", "set_num_threads"):
            calls[f"{method} {name}"] = lambda m, method=method, v=given: getattr(_index(m), method)(v)
        for attribute in ("ef", "num_threads"):
            calls[f"{attribute} = {name}"] = lambda m, a=attribute, v=given: setattr(_index(m), a, v)
        calls[f"delete_vector {name}"] = lambda m, v=given: _exact(m).delete_vector(v)
        calls[f"k {name}"] = lambda m, v=given: _index(m).knn_query(DATA[:2], k=v)
        calls[f"num_threads {name}"] = lambda m, v=given: _index(m).knn_query(DATA[:2], 1, v)
        calls[f"add num_threads {name}"] = lambda m, v=given: _added(_index(m), DATA[:2], num_threads=v)
        calls[f"replace_deleted {name}"] = lambda m, v=given: _added(
            _index(m, allow_replace_deleted=True), DATA[:2], [50, 51], replace_deleted=v
        )
        for setting in ("ef_construction", "random_seed", "allow_replace_deleted"):
            calls[f"{setting} {name}"] = lambda m, s=setting, v=given: made(m, "l2", DIM, 9, **{s: v}).M
    for name, allowed in {
        "returns 1": lambda label: 1,
        "returns None": lambda label: None,
        "returns numpy's True": lambda label: np.True_,
        "raises": lambda label: 1 / 0,
        "takes two": lambda one, two: True,
        "type": int,
        "number": 5,
        "list": [1, 2],
    }.items():
        calls[f"filter {name}"] = lambda m, f=allowed: _index(m).knn_query(DATA[0], 1, 1, f)
    for name, make in {
        "by name": lambda m: m.Index(dim=4, space="ip").space,
        "too many": lambda m: m.Index("ip", 4, 5),
        "unknown name": lambda m: m.Index("ip", 4, colour=5),
        "of a BFIndex": lambda m: m.Index(_exact(m)),
        "of nothing": lambda m: m.Index(None),
        "subclass": lambda m: type("Sub", (m.Index,), {})("l2", 4).dim,
        "no __dict__": lambda m: setattr(_index(m), "colour", 1),
        "nothing pickled": lambda m: pickle.loads(pickle.dumps(m.Index("l2", 4))).element_count,
        "BFIndex pickled": lambda m: pickle.dumps(_exact(m)),
        "BFIndex copied": lambda m: __import__("copy").copy(_exact(m)),
        "BFIndex deep-copied": lambda m: __import__("copy").deepcopy(_exact(m)),
    }.items():
        calls[f"Index {name}"] = make
    return list(calls.items())


def _outcome(call: Call, module: ModuleType) -> Any:
    """What comes out, as far as it is promised; or the exception."""
    try:
        found = call(module)
    except Exception as error:
        return error
    many = found if isinstance(found, tuple) else (found,)
    return [(a.dtype, a.shape) if isinstance(a, np.ndarray) else (type(a), a) for a in many]


PAIRS = _pairs()


@pytest.mark.parametrize(("name", "call"), PAIRS, ids=[name for name, _ in PAIRS])
def test_both_take_or_refuse(name: str, call: Call) -> None:
    expected = _outcome(call, pytest.importorskip("hnswlib"))
    found = _outcome(call, ours)
    if isinstance(expected, Exception):
        assert isinstance(found, type(expected)), f"{found!r} in place of {expected!r}"
    else:
        assert found == expected


@pytest.mark.parametrize("kind", [str, os.fsencode, Path])
def test_paths_of_every_kind(module: ModuleType, kind: Callable[[str], Any], tmp_path: Path) -> None:
    if kind is Path and module is not ours:
        pytest.skip("hnswlib takes no Path")
    for index, empty in (
        (_index(module), module.Index("l2", DIM)),
        (_exact(module), module.BFIndex("l2", DIM)),
    ):
        path = str(tmp_path / type(index).__name__)
        index.save_index(kind(path))
        empty.load_index(kind(path))
        assert empty.get_current_count() == 20
