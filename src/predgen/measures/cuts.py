"""From which probability on the positive one of two labels is answered: the cut that does best on some rows."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from predgen.measures.choices import HALF

# Values that are nearer than this are equal, however they were summed up.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Cut:
    """A threshold, and what it does on the rows that chose it.

    Attributes:
        threshold: the probability from which on the positive label is answered, in [0, 1].
        value: of the rule on these rows: F1, Youden's J, or the mean cost of a row.
        at_half: the same at the threshold one half.
    """

    threshold: float
    value: float
    at_half: float


def best_cut(
    probabilities: Float[np.ndarray, " row"],
    held: Bool[np.ndarray, " row"],
    rule: str,
    costs: tuple[float, float] | None = None,
) -> Cut:
    """Returns the best of all cuts, each in the middle between two probabilities that stand next to each other.

    `f1` is 2 TP / (2 TP + FP + FN); `youden` is J = TP / P − FP / N (Youden 1950); `cost` is (c₁ FP + c₂ FN) / rows,
    the least of which is best. All rows and no row may be answered so; a probability of exactly 1 always is. Of several
    best cuts it is the one nearest to one half, the lower one of two that are as near.

    Args:
        probabilities: of the positive label, in [0, 1].
        held: whether it is right, in rows of both labels at least once.
        rule: a name in `predgen.names.THRESHOLDS` other than `none`.
        costs: of a false positive and of a false negative, for `cost`.
    """
    cuts = np.array([HALF, *_cuts(probabilities)])
    order = np.argsort(probabilities, kind="stable")
    first = np.searchsorted(probabilities[order], cuts)  # rows from here on are answered with the positive label
    positives = np.concatenate([[0], held[order].cumsum()])
    num_rows, num_held = len(held), int(held.sum())
    right = num_held - positives[first]
    wrong = (num_rows - first) - right
    if rule == "f1":
        values = 2 * right / (right + wrong + num_held)
    elif rule == "youden":
        values = right / num_held - wrong / (num_rows - num_held)
    else:
        assert costs is not None  # the settings say that it is there
        values = -(costs[0] * wrong + costs[1] * (num_held - right)) / num_rows
    best = np.flatnonzero(values[1:] >= values[1:].max() - ROUNDING) + 1
    chosen = best[np.argmin(np.abs(cuts[best] - HALF))]
    sign = -1.0 if rule == "cost" else 1.0
    return Cut(float(cuts[chosen]), float(sign * values[chosen]), float(sign * values[0]))


def cost_threshold(costs: tuple[float, float]) -> float:
    """Returns the best threshold of probabilities that are right: c₁ / (c₁ + c₂) (Elkan 2001).

    Args:
        costs: c₁ of a false positive and c₂ of a false negative.
    """
    return costs[0] / (costs[0] + costs[1])


def _cuts(probabilities: Float[np.ndarray, " row"]) -> Float[np.ndarray, " cut"]:
    """Returns a threshold for each way to part the rows, ascending."""
    found = np.unique(probabilities)
    ends = np.concatenate([[0.0], found, [1.0]])
    middles = (ends[:-1] + ends[1:]) / 2
    # Between two neighbors among the floats there is no middle: the upper one parts them.
    middles = np.where((middles <= ends[:-1]) & (ends[1:] > ends[:-1]), ends[1:], middles)
    return middles[:-1] if found[-1] == 1.0 else middles
