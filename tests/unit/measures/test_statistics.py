"""Permutation tests against enumeration and the null, intervals against their coverage."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predgen.measures.statistics import (
    bootstrap,
    bootstrap_interval,
    bootstrap_p_value,
    holm,
    paired_difference_interval,
    paired_permutation,
)

PROPERTY = settings(max_examples=80)
TENTHS = st.lists(st.integers(-12, 12), min_size=1, max_size=8)


def p_value(a: np.ndarray, b: np.ndarray, **changes: int) -> float:
    return paired_permutation(a, b, **({"seed": 0, "permutations": 999} | changes))


def exact_p_value(tenths: list[int]) -> Fraction:
    """Returns the share of all sign patterns whose sum is as far from zero as what was observed, without rounding."""
    patterns = product((1, -1), repeat=len(tenths))
    sums = [sum(sign * one for sign, one in zip(signs, tenths, strict=True)) for signs in patterns]
    return Fraction(sum(abs(one) >= abs(sum(tenths)) for one in sums), len(sums))


# ── The paired permutation test ──────────────────────────────────────────────────────────────────────────────


@PROPERTY
@given(tenths=TENTHS, seed=st.integers(0, 100))
def test_few_rows_are_enumerated(tenths: list[int], seed: int) -> None:
    a = np.array(tenths) / 10
    assert p_value(a, np.zeros(len(a)), seed=seed) == pytest.approx(float(exact_p_value(tenths)), abs=1e-12)


@PROPERTY
@given(tenths=TENTHS, base=st.integers(-30, 30))
def test_equal_sums_count_as_equal_whatever_the_rounding(tenths: list[int], base: int) -> None:
    b = np.full(len(tenths), base / 7)
    assert p_value(b + np.array(tenths) / 10, b) == pytest.approx(float(exact_p_value(tenths)), abs=1e-12)


def test_differences_that_cancel_out_prove_nothing() -> None:
    cancelling = np.array([0.1, 0.2, -0.3] * 7)
    assert cancelling.sum() != 0  # as it is rounded
    assert p_value(cancelling, np.zeros(21)) == 1.0
    assert p_value(cancelling[:9], np.zeros(9)) == 1.0


@pytest.mark.parametrize("shift", [0.0, 0.2, 0.5])
def test_many_rows_are_drawn_near_the_exact_value(shift: float) -> None:
    difference = np.random.default_rng(1).normal(shift, 1, 14)
    signs = np.array(list(product((1, -1), repeat=14)))
    exact = np.mean(np.abs(signs @ difference) >= abs(difference.sum()) - 1e-9)
    drawn = p_value(difference, np.zeros(14), permutations=4000)
    assert drawn == pytest.approx(exact, abs=0.03)
    assert drawn != exact


def test_p_is_never_zero() -> None:
    a = np.random.default_rng(0).normal(5, 0.1, 100)
    assert p_value(a, np.zeros(100)) == 1 / 1000
    assert p_value(a[:5], np.zeros(5)) == 2 / 2**5


def test_equal_methods() -> None:
    a = np.random.default_rng(0).normal(size=50)
    assert p_value(a, a) == 1.0
    assert p_value(a[:1], a[:1]) == 1.0


def test_rows_without_a_difference_change_nothing() -> None:
    a, b = np.random.default_rng(0).random((2, 8))
    more = np.concatenate([a, np.ones(100)]), np.concatenate([b, np.ones(100)])
    assert p_value(*more) == p_value(a, b)


@pytest.mark.parametrize("num_rows", [8, 60])
def test_which_method_comes_first_does_not_matter(num_rows: int) -> None:
    a, b = np.random.default_rng(3).random((2, num_rows))
    assert p_value(a, b) == p_value(b, a)
    assert p_value(a, b) == p_value(a, b)
    assert 0.001 < p_value(a, b) < 1


def test_p_is_uniform_when_the_methods_are_equal() -> None:
    generator = np.random.default_rng(0)
    found = np.array(
        [p_value(*generator.exponential(size=(2, 30)), permutations=199, seed=seed) for seed in range(500)]
    )
    for level in (0.05, 0.1, 0.25, 0.5, 0.75):
        # Four standard deviations of a binomial share; the seeds are fixed in any case.
        assert np.mean(found <= level) == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / 500))


def test_a_real_difference_is_found() -> None:
    generator = np.random.default_rng(0)
    found = [p_value(generator.normal(0.8, 1, 40), np.zeros(40)) for _ in range(50)]
    assert np.mean(np.array(found) < 0.05) > 0.9


def test_chunks_of_permutations_are_one_test(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = np.random.default_rng(0).random((2, 40))
    whole = p_value(a, b)
    monkeypatch.setattr("predgen.measures.statistics.CHUNK_CELLS", 40 * 7)
    assert p_value(a, b) == pytest.approx(whole, abs=0.06)
    monkeypatch.setattr("predgen.measures.statistics.CHUNK_CELLS", 1)
    assert p_value(a + 9, b) == 1 / 1000


# ── Intervals ────────────────────────────────────────────────────────────────────────────────────────────────


def mean_interval(values: np.ndarray, **changes: float) -> tuple[float, float]:
    settings = {"seed": 0, "resamples": 200} | changes
    return bootstrap_interval(lambda rows: {"mean": float(values[rows].mean())}, len(values), **settings)["mean"]  # type: ignore[arg-type]


def test_the_interval_holds_the_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    covered: dict[float, list[bool]] = {0.95: [], 0.5: []}
    for seed in range(250):
        values = generator.normal(3, 2, 50)
        for level, hits in covered.items():
            low, high = mean_interval(values, seed=seed, level=level)
            hits.append(low <= 3 <= high)
    assert 0.89 <= np.mean(covered[0.95]) <= 0.99
    assert 0.38 <= np.mean(covered[0.5]) <= 0.60


def test_the_interval_is_about_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(size=400)
    error = values.std() / np.sqrt(400)
    low, high = mean_interval(values, resamples=2000)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)
    narrow = mean_interval(values, resamples=2000, level=0.5)
    assert low < narrow[0] < narrow[1] < high
    assert narrow[1] - narrow[0] == pytest.approx(2 * 0.674 * error, rel=0.15)


def test_the_seed_decides() -> None:
    values = np.random.default_rng(0).normal(size=30)
    assert mean_interval(values, seed=1) == mean_interval(values, seed=1)
    assert mean_interval(values, seed=1) != mean_interval(values, seed=2)


def test_all_metrics_see_the_same_draws() -> None:
    values = np.random.default_rng(0).normal(size=30)
    found = bootstrap_interval(
        lambda rows: {"a": float(values[rows].mean()), "b": -2 * float(values[rows].mean()), "rows": float(len(rows))},
        30,
        seed=0,
    )
    assert found["b"] == pytest.approx((-2 * found["a"][1], -2 * found["a"][0]))
    assert found["rows"] == (30, 30)


def test_draws_in_which_a_metric_is_not_defined_are_left_out() -> None:
    def metrics(rows: np.ndarray) -> dict[str, float]:
        return {"sometimes": float(rows.mean()) if 0 in rows else np.nan, "never": np.nan, "infinite": np.inf}

    found = bootstrap_interval(metrics, 10, seed=0, resamples=300)
    assert 1 < found["sometimes"][0] < found["sometimes"][1] < 7
    assert np.isnan([*found["never"], *found["infinite"]]).all()


def test_the_difference_is_taken_in_pairs() -> None:
    b = np.random.default_rng(0).normal(size=60) * 100
    assert paired_difference_interval(b + 0.5, b, seed=0) == pytest.approx((0.5, 0.5))
    low, high = paired_difference_interval(b + np.random.default_rng(1).normal(1, 1, 60), b, seed=0)
    assert 0.4 < low < high < 1.6


def test_the_paired_interval_turns_with_its_methods() -> None:
    a, b = np.random.default_rng(0).random((2, 40))
    low, high = paired_difference_interval(a, b, seed=3, resamples=300)
    assert paired_difference_interval(b, a, seed=3, resamples=300) == pytest.approx((-high, -low))
    assert low < (a - b).mean() < high
    wider = paired_difference_interval(a, b, seed=3, resamples=300, level=0.99)
    assert wider[0] < low < high < wider[1]


def test_the_paired_interval_holds_the_difference_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    hits = []
    for seed in range(250):
        base = generator.exponential(size=40)
        low, high = paired_difference_interval(base + generator.normal(0.3, 0.5, 40), base, seed=seed, resamples=200)
        hits.append(low <= 0.3 <= high)
    assert 0.88 <= np.mean(hits) <= 0.99


# ── Many tests, and differences that are no means ────────────────────────────────────────────────────────────


@PROPERTY
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_its_step_down_procedure_rejects(p_values: list[float]) -> None:
    corrected = holm(p_values)
    for level in (0.01, 0.05, 0.2, 0.5):
        rejected = set()
        for rank, position in enumerate(sorted(range(len(p_values)), key=lambda one: p_values[one])):
            if p_values[position] * (len(p_values) - rank) > level:
                break
            rejected.add(position)
        assert {position for position, one in enumerate(corrected) if one <= level} == rejected
    assert all(p <= one <= 1 for p, one in zip(p_values, corrected, strict=True))


def test_holm_keeps_the_order_and_one_test_as_it_is() -> None:
    assert holm([0.03]) == [0.03]
    assert holm([]) == []
    assert holm([0.04, 0.01, 0.04]) == pytest.approx([0.08, 0.03, 0.08])


def test_equal_seeds_draw_the_same_rows_for_both_methods() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 50))
    first, second = (
        bootstrap(lambda rows, one=one: {"mean": one[rows].mean()}, 50, seed=3, resamples=40)["mean"] for one in (a, b)
    )
    together = bootstrap(lambda rows: {"mean": (a - b)[rows].mean()}, 50, seed=3, resamples=40)["mean"]
    np.testing.assert_allclose(first - second, together)


def test_the_bootstraps_p_value_counts_both_sides() -> None:
    assert bootstrap_p_value(np.array([-1.0] * 10 + [1.0] * 89)) == pytest.approx(2 * 11 / 100)
    assert bootstrap_p_value(np.full(99, 2.0)) == pytest.approx(2 / 100)
    assert bootstrap_p_value(np.zeros(99)) == 1.0
    assert bootstrap_p_value(np.array([np.nan] * 5 + [1.0] * 99)) == pytest.approx(2 / 100)
    assert bootstrap_p_value(np.array([np.nan])) == 1.0


def test_equal_correlations_are_rarely_told_apart() -> None:
    found = []
    for seed in range(60):
        generator = np.random.default_rng(seed)
        truth = generator.normal(size=60)
        noisy = [truth + generator.normal(size=60) for _ in range(2)]
        drawn = [
            bootstrap(
                lambda rows, one=one, truth=truth: {"pearson": float(np.corrcoef(truth[rows], one[rows])[0, 1])},
                60,
                seed=seed,
                resamples=200,
            )["pearson"]
            for one in noisy
        ]
        found.append(bootstrap_p_value(drawn[0] - drawn[1]))
    assert np.mean(np.array(found) < 0.05) <= 0.15
    assert np.mean(np.array(found) < 0.5) >= 0.25
