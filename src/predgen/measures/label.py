"""Answers that are labels beside the true ones."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

from predgen.measures.base import SMALLEST_PROBABILITY, Baseline, FieldKind, Measure
from predgen.measures.calibration import Calibration, calibrate_labels, set_texts
from predgen.measures.choices import Mix, stack_labels
from predgen.measures.distributions import PredictiveDistribution, indicators
from predgen.measures.per_label import balanced_accuracy, label_average_precision, label_table
from predgen.measures.weighted import mean_of
from predgen.targets.cells import label_key
from predgen.targets.label import Label

LABEL_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "average_precision", "log_loss", "ece")
OF_PROBABILITIES = ("average_precision", "log_loss", "ece")
CALIBRATION_BINS = 15


class ExclusiveLabels(Measure[FieldKind]):
    """What one label of a few is worth: −1 is an invalid answer, or a label that training never saw."""

    OF_PROBABILITIES: ClassVar[tuple[str, ...]] = OF_PROBABILITIES
    BASELINE: ClassVar[Baseline] = "classification"
    DISCRETE: ClassVar[bool] = True

    def as_array(self, values: Sequence[Any]) -> np.ndarray:
        """Returns the labels' positions, −1 for None, shape (row,)."""
        positions = {label_key(value): position for position, value in enumerate(self.field.labels)}
        return np.array([-1 if value is None else positions.get(label_key(value), -1) for value in values], np.int64)

    def invalid(self, predicted: np.ndarray) -> np.ndarray:
        """Returns which answers are no label."""
        return np.asarray(predicted < 0)

    def to_json(self, predicted: np.ndarray) -> list[Any]:
        """Returns the positions."""
        return [float(position) for position in predicted.tolist()]

    def from_json(self, predicted: Sequence[Any]) -> np.ndarray:
        """Returns the positions that `to_json` described."""
        return np.array(predicted, dtype=np.int64)

    def rows_behind(self, truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None) -> dict[str, int]:
        """Returns the rows of a label that was seen for `log_loss`, and those with probabilities for the others."""
        if probabilities is None:
            return {}
        finite = has_numbers(probabilities)
        with_probabilities = dict.fromkeys(self.OF_PROBABILITIES, int(finite.sum()))
        return {**with_probabilities, "log_loss": int((finite & (truth >= 0)).sum())}

    def losses(
        self, truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """Returns `error` (0 or 1) and, with probabilities, `log_loss` in nats, NaN where the label was never seen."""
        losses = {"error": ((truth != predicted) | (truth < 0)).astype(np.float64)}
        if probabilities is not None:
            losses["log_loss"] = _log_losses(truth, probabilities)
        return losses

    def reliability(
        self, truth: np.ndarray, probabilities: np.ndarray | None, weights: np.ndarray | None = None
    ) -> list[dict[str, float]]:
        """Returns confidence beside accuracy, bin by bin; nothing without probabilities."""
        return [] if probabilities is None else reliability(truth, probabilities, weights=weights)

    def per_label(
        self,
        truth: np.ndarray,
        predicted: np.ndarray,
        probabilities: np.ndarray | None,
        weights: np.ndarray | None = None,
    ) -> list[dict[str, Any]]:
        """Returns `label_table`; labels never seen and invalid answers are in no row of it."""
        labels = np.arange(len(self.field.labels))
        held, answered = truth[:, None] == labels, predicted[:, None] == labels
        return label_table(self.field.labels, held, answered, probabilities, weights)

    def coordinates(self, values: Sequence[Any]) -> Float[np.ndarray, "row label"]:
        """Returns the labels one-hot."""
        return np.eye(len(self.field.labels))[self.as_array(values)]

    def constant_answer(
        self, train: np.ndarray, weights: Float[np.ndarray, " row"]
    ) -> tuple[np.ndarray, np.ndarray | None, str]:
        """Returns the most frequent label, and the labels' shares as probabilities."""
        # One imaginary row of each label, so that no label has probability 0.
        counts = np.bincount(train, weights, minlength=len(self.field.labels)) + 1.0
        probabilities = (counts / counts.sum())[None, :]
        return np.array([int(counts.argmax())]), probabilities, f"label {counts.argmax()}"

    def distribution_of_values(
        self, values: Sequence[Any], probabilities: Float[Tensor, "row value"]
    ) -> PredictiveDistribution:
        """Returns the probability of each label."""
        table = indicators(self.as_array(values).tolist(), len(self.field.labels)).to(probabilities.device)
        return PredictiveDistribution(None, probabilities @ table)

    def stack(
        self,
        director: tuple[np.ndarray, np.ndarray | None],
        writer: tuple[np.ndarray, np.ndarray | None],
        truth: np.ndarray,
    ) -> Mix:
        """Returns the mix with the least log loss."""
        assert director[1] is not None  # labels are answered with probabilities
        assert writer[1] is not None
        return stack_labels(director[1], writer[1], truth)

    def calibrate(self, truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None) -> Calibration:
        """Returns the temperature of the probabilities, and the scores of conformal sets."""
        assert probabilities is not None  # labels are answered with them
        finite = has_numbers(probabilities)
        # An answer without probabilities is as far off as one can be, as that for a label never seen.
        known = np.where(finite[:, None], probabilities, 1 / probabilities.shape[1])
        return calibrate_labels(known, np.where(finite, truth, -1))

    def covered(
        self,
        calibration: Calibration,
        level: float,
        truth: np.ndarray,
        predicted: np.ndarray,
        probabilities: np.ndarray | None,
    ) -> dict[str, np.ndarray]:
        """Returns `coverage` and `set_size` of each row's conformal set."""
        assert probabilities is not None  # labels are answered with them
        chosen = calibration.sets(probabilities, level) & has_numbers(probabilities)[:, None]
        held = chosen[np.arange(len(chosen)), np.maximum(truth, 0)] & (truth >= 0)
        return {"coverage": held, "set_size": chosen.sum(axis=1)}

    @property
    def interval_names(self) -> tuple[str, ...]:
        """The set."""
        return ("set",)

    def interval_columns(
        self, calibration: Calibration, level: float, predicted: np.ndarray, probabilities: np.ndarray | None
    ) -> dict[str, Any]:
        """Returns each row's conformal set as text, with | between the labels; None for an invalid answer."""
        assert probabilities is not None  # asked for with the interval
        texts = set_texts(self.field.labels, calibration.sets(probabilities, level))
        pairs = zip(texts, has_numbers(probabilities).tolist(), strict=True)
        return {"set": [text if is_finite else None for text, is_finite in pairs]}


class LabelMeasure(ExclusiveLabels[Label]):
    """The metrics and losses of a label."""

    NAMES: ClassVar[tuple[str, ...]] = LABEL_METRICS
    LOWER_IS_BETTER: ClassVar[tuple[str, ...]] = ("log_loss", "ece", "set_size")
    HAS_CUT: ClassVar[bool] = True

    @property
    def positive_index(self) -> int | None:
        """The position of the positive one of two labels."""
        return self.field.positive_index

    @property
    def tested(self) -> dict[str, tuple[str, int]]:
        """The losses behind the metrics that paired tests compare."""
        return {"accuracy": ("error", -1), "log_loss": ("log_loss", 1)}

    def metrics(
        self,
        truth: np.ndarray,
        predicted: np.ndarray,
        probabilities: np.ndarray | None,
        exact: np.ndarray | None,
        weights: np.ndarray | None = None,
    ) -> dict[str, float]:
        """Returns `label_metrics`."""
        return label_metrics(truth, predicted, probabilities, positive=self.field.positive_index, weights=weights)

    def relative_error(self, truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None = None) -> float:
        """Returns the error divided by that of always answering the most frequent label; NaN if there is one label."""
        if not len(truth):
            return math.nan
        counted = np.ones(len(truth)) if weights is None else weights
        error = mean_of((truth != predicted) | (truth < 0), counted)
        known = truth >= 0
        constant = 1 - np.bincount(truth[known], counted[known], minlength=1).max() / counted.sum()
        return error / float(constant) if constant > 0 else math.nan


def label_metrics(
    truth: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray | None,
    *,
    positive: int | None = None,
    weights: np.ndarray | None = None,
) -> dict[str, float]:
    """Returns the metrics of labels.

    An invalid answer (−1 in `predicted`) and a label never seen in training (−1 in `truth`) count as wrong. Macro-F1
    is over the labels that occur in the truth or among the predictions, the unseen ones together as one label.
    Balanced accuracy is over the labels of the truth, the unseen ones together as one. Log loss, in nats, is over the
    rows whose label was seen; it, the average precision and the calibration error `ece` are left out without
    probabilities. They are over the rows whose probabilities are numbers.

    Args:
        truth: label positions, shape (row,).
        predicted: label positions, shape (row,).
        probabilities: of each label, shape (row, label), or None.
        positive: the label of the average precision; None for the mean of each label against the rest.
        weights: of the rows, shape (row,), at least 0; None where all count alike.
    """
    unseen = np.int64(-2)  # not −1, or an invalid answer would be right about an unseen label
    if not len(truth):
        names = [name for name in LABEL_METRICS if probabilities is not None or name not in OF_PROBABILITIES]
        return dict.fromkeys(names, math.nan)
    known = np.where(truth < 0, unseen, truth)
    metrics = {
        "accuracy": mean_of(known == predicted, weights),
        "balanced_accuracy": balanced_accuracy(known, predicted, weights),
        "macro_f1": _macro_f1(known, predicted, weights),
    }
    if probabilities is not None:
        metrics["average_precision"] = label_average_precision(truth, probabilities, positive, weights)
        losses = _log_losses(truth, probabilities)
        finite = ~np.isnan(losses)
        metrics["log_loss"] = mean_of(losses[finite], None if weights is None else weights[finite])
        metrics["ece"] = calibration_error(truth, probabilities, weights=weights)
    return metrics


def _macro_f1(truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Returns the mean over the labels of 2 · right / (true + predicted), as scikit-learn's `f1_score` does.

    Intervals need it a thousand times for each method, and scikit-learn takes 1.2 ms for what takes 0.05.

    Args:
        truth: label positions, shape (row,).
        predicted: the same, −1 where the answer was invalid.
        weights: of the rows; None where all count alike.
    """
    labels, positions = np.unique(np.concatenate([truth, predicted]), return_inverse=True)
    of_truth, of_predicted = positions[: len(truth)], positions[len(truth) :]
    same = of_truth == of_predicted
    right = np.bincount(of_truth[same], None if weights is None else weights[same], minlength=len(labels))
    of_sides = [np.bincount(side, weights, minlength=len(labels)) for side in (of_truth, of_predicted)]
    either = of_sides[0] + of_sides[1]
    counted = (labels != -1) & (either > 0)
    scores = 2 * right[counted] / either[counted]
    return float(scores.mean()) if len(scores) else 0.0


def calibration_error(
    truth: np.ndarray, probabilities: np.ndarray, bins: int = CALIBRATION_BINS, weights: np.ndarray | None = None
) -> float:
    """Returns the expected calibration error: how far the confidence lies from the accuracy (arXiv 1706.04599).

    Σ_b n_b / n · |accuracy_b − confidence_b| over bins of equal width of the likeliest label's probability.

    Args:
        truth: label positions, −1 for one never seen, shape (row,).
        probabilities: of each label, shape (row, label).
        bins: how many bins.
        weights: of the rows; None where all count alike.
    """
    filled_bins = reliability(truth, probabilities, bins, weights)
    size = "rows" if weights is None else "weight"
    total = sum(filled[size] for filled in filled_bins)
    gaps = sum(filled[size] * abs(filled["accuracy"] - filled["confidence"]) for filled in filled_bins)
    return gaps / total if total else math.nan


def reliability(
    truth: np.ndarray, probabilities: np.ndarray, bins: int = CALIBRATION_BINS, weights: np.ndarray | None = None
) -> list[dict[str, float]]:
    """Returns for each bin of confidence that has rows how many they are, their mean confidence and their accuracy.

    Args:
        truth: label positions, −1 for one never seen, shape (row,).
        probabilities: of each label, shape (row, label).
        bins: how many bins of equal width.
        weights: of the rows, above 0; None where all count alike.

    Returns:
        `low` and `high` of the bin, `rows`, `confidence` (of the likeliest label) and `accuracy`; with weights, which
        both are means by, also their sum `weight`.
    """
    finite = has_numbers(probabilities)
    truth, probabilities = truth[finite], probabilities[finite]
    right = probabilities.argmax(axis=1) == truth
    return bins_of(probabilities.max(axis=1), right, None if weights is None else weights[finite], bins)


def bins_of(
    confidence: Float[np.ndarray, " row"],
    right: np.ndarray,
    weights: np.ndarray | None = None,
    bins: int = CALIBRATION_BINS,
) -> list[dict[str, float]]:
    """Returns what `reliability` does.

    Args:
        confidence: the probability of each row's answer.
        right: whether it is right, or how right, from 0 to 1, shape (row,).
        weights: as in `reliability`.
        bins: as in `reliability`.
    """
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    filled = []
    for bin_index in np.unique(bin_of).tolist():
        inside = bin_of == bin_index
        of_bin = None if weights is None else weights[inside]
        filled.append(
            {
                "low": bin_index / bins,
                "high": (bin_index + 1) / bins,
                "rows": int(inside.sum()),
                "confidence": mean_of(confidence[inside], of_bin),
                "accuracy": mean_of(right[inside], of_bin),
                **({} if of_bin is None else {"weight": float(of_bin.sum())}),
            }
        )
    return filled


def has_numbers(probabilities: np.ndarray) -> np.ndarray:
    """Returns for which rows every probability is a number, shape (row,); an invalid answer has none."""
    return np.asarray(np.isfinite(probabilities).all(axis=1))


def _log_losses(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    chosen = np.take_along_axis(probabilities, np.maximum(truth, 0)[:, None], axis=1)[:, 0]
    return np.where(truth < 0, np.nan, -np.log(np.clip(chosen, SMALLEST_PROBABILITY, 1.0)))
