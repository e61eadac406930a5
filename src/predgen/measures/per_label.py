"""What each label of an answer is worth: recall, average precision, and the table of all labels."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

Weights = Float[np.ndarray, " row"] | None


def balanced_accuracy(truth: Int[np.ndarray, " row"], predicted: Int[np.ndarray, " row"], weights: Weights) -> float:
    """Returns the mean over the labels of the truth of their recall, as scikit-learn's `balanced_accuracy_score`.

    Args:
        truth: label positions; labels that training never saw share one that no answer has.
        predicted: the same.
        weights: of the rows, at least 0; None where all count alike.
    """
    labels, positions = np.unique(truth, return_inverse=True)
    counted = np.ones(len(truth)) if weights is None else weights
    total = np.bincount(positions, counted, minlength=len(labels))
    right = np.bincount(positions, counted * (truth == predicted), minlength=len(labels))
    occurs = total > 0
    return float((right[occurs] / total[occurs]).mean()) if occurs.any() else math.nan


def average_precision(
    held: Bool[np.ndarray, " row"], scores: Float[np.ndarray, " row"], weights: Weights = None
) -> float:
    """Returns Σ over the thresholds of (recall − the recall before) · precision, from the highest threshold down.

    That is scikit-learn's `average_precision_score`; equal scores are one threshold. It is the mean over the rows of
    the label of the precision among all rows whose score is at least theirs.

    Args:
        held: which rows have the label.
        scores: the larger, the more the label.
        weights: of the rows, at least 0; None where all count alike.

    Returns:
        In (0, 1]; NaN where no row has the label.
    """
    if not held.any():
        return math.nan
    of_label = scores[held]
    if weights is None:
        ranked, ranked_held = np.sort(scores), np.sort(of_label)
        above = len(scores) - np.searchsorted(ranked, of_label)
        found = len(of_label) - np.searchsorted(ranked_held, of_label)
        return float((found / above).mean())
    if not weights[held].any():
        return math.nan
    above = _weight_from(scores, weights, of_label)
    found = _weight_from(of_label, weights[held], of_label)
    counts = weights[held]
    precision = np.divide(found, above, out=np.zeros_like(found), where=above > 0)
    return float(counts @ precision / counts.sum())


def _weight_from(scores: np.ndarray, weights: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Returns the weight of the rows whose score is at least each of some ends."""
    order = np.argsort(scores, kind="stable")
    below = np.concatenate([[0.0], weights[order].cumsum()])
    return np.asarray(below[-1] - below[np.searchsorted(scores[order], ends)])


def label_average_precision(
    truth: Int[np.ndarray, " row"],
    probabilities: Float[np.ndarray, "row label"],
    positive: int | None,
    weights: Weights = None,
) -> float:
    """Returns the average precision of the positive one of two labels, else the mean over the labels that occur.

    Rows without probabilities are left out. A row of a label that was never seen in training is one of no label.

    Args:
        truth: label positions, negative for one never seen.
        probabilities: of each label.
        positive: the position of the positive label; None for the mean of one label against the rest (`macro`).
        weights: of the rows, at least 0; None where all count alike.
    """
    finite = np.isfinite(probabilities).all(axis=1)
    if not finite.all():
        truth, probabilities = truth[finite], probabilities[finite]
        weights = None if weights is None else weights[finite]
    if positive is not None:
        return average_precision(truth == positive, probabilities[:, positive], weights)
    each = [
        average_precision(truth == label, probabilities[:, label], weights)
        for label in np.unique(truth[truth >= 0]).tolist()
    ]
    each = [one for one in each if np.isfinite(one)]
    return float(np.mean(each)) if each else math.nan


def label_table(
    labels: Sequence[Any],
    held: Bool[np.ndarray, "row label"],
    answered: Bool[np.ndarray, "row label"],
    probabilities: Float[np.ndarray, "row label"] | None,
    weights: Weights = None,
) -> list[dict[str, Any]]:
    """Returns a row for each label: `precision`, `recall`, `f1`, `support` (rows that have it), `average_precision`.

    What is not defined is None: the precision of a label that was never answered, the recall of one that no row has.
    F1 is 2 · right / (true + answered), None where both are 0.

    Args:
        labels: the labels.
        held: which rows have each.
        answered: which rows were answered with each.
        probabilities: of each label, or None.
        weights: of the rows, at least 0; None where all count alike. With them `support` is a sum of weights.
    """
    counted = np.ones(len(held)) if weights is None else weights
    right, true, said = counted @ (held & answered), counted @ held, counted @ answered
    finite = None if probabilities is None else np.isfinite(probabilities).all(axis=1)
    table = []
    for column, label in enumerate(labels):
        precision = math.nan
        if probabilities is not None and finite is not None:
            kept = None if weights is None else weights[finite]
            precision = average_precision(held[finite, column], probabilities[finite, column], kept)
        table.append(
            {
                "label": str(label),
                "precision": _share(right[column], said[column]),
                "recall": _share(right[column], true[column]),
                "f1": _share(2 * right[column], true[column] + said[column]),
                "support": int(true[column]) if weights is None else float(true[column]),
                "average_precision": None if math.isnan(precision) else precision,
            }
        )
    return table


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole > 0 else None
