"""The metrics of numbers, labels and sets of labels, and the losses of single rows that paired tests take."""

import math
import warnings
from collections.abc import Mapping

import numpy as np
from scipy import stats
from sklearn import metrics as sk

from predgen.errors import unknown_name

EXACT_MATCH = "exact_match"
NUMBER_METRICS = ("mse", "rmse", "mae", "r2", "pearson", "spearman", EXACT_MATCH)
LABEL_METRICS = ("accuracy", "macro_f1", "log_loss", "ece")
SET_METRICS = ("micro_f1", "macro_f1", "jaccard", EXACT_MATCH, "hamming_loss", "label_log_loss")
LOG_METRICS = ("mse_log10", *NUMBER_METRICS)
METRICS = {"number": NUMBER_METRICS, "logarithmic": LOG_METRICS, "label": LABEL_METRICS, "set": SET_METRICS}
# Those that need the probabilities of the labels.
PROBABILITY_METRICS = ("log_loss", "ece", "label_log_loss")
# The mean over a record's fields of how far each lies from the best constant answer.
RELATIVE_ERROR = "relative_error"
LOWER_IS_BETTER = (
    *(
        "mse",
        "rmse",
        "mae",
        "mse_log10",
        "log_loss",
        "ece",
        "hamming_loss",
        "label_log_loss",
        "crps",
        "width",
        "set_size",
    ),
    RELATIVE_ERROR,
)
SMALLEST_PROBABILITY = 1e-15
CALIBRATION_BINS = 15


def metric_of(field: str, name: str) -> str:
    """Returns a metric's name; that of a record's field stands before it."""
    return f"{field}.{name}" if field else name


def higher_is_better(name: str) -> bool:
    """Returns whether more of a metric is better; of a record's field it stands after the field's name and a point.

    Example:
        >>> higher_is_better("accuracy"), higher_is_better("mood.log_loss")
        (True, False)
    """
    return name.rpartition(".")[2] not in LOWER_IS_BETTER


def needs_probabilities(name: str) -> bool:
    """Returns whether a metric is one of the probabilities of labels."""
    return name.rpartition(".")[2] in PROBABILITY_METRICS


