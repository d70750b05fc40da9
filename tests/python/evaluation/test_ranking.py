"""nDCG, MRR and recall through ir-measures against the formulas; the gate's recall against both."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from embedcore.evaluation.golden import GoldenQuery, GoldenSet
from embedcore.evaluation.metrics import recall_at_k
from embedcore.evaluation.ranking import ranking_measures
from embedcore.evaluation.resolve import Resolver


def resolved(store: Any, queries: list[GoldenQuery]) -> Any:
    return Resolver(store).resolve(GoldenSet(name="s", consumer="search", queries=tuple(queries)))


def oracle(found: list[int], grades: dict[int, float], k: int) -> tuple[float, float, float]:
    """nDCG, reciprocal rank and recall at k, by their definitions."""
    top = found[:k]
    gain = sum(grades.get(item, 0.0) / math.log2(place + 2) for place, item in enumerate(top))
    ideal = sorted(grades.values(), reverse=True)[:k]
    best = sum(grade / math.log2(place + 2) for place, grade in enumerate(ideal))
    first = next((place for place, item in enumerate(top, start=1) if grades.get(item, 0) > 0), 0)
    return gain / best, 1 / first if first else 0.0, sum(item in grades for item in top) / len(grades)


@pytest.mark.parametrize("k", [1, 5, 12])
def test_against_the_formulas(store: Any, k: int) -> None:
    rng = np.random.default_rng(k)
    numbers = [store.add(f"i{n}", f"t{n}") for n in range(40)]
    queries, lists = [], []
    for q in range(60):
        chosen = rng.choice(40, size=int(rng.integers(1, 9)), replace=False)
        relevant = {f"i{n}": float(rng.integers(1, 4)) for n in chosen}
        exclude = (f"i{int(rng.integers(40))}",) if q % 3 == 0 else ()
        relevant = {item: grade for item, grade in relevant.items() if item not in exclude} or {"i0": 1.0}
        queries.append(GoldenQuery(id=f"q{q}", text="t", relevant=relevant, exclude=exclude))
        lists.append(rng.permutation(numbers)[:15])
    ids = np.array(lists, dtype=np.int64)
    ids[7, 4:] = -1
    ids[8, :] = -1
    task = resolved(store, queries)
    found = ranking_measures(task, (ids, np.zeros(ids.shape, np.float32)), k)
    own = recall_at_k(ids, task.relevant, task.exclude, k).num
    assert sorted(found) == sorted([f"RR@{k}", f"R@{k}", f"nDCG@{k}"])
    for row, query in enumerate(queries):
        grades = {store.numbers[("", item)]: grade for item, grade in query.relevant.items()}
        hidden = {store.numbers[("", item)] for item in query.exclude}
        kept = [int(item) for item in ids[row] if item >= 0 and int(item) not in hidden]
        ndcg, rr, recall = oracle(kept, grades, k)
        assert found[f"nDCG@{k}"][row] == pytest.approx(ndcg, abs=1e-9)
        assert found[f"RR@{k}"][row] == pytest.approx(rr, abs=1e-9)
        assert found[f"R@{k}"][row] == pytest.approx(recall, abs=1e-9)
        assert own[row] == pytest.approx(recall * len(grades) / min(len(grades), k), abs=1e-9)


def test_grades_that_are_no_whole_numbers_count_to_three_digits(store: Any) -> None:
    numbers = [store.add(f"i{n}", "t") for n in range(4)]
    query = GoldenQuery(id="q", text="t", relevant={"i0": 0.9, "i1": 0.25, "i3": 0.0001})
    ids = np.array([[numbers[1], numbers[0], numbers[2], numbers[3]]])
    found = ranking_measures(resolved(store, [query]), (ids, np.zeros((1, 4), np.float32)), 4)
    grades = {numbers[0]: 0.9, numbers[1]: 0.25, numbers[3]: 0.0001}
    assert found["nDCG@4"][0] == pytest.approx(oracle(ids[0].tolist(), grades, 4)[0], abs=2e-3)
    assert found["R@4"][0] == 1.0, "a grade above 0 stays relevant however small"


def test_the_order_that_was_served_counts_when_distances_are_equal(store: Any) -> None:
    """trec_eval orders equal scores by id: given distances as scores (a planted bug), it would find item 0
    last here, where it was served first."""
    numbers = [store.add(f"i{n}", "t") for n in range(3)]
    query = GoldenQuery(id="q", text="t", relevant={"i0": 1.0})
    ids = np.array([[numbers[0], numbers[1], numbers[2]]])
    found = ranking_measures(resolved(store, [query]), (ids, np.full((1, 3), 0.5, np.float32)), 3)
    assert found["RR@3"][0] == 1.0
    import ir_measures

    qrels = {"0": {str(numbers[0]): 1}}
    run = {"0": {str(number): -0.5 for number in numbers}}
    planted = ir_measures.calc_aggregate([ir_measures.RR @ 3], qrels, run)
    assert next(iter(planted.values())) < 1.0
