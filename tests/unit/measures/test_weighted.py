"""Weights of rows in metrics: a weight of 2 is a row that stands there twice, as scikit-learn has it; labels alone."""

import math
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from predgen.measures.kinds import measure_of
from predgen.measures.label import label_metrics
from predgen.measures.number import number_metrics
from predgen.measures.per_label import average_precision, balanced_accuracy, label_table
from predgen.targets.label import Label
from predgen.targets.label_set import LabelSet
from predgen.targets.number import Number
from predgen.targets.ordinal import Ordinal

ROWS = 40
WORDS = ("a", "b", "c")
FIELDS = {
    "label": Label(WORDS, WORDS),
    "two labels": Label(("no", "yes"), ("no", "yes"), "no"),
    "ordinal": Ordinal(WORDS, WORDS),
    "set": LabelSet(WORDS, WORDS),
    "number": Number(0.0, 9.0, 0),
    "logarithmic": Number(0.1, 1000.0, 1, logarithmic=True),
}


def answers(kind: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Returns truth, answers and probabilities, some unseen, some invalid, many equal."""
    generator = np.random.default_rng(seed)
    if kind in ("number", "logarithmic"):
        truth = generator.integers(1, 9, ROWS).astype(float)
        predicted = np.clip(truth + generator.integers(-2, 3, ROWS), 1, 9)
        return truth, np.where(generator.random(ROWS) < 0.1, np.nan, predicted), None
    size = len(FIELDS[kind].labels)
    probabilities = generator.dirichlet(np.ones(size), ROWS).round(1)
    if kind == "set":
        truth, predicted = (generator.random((2, ROWS, size + 1)) < [0.5] * size + [0.1]).astype(float)
        return truth, predicted, probabilities
    truth, predicted = generator.integers(-1, size, (2, ROWS))
    probabilities[3] = np.nan
    return truth, predicted, probabilities


@pytest.mark.parametrize("kind", FIELDS)
def test_a_weight_is_how_often_a_row_stands_there(kind: str) -> None:
    measure = measure_of(FIELDS[kind])
    for seed in range(5):
        weights = np.random.default_rng(seed + 100).integers(1, 4, ROWS)
        arrays = answers(kind, seed)
        exact = measure.exact(arrays[0], arrays[1])
        again: list[Any] = [None if one is None else np.repeat(one, weights, axis=0) for one in (*arrays, exact)]
        found = measure.metrics(*arrays, exact, weights.astype(float))
        assert found == pytest.approx(measure.metrics(*again), nan_ok=True, rel=1e-9)
        assert measure.metrics(*arrays, exact, np.full(ROWS, 0.3)) == pytest.approx(
            measure.metrics(*arrays, exact), nan_ok=True, rel=1e-9
        )
        of_constant = measure.relative_error(arrays[0], arrays[1], weights.astype(float))
        assert of_constant == pytest.approx(measure.relative_error(again[0], again[1]))
        table, repeated = measure.per_label(*arrays, weights.astype(float)), measure.per_label(*again[:3])
        for line, expected in zip(table, repeated, strict=True):
            assert line.pop("label") == expected.pop("label")
            assert line == pytest.approx(expected)


def test_weighted_metrics_are_scikit_learns() -> None:
    generator = np.random.default_rng(1)
    truth, predicted = generator.integers(0, 3, (2, 80))
    probabilities, weights = generator.dirichlet(np.ones(3), 80), generator.random(80)
    found = label_metrics(truth, predicted, probabilities, weights=weights)
    precision = [
        sk.average_precision_score(truth == label, probabilities[:, label], sample_weight=weights) for label in range(3)
    ]
    assert {name: found[name] for name in found if name != "ece"} == pytest.approx(
        {
            "accuracy": sk.accuracy_score(truth, predicted, sample_weight=weights),
            "balanced_accuracy": sk.balanced_accuracy_score(truth, predicted, sample_weight=weights),
            "macro_f1": sk.f1_score(truth, predicted, average="macro", sample_weight=weights),
            "average_precision": np.mean(precision),
            "log_loss": sk.log_loss(truth, probabilities, sample_weight=weights),
        }
    )
    numbers, near = generator.normal(size=(2, 80))
    found = number_metrics(numbers, near, None, weights)
    assert (found["mse"], found["mae"], found["r2"]) == pytest.approx(
        tuple(
            of(numbers, near, sample_weight=weights)
            for of in (sk.mean_squared_error, sk.mean_absolute_error, sk.r2_score)
        )
    )
    assert found["pearson"] == pytest.approx(
        np.cov(numbers, near, aweights=weights)[0, 1]
        / math.sqrt(np.cov(numbers, aweights=weights) * np.cov(near, aweights=weights))
    )


def test_average_precision_is_scikit_learns_with_ties_and_without_rows_of_the_label() -> None:
    generator = np.random.default_rng(2)
    for _ in range(20):
        held, scores = generator.random(30) < 0.2, generator.random(30).round(1)
        held[0], weights = True, generator.integers(0, 3, 30).astype(float) + 0.5
        assert average_precision(held, scores) == pytest.approx(sk.average_precision_score(held, scores))
        assert average_precision(held, scores, weights) == pytest.approx(
            sk.average_precision_score(held, scores, sample_weight=weights)
        )
    assert math.isnan(average_precision(np.zeros(3, bool), np.ones(3)))
    assert math.isnan(balanced_accuracy(np.array([], int), np.array([], int), None))


def test_of_two_labels_average_precision_is_of_the_positive_one() -> None:
    truth, probabilities = np.array([0, 1, 1, 0, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4], [0, 1]])
    for name, position in (("no", 0), ("yes", 1), (None, 1)):
        measure = measure_of(Label(("no", "yes"), ("no", "yes"), name))
        found = measure.metrics(truth, truth, probabilities, None)["average_precision"]
        assert found == pytest.approx(sk.average_precision_score(truth == position, probabilities[:, position]))


def test_the_table_of_labels_is_scikit_learns_report() -> None:
    generator = np.random.default_rng(3)
    truth, predicted = generator.integers(0, 3, (2, 50))
    predicted = np.where(predicted == 2, 0, predicted)  # the last label is never answered
    probabilities = generator.dirichlet(np.ones(3), 50)
    labels = np.arange(3)
    table = label_table(WORDS, truth[:, None] == labels, predicted[:, None] == labels, probabilities)
    precision, recall, f1, support = sk.precision_recall_fscore_support(truth, predicted, zero_division=0)
    for label, line in enumerate(table):
        assert line["label"] == WORDS[label]
        assert line["support"] == support[label]
        assert line["precision"] == (None if label == 2 else pytest.approx(precision[label]))
        assert (line["recall"], line["f1"]) == pytest.approx((recall[label], f1[label]))
        assert line["average_precision"] == pytest.approx(
            sk.average_precision_score(truth == label, probabilities[:, label])
        )
    nobody = label_table(["x"], np.zeros((4, 1), bool), np.zeros((4, 1), bool), None)
    assert nobody == [dict.fromkeys(("precision", "recall", "f1", "average_precision")) | {"label": "x", "support": 0}]
