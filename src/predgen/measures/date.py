"""Answers that are dates beside the true ones, in days."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from predgen.measures.base import EXACT_MATCH
from predgen.measures.calibration import Calibration
from predgen.measures.number import INEXACT, NumberMeasure, number_metrics
from predgen.measures.weighted import mean_of
from predgen.targets.date_cells import FIRST_DAY, LAST_DAY, iso_of

# The metrics that are named for their unit, by their names for numbers.
IN_DAYS = {"mse": "mse_days", "rmse": "rmse_days", "mae": "mae_days"}
# How far off an answer may be that still falls into the week before or after the truth.
WEEK = 7
WITHIN_WEEK = "within_7_days"


class DateMeasure(NumberMeasure):
    """What dates are worth. Arrays hold days since 1970-01-01, whole ones, as answers are; NaN is an invalid answer."""

    NAMES: ClassVar[tuple[str, ...]] = (*IN_DAYS.values(), WITHIN_WEEK, "r2", "pearson", "spearman", EXACT_MATCH)
    LOWER_IS_BETTER: ClassVar[tuple[str, ...]] = (*IN_DAYS.values(), "crps", "width")

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics."""
        return self.NAMES

    @property
    def tested(self) -> dict[str, tuple[str, int]]:
        """The losses behind the metrics that paired tests compare."""
        return {
            "mse_days": ("squared_error", 1),
            "mae_days": ("absolute_error", 1),
            WITHIN_WEEK: ("beyond_7_days", -1),
            EXACT_MATCH: (INEXACT, -1),
        }

    def as_array(self, values: Sequence[Any]) -> np.ndarray:
        """Returns days, rounded to whole ones, NaN for None, shape (row,)."""
        return np.asarray(np.rint(super().as_array(values)))

    def unlearned(self, values: np.ndarray) -> np.ndarray:
        """Returns the days that a simple model answers."""
        return np.asarray(np.rint(values))

    def exact(self, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Returns for which rows the answer is the true day."""
        return np.asarray(np.rint(predicted) == truth)

    def metrics(
        self,
        truth: np.ndarray,
        predicted: np.ndarray,
        probabilities: np.ndarray | None,
        exact: np.ndarray | None,
        weights: np.ndarray | None = None,
    ) -> dict[str, float]:
        """Returns the metrics of numbers, errors in days, and `within_7_days`.

        The latter is the share of valid answers that are at most 7 days off; NaN where there are none.
        """
        of_numbers = number_metrics(truth, predicted, exact, weights)
        found = {IN_DAYS.get(name, name): value for name, value in of_numbers.items()}
        beyond = self._beyond(truth, predicted)
        valid = np.isfinite(beyond)
        found[WITHIN_WEEK] = 1 - mean_of(beyond[valid], None if weights is None else weights[valid])
        return {name: found[name] for name in self.NAMES if name in found}

    def losses(
        self, truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """Returns `squared_error`, `absolute_error` and `beyond_7_days` of each row, NaN where it is invalid."""
        return super().losses(truth, predicted, probabilities) | {"beyond_7_days": self._beyond(truth, predicted)}

    def _beyond(self, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        return np.where(np.isnan(predicted), np.nan, np.abs(truth - predicted) > WEEK)

    def constant_answer(self, train: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, str]:
        """Returns the training mean."""
        mean = float(np.average(train, weights=weights))
        return np.array([mean]), None, f"mean {iso_of(mean)}"

    def interval(self, calibration: Calibration, level: float, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ends of each answer's interval as whole days, rounded outwards, inside a declared range.

        Args:
            calibration: the field's.
            level: in (0, 1).
            predicted: the answers, shape (row,).
        """
        low, high = super().interval(calibration, level, predicted)
        return np.floor(low), np.ceil(high)

    def interval_columns(
        self, calibration: Calibration, level: float, predicted: np.ndarray, probabilities: np.ndarray | None
    ) -> dict[str, Any]:
        """Returns both ends as ISO dates; an end that is open, or that no calendar has, is an empty cell."""
        ends = self.interval(calibration, level, predicted)
        return {
            name: [iso_of(day) if FIRST_DAY <= day <= LAST_DAY else None for day in end.tolist()]
            for name, end in zip(self.interval_names, ends, strict=True)
        }