def metric_names(kinds: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the names of a target's metrics.

    Args:
        kinds: the kind of each field by its name; the only field of a target that is no record has an empty one.

    Example:
        >>> metric_names({"mood": "label", "stars": "number"})[:2]
        ('relative_error', 'mood.accuracy')
    """
    if len(kinds) == 1:
        return METRICS[next(iter(kinds.values()))]
    return (RELATIVE_ERROR, *(metric_of(name, metric) for name, kind in kinds.items() for metric in METRICS[kind]))


def check_metric(kinds: Mapping[str, str], name: str) -> None:
    """Refuses a metric that a target does not have.

    Args:
        kinds: as in `metric_names`.
        name: the metric's.

    Raises:
        UnknownNameError: with the names that it has.
    """
    known = metric_names(kinds)
    if name not in known:
        what = f"a {next(iter(kinds.values()))}" if len(kinds) == 1 else "the record"
        raise unknown_name(f"metric of {what}", name, known)


def json_number(value: float) -> float | None:
    """Returns a number that JSON can hold: None for one that is not finite."""
    return float(value) if math.isfinite(value) else None


def number_metrics(truth: np.ndarray, predicted: np.ndarray, right: np.ndarray | None = None) -> dict[str, float]:
    """Returns the metrics of numbers over the rows with a valid prediction.

    R² and the correlations are NaN where they are not defined (fewer than two rows, or a side that is constant).
    `exact_match` is over all rows, an invalid answer counting as wrong; it is left out without `right`.

    Args:
        truth: true numbers, shape (row,).
        predicted: predicted numbers, NaN where the answer was invalid, shape (row,).
        right: whether an answer is the truth as far as the target's decimals go, shape (row,), or None.
    """
    exact = {} if right is None else {EXACT_MATCH: float(right.mean()) if len(right) else math.nan}
    valid = np.isfinite(predicted)
    truth, predicted = truth[valid], predicted[valid]
    if not len(truth):
        return dict.fromkeys(NUMBER_METRICS[:-1], math.nan) | exact
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
            **exact,
        }


def log_metrics(truth: np.ndarray, predicted: np.ndarray, right: np.ndarray | None = None) -> dict[str, float]:
    """Returns the metrics of numbers above 0, and first `mse_log10`, the squared error of their decimal logarithms.

    Args:
        truth: as in `number_metrics`.
        predicted: as in `number_metrics`.
        right: as in `number_metrics`.
    """
    errors = (np.log10(truth) - np.log10(predicted))[np.isfinite(predicted)] ** 2
    return {"mse_log10": float(errors.mean()) if len(errors) else math.nan, **number_metrics(truth, predicted, right)}


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


def set_metrics(truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None) -> dict[str, float]:
    """Returns the metrics of sets of labels.

    `micro_f1` and `macro_f1` over the labels that occur (Tsoumakas et al. 2010); `jaccard`, the mean over the rows of
    |truth ∩ predicted| / |truth ∪ predicted|, 1 where both are empty; `exact_match`; `hamming_loss`, the share of
    labels that are wrong; `label_log_loss`, the mean binary cross-entropy in nats per label, left out without
    probabilities.

    Args:
        truth: 1 for each label of the row's set, one column more than there are labels: whether it has labels never
            seen in training, shape (row, label + 1).
        predicted: the same for the answers; the last column is 1 where the answer was invalid, so that it is wrong.
        probabilities: of each label's being in the set, shape (row, label), or None.
    """
    if not len(truth):
        return dict.fromkeys(SET_METRICS if probabilities is not None else SET_METRICS[:-1], math.nan)
    both, either = (truth * predicted)[:, :-1], np.maximum(truth, predicted)
    # The last columns mean two things: neither can be right.
    wrong_at_last = truth[:, -1] + predicted[:, -1]
    hits = both.sum(axis=0)
    false = (either[:, :-1] - both).sum(axis=0)
    f1 = 2 * hits / np.maximum(2 * hits + false, 1)
    occurs = hits + false > 0
    last = wrong_at_last.sum()
    per_label = [*f1[occurs], *([0.0] if last else [])]
    losses = _set_losses(truth, predicted)
    total = 2 * hits.sum() + false.sum() + last
    found = {
        "micro_f1": float(2 * hits.sum() / total) if total else 1.0,
        "macro_f1": float(np.mean(per_label)) if per_label else 1.0,
        "jaccard": float(1 - losses["jaccard_error"].mean()),
        "exact_match": float(np.mean((truth == predicted).all(axis=1) & (wrong_at_last == 0))),
        "hamming_loss": float(losses["hamming"].mean()),
    }
    if probabilities is not None:
        found["label_log_loss"] = float(_label_log_losses(truth, probabilities).mean())
    return found


def _set_losses(truth: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """Returns 1 − Jaccard and the share of wrong labels of each row."""
    at_last = truth[:, -1] + predicted[:, -1]
    both = (truth * predicted)[:, :-1].sum(axis=1)
    either = np.maximum(truth, predicted)[:, :-1].sum(axis=1) + at_last
    different = either - both
    return {
        "jaccard_error": np.where(either > 0, 1 - both / np.maximum(either, 1), 0.0),
        # Labels never seen, and invalid answers, count as one more wrong label; a row can have no more than all wrong.
        "hamming": np.minimum(different / (truth.shape[1] - 1), 1.0),
    }


def _label_log_losses(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    clipped = np.clip(probabilities, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    known = truth[:, :-1]
    return np.asarray(-(known * np.log(clipped) + (1 - known) * np.log(1 - clipped)).mean(axis=1))


def relative_error(kind: str, truth: np.ndarray, predicted: np.ndarray) -> float:
    """Returns how far answers lie from the truth, as a share of what the best constant answer to these rows has.

    Squared error of a number (1 − R²) or of its logarithm, error of a label, Hamming loss of a set. An invalid answer
    of a number counts as the constant one. NaN where the truth is constant.

    Args:
        kind: `number`, `logarithmic`, `label` or `set`.
        truth: as in the metrics.
        predicted: as in the metrics.
    """
    if not len(truth):
        return math.nan
    if kind == "logarithmic":
        return relative_error("number", np.log10(truth), np.log10(predicted))
    if kind == "number":
        answered = np.where(np.isfinite(predicted), predicted, truth.mean())
        error, constant = float(np.mean((truth - answered) ** 2)), truth.var()
    elif kind == "label":
        error = float(np.mean((truth != predicted) | (truth < 0)))
        constant = 1 - np.bincount(truth[truth >= 0], minlength=1).max() / len(truth)
    else:
        error = float(_set_losses(truth, predicted)["hamming"].mean())
        shares = truth[:, :-1].mean(axis=0)
        constant = float(np.minimum(shares, 1 - shares).mean())
    return error / float(constant) if constant > 0 else math.nan


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
        kind: `number`, `logarithmic`, `label` or `set`.
        truth: as in the metrics.
        predicted: as in the metrics.
        probabilities: as in the metrics.

    Returns:
        `squared_error` and `absolute_error`, NaN where the answer was invalid, for a logarithmic number also
        `squared_log_error`; or `error` (0 or 1) and, with
        probabilities, `log_loss` in nats, NaN where the label was never seen in training; or `jaccard_error` and
        `hamming` and, with probabilities, `label_log_loss` in nats per label.
    """
    if kind == "set":
        found = _set_losses(truth, predicted)
        if probabilities is not None:
            found["label_log_loss"] = _label_log_losses(truth, probabilities)
        return found
    if kind == "logarithmic":
        log_errors = {"squared_log_error": (np.log10(truth) - np.log10(predicted)) ** 2}
        return log_errors | per_row_losses("number", truth, predicted, None)
    if kind == "number":
        return {"squared_error": (truth - predicted) ** 2, "absolute_error": np.abs(truth - predicted)}
    losses = {"error": ((truth != predicted) | (truth < 0)).astype(np.float64)}
    if probabilities is not None:
        losses["log_loss"] = _log_losses(truth, probabilities)
    return losses


def _log_losses(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    chosen = np.take_along_axis(probabilities, np.maximum(truth, 0)[:, None], axis=1)[:, 0]
    return np.where(truth < 0, np.nan, -np.log(np.clip(chosen, SMALLEST_PROBABILITY, 1.0)))
