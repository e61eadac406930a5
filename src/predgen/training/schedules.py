"""The probability of feeding the model its own token, over training (scheduled sampling, arXiv 1506.03099)."""

import math
from typing import Literal

ScheduleName = Literal["linear", "cosine", "exponential", "inverse_sigmoid", "constant", "adaptive"]
# Where the exponential has fallen to, of 1, at its end; and how steep the sigmoid is.
EXPONENTIAL_END = 0.01
SIGMOID_STEEPNESS = 10.0
# How much one step weighs in the moving average of the Writer's accuracy: about the last 50 steps count.
ACCURACY_RATE = 0.02


def sampling_probability(
    schedule: ScheduleName, *, progress: float, start: float, end: float, fraction: float, accuracy: float = 0.0
) -> float:
    """Returns p at a moment of training.

    With t = min(progress / fraction, 1), p = start + (end − start) · c(t), and the curve c goes from 0 to 1: `linear`
    t; `cosine` (1 − cos πt) / 2; `exponential` 1 − k^t and `inverse_sigmoid` a logistic curve, both scaled to meet
    their ends. `constant`: p = end. `adaptive`: p = end · accuracy, nothing to tune.

    Args:
        schedule: the curve's name.
        progress: share of the optimizer steps that are done, in [0, 1].
        start: p at the first step, in [0, 1].
        end: p from the schedule's end on, in [0, 1].
        fraction: share of the steps until the schedule's end, in (0, 1].
        accuracy: the moving average of the Writer's accuracy after gold prefixes, in [0, 1]; read by `adaptive`.

    Example:
        >>> sampling_probability("linear", progress=0.25, start=0.0, end=1.0, fraction=0.5)
        0.5
    """
    if schedule == "constant":
        return end
    if schedule == "adaptive":
        return end * accuracy
    share = min(progress / fraction, 1.0)
    if schedule == "cosine":
        share = (1 - math.cos(math.pi * share)) / 2
    elif schedule == "exponential":
        share = (1 - EXPONENTIAL_END**share) / (1 - EXPONENTIAL_END)
    elif schedule == "inverse_sigmoid":
        first, last = (_logistic(SIGMOID_STEEPNESS * sign / 2) for sign in (-1, 1))
        share = (_logistic(SIGMOID_STEEPNESS * (share - 0.5)) - first) / (last - first)
    return start + (end - start) * share


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def follow_accuracy(average: float, accuracy: float) -> float:
    """Returns the moving average of the Writer's accuracy after one more step; it begins at 0.

    Args:
        average: before the step.
        accuracy: of the step's tokens that had a choice, after gold prefixes.
    """
    return average + ACCURACY_RATE * (accuracy - average)
