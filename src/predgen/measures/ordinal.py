"""Answers that are labels of a declared order beside the true ones."""

import math
import warnings
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from predgen.measures.label import ExclusiveLabels, label_metrics
from predgen.measures.weighted import mean_of
from predgen.targets.ordinal import Ordinal


class OrdinalMeasure(ExclusiveLabels[Ordinal]):
    """What a label of a declared order is worth; its rank is its position, from 0."""

    NAMES: ClassVar[tuple[str, ...]] = (
        *("accuracy", "mae_ranks", "quadratic_kappa", "balanced_accuracy", "macro_f1"),
        *("average_precision", "log_loss", "ece"),
    )
    LOWER_IS_BETTER: ClassVar[tuple[str, ...]] = ("mae_ranks", "log_loss", "ece", "set_size")
    CORRELATIONS: ClassVar[tuple[str, ...]] = ("quadratic_kappa",)

    @property
    def positive_index(self) -> int | None:
        """The position of the positive one of two labels."""
        return self.field.positive_index

    @property
    def tested(self) -> dict[str, tuple[str, int]]:
        """The losses behind the metrics that paired tests compare."""
        return {"accuracy": ("error", -1), "mae_ranks": ("rank_error", 1), "log_loss": ("log_loss", 1)}

    def metrics(
        self,
        truth: np.ndarray,
        predicted: np.ndarray,
        probabilities: np.ndarray | None,
        exact: np.ndarray | None,
        weights: np.ndarray | None = None,
    ) -> dict[str, float]:
        """Returns the metrics of labels, and two of ranks.

        `mae_ranks` is the mean distance of the ranks, that of an invalid answer the largest there is;
        `quadratic_kappa` is Cohen's kappa with weights that grow with the square of the distance (Cohen 1968), over
        the valid answers, NaN where it is not defined.
        """
        metrics = label_metrics(truth, predicted, probabilities, positive=self.field.positive_index, weights=weights)
        metrics["mae_ranks"] = mean_of(self._rank_errors(truth, predicted), weights)
        metrics["quadratic_kappa"] = self._quadratic_kappa(truth, predicted, weights)
        return {name: metrics[name] for name in self.NAMES if name in metrics}

    def losses(
        self, truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """Returns the losses of labels and `rank_error`, the distance of the ranks."""
        return super().losses(truth, predicted, probabilities) | {"rank_error": self._rank_errors(truth, predicted)}

    def relative_error(self, truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None = None) -> float:
        """Returns the mean distance of the ranks as a share of that of the best constant rank, the median."""
        seen = truth >= 0
        known = truth[seen]
        if not len(known):
            return math.nan
        if weights is None:
            constant = float(np.abs(known - np.median(known)).mean())
        else:  # the distance is least at a rank, so that no mean of two medians need be looked at
            ranks, of_known = np.arange(len(self.field.values)), weights[seen]
            constant = min(mean_of(np.abs(known - rank), of_known) for rank in ranks)
        return mean_of(self._rank_errors(truth, predicted), weights) / constant if constant > 0 else math.nan

    def constant_answer(
        self, train: np.ndarray, weights: Float[np.ndarray, " row"]
    ) -> tuple[np.ndarray, np.ndarray | None, str]:
        """Returns the median rank, and the labels' shares as probabilities."""
        _, probabilities, _ = super().constant_answer(train, weights)
        order = np.argsort(train, kind="stable")
        below = weights[order].cumsum()
        median = int(train[order][np.searchsorted(below, below[-1] / 2)])
        return np.array([median]), probabilities, f"median rank {median}"

    def _rank_errors(self, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Returns the distance of the ranks of each row; invalid answers and unseen labels are furthest off."""
        valid = (truth >= 0) & (predicted >= 0)
        return np.where(valid, np.abs(truth - predicted), len(self.field.values) - 1).astype(np.float64)

    def _quadratic_kappa(self, truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None) -> float:
        from sklearn import metrics as sk  # here, as a prediction does not need it

        valid = (truth >= 0) & (predicted >= 0)
        if not valid.any():
            return math.nan
        ranks = np.arange(len(self.field.values))
        with warnings.catch_warnings():  # where both sides are one and the same label it is not defined
            warnings.simplefilter("ignore")
            sides, of_rows = (truth[valid], predicted[valid]), None if weights is None else weights[valid]
            return float(sk.cohen_kappa_score(*sides, labels=ranks, weights="quadratic", sample_weight=of_rows))
