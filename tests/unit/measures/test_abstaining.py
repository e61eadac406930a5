"""The risk of the rows that are answered: the promise by simulation, ties, order, too few rows."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from predgen.errors import ConfigError
from predgen.measures.abstaining import abstaining, upper_bound

DELTA = 0.2


def drawn(generator: np.random.Generator, rows: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns scores in 0 … 1 and wrong answers, whose chance is 0.4 · (1 − score), or does not fall with the score."""
    scores = generator.random(rows)
    if kind == "tied":
        scores = np.floor(scores * 6) / 6
    chance = 0.2 * (1 - scores) + 0.05 * (1 + np.sin(25 * scores)) if kind == "wavy" else 0.4 * (1 - scores)
    return scores, generator.random(rows) < chance


def all_right(rows: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full(rows, 0.9), np.zeros(rows, bool)


def true_risk(score: float, kind: str) -> float:
    """Returns the risk of all rows of a larger score, by a fine grid."""
    grid = (np.arange(60_000) + 0.5) / 60_000
    scores = np.floor(grid * 6) / 6 if kind == "tied" else grid
    chance = 0.2 * (1 - scores) + 0.05 * (1 + np.sin(25 * scores)) if kind == "wavy" else 0.4 * (1 - scores)
    return float(chance[scores > score].mean())


@pytest.mark.parametrize("kind", ["falling", "tied", "wavy"])
def test_the_promise_holds_over_many_calibrations(kind: str) -> None:
    generator, draws, broken, answered = np.random.default_rng(0), 400, 0, 0
    for _ in range(draws):
        found = abstaining(*drawn(generator, 800, kind), risk=0.15, delta=DELTA)
        if found.rows:
            answered += 1
            broken += true_risk(found.score, kind) > 0.15
    assert answered > draws / 4  # or nothing was tested
    assert broken <= binom.ppf(0.999, draws, DELTA)


def test_all_bounds_hold_at_once_so_that_a_risk_may_be_chosen_afterwards() -> None:
    generator, broken = np.random.default_rng(1), 0
    for _ in range(200):
        rows = drawn(generator, 120, "falling")
        each = [abstaining(*rows, risk=risk, delta=DELTA) for risk in np.linspace(0.05, 0.6, 12)]
        broken += any(one.rows and true_risk(one.score, "falling") > one.bound for one in each)
        # A larger risk answers no fewer rows.
        assert [one.score for one in each] == sorted((one.score for one in each), reverse=True)
    assert broken <= binom.ppf(0.999, 200, DELTA)


def test_order_plays_no_part_and_equal_scores_stay_together() -> None:
    generator = np.random.default_rng(2)
    scores, wrong = drawn(generator, 2000, "tied")
    found = abstaining(scores, wrong, risk=0.2, delta=0.05)
    order = generator.permutation(2000)
    assert abstaining(scores[order], wrong[order], risk=0.2, delta=0.05) == found
    answered = found.answered(scores)
    assert (answered.sum(), wrong[answered].sum()) == (found.rows, found.wrong)
    assert 0 < found.rows < 2000
    assert found.bound == pytest.approx(upper_bound(found.wrong, found.rows, 0.05 / 20))


def test_few_rows_answer_nothing_and_say_how_many_would_do() -> None:
    found = abstaining(*all_right(50), risk=0.05, delta=0.05)
    assert (found.rows, found.score, found.calibration_rows) == (0, math.inf, 50)
    needed = found.rows_needed
    assert not found.answered(np.array([1.0, np.nan])).any()
    assert abstaining(*all_right(needed), risk=0.05, delta=0.05).rows == needed
    assert abstaining(*all_right(needed - 1), risk=0.05, delta=0.05).rows == 0
    everything = abstaining(*all_right(needed), risk=0.05, delta=0.05)
    assert everything.answered(np.array([0.1, -math.inf, math.nan])).tolist() == [True, False, False]


def test_the_bound_is_that_of_clopper_and_pearson() -> None:
    bound = upper_bound(3, 100, 0.01)
    assert binom.cdf(3, 100, bound) == pytest.approx(0.01)
    assert upper_bound(0, 10, 0.05) == pytest.approx(1 - 0.05 ** (1 / 10))
    assert upper_bound(0, 0, 0.05) == upper_bound(7, 7, 0.05) == 1.0


@pytest.mark.parametrize(("risk", "delta"), [(0.0, 0.1), (1.0, 0.1), (0.1, 0.0), (0.1, 1.0), (math.nan, 0.1)])
def test_what_is_no_share_is_refused(risk: float, delta: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        abstaining(*all_right(1), risk=risk, delta=delta)
