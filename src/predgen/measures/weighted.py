"""Means, correlations and ranks of rows that weigh: a weight of 2 is a row that stands there twice."""

import math

import numpy as np
from jaxtyping import Float


def mean_of(values: np.ndarray, weights: Float[np.ndarray, " row"] | None) -> float:
    """Returns the mean of a value for each row, weighted by Σ wᵢ xᵢ / Σ wᵢ if there are weights.

    Args:
        values: shape (row,).
        weights: at least 0; None where all rows count alike.

    Returns:
        NaN where there are no rows, or none that counts.
    """
    if not len(values):
        return math.nan
    if weights is None:
        return float(values.mean())
    total = float(weights.sum())
    return float(weights @ values) / total if total > 0 else math.nan


def correlation(
    a: Float[np.ndarray, " row"], b: Float[np.ndarray, " row"], weights: Float[np.ndarray, " row"] | None
) -> float:
    """Returns Pearson's correlation; NaN where a side is constant.

    Args:
        a: one side.
        b: the other.
        weights: at least 0; None where all rows count alike.
    """
    first, second = a - mean_of(a, weights), b - mean_of(b, weights)
    # Sides of unit size first: squares of tiny numbers would be 0.
    first, second = first / (np.abs(first).max() or 1.0), second / (np.abs(second).max() or 1.0)
    counted = np.ones(len(a)) if weights is None else weights
    spread = math.sqrt(float(counted @ first**2) * float(counted @ second**2))
    return min(max(float(counted @ (first * second)) / spread, -1.0), 1.0) if spread > 0 else math.nan


def ranks(values: Float[np.ndarray, " row"], weights: Float[np.ndarray, " row"] | None) -> Float[np.ndarray, " row"]:
    """Returns each row's mean rank: the weight below it and half of that of its equals.

    Up to a constant ½ they are the ranks that the rows have where each stands there as often as its weight says.

    Args:
        values: what is ranked.
        weights: at least 0; None where all rows count alike.
    """
    _, positions = np.unique(values, return_inverse=True)
    equal = np.bincount(positions, weights)
    return np.asarray((equal.cumsum() - equal / 2)[positions])
