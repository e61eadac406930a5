"""What answers of a field are worth beside the truth: the interface of every kind."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from predgen.measures.calibration import Calibration
from predgen.measures.choices import Mix
from predgen.measures.distributions import PredictiveDistribution
from predgen.targets.field import Field

EXACT_MATCH = "exact_match"
SMALLEST_PROBABILITY = 1e-15
FieldKind = TypeVar("FieldKind", bound=Field)
# What a simple linear model of the field is: ridge regression, logistic regression, or one of these for each label.
Baseline = Literal["regression", "classification", "multilabel", "shares"]


class Measure(ABC, Generic[FieldKind]):
    """What answers of one field are worth.

    Answers and truth are arrays, the row first: numbers, positions of labels, or indicators of a set's labels, as
    `as_array` makes them. `predicted` marks invalid answers, `truth` labels that training never saw.

    Args:
        field: what is predicted.

    Attributes:
        NAMES: the metrics of the kind, in order.
        LOWER_IS_BETTER: the metrics that are better when they are lower.
        OF_PROBABILITIES: the metrics that need the probabilities of the labels.
        CORRELATIONS: the metrics that are no means over rows; a paired bootstrap compares them.
        BASELINE: the simple linear model that methods are compared with.
        HAS_COORDINATES: whether estimators of information can read its values.
        HAS_THRESHOLDS: whether labels are answered from a probability on that validation rows choose.
        HAS_CUT: whether one of two labels can be answered from a probability on that validation rows choose.
        HAS_SURENESS: whether an answer has one score of how sure it is, for abstaining.
        DISCRETE: whether it has a few exclusive values, so that its information is an entropy of shares.
    """

    NAMES: ClassVar[tuple[str, ...]]
    LOWER_IS_BETTER: ClassVar[tuple[str, ...]]
    OF_PROBABILITIES: ClassVar[tuple[str, ...]] = ()
    CORRELATIONS: ClassVar[tuple[str, ...]] = ()
    BASELINE: ClassVar[Baseline]
    DISCRETE: ClassVar[bool] = False
    HAS_COORDINATES: ClassVar[bool] = True
    HAS_THRESHOLDS: ClassVar[bool] = False
    HAS_CUT: ClassVar[bool] = False
    HAS_SURENESS: ClassVar[bool] = True

    def __init__(self, field: FieldKind) -> None:
        self.field = field

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics of this field, in order."""
        return self.NAMES

    @property
    def correlations(self) -> tuple[str, ...]:
        """The metrics that paired tests compare by a bootstrap."""
        return self.CORRELATIONS

    @property
    def positive_index(self) -> int | None:
        """The position of the positive one of two exclusive labels; None for all else."""
        return None

    @property
    @abstractmethod
    def tested(self) -> dict[str, tuple[str, int]]:
        """The row loss behind each metric that is a mean over rows, and the sign that turns it into the metric."""

    # ---- arrays

    @abstractmethod
    def as_array(self, values: Sequence[Any]) -> np.ndarray:
        """Returns values as an array; None is an invalid answer, or a label that training never saw."""

    @abstractmethod
    def invalid(self, predicted: np.ndarray) -> np.ndarray:
        """Returns which answers are invalid, shape (row,)."""

    def exact(self, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray | None:
        """Returns whether each answer is the truth as written, shape (row,); None if comparing arrays suffices."""
        return None

    def to_json(self, predicted: np.ndarray) -> list[Any]:
        """Returns answers as JSON holds them."""
        return list(predicted.tolist())

    def from_json(self, predicted: Sequence[Any]) -> np.ndarray:
        """Returns the answers that `to_json` described."""
        return np.array(predicted, dtype=np.float64)

    # ---- metrics and losses

    def rows_behind(self, truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None) -> dict[str, int]:
        """Returns how many rows each metric is over that leaves rows out; the others are over all."""
        return {}

    @abstractmethod
    def metrics(
        self,
        truth: np.ndarray,
        predicted: np.ndarray,
        probabilities: np.ndarray | None,
        exact: np.ndarray | None,
        weights: np.ndarray | None = None,
    ) -> dict[str, float]:
        """Returns the metrics by name; one that is not defined is NaN, one that lacks what it needs is left out.

        Args:
            truth: as `as_array` returns it.
            predicted: as `as_array` returns it.
            probabilities: of each label, shape (row, label), or None.
            exact: as `exact` returns it.
            weights: of the rows, shape (row,), above 0: 2 is a row that stands there twice; None where all count alike.
        """

    @abstractmethod
    def losses(
        self, truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """Returns the losses of each row whose means are metrics; NaN where one is not defined."""

    @abstractmethod
    def relative_error(self, truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None = None) -> float:
        """Returns the error divided by the error of the best constant answer to these rows; NaN if the latter is 0."""

    def reliability(
        self, truth: np.ndarray, probabilities: np.ndarray | None, weights: np.ndarray | None = None
    ) -> list[dict[str, float]]:
        """Returns confidence beside accuracy, bin by bin; nothing for what has no label probabilities."""
        return []

    def per_label(
        self,
        truth: np.ndarray,
        predicted: np.ndarray,
        probabilities: np.ndarray | None,
        weights: np.ndarray | None = None,
    ) -> list[dict[str, Any]]:
        """Returns a row of figures for each label, as `predgen.measures.per_label.label_table`; nothing for numbers."""
        return []

    # ---- simple answers

    @abstractmethod
    def constant_answer(
        self, train: np.ndarray, weights: Float[np.ndarray, " row"]
    ) -> tuple[np.ndarray, np.ndarray | None, str]:
        """Returns the best answer that is the same for every row, its probabilities, and how people call it.

        Args:
            train: the training values, as `learned` returns them.
            weights: of the training rows, 1 on average.

        Returns:
            One row of answers, one of probabilities or None, and a word or two.
        """

    def learned(self, values: np.ndarray) -> np.ndarray:
        """Returns the array that a simple model is trained on, from an array of values."""
        return values

    def unlearned(self, values: np.ndarray) -> np.ndarray:
        """Returns the values of a simple model's outputs, the inverse of `learned`."""
        return values

    def coordinates(self, values: Sequence[Any]) -> Float[np.ndarray, "row coordinate"]:
        """Returns values that are known as estimators of information read them, where `HAS_COORDINATES`."""
        return self.learned(self.as_array(values)).reshape(len(values), -1)

    # ---- distributions, mixes, calibration

    @abstractmethod
    def distribution_of_values(
        self, values: Sequence[Any], probabilities: Float[Tensor, "row value"]
    ) -> PredictiveDistribution:
        """Returns the predictive distribution of the field from probabilities of values, which may recur.

        Args:
            values: the same for every row.
            probabilities: of each value.
        """

    @abstractmethod
    def stack(
        self,
        director: tuple[np.ndarray, np.ndarray | None],
        writer: tuple[np.ndarray, np.ndarray | None],
        truth: np.ndarray,
    ) -> Mix:
        """Returns the shares of two answers that answer some rows best.

        Args:
            director: the Director's answers and probabilities.
            writer: the Writer's.
            truth: the true values.
        """

    def estimate(self, name: str, metric: str, *, enumerable: bool) -> str:
        """Returns how the Writer answers for the field: its `text`, or an estimate from its distribution.

        Args:
            name: what the settings ask for; `auto` leaves it to the metric.
            metric: the one that the field is chosen by.
            enumerable: whether all values are scored.
        """
        return "text"

    def check_estimate(self, name: str) -> None:
        """Refuses an estimate that the field cannot have.

        Raises:
            ConfigError: it cannot.
        """
        return None

    def thresholds(self, truth: np.ndarray, probabilities: np.ndarray) -> Float[np.ndarray, " label"]:
        """Returns from which probability on each label is answered, where `HAS_THRESHOLDS`."""
        return np.zeros(probabilities.shape[1])

    def calibrate(
        self, truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None
    ) -> Calibration | None:
        """Returns what rows teach of the answers' uncertainty; None for a kind that learns nothing.

        Raises:
            DataError: there are too few rows.
        """
        return None

    def covered(
        self,
        calibration: Calibration,
        level: float,
        truth: np.ndarray,
        predicted: np.ndarray,
        probabilities: np.ndarray | None,
    ) -> dict[str, np.ndarray]:
        """Returns for each row whether its interval or set holds the truth (`coverage`), and how large it is."""
        return {}

    def interval(self, calibration: Calibration, level: float, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ends of each answer's interval, NaN for what is no number.

        Args:
            calibration: the field's.
            level: in (0, 1).
            predicted: the answers, shape (row,).
        """
        nothing = np.full(len(predicted), np.nan)
        return nothing, nothing

    # ---- answers as a table's columns

    def interval_columns(
        self, calibration: Calibration, level: float, predicted: np.ndarray, probabilities: np.ndarray | None
    ) -> dict[str, Any]:
        """Returns the columns of an interval or a set of this level by the names in `interval_names`."""
        return {}

    @property
    def interval_names(self) -> tuple[str, ...]:
        """The columns that an interval of this kind adds."""
        return ()


def distribution_of_samples(
    measure: Measure[Any], rows: Sequence[Sequence[Any]], device: torch.device
) -> PredictiveDistribution:
    """Returns what values that were drawn, equally many for each row, say of a field."""
    return PredictiveDistribution.joined(
        [
            measure.distribution_of_values(row, torch.full((1, len(row)), 1 / len(row)).double().to(device))
            for row in rows
        ]
    )


def metric_of(field: str, name: str) -> str:
    """Returns a metric's name; that of a record's field stands before it."""
    return f"{field}.{name}" if field else name


def json_number(value: float) -> float | None:
    """Returns a number that JSON can hold: None for one that is not finite."""
    return float(value) if math.isfinite(value) else None
