"""The metrics against their plain formulas, where they are not defined, and the losses of single rows."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from predgen.errors import UnknownNameError
from predgen.measures.base import json_number
from predgen.measures.kinds import measure_of
from predgen.measures.label import calibration_error, label_metrics, reliability
from predgen.measures.label_set import set_metrics
from predgen.measures.metrics import check_metric, higher_is_better, metric_names
from predgen.measures.number import NUMBER_METRICS, crps, number_metrics
from predgen.targets.label import Label
from predgen.targets.label_set import LabelSet
from predgen.targets.number import Number
from predgen.targets.record import Record

FIELDS = {
    "number": Number(0.0, 10.0, 1),
    "logarithmic": Number(1.0, 1e6, 1, logarithmic=True),
    "label": Label(("a", "b", "c"), ("a", "b", "c")),
    "set": LabelSet(("a", "b"), ("a", "b")),
}
PROPERTY = settings(max_examples=60)
nan = math.nan


def close(found: dict[str, float], expected: dict[str, float]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-7, abs=1e-9, nan_ok=True), name


# ── Numbers ──────────────────────────────────────────────────────────────────────────────────────────────────


def correlation(a: list[float], b: list[float]) -> float:
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    shared = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return shared / math.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b))


def ranks(values: list[float]) -> list[float]:
    """Returns each value's rank; equal values share the mean of theirs."""
    return [sum(other < one for other in values) + (values.count(one) + 1) / 2 for one in values]


def number_metrics_by_hand(truth: list[float], predicted: list[float]) -> dict[str, float]:
    errors = [p - t for t, p in zip(truth, predicted, strict=True)]
    mse = sum(error**2 for error in errors) / len(errors)
    mean = sum(truth) / len(truth)
    return {
        "mse": mse,
        "rmse": math.sqrt(mse),
        "mae": sum(map(abs, errors)) / len(errors),
        "r2": 1 - mse * len(errors) / sum((t - mean) ** 2 for t in truth),
        "pearson": correlation(truth, predicted),
        "spearman": correlation(ranks(truth), ranks(predicted)),
    }


@PROPERTY
@given(num_rows=st.integers(3, 40), seed=st.integers(0, 10**6), decimals=st.sampled_from([0, 1, 6]))
def test_metrics_of_numbers_are_their_formulas(num_rows: int, seed: int, decimals: int) -> None:
    generator = np.random.default_rng(seed)
    truth = np.round(generator.normal(5, 3, num_rows), decimals)
    predicted = np.round(truth + generator.normal(1, 2, num_rows), decimals)
    truth[0], predicted[0], truth[1], predicted[1] = 0, 1, 9, 8  # neither side is constant
    expected = number_metrics_by_hand(truth.tolist(), predicted.tolist())
    close(number_metrics(truth, predicted), expected)
    # Rows without a valid answer say nothing.
    more_truth = np.concatenate([[100.0], truth, [-100.0]])
    close(number_metrics(more_truth, np.concatenate([[nan], predicted, [nan]])), expected)


def test_a_perfect_answer() -> None:
    truth = np.array([1.0, 2.0, 4.0])
    expected = dict.fromkeys(("mse", "rmse", "mae"), 0.0) | dict.fromkeys(("r2", "pearson", "spearman"), 1.0)
    close(number_metrics(truth, truth), expected)


@pytest.mark.parametrize(
    ("truth", "predicted", "expected"),
    [
        ([], [], (nan,) * 6),
        ([1.0, 2.0], [nan, nan], (nan,) * 6),
        ([3.0], [5.0], (4.0, 2.0, 2.0, nan, nan, nan)),
        ([3.0, 9.0], [5.0, nan], (4.0, 2.0, 2.0, nan, nan, nan)),
        ([3.0, 3.0], [5.0, 1.0], (4.0, 2.0, 2.0, nan, nan, nan)),
        ([1.0, 5.0], [3.0, 3.0], (4.0, 2.0, 2.0, 0.0, nan, nan)),
    ],
)
def test_what_is_not_defined_is_nan(truth: list[float], predicted: list[float], expected: tuple[float, ...]) -> None:
    found = number_metrics(np.array(truth), np.array(predicted))
    close(found, dict(zip(NUMBER_METRICS[:-1], expected, strict=True)))


