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
from predgen.targets.cells import label_key
from predgen.targets.label import Label

LABEL_METRICS = ("accuracy", "macro_f1", "log_loss", "ece")
CALIBRATION_BINS = 15


class ExclusiveLabels(Measure[FieldKind]):
    """What one label of a few is worth: −1 is an invalid answer, or a label that training never saw."""

    OF_PROBABILITIES: ClassVar[tuple[str, ...]] = ("log_loss", "ece")
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
        """Returns the rows of a label that was seen for `log_loss`, and those with probabilities for it and `ece`."""
        if probabilities is None:
            return {}
        finite = has_numbers(probabilities)
        return {"log_loss": int((finite & (truth >= 0)).sum()), "ece": int(finite.sum())}

    def losses(
        self, truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """Returns `error` (0 or 1) and, with probabilities, `log_loss` in nats, NaN where the label was never seen."""
        losses = {"error": ((truth != predicted) | (truth < 0)).astype(np.float64)}
        if probabilities is not None:
            losses["log_loss"] = _log_losses(truth, probabilities)
        return losses

    def reliability(self, truth: np.ndarray, probabilities: np.ndarray | None) -> list[dict[str, float]]:
        """Returns confidence beside accuracy, bin by bin; nothing without probabilities."""
        return [] if probabilities is None else reliability(truth, probabilities)

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

    @property
    def tested(self) -> dict[str, tuple[str, int]]:
        """The losses behind the metrics that paired tests compare."""
        return {"accuracy": ("error", -1), "log_loss": ("log_loss", 1)}

    def metrics(
        self, truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None, exact: np.ndarray | None
    ) -> dict[str, float]:
        """Returns `label_metrics`."""
        return label_metrics(truth, predicted, probabilities)

    def relative_error(self, truth: np.ndarray, predicted: np.ndarray) -> float:
        """Returns the error divided by that of always answering the most frequent label; NaN if there is one label."""
        if not len(truth):
            return math.nan
        error = float(np.mean((truth != predicted) | (truth < 0)))
        constant = 1 - np.bincount(truth[truth >= 0], minlength=1).max() / len(truth)
        return error / float(constant) if constant > 0 else math.nan


def label_metrics(truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None) -> dict[str, float]:
    """Returns the metrics of labels.

    An invalid answer (−1 in `predicted`) and a label never seen in training (−1 in `truth`) count as wrong. Macro-F1
    is over the labels that occur in the truth or among the predictions, the unseen ones together as one label.
    Log loss, in nats, is over the rows whose label was seen; it and the calibration error `ece` are left out without
    probabilities. Both are over the rows whose probabilities are numbers.

    Args:
        truth: label positions, shape (row,).
        predicted: label positions, shape (row,).
        probabilities: of each label, shape (row, label), or None.
    """
    unseen = np.int64(-2)  # not −1, or an invalid answer would be right about an unseen label
    if not len(truth):
        return dict.fromkeys(LABEL_METRICS if probabilities is not None else LABEL_METRICS[:2], math.nan)
    known = np.where(truth < 0, unseen, truth)
    metrics = {"accuracy": float(np.mean(known == predicted)), "macro_f1": _macro_f1(known, predicted)}
    if probabilities is not None:
        losses = _log_losses(truth, probabilities)
        metrics["log_loss"] = float(np.nanmean(losses)) if np.isfinite(losses).any() else math.nan
        metrics["ece"] = calibration_error(truth, probabilities)
    return metrics


def _macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Returns the mean over the labels of 2 · right / (true + predicted), as scikit-learn's `f1_score` does.

    Intervals need it a thousand times for each method, and scikit-learn takes 1.2 ms for what takes 0.05.

    Args:
        truth: label positions, shape (row,).
        predicted: the same, −1 where the answer was invalid.
    """
    labels, positions = np.unique(np.concatenate([truth, predicted]), return_inverse=True)
    of_truth, of_predicted = positions[: len(truth)], positions[len(truth) :]
    right = np.bincount(of_truth[of_truth == of_predicted], minlength=len(labels))
    either = np.bincount(of_truth, minlength=len(labels)) + np.bincount(of_predicted, minlength=len(labels))
    scores = (2 * right / either)[labels != -1]
    return float(scores.mean()) if len(scores) else 0.0


def calibration_error(truth: np.ndarray, probabilities: np.ndarray, bins: int = CALIBRATION_BINS) -> float:
    """Returns the expected calibration error: how far the confidence lies from the accuracy (arXiv 1706.04599).

    Σ_b n_b / n · |accuracy_b − confidence_b| over bins of equal width of the likeliest label's probability.

    Args:
        truth: label positions, −1 for one never seen, shape (row,).
        probabilities: of each label, shape (row, label).
        bins: how many bins.
    """
    filled_bins = reliability(truth, probabilities, bins)
    num_rows = sum(filled["rows"] for filled in filled_bins)
    gaps = sum(filled["rows"] * abs(filled["accuracy"] - filled["confidence"]) for filled in filled_bins)
    return gaps / num_rows if num_rows else math.nan


def reliability(truth: np.ndarray, probabilities: np.ndarray, bins: int = CALIBRATION_BINS) -> list[dict[str, float]]:
    """Returns for each bin of confidence that has rows how many they are, their mean confidence and their accuracy.

    Args:
        truth: label positions, −1 for one never seen, shape (row,).
        probabilities: of each label, shape (row, label).
        bins: how many bins of equal width.

    Returns:
        `low` and `high` of the bin, `rows`, `confidence` (of the likeliest label) and `accuracy`.
    """
    finite = has_numbers(probabilities)
    truth, probabilities = truth[finite], probabilities[finite]
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        {
            "low": bin_index / bins,
            "high": (bin_index + 1) / bins,
            "rows": int((bin_of == bin_index).sum()),
            "confidence": float(confidence[bin_of == bin_index].mean()),
            "accuracy": float(right[bin_of == bin_index].mean()),
        }
        for bin_index in np.unique(bin_of).tolist()
    ]


def has_numbers(probabilities: np.ndarray) -> np.ndarray:
    """Returns for which rows every probability is a number, shape (row,); an invalid answer has none."""
    return np.asarray(np.isfinite(probabilities).all(axis=1))


def _log_losses(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    chosen = np.take_along_axis(probabilities, np.maximum(truth, 0)[:, None], axis=1)[:, 0]
    return np.where(truth < 0, np.nan, -np.log(np.clip(chosen, SMALLEST_PROBABILITY, 1.0)))
