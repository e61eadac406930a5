"""Answers that are numbers beside the true ones."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from predgen.errors import ConfigError
from predgen.measures.base import EXACT_MATCH, Baseline, Measure, json_number
from predgen.measures.calibration import Calibration, calibrate_numbers
from predgen.measures.choices import Mix, stack_numbers
from predgen.measures.distributions import ESTIMATE_OF_METRIC, NumberDistribution, PredictiveDistribution, indicators
from predgen.measures.weighted import correlation, mean_of, ranks
from predgen.targets.number import Number, learned, unlearned, written_value

NUMBER_METRICS = ("mse", "rmse", "mae", "r2", "pearson", "spearman", EXACT_MATCH)
LOG_METRICS = ("mse_log10", *NUMBER_METRICS)
# The loss of `exact_match`: 1 where an answer is not the truth.
INEXACT = "inexact"
# What a computed number such as 0.1 + 0.2 may be off by, as a share of it.
FLOAT_ERROR = 4e-16


class NumberMeasure(Measure[Number]):
    """What numbers are worth: NaN is an invalid answer. A logarithmic one is also measured by its logarithm."""

    NAMES: ClassVar[tuple[str, ...]] = NUMBER_METRICS
    LOWER_IS_BETTER: ClassVar[tuple[str, ...]] = ("mse", "rmse", "mae", "mse_log10", "crps", "width")
    CORRELATIONS: ClassVar[tuple[str, ...]] = ("pearson", "spearman")
    BASELINE: ClassVar[Baseline] = "regression"

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics, `mse_log10` first where the number is logarithmic."""
        return LOG_METRICS if self.field.logarithmic else NUMBER_METRICS

    @property
    def correlations(self) -> tuple[str, ...]:
        """The correlations; Pearson's says little of a number that spans orders of magnitude."""
        return ("spearman",) if self.field.logarithmic else self.CORRELATIONS

    @property
    def tested(self) -> dict[str, tuple[str, int]]:
        """The losses behind the metrics that paired tests compare."""
        squared = {"mse_log10": ("squared_log_error", 1)} if self.field.logarithmic else {"mse": ("squared_error", 1)}
        return {**squared, "mae": ("absolute_error", 1), EXACT_MATCH: (INEXACT, -1)}

    def as_array(self, values: Sequence[Any]) -> np.ndarray:
        """Returns numbers, NaN for None, shape (row,)."""
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    def invalid(self, predicted: np.ndarray) -> np.ndarray:
        """Returns which answers are NaN."""
        return np.asarray(np.isnan(predicted))

    def exact(self, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Returns for which rows the answer, as it is written, is the truth as it stands in the table."""
        written = [
            written_value(self.field.to_text(answer)) if math.isfinite(answer) else math.nan
            for answer in predicted.tolist()
        ]
        return np.asarray(np.isclose(written, truth, rtol=FLOAT_ERROR, atol=0.0))

    def to_json(self, predicted: np.ndarray) -> list[Any]:
        """Returns the numbers, null for an invalid one."""
        return [json_number(float(value)) for value in predicted.tolist()]

    def from_json(self, predicted: Sequence[Any]) -> np.ndarray:
        """Returns the numbers that `to_json` described."""
        return self.as_array(predicted)

    def metrics(
        self,
        truth: np.ndarray,
        predicted: np.ndarray,
        probabilities: np.ndarray | None,
        exact: np.ndarray | None,
        weights: np.ndarray | None = None,
    ) -> dict[str, float]:
        """Returns `number_metrics`, or `log_metrics` of a logarithmic number."""
        return (log_metrics if self.field.logarithmic else number_metrics)(truth, predicted, exact, weights)

    def rows_behind(self, truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None) -> dict[str, int]:
        """Returns the rows with a valid answer for all metrics but `exact_match`."""
        return dict.fromkeys(
            (name for name in self.names if name != EXACT_MATCH), int((~self.invalid(predicted)).sum())
        )

    def losses(
        self, truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """Returns `squared_error` and `absolute_error` of each row, of a logarithmic number first `squared_log_error`.

        NaN where the answer was invalid.
        """
        losses = {"squared_error": (truth - predicted) ** 2, "absolute_error": np.abs(truth - predicted)}
        if not self.field.logarithmic:
            return losses
        return {"squared_log_error": (np.log10(truth) - np.log10(predicted)) ** 2, **losses}

    def relative_error(self, truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None = None) -> float:
        """Returns 1 − R² of the learned numbers (or logarithms); an invalid answer counts as the constant one."""
        return number_relative_error(learned(self.field, truth), learned(self.field, predicted), weights)

    def constant_answer(
        self, train: np.ndarray, weights: Float[np.ndarray, " row"]
    ) -> tuple[np.ndarray, np.ndarray | None, str]:
        """Returns the training mean."""
        mean = np.average(train, weights=weights)
        return np.array([mean]), None, f"mean {mean:.4g}"

    def learned(self, values: np.ndarray) -> np.ndarray:
        """Returns the numbers, or their logarithms."""
        return learned(self.field, values)

    def unlearned(self, values: np.ndarray) -> np.ndarray:
        """Returns the numbers of learned ones, the inverse of `learned`."""
        return unlearned(self.field, values)

    def distribution_of_values(
        self, values: Sequence[Any], probabilities: Float[Tensor, "row value"]
    ) -> PredictiveDistribution:
        """Returns the distribution of the numbers."""
        numbers = sorted(set(values))
        table = indicators([numbers.index(value) for value in values], len(numbers)).to(probabilities.device)
        summed = probabilities @ table
        support = torch.tensor(numbers, dtype=torch.float64, device=probabilities.device).expand_as(summed)
        return PredictiveDistribution(NumberDistribution(support, summed, torch.ones_like(summed[:, 0])))

    def stack(
        self,
        director: tuple[np.ndarray, np.ndarray | None],
        writer: tuple[np.ndarray, np.ndarray | None],
        truth: np.ndarray,
    ) -> Mix:
        """Returns the mix with the least squared error of the learned numbers (or logarithms)."""
        return stack_numbers(*(learned(self.field, numbers) for numbers in (director[0], writer[0], truth)))

    def estimate(self, name: str, metric: str, *, enumerable: bool) -> str:
        """Returns the best estimate for the metric where all numbers are scored, unless another is asked for."""
        if name != "auto":
            return name
        best = ESTIMATE_OF_METRIC.get(metric, ESTIMATE_OF_METRIC[self.field.default_metric])
        return best if enumerable else "text"

    def check_estimate(self, name: str) -> None:
        """Refuses the geometric mean of numbers that are not all above 0.

        Raises:
            ConfigError: they are not.
        """
        if name == "geometric_mean" and self.field.low <= 0:
            raise ConfigError(
                f"Expected numbers above 0 for the estimate geometric_mean, found a range from {self.field.low:.15g}. "
                "Use the mean, or declare a range above 0."
            )

    def calibrate(self, truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None) -> Calibration:
        """Returns how far off the answers were, as learned."""
        return calibrate_numbers(learned(self.field, predicted), learned(self.field, truth))

    def covered(
        self,
        calibration: Calibration,
        level: float,
        truth: np.ndarray,
        predicted: np.ndarray,
        probabilities: np.ndarray | None,
    ) -> dict[str, np.ndarray]:
        """Returns `coverage` and `width`, in the target's unit, of each row's interval."""
        low, high = self.interval(calibration, level, predicted)
        return {"coverage": (low <= truth) & (truth <= high), "width": high - low}

    def interval(self, calibration: Calibration, level: float, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ends of each answer's interval, inside a declared range.

        The interval of a logarithmic number is symmetric on its logarithm.

        Args:
            calibration: the field's.
            level: in (0, 1).
            predicted: the answers, shape (row,).
        """
        ends = calibration.interval(learned(self.field, predicted), level)
        low, high = (unlearned(self.field, end) for end in ends)
        if self.field.declared:  # an inferred range promises nothing
            low, high = np.clip(low, self.field.low, None), np.clip(high, None, self.field.high)
        return low, high

    @property
    def interval_names(self) -> tuple[str, ...]:
        """The two ends."""
        return ("low", "high")

    def interval_columns(
        self, calibration: Calibration, level: float, predicted: np.ndarray, probabilities: np.ndarray | None
    ) -> dict[str, Any]:
        """Returns both ends.

        Where invalid calibration answers leave an end open, the cell is empty: files hold no infinity.
        """
        ends = self.interval(calibration, level, predicted)
        return {
            name: np.where(np.isfinite(end), end, np.nan) for name, end in zip(self.interval_names, ends, strict=True)
        }


def number_relative_error(truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Returns 1 − R², an invalid answer counting as the mean; NaN where the truth is constant."""
    if not len(truth):
        return math.nan
    mean = mean_of(truth, weights)
    answered = np.where(np.isfinite(predicted), predicted, mean)
    error, constant = mean_of((truth - answered) ** 2, weights), mean_of((truth - mean) ** 2, weights)
    return error / constant if constant > 0 else math.nan


def number_metrics(
    truth: np.ndarray,
    predicted: np.ndarray,
    right: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> dict[str, float]:
    """Returns the metrics of numbers over the rows with a valid prediction.

    R² and the correlations are NaN where they are not defined (fewer than two rows, or a side that is constant).
    `exact_match` is over all rows, an invalid answer counting as wrong; it is left out without `right`. The values are
    those of scikit-learn and SciPy, whose checks take far longer than the sums: intervals need a thousand of each.

    Args:
        truth: true numbers, shape (row,).
        predicted: predicted numbers, NaN where the answer was invalid, shape (row,).
        right: whether an answer as it is written equals the truth, shape (row,), or None.
        weights: of the rows, shape (row,), above 0; None where all count alike.
    """
    exact = {} if right is None else {EXACT_MATCH: mean_of(right, weights)}
    valid = np.isfinite(predicted)
    truth, predicted, weights = truth[valid], predicted[valid], None if weights is None else weights[valid]
    if not len(truth):
        return dict.fromkeys(NUMBER_METRICS[:-1], math.nan) | exact
    mse = mean_of((truth - predicted) ** 2, weights)
    varies = len(truth) > 1 and bool(np.ptp(truth) > 0)
    both_vary = varies and bool(np.ptp(predicted) > 0)
    return {
        "mse": mse,
        "rmse": math.sqrt(mse),
        "mae": mean_of(np.abs(truth - predicted), weights),
        "r2": 1 - mse / mean_of((truth - mean_of(truth, weights)) ** 2, weights) if varies else math.nan,
        "pearson": correlation(truth, predicted, weights) if both_vary else math.nan,
        "spearman": correlation(ranks(truth, weights), ranks(predicted, weights), weights) if both_vary else math.nan,
        **exact,
    }


def log_metrics(
    truth: np.ndarray,
    predicted: np.ndarray,
    right: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> dict[str, float]:
    """Returns the metrics of numbers above 0, and first `mse_log10`, the squared error of their decimal logarithms.

    Args:
        truth: as in `number_metrics`.
        predicted: as in `number_metrics`.
        right: as in `number_metrics`.
        weights: as in `number_metrics`.
    """
    valid = np.isfinite(predicted)
    errors = (np.log10(truth) - np.log10(predicted))[valid] ** 2
    mean = mean_of(errors, None if weights is None else weights[valid])
    return {"mse_log10": mean, **number_metrics(truth, predicted, right, weights)}


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


def spread_metrics(
    spread: Float[np.ndarray, " row"], deviations: Float[np.ndarray, " row"] | None, rows: np.ndarray
) -> dict[str, float]:
    """Returns how far annotators are from each other, and whether the answers are less sure where they are further.

    `annotators_std` is the mean of their standard deviations, in the target's unit. `std_spearman` is the rank
    correlation of these and the standard deviations of the Writer's distributions; it is left out without the latter.

    Args:
        spread: the standard deviation of each row's annotators; NaN where there were fewer than two.
        deviations: of the Writer's distribution of each row; None where there is none.
        rows: the positions of the rows.
    """
    from scipy import stats  # here, as a prediction does not need it

    known = rows[np.isfinite(spread[rows])]
    metrics = {"annotators_std": float(spread[known].mean()) if len(known) else math.nan}
    if deviations is not None:
        known = known[np.isfinite(deviations[known])]
        vary = len(known) > 1 and np.ptp(spread[known]) > 0 and np.ptp(deviations[known]) > 0
        found = stats.spearmanr(spread[known], deviations[known]).statistic if vary else math.nan
        metrics["std_spearman"] = float(found)
    return metrics
