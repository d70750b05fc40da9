"""Labels with a bias: clicks corrected for position, raters' agreement, the effect of presentation order."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from embedcore.errors import FailedPrecondition, InvalidArgument
from embedcore.evaluation.importing import ImportOptions, read_golden
from embedcore.evaluation.importing.clicks import ClickRules, estimate_propensities, grades_from_clicks
from embedcore.evaluation.importing.judgements import Judgement
from embedcore.evaluation.importing.raters import (
    agreement,
    grades_from_raters,
    krippendorff_alpha,
    position_effect,
)

LOOK = {1: 1.0, 2: 0.62, 3: 0.45, 4: 0.3, 5: 0.22}  # the truth of the simulated users


def clicked(
    pairs: int, *, shuffled: bool, impressions: int = 4_000, seed: int = 1
) -> tuple[list[Judgement], dict[str, float]]:
    """Clicks by the position model; good items stand on top, unless the order is shuffled."""
    rng = np.random.default_rng(seed)
    rows, truth = [], {}
    for number in range(pairs):
        query, item = f"q{number // 5}", f"i{number % 5}"
        relevance = (0.9, 0.7, 0.5, 0.2, 0.05)[number % 5]
        truth[f"{query}/{item}"] = relevance
        home = number % 5 + 1
        places = list(LOOK) if shuffled else [home]
        for place in places:
            shown = impressions // len(places)
            clicks = int(rng.binomial(shown, LOOK[place] * relevance))
            where = f"file line {len(rows) + 2}"
            rows.append(
                Judgement(where, query, item, position=place, impressions=shown, clicks=clicks, grade=None)
            )
    return rows, truth


def test_the_propensities_of_the_model_are_found() -> None:
    rows, _ = clicked(60, shuffled=True)
    keys = {key: n for n, key in enumerate(dict.fromkeys(row.key for row in rows))}
    found = estimate_propensities(
        np.array([keys[row.key] for row in rows]),
        np.array([row.position for row in rows]),
        np.array([float(row.impressions) for row in rows]),
        np.array([float(row.clicks) for row in rows]),
    )
    assert found[1] == 1.0
    assert found == pytest.approx(LOOK, rel=0.05)


def test_grades_are_relevance_and_not_position() -> None:
    """Items that stand at the bottom are clicked less; corrected, the grade is the item's own. Uncorrected
    rates (a planted bug) are off by as much as the position is overlooked."""
    rows, truth = clicked(50, shuffled=False)
    problems: list[str] = []
    graded, evidence = grades_from_clicks(rows, ClickRules(propensities=LOOK), problems)
    assert problems == []
    assert evidence["propensities_from"] == "given"
    for row in graded:
        expected = truth[f"{row.query}/{row.item}"]
        assert row.grade == pytest.approx(expected if expected >= 0.1 else 0.0, abs=0.05)
    planted = {f"{row.query}/{row.item}": row.clicks / row.impressions for row in rows}
    assert max(abs(planted[key] - truth[key]) for key in truth) > 0.2
    estimated, evidence = grades_from_clicks(clicked(60, shuffled=True)[0], ClickRules(), problems)
    assert "expectation maximisation" in evidence["propensities_from"]
    assert evidence["propensities"]["5"] == pytest.approx(0.22, rel=0.06)
    assert all(row.grade is not None for row in estimated)


def test_position_and_relevance_that_cannot_be_told_apart_are_refused() -> None:
    rows, _ = clicked(50, shuffled=False)
    with pytest.raises(FailedPrecondition, match="each shown at one position"):
        grades_from_clicks(rows, ClickRules(), [])
    with pytest.raises(InvalidArgument, match="no propensity for position 3"):
        grades_from_clicks(rows, ClickRules(propensities={1: 1.0, 2: 0.5}), [])
    problems: list[str] = []
    grades_from_clicks([Judgement("f line 2", "q", "i", impressions=10)], ClickRules(), problems)
    assert problems == ["f line 2: clicks need position >= 1 and impressions >= 1"]


def test_pairs_that_were_shown_too_rarely_are_not_labelled(tmp_path: Path) -> None:
    path = tmp_path / "clicks.csv"
    lines = ["query_id,text,item,position,impressions,clicks"]
    lines += ["q1,bike,a,1,100,60", "q1,bike,a,2,100,30", "q1,bike,b,2,5,5", "q1,bike,c,1,100,1"]
    lines += ["q1,bike,c,2,100,0", "q2,nothing liked,d,1,50,0", "q2,nothing liked,d,2,50,0"]
    path.write_text("\n".join(lines) + "\n")
    golden = read_golden(path, ImportOptions(consumer="search", name="clicks")).golden
    assert [q.id for q in golden.queries] == ["q1"], "a query without a relevant item has no label to keep"
    assert golden.queries[0].relevant.keys() == {"a", "c"}
    assert golden.queries[0].relevant["a"] == pytest.approx(0.6, abs=0.05)
    assert golden.queries[0].relevant["c"] == 0.0
    assert golden.labelling is not None
    evidence = golden.labelling.evidence
    assert evidence["pairs_shown_too_rarely"] == 1
    assert evidence["queries_without_relevant_items"] == 1
    assert "Joachims" in evidence["estimator"]


# The worked example of Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), part D.
NA = float("nan")
WORKED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NA, NA, NA],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NA, 3],
        [NA, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NA],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NA],
    ]
).T


@pytest.mark.parametrize(("level", "expected"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_the_published_example(level: str, expected: float) -> None:
    assert krippendorff_alpha(WORKED, level) == pytest.approx(expected, abs=0.0006)  # type: ignore[arg-type]
    alpha, low, high = agreement(WORKED, level)  # type: ignore[arg-type]
    assert low < alpha < high <= 1


def test_alpha_at_its_ends() -> None:
    same = np.array([[1.0, 1.0], [0.0, 0.0], [2.0, 2.0]])
    assert krippendorff_alpha(same) == 1.0
    rng = np.random.default_rng(0)
    assert abs(krippendorff_alpha(rng.integers(0, 3, (4_000, 2)).astype(float))) < 0.05
    assert np.isnan(krippendorff_alpha(np.array([[1.0, NA], [NA, 2.0]])))


def rated(effect: float, seed: int = 3) -> list[Judgement]:
    """Three raters see each query's six items in an order of their own."""
    rng = np.random.default_rng(seed)
    rows = []
    for query, rater in itertools.product(range(60), range(3)):
        for place, item in enumerate(rng.permutation(6), start=1):
            liked = 0.15 * item - effect * place + rng.normal(0, 0.2)
            grade = float(np.clip(round(liked * 3), 0, 3))
            where = f"f line {len(rows) + 2}"
            rows.append(
                Judgement(where, f"q{query}", f"i{item}", rater=f"r{rater}", grade=grade, position=place)
            )
    return rows


