"""Calibration: coverage is what was promised, temperatures make probabilities right, few rows promise nothing."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predgen.config import build_config
from predgen.errors import ConfigError, DataError
from predgen.measures.calibration import (
    Calibration,
    calibrate_labels,
    calibrate_numbers,
    doubt_about,
    fitted_temperature,
    set_texts,
)
from predgen.warning_kinds import CalibrationEndWarning, FewCalibrationRowsWarning


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=60), st.floats(0.05, 0.95))
def test_an_interval_is_as_wide_as_the_error_of_its_rank(errors: list[float], level: float) -> None:
    found = calibrate_numbers(np.array(errors), np.zeros(len(errors)))
    rank = math.ceil((len(errors) + 1) * level - 1e-9)
    if rank > len(errors):
        with pytest.raises(ConfigError, match=f"found {len(errors)}"):
            found.interval(np.zeros(1), level)
        return
    low, high = found.interval(np.array([1.0, 3.0]), level)
    width = sorted(map(abs, errors))[rank - 1]
    assert high == pytest.approx([1.0 + width, 3.0 + width])
    assert low == pytest.approx([1.0 - width, 3.0 - width])


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_intervals_cover_as_often_as_promised(level: float) -> None:
    draw = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        errors = draw.standard_t(3, size=60)
        found = calibrate_numbers(errors[:39], np.zeros(39))
        low, high = found.interval(errors[39:], level)
        covered.append(np.mean((low <= 0) & (high >= 0)))
    # With 39 rows the promise is kept exactly for levels of fortieths.
    assert np.mean(covered) == pytest.approx(level, abs=0.01)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_label_sets_cover_as_often_as_promised(level: float) -> None:
    draw = np.random.default_rng(1)
    covered = []
    for _ in range(400):
        logits = draw.normal(size=(120, 4))
        truth = np.array([draw.choice(4, p=np.exp(row) / np.exp(row).sum()) for row in logits])
        sure = np.exp(3 * logits) / np.exp(3 * logits).sum(axis=1, keepdims=True)
        found = calibrate_labels(sure[:78], truth[:78])
        assert len(found.scores) == 39
        chosen = found.sets(found.tempered(sure[78:]), level)
        covered.append(np.mean(chosen[np.arange(42), truth[78:]]))
    assert np.mean(covered) == pytest.approx(level, abs=0.015)


@pytest.mark.parametrize("wrong_by", [0.25, 1.0, 4.0])
def test_the_temperature_makes_probabilities_right_again(wrong_by: float) -> None:
    draw = np.random.default_rng(2)
    logits = 2 * draw.normal(size=(6000, 3))
    right = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.array([draw.choice(3, p=row) for row in right])
    wrong = right ** (1 / wrong_by)
    wrong /= wrong.sum(axis=1, keepdims=True)
    found = fitted_temperature(wrong, truth)
    assert found == pytest.approx(1 / wrong_by, rel=0.1)
    tempered = Calibration(found, ()).tempered(wrong)
    assert np.abs(tempered - right).max() < 0.05
    assert np.array_equal(tempered.argmax(axis=1), wrong.argmax(axis=1))


def _says_nothing(num_rows: int, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns probabilities that go up and down by themselves, and labels that alternate from row to row."""
    waves = 2 * np.sin(np.arange(num_rows) * 1.7)
    return np.stack([1 / (1 + np.exp(waves)), 1 / (1 + np.exp(-waves))], axis=1), (np.arange(num_rows) + first) % 2


@pytest.mark.parametrize("first", [0, 1])
def test_labels_that_alternate_are_calibrated_as_any_others(first: int) -> None:
    probabilities, truth = _says_nothing(200, first)
    found = calibrate_labels(probabilities[:100], truth[:100])
    tempered = found.tempered(probabilities[100:])
    losses = -np.log(tempered[np.arange(100), truth[100:]])
    assert losses.mean() == pytest.approx(np.log(2), abs=0.05)
    covered = found.sets(tempered, 0.9)[np.arange(100), truth[100:]]
    assert covered.mean() > 0.8


@given(st.lists(st.tuples(st.floats(0.001, 0.999), st.integers(-1, 1)), min_size=2, max_size=40), st.randoms())
def test_rows_in_another_order_give_the_same_calibration(rows: list[tuple[float, int]], chance: random.Random) -> None:
    def calibrated(pairs: list[tuple[float, int]]) -> Calibration:
        return calibrate_labels(np.array([(1 - p, p) for p, _ in pairs]), np.array([label for _, label in pairs]))

    other = list(rows)
    chance.shuffle(other)
    assert calibrated(other) == calibrated(rows)
    assert calibrated(sorted(rows)) == calibrated(rows)


