"""One answer from two: how much of it is the Director's, and how much the Writer's distribution's."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from torch import Tensor

Part = TypeVar("Part", Tensor, np.ndarray)
# Below this a probability counts as this, so that its logarithm is finite.
SMALLEST = 1e-12


@dataclass(frozen=True)
class Mix:
    """A weighted sum: intercept + director · D + writer · W, of numbers in the target's unit, or of probabilities.

    Attributes:
        director: the Director's weight.
        writer: the Writer's weight; 0 spares its distribution.
        intercept: in the target's unit; 0 for labels, whose weights sum to 1.
    """

    director: float
    writer: float
    intercept: float = 0.0

    def of(self, director: Part, writer: Part) -> Part:
        """Returns the mixed numbers or probabilities."""
        return self.director * director + self.writer * writer + self.intercept


# Of each of `predgen.names.ANSWER_SOURCES`; `stack` is the mean until it is fitted.
MIXES: dict[str, Mix] = {
    "director": Mix(1.0, 0.0),
    "writer": Mix(0.0, 1.0),
    "mean": Mix(0.5, 0.5),
    "stack": Mix(0.5, 0.5),
}


def stack_numbers(
    director: Float[np.ndarray, " row"], writer: Float[np.ndarray, " row"], truth: Float[np.ndarray, " row"]
) -> Mix:
    """Returns the mix with the least squared error on some rows; its weights are not negative and sum to 1.

    That is stacked regression (Breiman 1996). Free weights and an intercept would fit the noise of few rows.

    Args:
        director: the Director's numbers.
        writer: the Writer's numbers.
        truth: the true ones.
    """
    step, missing = director - writer, truth - writer
    squared = float(step @ step)
    share = min(max(float(step @ missing) / squared, 0.0), 1.0) if squared > 0 else 1.0
    return Mix(share, 1.0 - share)


def stack_labels(
    director: Float[np.ndarray, "row label"], writer: Float[np.ndarray, "row label"], truth: Int[np.ndarray, " row"]
) -> Mix:
    """Returns the mix with the least log loss on some rows; its weights are not negative and sum to 1.

    Args:
        director: the Director's probabilities.
        writer: the Writer's probabilities.
        truth: the true labels' positions; rows of a label never seen, −1, do not count.
    """
    known = np.flatnonzero(truth >= 0)
    if not len(known):
        return MIXES["mean"]
    director_truth, writer_truth = director[known, truth[known]], writer[known, truth[known]]

    def log_loss(share: float) -> float:
        return float(-np.log(np.maximum(share * director_truth + (1 - share) * writer_truth, SMALLEST)).mean())

    minimum = minimize_scalar(log_loss, bounds=(0.0, 1.0), method="bounded")
    share = min((float(minimum.x), 0.0, 1.0), key=log_loss)  # the bounded search stays inside its ends
    return Mix(share, 1.0 - share)


def stack_shares(
    director: Float[np.ndarray, "row label"],
    writer: Float[np.ndarray, "row label"],
    truth: Float[np.ndarray, "row label"],
) -> Mix:
    """Returns the mix with the least cross-entropy on some rows; its weights are not negative and sum to 1.

    Args:
        director: the Director's probabilities.
        writer: the Writer's probabilities.
        truth: the true shares, all of them known.
    """
    if not len(truth):
        return MIXES["mean"]

    def cross_entropy(share: float) -> float:
        return float(
            -(truth * np.log(np.maximum(share * director + (1 - share) * writer, SMALLEST))).sum(axis=1).mean()
        )

    minimum = minimize_scalar(cross_entropy, bounds=(0.0, 1.0), method="bounded")
    share = min((float(minimum.x), 0.0, 1.0), key=cross_entropy)  # the bounded search stays inside its ends
    return Mix(share, 1.0 - share)


HALF = 0.5


def fitted_thresholds(
    probabilities: Float[np.ndarray, "row label"], truth: Float[np.ndarray, "row label"]
) -> Float[np.ndarray, " label"]:
    """Returns for each label the threshold with the best F1 on some rows; one half for a label that has none there.

    Thresholds lie in the middle between two probabilities that stand next to each other. Of several best ones it is the
    one nearest to one half.

    Args:
        probabilities: of each label's being in the set.
        truth: 1 where it is.
    """
    return np.array([_best(scores, held) for scores, held in zip(probabilities.T, truth.T, strict=True)])


def _best(probabilities: Float[np.ndarray, " row"], truth: Float[np.ndarray, " row"]) -> float:
    if not truth.any():
        return HALF
    order = np.argsort(-probabilities, kind="stable")
    ranked, held = probabilities[order], truth[order]
    # F1 if the first k rows are answered, k = 1 … n; a cut is possible where the probability changes.
    f1 = 2 * np.cumsum(held) / (np.arange(1, len(held) + 1) + truth.sum())
    below = np.append(ranked[1:], 0.0)
    cuts = (ranked + below) / 2
    possible = np.append(ranked[1:] < ranked[:-1], True)
    best = f1[possible].max(initial=0.0)
    candidates = cuts[possible & (f1 >= best - 1e-12)]
    return float(candidates[np.argmin(np.abs(candidates - HALF))]) if best > 0 else HALF