def test_the_order_of_presentation_is_tested() -> None:
    problems: list[str] = []
    graded, evidence = grades_from_raters(rated(0.0), problems)
    assert problems == []
    assert len(graded) == 360
    assert evidence["raters"] == 3
    assert evidence["position_effect"] is False
    assert 0.5 < evidence["alpha"] < 0.95
    _, biased = grades_from_raters(rated(0.08), problems)
    assert biased["position_effect"] is True
    assert biased["position_slope"] < 0
    assert biased["position_p_value"] < 0.01
    unrecorded = [Judgement(r.where, r.query, r.item, rater=r.rater, grade=r.grade) for r in rated(0.0)]
    assert grades_from_raters(unrecorded, problems)[1]["position_recorded"] is False


def test_the_position_test_has_its_level() -> None:
    """Under no effect its p-value is uniform: at most 10% of 60 below 0.05, and not all above 0.5."""
    rng = np.random.default_rng(0)
    lists = np.repeat(np.arange(20), 5)
    place = np.tile(np.arange(1, 6), 20)
    unit = np.arange(100)
    values = [position_effect(unit, lists, place, rng.normal(size=100), seed=s)[1] for s in range(60)]
    assert np.mean(np.array(values) < 0.05) <= 0.12
    assert stats.kstest(values, "uniform").pvalue > 0.01


def test_a_pair_judged_twice_by_one_rater_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "rated.csv"
    path.write_text("query_id,text,item,rater,grade,position\nq,t,a,r1,1,1\nq,t,a,r1,0,2\nq,t,a,r2,,1\n")
    with pytest.raises(InvalidArgument) as caught:
        read_golden(path, ImportOptions(consumer="search"))
    assert "line 3: rater 'r1' judges item 'a' of query 'q' again" in caught.value.message
    assert "line 4: no grade" in caught.value.message


def test_the_lower_median_is_the_grade(tmp_path: Path) -> None:
    path = tmp_path / "rated.csv"
    rows = ["q,t,a,r1,2", "q,t,a,r2,1", "q,t,b,r1,1", "q,t,b,r2,0", "q,t,b,r3,0"]
    path.write_text("query_id,text,item,rater,grade\n" + "\n".join(rows) + "\n")
    golden = read_golden(path, ImportOptions(consumer="search", name="people")).golden
    assert golden.queries[0].relevant == {"a": 1.0, "b": 0.0}
    assert golden.labelling is not None
    assert golden.labelling.kind == "raters"
