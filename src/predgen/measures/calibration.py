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
from predgen.warning_kinds import CalibrationEndWarning, FewCalibrationRowsWarning, PredGenWarning

# Temperatures are sought between 1 / this and this; what comes this near to an end, as a factor, was not found inside.
HOTTEST = 100.0
AT_END = 1.01
# Of fewer rows that chose a temperature, a warning says that its probabilities are mostly the prior's.
FEW_ROWS = 10
# What draws the rows that choose the temperature; the order of the rows in their table plays no part.
SPLIT_SEED = 0
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
        uniform_fraction: how much of the tempered probabilities is the same for every label; 0 for numbers, and in
            artifacts of 0.6.0.
        sureness: of each row how sure its answer was before tempering, −∞ for an invalid one, for abstaining. Empty
            where answers have no such score, and in older artifacts.
        errors: of the same rows |error| in the target's unit, ∞ for an invalid answer; of labels 1 for a wrong one.
    """

    temperature: float
    scores: tuple[float, ...]
    uniform_fraction: float = 0.0
    sureness: tuple[float, ...] = ()
    errors: tuple[float, ...] = ()

    def tempered(self, probabilities: Float[np.ndarray, "row label"]) -> Float[np.ndarray, "row label"]:
        """Returns the calibrated probabilities; their order stays.

        That is (1 − u) · softmax(log p / T) + u / K, with the temperature T, the uniform fraction u and K labels.
        """
        tempered = probabilities
        if self.temperature != 1.0:
            logs = np.log(np.maximum(probabilities, SMALLEST)) / self.temperature
            powers = np.exp(logs - logs.max(axis=1, keepdims=True))
            tempered = np.asarray(powers / powers.sum(axis=1, keepdims=True))
        if self.uniform_fraction == 0.0:
            return tempered
        return (1 - self.uniform_fraction) * tempered + self.uniform_fraction / probabilities.shape[1]

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
    """Returns the calibration of a label: one half of the rows fits the temperature, the other half gives the scores.

    The halves are drawn label by label, whatever the rows' order. n rows of known labels that fit the temperature
    promise no probability above 1 − 1/(n + 2), the rule of succession for n rows that were all right: the uniform
    fraction of K labels is u = K / ((K − 1)(n + 2)), which for two labels makes (n · p + 1) / (n + 2) of p.

    Args:
        probabilities: of each label.
        truth: the true labels' positions, −1 for one never seen in training.

    Raises:
        DataError: there are too few rows.
    """
    # A label never seen is no row of this table.
    return calibrate_shares(probabilities, np.where(truth[:, None] >= 0, np.eye(probabilities.shape[1])[truth], np.nan))


def calibrate_shares(
    probabilities: Float[np.ndarray, "row label"], shares: Float[np.ndarray, "row label"]
) -> Calibration:
    """Returns the calibration of a distribution over labels, as `calibrate_labels` does that of a label.

    The temperature has the least cross-entropy; the scores are those of the label with the largest share, the first of
    several, so that sets hold that one.

    Args:
        probabilities: of each label.
        shares: the true ones; a row of NaN has a label never seen in training.

    Raises:
        DataError: there are too few rows.
    """
    known_rows = np.isfinite(shares).all(axis=1)
    truth = np.where(known_rows, np.where(known_rows[:, None], shares, 0.0).argmax(axis=1), -1)
    _check_rows(len(truth))
    first, second = _halves(probabilities, truth)  # or the scores would be of rows that chose the temperature
    chosen = first[known_rows[first]]
    temperature = temperature_of_shares(probabilities[chosen], shares[chosen])
    num_labels, num_known = probabilities.shape[1], len(chosen)
    uniform = num_labels / ((num_labels - 1) * (num_known + 2)) if num_known else 0.0  # nothing is learned of none
    tempered = Calibration(temperature, (), uniform).tempered(probabilities[second])
    known = truth[second] >= 0
    of_truth = tempered[np.arange(len(tempered)), np.where(known, truth[second], 0)]
    return Calibration(temperature, tuple(np.sort(np.where(known, 1 - of_truth, 1.0)).tolist()), uniform)


def _halves(
    probabilities: Float[np.ndarray, "row label"], truth: Int[np.ndarray, " row"]
) -> tuple[Int[np.ndarray, " first"], Int[np.ndarray, " second"]]:
    """Returns the rows of two halves, drawn label by label; the same rows in another order give the same halves.

    Every other row of one list, in which the rows of a label stand together, in an order drawn from them as sorted by
    their probabilities.
    """
    ranked = np.lexsort((*probabilities.T, truth))
    drawn = np.random.default_rng(SPLIT_SEED).permutation(len(truth))
    order = ranked[drawn][np.argsort(truth[ranked[drawn]], kind="stable")]
    return order[0::2], order[1::2]


def fitted_temperature(probabilities: Float[np.ndarray, "row label"], truth: Int[np.ndarray, " row"]) -> float:
    """Returns the most probable temperature; 1 where no label is known.

    It minimizes Σ −log p_T(y) + ½ (log T)², the log loss in nats of all rows with a known label y, and a normal prior
    of the logarithm: mean 0, deviation 1. A factor of e weighs half a nat, so that few rows cannot move it far.
    """
    known = truth >= 0
    return temperature_of_shares(probabilities[known], np.eye(probabilities.shape[1])[truth[known]])


def temperature_of_shares(
    probabilities: Float[np.ndarray, "row label"], shares: Float[np.ndarray, "row label"]
) -> float:
    """Returns the temperature of `fitted_temperature` for shares p(k), the loss of a row being −Σ_k p(k) log p_T(k)."""
    if not len(shares):
        return 1.0

    def loss(log_temperature: float) -> float:
        tempered = Calibration(float(np.exp(log_temperature)), ()).tempered(probabilities)
        # Row by row first, so that shares of one label have the same sum to the bit as the losses of labels.
        losses = -(shares * np.log(np.maximum(tempered, SMALLEST))).sum(axis=1)
        return float(losses.sum() + log_temperature**2 / 2)

    ends = (-np.log(HOTTEST), np.log(HOTTEST))
    return float(np.exp(minimize_scalar(loss, bounds=ends, method="bounded").x))


def doubt_about(calibration: Calibration) -> PredGenWarning | None:
    """Returns a warning of probabilities that the calibration rows say little of; None where they say enough."""
    if calibration.uniform_fraction == 0.0:
        return None
    temperature, num_rows = calibration.temperature, len(calibration.scores)
    if not AT_END / HOTTEST < temperature < HOTTEST / AT_END:
        return CalibrationEndWarning(
            f"The temperature is {temperature:.3g}, an end of what was searched ({1 / HOTTEST:g} … {HOTTEST:g}), of "
            f"{num_rows} rows: the probabilities are not to be trusted. Check that the calibration rows are rows of "
            "this model's target."
        )
    if num_rows < FEW_ROWS:
        return FewCalibrationRowsWarning(
            f"Only {num_rows} rows measure the calibrated probabilities, and about as many chose the temperature "
            f"({temperature:.3g}): they are mostly a guess. Calibrate on {2 * FEW_ROWS} rows or more."
        )
    return None


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
