"""The metrics of numbers and labels, and the losses of single rows that paired tests take."""

import math
import warnings

import numpy as np
from scipy import stats
from sklearn import metrics as sk

from predgen.errors import unknown_name

NUMBER_METRICS = ("mse", "rmse", "mae", "r2", "pearson", "spearman")
LABEL_METRICS = ("accuracy", "macro_f1", "log_loss", "ece")
# Those that need the probabilities of the labels.
PROBABILITY_METRICS = ("log_loss", "ece")
HIGHER_IS_BETTER = {
    **dict.fromkeys(("mse", "rmse", "mae", "log_loss", "ece"), False),
    **dict.fromkeys(("r2", "pearson", "spearman", "accuracy", "macro_f1"), True),
}
SMALLEST_PROBABILITY = 1e-15
CALIBRATION_BINS = 15


def metric_names(kind: str) -> tuple[str, ...]:
    """Returns the names of a target kind's metrics."""
    return NUMBER_METRICS if kind == "number" else LABEL_METRICS


def check_metric(kind: str, name: str) -> None:
    """Refuses a metric that a target kind does not have.

    Raises:
        UnknownNameError: with the names that it has.
    """
    if name not in metric_names(kind):
        raise unknown_name(f"metric of a {kind}", name, metric_names(kind))


def json_number(value: float) -> float | None:
    """Returns a number that JSON can hold: None for one that is not finite."""
    return float(value) if math.isfinite(value) else None


def number_metrics(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Returns the metrics of numbers over the rows with a valid prediction.

    R² and the correlations are NaN where they are not defined (fewer than two rows, or a side that is constant).

    Args:
        truth: true numbers, shape (row,).
        predicted: predicted numbers, NaN where the answer was invalid, shape (row,).
    """
    valid = np.isfinite(predicted)
    truth, predicted = truth[valid], predicted[valid]
    if not len(truth):
        return dict.fromkeys(NUMBER_METRICS, math.nan)
    mse = float(sk.mean_squared_error(truth, predicted))
    varies = len(truth) > 1 and bool(np.ptp(truth) > 0)
    both_vary = varies and bool(np.ptp(predicted) > 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        warnings.simplefilter("ignore", stats.NearConstantInputWarning)
        return {
            "mse": mse,
            "rmse": math.sqrt(mse),
            "mae": float(sk.mean_absolute_error(truth, predicted)),
            "r2": float(sk.r2_score(truth, predicted)) if varies else math.nan,
            "pearson": float(stats.pearsonr(truth, predicted).statistic) if both_vary else math.nan,
            "spearman": float(stats.spearmanr(truth, predicted).statistic) if both_vary else math.nan,
        }


def label_metrics(truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None) -> dict[str, float]:
    """Returns the metrics of labels.

    An invalid answer (−1 in `predicted`) and a label never seen in training (−1 in `truth`) count as wrong. Macro-F1
    is over the labels that occur in the truth or among the predictions, the unseen ones together as one label.
    Log loss, in nats, is over the rows whose label was seen; it and the calibration error `ece` are left out without
    probabilities.

    Args:
        truth: label positions, shape (row,).
        predicted: label positions, shape (row,).
        probabilities: of each label, shape (row, label), or None.
    """
    unseen = np.int64(-2)  # not −1, or an invalid answer would be right about an unseen label
    if not len(truth):
        return dict.fromkeys(LABEL_METRICS if probabilities is not None else LABEL_METRICS[:2], math.nan)
    known = np.where(truth < 0, unseen, truth)
    labels = [label for label in np.unique(np.concatenate([known, predicted])) if label != -1]
    found = {
        "accuracy": float(np.mean(known == predicted)),
        "macro_f1": float(sk.f1_score(known, predicted, labels=labels, average="macro", zero_division=0.0)),
    }
    if probabilities is not None:
        losses = _log_losses(truth, probabilities)
        found["log_loss"] = float(np.nanmean(losses)) if np.isfinite(losses).any() else math.nan
        found["ece"] = calibration_error(truth, probabilities)
    return found


def calibration_error(truth: np.ndarray, probabilities: np.ndarray, bins: int = CALIBRATION_BINS) -> float:
    """Returns the expected calibration error: how far the confidence lies from the accuracy (arXiv 1706.04599).

    Σ_b n_b / n · |accuracy_b − confidence_b| over bins of equal width of the likeliest label's probability.

    Args:
        truth: label positions, −1 for one never seen, shape (row,).
        probabilities: of each label, shape (row, label).
        bins: how many bins.
    """
    found = reliability(truth, probabilities, bins)
    return sum(one["rows"] * abs(one["accuracy"] - one["confidence"]) for one in found) / len(truth)


def reliability(truth: np.ndarray, probabilities: np.ndarray, bins: int = CALIBRATION_BINS) -> list[dict[str, float]]:
    """Returns for each bin of confidence that has rows how many they are, their mean confidence and their accuracy.

    Args:
        truth: label positions, −1 for one never seen, shape (row,).
        probabilities: of each label, shape (row, label).
        bins: how many bins of equal width.

    Returns:
        `low` and `high` of the bin, `rows`, `confidence` (of the likeliest label) and `accuracy`.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        {
            "low": one / bins,
            "high": (one + 1) / bins,
            "rows": int((bin_of == one).sum()),
            "confidence": float(confidence[bin_of == one].mean()),
            "accuracy": float(right[bin_of == one].mean()),
        }
        for one in np.unique(bin_of).tolist()
    ]


def crps(truth: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Returns the continuous ranked probability score of each row, in the target's unit; lower is better.

    CRPS = 2 ∫₀¹ pinball_q(truth − quantile(q)) dq (Gneiting and Raftery 2007), by the midpoint rule. For a
    distribution that is one value it is the absolute error.

    Args:
        truth: true numbers, shape (row,).
        quantiles: at the shares (i + ½) / n, shape (row, n).
    """
    shares = (np.arange(quantiles.shape[1]) + 0.5) / quantiles.shape[1]
    errors = truth[:, None] - quantiles
    return np.asarray(2 * np.maximum(shares * errors, (shares - 1) * errors).mean(axis=1))


def per_row_losses(
    kind: str, truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Returns the losses of each row whose means are metrics: what paired tests compare.

    Args:
        kind: `number` or `label`.
        truth: as in the metrics.
        predicted: as in the metrics.
        probabilities: as in the metrics.

    Returns:
        `squared_error` and `absolute_error`, NaN where the answer was invalid; or `error` (0 or 1) and, with
        probabilities, `log_loss` in nats, NaN where the label was never seen in training.
    """
    if kind == "number":
        return {"squared_error": (truth - predicted) ** 2, "absolute_error": np.abs(truth - predicted)}
    losses = {"error": ((truth != predicted) | (truth < 0)).astype(np.float64)}
    if probabilities is not None:
        losses["log_loss"] = _log_losses(truth, probabilities)
    return losses


def _log_losses(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    chosen = np.take_along_axis(probabilities, np.maximum(truth, 0)[:, None], axis=1)[:, 0]
    return np.where(truth < 0, np.nan, -np.log(np.clip(chosen, SMALLEST_PROBABILITY, 1.0)))
