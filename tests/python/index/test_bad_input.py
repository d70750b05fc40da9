"""Whatever is wrong with a call is named in one line, and the index stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import embedcore
from embedcore.errors import InvalidArgument, NotFound

from .small import DIM, ONE, ROWS, TWO, read_only, state


def _with(value: float, at: int = 2, dtype: Any = np.float32) -> NDArray[Any]:
    row = ROWS[:1].astype(dtype)
    row[0, at] = value
    return row


def _ids(*shape: int) -> NDArray[np.int64]:
    return np.empty(shape, np.int64)


def _distances(*shape: int) -> NDArray[np.float32]:
    return np.empty(shape, np.float32)


def _unaligned(n: int, dtype: Any) -> NDArray[Any]:
    size = n * np.dtype(dtype).itemsize
    return np.frombuffer(bytearray(size + 1), np.uint8)[1:].view(dtype)


Call = Callable[[embedcore.Index], Any]

# Vectors that add, search, range_search and scores must refuse alike.
BAD_VECTORS: list[tuple[str, Any]] = [
    ("shape (1, 17)", np.ones((1, DIM + 1), np.float32)),
    ("shape (17,)", np.ones(DIM + 1, np.float32)),
    ("shape (1, 1, 16)", np.ones((1, 1, DIM), np.float32)),
    ("shape (16, 1)", np.ones((DIM, 1), np.float32)),
    ("shape ()", np.float32(1)),
    ("shape (3, 0)", np.empty((3, 0), np.float32)),
    ("shape (0, 15)", np.empty((0, DIM - 1), np.float32)),
    ("shape (1, 100000)", np.ones((1, 100_000), np.float32)),
    ("shape (100000,)", np.ones(100_000, np.float32)),
    ("make no array", [[1.0, 2.0], [3.0]]),
    ("dtype object", ONE.astype(object)),
    ("dtype object", [[None] * DIM]),
    ("dtype object", None),
    ("dtype <U1", [["a"] * DIM]),
    ("dtype |S1", np.full((1, DIM), b"a")),
    ("dtype complex64", ONE.astype(np.complex64)),
    ("dtype complex128", ONE.astype(np.complex128)),
    ("dtype bool", np.ones((1, DIM), np.bool_)),
    ("dtype datetime64", np.zeros((1, DIM), "datetime64[s]")),
    ("dtype [('x', '<f4')]", np.zeros((1, DIM), [("x", np.float32)])),
    (" 0 holds NaN at position 2", _with(np.nan)),
    (" 0 holds NaN at position 15", _with(np.nan, DIM - 1)),
    (" 0 holds NaN at position 2", _with(np.nan)[0]),
    (" 0 holds NaN at position 2", _with(np.nan, dtype=np.float64)),
    (" 0 holds NaN at position 2", _with(np.nan, dtype=np.float16)),
    (" 0 holds NaN at position 2", _with(np.nan, dtype=">f4")),
    (" 0 holds an infinite value at position 0", _with(np.inf, 0)),
    (" 0 holds an infinite value at position 2", _with(-np.inf)),
    (" 0 holds an infinite value at position 2", _with(1e300, dtype=np.float64)),
    (" 0 is too long for float32", np.full((1, DIM), 1e19, np.float32)),
    (" 0 is zero", np.zeros((1, DIM), np.float32)),
    (" 0 is zero", np.zeros(DIM, np.float32)),
    (" 0 is zero", np.zeros((1, DIM), np.int64)),
    (" 0 is zero", -np.zeros((1, DIM), np.float32)),
    (" 0 is zero", np.full((1, DIM), 1e-40, np.float32)),
]

BAD_IDS: list[tuple[str, Any]] = [
    ("too large", np.array([2**63], np.uint64)),
    ("too large", [2**64 - 1]),
    ("dtype object", [2**70]),
    ("dtype object", [None]),
    ("dtype float64", [1.5]),
    ("dtype float64", [1.0]),
    ("dtype float64", [np.nan]),
    ("dtype bool", [True]),
    ("dtype <U1", ["1"]),
    ("dtype complex128", [1j]),
    ("shape (1, 1)", [[1]]),
    ("shape (2, 1)", np.ones((2, 1), np.int64)),
    ("make no array", [[1], [2, 3]]),
]

BAD_THREADS: list[tuple[str, Any]] = [
    ("threads is -1", -1),
    ("threads is 65536", 65536),
    ("threads is 1.5", 1.5),
    ("threads is '2'", "2"),
    ("threads is None", None),
]


def _calls() -> list[tuple[str, str, Call]]:
    calls: list[tuple[str, str, Call]] = []

    def refuse(name: str, message: str, call: Call) -> None:
        calls.append((name, message, call))

    for message, bad in BAD_VECTORS:
        refuse("add", message, lambda i, bad=bad: i.add([900], bad))
        refuse("search", message, lambda i, bad=bad: i.search(bad))
        refuse("search", message, lambda i, bad=bad: i.search(bad, filter=[1, 2]))
        refuse("search", message, lambda i, bad=bad: i.search(bad, stats=True))
        refuse("range_search", message, lambda i, bad=bad: i.range_search(bad, 1.0))
        refuse("scores", message, lambda i, bad=bad: i.scores(bad, [1]))
    for at in (0, 1, 99):  # wherever in a batch the bad row is
        batch = ROWS[:100].copy()
        batch[at, 3] = np.nan
        refuse("add", f"vector {at} holds NaN", lambda i, b=batch: i.add(np.arange(900, 1000), b))
        refuse("add", f"vector {at} holds NaN", lambda i, b=batch: i.add(np.arange(100), b))
        refuse("search", f"query {at} holds NaN", lambda i, b=batch: i.search(b))
    for message, bad in BAD_IDS:
        n = len(bad)
        refuse("add", message, lambda i, bad=bad, n=n: i.add(bad, ROWS[:n]))
        refuse("remove", message, lambda i, bad=bad: i.remove(bad))
        refuse("get", message, lambda i, bad=bad: i.get(bad))
        refuse("scores", message, lambda i, bad=bad: i.scores(ONE, bad))
        refuse("search", message, lambda i, bad=bad: i.search(ONE, filter=bad))
        refuse("range_search", message, lambda i, bad=bad: i.range_search(ONE, 1.0, filter=bad))
        refuse("IdSet", message, lambda i, bad=bad: embedcore.IdSet(bad))
    for message, bad in BAD_THREADS:
        refuse("add", message, lambda i, bad=bad: i.add([900], ONE, threads=bad))
        refuse("search", message, lambda i, bad=bad: i.search(TWO, threads=bad))
        refuse("search", message, lambda i, bad=bad: i.search(TWO[0], threads=bad))
        refuse("range_search", message, lambda i, bad=bad: i.range_search(TWO, 1.0, threads=bad))
    for name in ("k", "ef_search"):
        for bad in (0, -1, 2.5, "3", None, 2**32, 10**30, np.float32(3), [3]):
            for query in (ONE, ONE[0], ROWS):
                message = f"{name} is {bad!r}" if not isinstance(bad, int) else f"{name} is {bad}"
                refuse("search", message, lambda i, q=query, o={name: bad}: i.search(q, **o))
    for bad in (0, -1, 2.5, None, 2**32):
        refuse("range_search", f"ef_search is {bad}", lambda i, b=bad: i.range_search(ONE, 1.0, ef_search=b))

    refuse("add", "2 ids came with 1 vectors", lambda i: i.add([900, 901], ONE))
    refuse("add", "1 ids came with 2 vectors", lambda i: i.add([900], TWO))
    refuse("add", "0 ids came with 1 vectors", lambda i: i.add([], ONE))
    refuse("add", "1 ids came with 0 vectors", lambda i: i.add([900], []))
    refuse("add", "id 900 comes more than once", lambda i: i.add([900, 5, 900], ROWS[:3]))
    refuse("add", "id 5 comes more than once", lambda i: i.add([5, 5], TWO))
    refuse("add", "id -1 is negative", lambda i: i.add([900, -1], TWO))
    refuse("add", "id -9223372036854775808 is negative", lambda i: i.add([-(2**63)], ONE))
    refuse("add", "progress is 5", lambda i: i.add([900], ONE, progress=5))
    refuse("search", "filter ids have dtype float64", lambda i: i.search(ONE, filter=3.5))
    refuse("search", "filter ids have dtype <U3", lambda i: i.search(ONE, filter="abc"))
    refuse("search", "filter ids have dtype object", lambda i: i.search(ONE, filter=object()))
    refuse("search", "filter ids have dtype object", lambda i: i.search(ONE, filter={1: 2}))
    refuse("search", "filter ids have dtype bool", lambda i: i.search(ONE, filter=np.ones(300, bool)))
    outs: list[tuple[str, Any]] = [
        ("out is not a pair", _ids(1, 2)),
        ("out is not a pair", [_ids(1, 2), _distances(1, 2)]),
        ("out is not a pair", (_ids(1, 2),)),
        ("out is not a pair", ()),
        ("out ids is list", ([[0, 0]], _distances(1, 2))),
        ("out ids is int64 (1, 3)", (_ids(1, 3), _distances(1, 2))),
        ("out ids is int64 (2,)", (_ids(2), _distances(2))),
        ("out ids is int32", (np.empty((1, 2), np.int32), _distances(1, 2))),
        ("out ids is uint64", (np.empty((1, 2), np.uint64), _distances(1, 2))),
        ("out ids is >i8", (np.empty((1, 2), ">i8"), _distances(1, 2))),
        ("out distances is float64", (_ids(1, 2), np.empty((1, 2)))),
        ("out distances is float32 (1, 3)", (_ids(1, 2), _distances(1, 3))),
        ("out distances is NoneType", (_ids(1, 2), None)),
        ("out ids is not writable and C-contiguous", (_ids(1, 4)[:, ::2], _distances(1, 2))),
        ("out distances is not writable", (_ids(1, 2), read_only(_distances(1, 2)))),
        ("out ids is not writable", (_unaligned(2, np.int64).reshape(1, 2), _distances(1, 2))),
    ]
    for message, out in outs:
        refuse("search", message, lambda i, out=out: i.search(ONE, k=2, out=out))
    refuse(
        "search",
        "not writable and C-contiguous",
        lambda i: i.search(TWO, k=2, out=(np.asfortranarray(_ids(2, 2)), _distances(2, 2))),
    )
    refuse("range_search", "radius is NaN", lambda i: i.range_search(ONE, np.nan))
    refuse("range_search", "radius is 'far'", lambda i: i.range_search(ONE, "far"))
    refuse("range_search", "radius is None", lambda i: i.range_search(ONE, None))
    refuse("scores", "takes one query, got 2", lambda i: i.scores(TWO, [1]))
    refuse("scores", "takes one query, got 0", lambda i: i.scores([], [1]))
    for bad in (-1, 2**64, 1.5, "7"):
        refuse("save", f"watermark is {bad!r}", lambda i, bad=bad: i.save("never-written", watermark=bad))
    refuse("save", "fingerprint", lambda i: i.save("never-written", fingerprint="x" * 65536))
    refuse("save", "fingerprint is 5", lambda i: i.save("never-written", fingerprint=5))
    refuse("save", "give text that UTF-8 can hold", lambda i: i.save("never-written", fingerprint="\udce4"))
    refuse("save", "holds a NUL", lambda i: i.save("never\0written"))
    for bad in (-1, np.nan, "soon", [1]):
        for verb in ("repair", "compact", "relocate"):
            refuse(verb, "budget is", lambda i, verb=verb, bad=bad: getattr(i, verb)(budget=bad))
    for message, bad in BAD_THREADS:
        for verb in ("repair", "compact", "relocate"):
            refuse(verb, message, lambda i, verb=verb, bad=bad: getattr(i, verb)(threads=bad))
    return calls


REFUSED = _calls()


@pytest.mark.parametrize(
    ("message", "call"),
    [(message, call) for _, message, call in REFUSED],
    ids=[f"{number}-{name}" for number, (name, _, _) in enumerate(REFUSED)],
)
def test_a_refusal_says_why_and_changes_nothing(index: embedcore.Index, message: str, call: Call) -> None:
    before = state(index)
    with pytest.raises(ValueError, match=r".") as caught:
        call(index)
    assert isinstance(caught.value, InvalidArgument)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert before[-1] == []
    assert state(index) == before


@pytest.mark.parametrize("ids", [[1, 77_777, 77_778], 77_777, np.array([0, 77_777]), [77_777, -1]])
def test_an_unknown_id_is_a_key_error(index: embedcore.Index, ids: Any) -> None:
    before = state(index)
    with pytest.raises(KeyError) as caught:
        index.get(ids)
    assert isinstance(caught.value, NotFound)
    assert "id 77777 is not in the index" in str(caught.value)
    for gone in (7, -1, -(2**63), 2**63 - 1):
        with pytest.raises(KeyError, match=f"id {gone} "):
            index.get([gone])
    assert state(index) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0}, "dim is 0"),
        ({"dim": -1}, "dim is -1"),
        ({"dim": 65_536}, "dim is 65536"),
        ({"dim": 100_000}, "dim is 100000"),
        ({"dim": 3.5}, "dim is 3.5"),
        ({"dim": None}, "dim is None"),
        ({"dim": "4"}, "dim is '4'"),
        ({"metric": "euclid"}, "metric is 'euclid'; use one of cosine, ip, l2"),
        ({"metric": 0}, "metric is 0"),
        ({"metric": None}, "metric is None"),
        ({"dtype": "float64"}, "dtype is 'float64'; use one of float32, float16, bfloat16, int8"),
        ({"dtype": np.float32}, "dtype is <class 'numpy.float32'>"),
        ({"codes": "int2"}, "codes is 'int2'; use one of none, int8, int4, auto"),
        ({"codes": None}, "codes is None"),
        ({"m": 1}, "m is 1"),
        ({"m": 513}, "m is 513"),
        ({"ef_construction": 0}, "ef_construction is 0"),
        ({"ef_construction": 1_000_001}, "ef_construction is 1000001"),
        ({"preset": "slow"}, "preset is 'slow'; use None or 'fast'"),
        ({"preset": ["fast"]}, "preset is ['fast']"),
        ({"capacity": -1}, "capacity is -1"),
        ({"capacity": 2**32}, "capacity is 4294967296"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**64}, "seed is 18446744073709551616"),
        ({"seed": 0.5}, "seed is 0.5"),
    ],
)
def test_configurations_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        embedcore.Index(**{"dim": 4, **arguments})
    assert isinstance(caught.value, InvalidArgument)
    assert message in str(caught.value)


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_float16_refuses_what_it_cannot_hold(metric: Any) -> None:
    index = embedcore.Index(4, metric, dtype="float16")
    index.add([1], [[65_504, 65_519, -65_519, 1]])  # 65,520 would round to infinity
    assert index.get(1).tolist() == [[65_504, 65_504, -65_504, 1]]
    for bad in (65_520, -65_520, 1e9):
        with pytest.raises(ValueError, match=r"vector 1 has a value of magnitude .*float16 ends at 65504"):
            index.add([1, 2], [[1, 2, 3, 4], [0, bad, 0, 0]])
    tiny = [[1e-9, 0, 0, 0]]
    if metric == "cosine":
        with pytest.raises(ValueError, match="vector 0 becomes zero in float16"):
            index.add([2], tiny)
        assert len(index) == 1
    else:
        index.add([2], tiny)
        assert index.get(2).tolist() == [[0, 0, 0, 0]]
        index.remove(2)
    assert index.get(1).tolist() == [[65_504, 65_504, -65_504, 1]]
    assert index.search([1e9, 1, 1, 1], k=1).ids.tolist() == [1]  # a query need not fit
    assert index.check() == []
