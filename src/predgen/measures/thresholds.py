"""The probability from which on a label is answered as a member of a set."""

import numpy as np
from jaxtyping import Float

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
    return np.array([_best(one, held) for one, held in zip(probabilities.T, truth.T, strict=True)])


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
