"""Distributions over labels beside the true shares."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial.distance import jensenshannon
from torch import Tensor, from_numpy

from predgen.measures.base import SMALLEST_PROBABILITY, Baseline
from predgen.measures.calibration import Calibration, calibrate_shares
from predgen.measures.choices import Mix, stack_shares
from predgen.measures.distributions import PredictiveDistribution
from predgen.measures.label import ExclusiveLabels, bins_of, has_numbers
from predgen.measures.weighted import mean_of
from predgen.targets.distribution import Distribution

# Shares that are as large as the largest up to rounding are modes too.
ROUNDING = 1e-9


class DistributionMeasure(ExclusiveLabels[Distribution]):
    """What a distribution over labels is worth.

    Arrays hold the share of each label, shape (row, label). The row of an invalid answer is NaN, as is that of a truth
    in which a label has a share that training never saw.
    """

    NAMES: ClassVar[tuple[str, ...]] = ("cross_entropy", "kl", "brier", "jensen_shannon", "accuracy")
    LOWER_IS_BETTER: ClassVar[tuple[str, ...]] = ("cross_entropy", "kl", "brier", "jensen_shannon", "set_size")
    OF_PROBABILITIES: ClassVar[tuple[str, ...]] = ("cross_entropy", "kl", "brier", "jensen_shannon")
    BASELINE: ClassVar[Baseline] = "shares"
    HAS_COORDINATES: ClassVar[bool] = False

    @property
    def tested(self) -> dict[str, tuple[str, int]]:
        """The losses behind the metrics that paired tests compare."""
        return {**{name: (name, 1) for name in self.OF_PROBABILITIES}, "accuracy": ("error", -1)}

    def as_array(self, values: Sequence[Any]) -> np.ndarray:
        """Returns the shares, NaN for None, shape (row, label)."""
        unknown = (math.nan,) * len(self.field.labels)
        rows = [unknown if value is None else value for value in values]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.field.labels))

    def invalid(self, predicted: np.ndarray) -> np.ndarray:
        """Returns which answers are no label."""
        return ~has_numbers(predicted)

    def to_json(self, predicted: np.ndarray) -> list[Any]:
        """Returns the shares; None for each of an invalid answer."""
        return [[None if math.isnan(share) else share for share in row] for row in predicted.tolist()]

    def from_json(self, predicted: Sequence[Any]) -> np.ndarray:
        """Returns the shares that `to_json` described."""
        return np.array(predicted, dtype=np.float64).reshape(len(predicted), len(self.field.labels))

    def rows_behind(self, truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None) -> dict[str, int]:
        """Returns the rows that have known shares and probabilities, for the metrics of these."""
        if probabilities is None:
            return {}
        rows = int((has_numbers(truth) & has_numbers(probabilities)).sum())
        return dict.fromkeys(self.OF_PROBABILITIES, rows)

    def metrics(
        self,
        truth: np.ndarray,
        predicted: np.ndarray,
        probabilities: np.ndarray | None,
        exact: np.ndarray | None,
        weights: np.ndarray | None = None,
    ) -> dict[str, float]:
        """Returns the means over the rows of what `losses` returns, and `accuracy`.

        `accuracy` is the share of rows whose answer is a label with the largest share; of several largest ones each is
        right. An invalid answer, and a truth with a label never seen, count as wrong.
        """
        losses = self.losses(truth, predicted, probabilities)
        means = {name: _mean(rows, weights) for name, rows in losses.items()}
        accuracy = 1 - means.pop("error")
        return {**means, "accuracy": accuracy}

    def losses(
        self, truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None
    ) -> dict[str, np.ndarray]:
        """Returns `error` (0 or 1) and, with probabilities q of the shares p, four more; NaN where one is not known.

        - `cross_entropy`: −Σ p log q in nats, at least the entropy of p;
        - `kl`: Σ p log(p / q) in nats, the cross-entropy less that entropy;
        - `brier`: Σ (p − q)², from 0 to 2 (Brier 1950, with shares in place of outcomes);
        - `jensen_shannon`: the distance of the base 2, from 0 to 1: √(½ KL(p ‖ m) + ½ KL(q ‖ m)) with m = (p + q) / 2
          (Endres and Schindelin 2003), SciPy's `jensenshannon`.
        """
        losses: dict[str, np.ndarray] = {}
        if probabilities is not None:
            logs = np.log(np.clip(probabilities, SMALLEST_PROBABILITY, 1.0))
            losses["cross_entropy"] = -(truth * logs).sum(axis=1)
            losses["kl"] = np.maximum(losses["cross_entropy"] - entropies(truth), 0.0)
            losses["brier"] = ((truth - probabilities) ** 2).sum(axis=1)
            known = has_numbers(truth) & has_numbers(probabilities)
            distances = np.full(len(truth), np.nan)
            if known.any():
                distances[known] = np.nan_to_num(jensenshannon(truth[known], probabilities[known], base=2, axis=1))
            losses["jensen_shannon"] = distances
        losses["error"] = 1.0 - self._is_mode(truth, predicted)
        return losses

    def _is_mode(self, truth: np.ndarray, predicted: np.ndarray) -> Bool[np.ndarray, " row"]:
        chosen = modes_of(predicted)
        shares = np.take_along_axis(truth, np.maximum(chosen, 0)[:, None], axis=1)[:, 0]
        return np.asarray((chosen >= 0) & (shares >= truth.max(axis=1, initial=0.0) - ROUNDING))

    def relative_error(self, truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None = None) -> float:
        """Returns the error divided by that of the label that is right most often; NaN if that makes none."""
        if not len(truth):
            return math.nan
        modes = truth >= np.nan_to_num(truth.max(axis=1, keepdims=True)) - ROUNDING
        held = (modes & has_numbers(truth)[:, None]).T
        constant = 1 - max(mean_of(of_label, weights) for of_label in held)
        error = 1 - mean_of(self._is_mode(truth, predicted), weights)
        return error / constant if constant > 0 else math.nan

    def reliability(
        self, truth: np.ndarray, probabilities: np.ndarray | None, weights: np.ndarray | None = None
    ) -> list[dict[str, float]]:
        """Returns for each bin of confidence the mean share that the likeliest label truly has, as its accuracy."""
        if probabilities is None:
            return []
        known = has_numbers(truth) & has_numbers(probabilities)
        truth, probabilities = truth[known], probabilities[known]
        chosen = probabilities.argmax(axis=1)
        shares = truth[np.arange(len(truth)), chosen]
        return bins_of(probabilities.max(axis=1), shares, None if weights is None else weights[known])

    def per_label(
        self,
        truth: np.ndarray,
        predicted: np.ndarray,
        probabilities: np.ndarray | None,
        weights: np.ndarray | None = None,
    ) -> list[dict[str, Any]]:
        """Returns the figures of each label as that with the largest share, the first of several."""
        return super().per_label(modes_of(truth), modes_of(predicted), probabilities, weights)

    def constant_answer(
        self, train: np.ndarray, weights: Float[np.ndarray, " row"]
    ) -> tuple[np.ndarray, np.ndarray | None, str]:
        """Returns the label with the largest mean share, and the mean shares as probabilities."""
        # One imaginary row of each label, as of plain labels.
        sums = weights @ train + 1.0
        probabilities = (sums / sums.sum())[None, :]
        best = int(sums.argmax())
        return np.array([self.field.one_hot(best)]), probabilities, f"label {best}"

    def distribution_of_values(
        self, values: Sequence[Any], probabilities: Float[Tensor, "row value"]
    ) -> PredictiveDistribution:
        """Returns the probability of each label."""
        return PredictiveDistribution(None, probabilities @ from_numpy(self.as_array(values)).to(probabilities.device))

    def stack(
        self,
        director: tuple[np.ndarray, np.ndarray | None],
        writer: tuple[np.ndarray, np.ndarray | None],
        truth: np.ndarray,
    ) -> Mix:
        """Returns the shares with the least cross-entropy."""
        assert director[1] is not None  # labels are mixed by their probabilities
        assert writer[1] is not None
        known = has_numbers(truth)
        return stack_shares(director[1][known], writer[1][known], truth[known])

    def calibrate(self, truth: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray | None) -> Calibration:
        """Returns the temperature with the least cross-entropy, and the scores of sets that hold the mode."""
        assert probabilities is not None  # labels are answered with them
        finite = has_numbers(probabilities)
        known = np.where(finite[:, None], probabilities, 1 / probabilities.shape[1])
        return calibrate_shares(known, np.where(finite[:, None], truth, np.nan))

    def covered(
        self,
        calibration: Calibration,
        level: float,
        truth: np.ndarray,
        predicted: np.ndarray,
        probabilities: np.ndarray | None,
    ) -> dict[str, np.ndarray]:
        """Returns whether each row's conformal set holds the label with the largest share, and its size."""
        return super().covered(calibration, level, modes_of(truth), modes_of(predicted), probabilities)


def modes_of(shares: Float[np.ndarray, "row label"]) -> Int[np.ndarray, " row"]:
    """Returns the position of the largest share of each row, the first of several; −1 where they are not known."""
    known = has_numbers(shares)
    return np.where(known, np.where(known[:, None], shares, 0.0).argmax(axis=1), -1)


def entropies(shares: Float[np.ndarray, "row label"]) -> Float[np.ndarray, " row"]:
    """Returns the entropy of each row's shares in nats, the least cross-entropy that an answer can have."""
    return -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=1)


def _mean(losses: np.ndarray, weights: np.ndarray | None) -> float:
    """Returns the mean over the rows where a loss is defined; NaN where it is nowhere."""
    defined = np.isfinite(losses)
    return mean_of(losses[defined], None if weights is None else weights[defined])
