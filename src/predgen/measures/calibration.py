"""Probabilities and intervals that can be promised, from rows that nothing else was chosen on.

Probabilities of labels are tempered (Guo et al., arXiv 1706.04599); intervals of numbers and sets of labels are split
conformal (Vovk et al., 2005), computed by `crepes`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize_scalar

from predgen.errors import ConfigError, DataError, explain, require

# Temperatures are sought between 1 / this and this.
HOTTEST = 100.0
# Below this a probability counts as this, so that its logarithm is finite.
SMALLEST = 1e-12
MIN_ROWS = 2
# What rounding may take from a level: 0.9 of ten places are nine.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Calibration:
    """A calibration that was fitted on rows of its own.

    Attributes:
        temperature: what the logarithms of label probabilities are divided by; 1 for numbers.
        scores: how far off the answers were, ascending: |error| in the target's unit, or 1 − P(true label).
    """

    temperature: float
    scores: tuple[float, ...]

    def tempered(self, probabilities: Float[np.ndarray, "row label"]) -> Float[np.ndarray, "row label"]:
        """Returns the probabilities at the temperature; their order stays."""
        if self.temperature == 1.0:
            return probabilities
        logs = np.log(np.maximum(probabilities, SMALLEST)) / self.temperature
        powers = np.exp(logs - logs.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def check(self, level: float) -> None:
        """Refuses a level that so few rows cannot promise, and any where crepes is missing.

        Raises:
            ConfigError: it is none, or it needs more calibration rows.
            MissingPackageError: with the line that installs it.
        """
        if not 0 < level < 1:
            raise ConfigError(f"Expected an interval level between 0 and 1, such as 0.9, found {level:g}.")
        require("crepes", extra="conformal", what="an interval or a set of labels (--interval)")
        num_rows = len(self.scores)
        if level * (num_rows + 1) > num_rows + ROUNDING:
            needed = int(np.ceil(level / (1 - level) - ROUNDING))
            raise ConfigError(
                f"Expected at least {needed} calibration rows for the level {level:g}, found {num_rows}. Calibrate on "
                "more rows, or lower the level."
            )

    def interval(
        self, predicted: Float[np.ndarray, " row"], level: float
    ) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " row"]]:
        """Returns the low and the high end of intervals that hold the truth with at least this probability.

        The promise holds on average over rows and calibrations, for rows that are drawn as the calibration rows were.

        Args:
            predicted: the answers.
            level: in (0, 1).

        Raises:
            PredGenError: as `check`.
        """
        self.check(level)
        from crepes import ConformalRegressor

        ends = ConformalRegressor().fit(np.array(self.scores)).predict_int(predicted, confidence=level - ROUNDING)
        return ends[:, 0], ends[:, 1]

    def sets(self, probabilities: Float[np.ndarray, "row label"], level: float) -> Bool[np.ndarray, "row label"]:
        """Returns which labels are in sets that hold the truth with at least this probability, as `interval`.

        Args:
            probabilities: at the temperature.
            level: in (0, 1).
        """
        self.check(level)
        from crepes import ConformalClassifier

        classifier = ConformalClassifier().fit(np.array(self.scores))
        return np.asarray(
            classifier.predict_set(1 - probabilities, confidence=level - ROUNDING, smoothing=False), dtype=bool
        )


def calibrate_numbers(predicted: Float[np.ndarray, " row"], truth: Float[np.ndarray, " row"]) -> Calibration:
    """Returns what rows of a number teach.

    Args:
        predicted: the answers; invalid ones are NaN, and count as infinitely far off.
        truth: the true numbers.

    Raises:
        DataError: there are too few rows.
    """
    _check_rows(len(truth))
    errors = np.abs(predicted - truth)
    return Calibration(1.0, tuple(np.sort(np.where(np.isnan(errors), np.inf, errors)).tolist()))


def calibrate_labels(probabilities: Float[np.ndarray, "row label"], truth: Int[np.ndarray, " row"]) -> Calibration:
    """Returns the calibration of a label: every other row fits the temperature, the remaining rows give the scores.

    Args:
        probabilities: of each label.
        truth: the true labels' positions, −1 for one never seen in training.

    Raises:
        DataError: there are too few rows.
    """
    _check_rows(len(truth))
    first, second = slice(0, None, 2), slice(1, None, 2)  # or the scores would be of rows that chose the temperature
    temperature = fitted_temperature(probabilities[first], truth[first])
    tempered = Calibration(temperature, ()).tempered(probabilities[second])
    known = truth[second] >= 0
    of_truth = tempered[np.arange(len(tempered)), np.where(known, truth[second], 0)]
    return Calibration(temperature, tuple(np.sort(np.where(known, 1 - of_truth, 1.0)).tolist()))


def fitted_temperature(probabilities: Float[np.ndarray, "row label"], truth: Int[np.ndarray, " row"]) -> float:
    """Returns the temperature with the least log loss; 1 where no label is known."""
    known = truth >= 0
    if not known.any():
        return 1.0

    def log_loss(log_temperature: float) -> float:
        tempered = Calibration(float(np.exp(log_temperature)), ()).tempered(probabilities[known])
        return float(-np.log(np.maximum(tempered[np.arange(len(tempered)), truth[known]], SMALLEST)).mean())

    ends = (-np.log(HOTTEST), np.log(HOTTEST))
    return float(np.exp(minimize_scalar(log_loss, bounds=ends, method="bounded").x))


def set_texts(values: Sequence[Any], chosen: Bool[np.ndarray, "row label"]) -> list[str]:
    """Returns each row's set of labels as text, in the target's order, with | between them."""
    return ["|".join(str(value) for value, held in zip(values, row, strict=True) if held) for row in chosen]


def _check_rows(num_rows: int) -> None:
    if num_rows < MIN_ROWS:
        raise DataError(
            explain(
                expected=f"at least {MIN_ROWS} rows to calibrate on",
                found=str(num_rows),
                fix="Give more rows.",
            )
        )