def test_exact_answers_are_counted_over_all_rows() -> None:
    truth, predicted = np.array([8.0, 1.5, 3.0, 4.0]), np.array([8.0, 1.5, nan, 4.2])
    right = np.array([True, True, False, False])
    found = number_metrics(truth, predicted, right)
    assert found["exact_match"] == 0.5
    assert tuple(found) == NUMBER_METRICS
    assert "exact_match" not in number_metrics(truth, predicted)
    assert number_metrics(truth, np.full(4, nan), np.zeros(4, bool))["exact_match"] == 0.0
    assert higher_is_better("exact_match")
    check_metric(FIELDS["number"], "exact_match")
    check_metric(FIELDS["logarithmic"], "exact_match")


def test_an_exact_answer_is_the_cell_not_what_the_target_makes_of_it() -> None:
    measure = measure_of(Number(0.0, 5.0, 1))
    truth = np.array([2.0, 2.04, 0.1 + 0.2, 7.0, 3.0, 3.0])
    predicted = np.array([2.04, 2.04, 0.31, 7.0, nan, 2.94])
    assert measure.exact(truth, predicted).tolist() == [True, False, True, False, False, False]
    tiny = measure_of(Number(0.0, 1e-12, 12))
    assert not tiny.exact(np.array([8e-19]), np.array([8e-19])).any()
    assert tiny.exact(np.array([0.0]), np.array([8e-19])).all()


# ── Labels ───────────────────────────────────────────────────────────────────────────────────────────────────


def label_metrics_by_hand(truth: list[int], predicted: list[int]) -> dict[str, float]:
    """Returns the metrics of answers; an unseen label is one that no answer meets, an invalid answer is no label."""
    known: list[Any] = ["unseen" if label < 0 else label for label in truth]
    answers: list[Any] = [None if label < 0 else label for label in predicted]
    scores = []
    for label in {*known, *answers} - {None}:
        hits = sum(t == p == label for t, p in zip(known, answers, strict=True))
        scores.append(2 * hits / (known.count(label) + answers.count(label)))
    pairs = list(zip(known, answers, strict=True))
    right = sum(t == p for t, p in pairs)
    recalls = [sum(t == p == label for t, p in pairs) / known.count(label) for label in {*known}]
    return {
        "accuracy": right / len(truth),
        "balanced_accuracy": sum(recalls) / len(recalls),
        "macro_f1": sum(scores) / len(scores),
    }


def average_precision_by_hand(truth: list[int], probabilities: list[list[float]]) -> float:
    """Returns the mean over the labels that occur of the mean precision among the rows that score as high."""
    each = []
    for label in sorted({label for label in truth if label >= 0}):
        scores = [row[label] for row in probabilities]
        precisions = []
        for end in [score for score, true in zip(scores, truth, strict=True) if true == label]:
            above = [true == label for score, true in zip(scores, truth, strict=True) if score >= end]
            precisions.append(sum(above) / len(above))
        each.append(sum(precisions) / len(precisions))
    return sum(each) / len(each) if each else nan