@pytest.mark.parametrize("num_rows", [2, 4, 10, 20, 60, 600])
@pytest.mark.parametrize("num_labels", [2, 5])
def test_rows_that_are_all_right_promise_no_more_than_as_many_rows_can(num_rows: int, num_labels: int) -> None:
    truth = np.arange(num_rows) % num_labels
    for sureness in (0.3, 3.0, 30.0):
        logits = sureness * np.eye(num_labels)[truth]
        found = calibrate_labels(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), truth)
        sure = np.eye(num_labels)[:1]  # a text that holds no answer may be answered with any probability
        assert found.tempered(sure).max() <= 1 - 1 / (num_rows + 2)
        assert found.tempered(sure).argmax() == 0
        assert found.tempered(sure).sum() == pytest.approx(1)


def test_a_probability_of_two_labels_follows_the_rule_of_succession() -> None:
    found = calibrate_labels(np.array([[0.5, 0.5]] * 8), np.array([0, 1] * 4))
    assert found.temperature == pytest.approx(1, abs=1e-3)
    of_four = found.tempered(np.array([[0.2, 0.8]]))
    assert of_four == pytest.approx(np.array([[(4 * 0.2 + 1) / 6, (4 * 0.8 + 1) / 6]]), abs=1e-3)


def test_few_rows_move_the_temperature_little_and_many_rows_far() -> None:
    right = np.array([[0.9, 0.1]])
    of_two, of_many = (fitted_temperature(np.repeat(right, count, axis=0), np.zeros(count, int)) for count in (2, 900))
    assert 0.6 < of_two < 1 < 1 / of_many
    assert of_many < 0.3


def test_a_temperature_at_an_end_and_one_of_few_rows_are_told() -> None:
    wrong = np.array([[1 - 1e-9, 1e-9]] * 400)
    doubt = doubt_about(calibrate_labels(wrong, np.ones(400, int)))
    assert isinstance(doubt, CalibrationEndWarning)
    assert "an end of what was searched (0.01 … 100), of 200 rows" in str(doubt)
    few = calibrate_labels(np.array([[0.7, 0.3]] * 6), np.array([0, 1, 0, 0, 1, 0]))
    assert isinstance(doubt_about(few), FewCalibrationRowsWarning)
    assert str(doubt_about(few)).startswith("Only 3 rows")
    enough = calibrate_labels(np.array([[0.7, 0.3]] * 20), np.array([0, 0, 1, 0] * 5))
    assert doubt_about(enough) is None
    assert doubt_about(calibrate_numbers(np.zeros(3), np.zeros(3))) is None


def test_labels_never_seen_are_never_covered_and_choose_no_temperature() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    found = calibrate_labels(probabilities, np.array([-1, -1, 1, 0]))
    assert found.scores[-1] == 1.0
    assert fitted_temperature(probabilities, np.full(4, -1)) == 1.0
    assert np.isfinite(Calibration(0.01, ()).tempered(np.array([[0.0, 1.0], [0.5, 0.5]]))).all()


def test_invalid_answers_are_infinitely_far_off() -> None:
    found = calibrate_numbers(np.array([1.0, np.nan, 2.0]), np.array([1.5, 2.0, 2.0]))
    assert found.scores == (0.0, 0.5, math.inf)
    assert found.interval(np.array([4.0]), 0.5) == ([3.5], [4.5])


def test_what_so_few_rows_cannot_promise_is_refused() -> None:
    nine = calibrate_numbers(np.zeros(9), np.arange(9.0))
    assert nine.interval(np.zeros(1), 0.9) == ([-8.0], [8.0])
    with pytest.raises(ConfigError, match=r"at least 19 calibration rows for the level 0.95, found 9"):
        nine.check(0.95)
    for level in (0.0, 1.0, 90.0, float("nan")):
        with pytest.raises(ConfigError, match="level between 0 and 1"):
            nine.check(level)
    with pytest.raises(DataError, match=r"at least 2 rows to calibrate on, found 1"):
        calibrate_numbers(np.zeros(1), np.zeros(1))


def test_sets_are_written_in_the_order_of_the_labels() -> None:
    chosen = np.array([[True, False, True], [False, False, False]])
    assert set_texts(("b", 1, True), chosen) == ["b|True", ""]


@pytest.mark.parametrize(("given", "kept"), [("rows.csv", "rows.csv"), ("0.2", 0.2), (0.1, 0.1)])
def test_calibration_rows_are_a_table_or_a_share(given: object, kept: object) -> None:
    assert build_config({"data": "x.csv", "target": "y", "calibration": given}).data.calibration == kept


@pytest.mark.parametrize("given", [0, "1", 1.5, -1])
def test_no_other_share_is_taken(given: object) -> None:
    with pytest.raises(ConfigError, match="a table, or a share between 0 and 1"):
        build_config({"data": "x.csv", "target": "y", "calibration": given})