@st.composite
def answered(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns truth with unseen labels, answers with invalid ones, and probabilities."""
    num_rows, num_labels = draw(st.integers(1, 25)), draw(st.integers(2, 5))
    generator = np.random.default_rng(draw(st.integers(0, 10**6)))
    truth = generator.integers(-1, num_labels, num_rows)
    predicted = np.where(generator.random(num_rows) < 0.5, truth, generator.integers(-1, num_labels, num_rows))
    return truth, predicted, generator.dirichlet(np.ones(num_labels), num_rows)


def calibration_error_by_hand(truth: list[int], probabilities: list[list[float]]) -> float:
    bins: dict[int, list[tuple[float, bool]]] = {}
    for label, row in zip(truth, probabilities, strict=True):
        confidence = max(row)
        number = next(number for number in range(15) if confidence < (number + 1) / 15 or number == 14)
        bins.setdefault(number, []).append((confidence, row.index(confidence) == label))
    gaps = [abs(sum(hit - confidence for confidence, hit in rows)) for rows in bins.values()]
    return sum(gaps) / len(truth)


@PROPERTY
@given(answered())
def test_metrics_of_labels_are_their_formulas(case: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    truth, predicted, probabilities = case
    expected = label_metrics_by_hand(truth.tolist(), predicted.tolist())
    close(label_metrics(truth, predicted, None), expected)
    losses = [-math.log(row[label]) for label, row in zip(truth, probabilities, strict=True) if label >= 0]
    expected["log_loss"] = sum(losses) / len(losses) if losses else nan
    expected["ece"] = calibration_error_by_hand(truth.tolist(), probabilities.tolist())
    expected["average_precision"] = average_precision_by_hand(truth.tolist(), probabilities.tolist())
    close(label_metrics(truth, predicted, probabilities), expected)


def test_metrics_of_seen_and_valid_labels_are_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    truth, predicted = generator.integers(0, 4, 60), generator.integers(0, 4, 60)
    probabilities = generator.dirichlet(np.ones(4), 60)
    expected = {
        "accuracy": sk.accuracy_score(truth, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, predicted),
        "macro_f1": sk.f1_score(truth, predicted, average="macro"),
        "average_precision": sk.average_precision_score(np.eye(4)[truth], probabilities, average="macro"),
        "log_loss": sk.log_loss(truth, probabilities, labels=range(4)),
        "ece": calibration_error_by_hand(truth.tolist(), probabilities.tolist()),
    }
    close(label_metrics(truth, predicted, probabilities), expected)


def test_unseen_labels_and_invalid_answers_count_as_wrong() -> None:
    truth, predicted = np.array([0, 1, -1, -1, 0]), np.array([0, -1, -1, 0, 0])
    found = label_metrics(truth, predicted, None)
    # F1: label 0 has 2 hits of 2 and 3; label 1 none of 1; the unseen none of 2.
    close(found, {"accuracy": 2 / 5, "balanced_accuracy": (1 + 0 + 0) / 3, "macro_f1": (4 / 5 + 0 + 0) / 3})
    assert measure_of(FIELDS["label"]).losses(truth, predicted, None)["error"].tolist() == [0, 1, 1, 1, 0]


def test_labels_that_nobody_names_do_not_lower_macro_f1() -> None:
    found = label_metrics(np.array([0, 1, 1]), np.array([0, 1, 1]), np.eye(5)[[0, 1, 1]])
    ones = dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1", "average_precision"), 1.0)
    close(found, {**ones, "log_loss": 0.0, "ece": 0.0})


def test_a_label_without_probability_costs_much_but_not_everything() -> None:
    found = label_metrics(np.array([0, 1]), np.array([1, 1]), np.array([[0.0, 1.0], [0.0, 1.0]]))
    assert found["log_loss"] == pytest.approx(-math.log(1e-15) / 2)


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    sure = np.tile([0.9, 0.1], (10, 1))
    assert calibration_error(np.array([0] * 9 + [1]), sure) == pytest.approx(0.0)
    assert calibration_error(np.array([0] * 5 + [1] * 5), sure) == pytest.approx(0.4)
    assert calibration_error(np.array([0] * 5 + [-1] * 5), sure) == pytest.approx(0.4)  # never seen: wrong
    # Too sure in one bin and too unsure in another do not cancel out.
    both = np.concatenate([sure, np.tile([0.4, 0.6], (10, 1))])
    assert calibration_error(np.array([0] * 5 + [1] * 5 + [1] * 10), both) == pytest.approx(0.4)


def test_no_rows_have_no_metrics() -> None:
    none = np.array([], dtype=np.int64)
    of_answers, of_probabilities = (
        ("accuracy", "balanced_accuracy", "macro_f1"),
        ("average_precision", "log_loss", "ece"),
    )
    close(label_metrics(none, none, None), dict.fromkeys(of_answers, nan))
    close(label_metrics(none, none, np.zeros((0, 2))), dict.fromkeys((*of_answers, *of_probabilities), nan))


# ── Rows ─────────────────────────────────────────────────────────────────────────────────────────────────────


@PROPERTY
@given(answered())
def test_the_means_of_the_rows_losses_are_the_metrics_of_labels(
    case: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    truth, _, _ = case
    rows, metrics = measure_of(FIELDS["label"]).losses(*case), label_metrics(*case)
    assert rows["error"].mean() == pytest.approx(1 - metrics["accuracy"])
    assert np.isnan(rows["log_loss"]).tolist() == (truth < 0).tolist()
    if (truth >= 0).any():
        assert np.nanmean(rows["log_loss"]) == pytest.approx(metrics["log_loss"])
    assert measure_of(FIELDS["label"]).losses(*case[:2], None).keys() == {"error"}


def test_the_means_of_the_rows_losses_are_the_metrics_of_numbers() -> None:
    truth, predicted = np.array([1.0, 2.0, 3.0, -4.0]), np.array([1.5, nan, 0.0, -4.0])
    rows, metrics = measure_of(FIELDS["number"]).losses(truth, predicted, None), number_metrics(truth, predicted)
    assert np.isnan(rows["squared_error"]).tolist() == [False, True, False, False]
    assert np.nanmean(rows["squared_error"]) == pytest.approx(metrics["mse"])
    assert np.nanmean(rows["absolute_error"]) == pytest.approx(metrics["mae"])
    assert rows.keys() == {"squared_error", "absolute_error"}


# ── Names ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_metric_says_which_way_is_better() -> None:
    truth, near, far = np.array([1.0, 2.0, 3.0, 5.0]), np.array([1.1, 2.0, 3.0, 4.5]), np.array([5.0, 1.0, 2.0, 2.0])
    sure, unsure = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.3, 0.7], [0.6, 0.4]])
    labels = np.array([0, 1])
    better = number_metrics(truth, near) | label_metrics(labels, sure.argmax(1), sure)
    worse = number_metrics(truth, far) | label_metrics(labels, unsure.argmax(1), unsure)
    assert {name: better[name] > worse[name] for name in better} == {name: higher_is_better(name) for name in better}


def test_names_are_those_that_come_back() -> None:
    assert metric_names(FIELDS["number"]) == tuple(number_metrics(np.zeros(2), np.ones(2), np.ones(2, bool)))
    assert metric_names(FIELDS["label"]) == tuple(label_metrics(np.array([0]), np.array([0]), np.array([[1.0, 0.0]])))
    for kind in ("number", "label"):
        for name in metric_names(FIELDS[kind]):
            check_metric(FIELDS[kind], name)


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("number", "accuracy", r"Unknown metric of a number 'accuracy'\. .*Known: mse, rmse, mae, r2, pearson"),
        ("label", "acuracy", r"Unknown metric of a label 'acuracy'\. Did you mean 'accuracy'\?"),
    ],
)
def test_a_metric_of_the_other_kind(kind: str, name: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        check_metric(FIELDS[kind], name)


def test_json_holds_finite_numbers_alone() -> None:
    assert [json_number(value) for value in (1.5, nan, math.inf, -math.inf)] == [1.5, None, None, None]
    assert type(json_number(np.float64(2))) is float


def test_the_ranked_score_of_one_value_is_its_absolute_error() -> None:
    quantiles = np.repeat([[2.0], [5.0]], 100, axis=1)
    assert crps(np.array([3.5, 1.0]), quantiles) == pytest.approx([1.5, 4.0])


def test_the_ranked_score_is_that_of_the_closed_form() -> None:
    # A uniform distribution over [0, 1]: its score at y is y² − y + 1/3.
    quantiles = ((np.arange(100) + 0.5) / 100)[None].repeat(3, axis=0)
    truth = np.array([0.0, 0.5, 0.9])
    assert crps(truth, quantiles) == pytest.approx(truth**2 - truth + 1 / 3, abs=1e-3)


def test_reliability_says_for_each_bin_how_sure_and_how_right() -> None:
    probabilities = np.array([[0.95, 0.05], [0.91, 0.09], [0.45, 0.55], [0.4, 0.6], [1.0, 0.0]])
    found = reliability(np.array([0, 1, 1, -1, 0]), probabilities, bins=10)
    assert [(one["low"], one["high"], one["rows"]) for one in found] == [(0.5, 0.6, 1), (0.6, 0.7, 1), (0.9, 1.0, 3)]
    assert [one["accuracy"] for one in found] == pytest.approx([1.0, 0.0, 2 / 3])
    assert [one["confidence"] for one in found] == pytest.approx([0.55, 0.6, 2.86 / 3])


# ── Sets and records ─────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 20))
def test_the_metrics_of_sets_are_scikit_learns(seed: int, rows: int) -> None:
    draw = np.random.default_rng(seed)
    truth, predicted = (np.column_stack([draw.random((rows, 4)) < 0.4, np.zeros(rows)]).astype(float) for _ in "ab")
    probabilities = draw.random((rows, 4)).clip(0.01, 0.99)
    found = set_metrics(truth, predicted, probabilities)
    a, b = truth[:, :-1].astype(int), predicted[:, :-1].astype(int)
    assert found["micro_f1"] == pytest.approx(sk.f1_score(a, b, average="micro", zero_division=1.0))
    occurs = (a + b).any(axis=0)
    expected = sk.f1_score(a, b, average=None, zero_division=0.0)[occurs].mean() if occurs.any() else 1.0
    assert found["macro_f1"] == pytest.approx(expected)
    assert found["jaccard"] == pytest.approx(sk.jaccard_score(a, b, average="samples", zero_division=1.0))
    assert found["exact_match"] == pytest.approx(sk.accuracy_score(a, b))
    assert found["hamming_loss"] == pytest.approx(sk.hamming_loss(a, b))
    losses = [sk.log_loss(a[:, one], probabilities[:, one], labels=[0, 1]) for one in range(4)]
    assert found["label_log_loss"] == pytest.approx(np.mean(losses))
    per_row = measure_of(FIELDS["set"]).losses(truth, predicted, probabilities)
    assert 1 - per_row["jaccard_error"].mean() == pytest.approx(found["jaccard"])
    assert per_row["hamming"].mean() == pytest.approx(found["hamming_loss"])


def test_unseen_labels_and_invalid_sets_count_as_wrong() -> None:
    right = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert set_metrics(right, right, None) == dict.fromkeys(("micro_f1", "macro_f1", "jaccard", "exact_match"), 1.0) | {
        "hamming_loss": 0.0
    }
    unseen = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    found = set_metrics(unseen, right, None)
    assert found["exact_match"] == 0.5
    assert found["jaccard"] == 0.75
    assert found["micro_f1"] == pytest.approx(2 / 3)
    # An invalid answer is not right about labels that were never seen.
    assert set_metrics(unseen, np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]), None)["jaccard"] == 0.5


def test_the_relative_error_is_one_for_the_best_constant() -> None:
    numbers = np.array([1.0, 2.0, 6.0])
    assert measure_of(FIELDS["number"]).relative_error(numbers, np.full(3, 3.0)) == pytest.approx(1)
    assert measure_of(FIELDS["number"]).relative_error(numbers, np.array([1.0, np.nan, 6.0])) == pytest.approx(1 / 14)
    assert measure_of(FIELDS["number"]).relative_error(numbers, np.full(3, np.nan)) == pytest.approx(1)
    powers = 10.0**numbers
    assert measure_of(FIELDS["logarithmic"]).relative_error(powers, np.full(3, 1000.0)) == pytest.approx(1)
    labels = np.array([0, 0, 1, -1])
    assert measure_of(FIELDS["label"]).relative_error(labels, np.zeros(4, dtype=np.int64)) == pytest.approx(1)
    sets = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert measure_of(FIELDS["set"]).relative_error(sets, np.tile([1.0, 0.0, 0.0], (3, 1))) == pytest.approx(1)
    assert math.isnan(measure_of(FIELDS["number"]).relative_error(np.ones(3), np.ones(3)))


def test_a_records_metrics_stand_after_its_fields() -> None:
    record = Record({"mood": FIELDS["label"], "stars": FIELDS["logarithmic"], "tags": FIELDS["set"]})
    names = metric_names(record)
    assert names[0] == "relative_error"
    assert {"mood.accuracy", "stars.mse_log10", "tags.micro_f1"} <= set(names)
    assert not higher_is_better("stars.mse_log10")
    assert higher_is_better("tags.jaccard")
    assert not higher_is_better("relative_error")
    check_metric(record, "tags.micro_f1")
    with pytest.raises(UnknownNameError, match=r"metric of the record 'mood\.acuracy'\. Did you mean 'mood\.acc"):
        check_metric(record, "mood.acuracy")
