"""The probability of feeding the model its own token, over training (scheduled sampling, arXiv 1506.03099)."""

import math
from dataclasses import dataclass

from predgen.names import SCHEDULES

# Where the exponential has fallen to, of 1, at its end; and how steep the sigmoid is.
EXPONENTIAL_END = 0.01
SIGMOID_STEEPNESS = 10.0
# How much one step weighs in the moving average of the Writer's accuracy: about the last 50 steps count.
ACCURACY_RATE = 0.02


@dataclass(frozen=True)
class Moment:
    """What a schedule knows at a moment of training.

    Attributes:
        share: t, the share of the way to the schedule's end, in [0, 1].
        start: p at the first step, in [0, 1].
        end: p from the schedule's end on, in [0, 1].
        accuracy: the moving average of the Writer's accuracy after gold prefixes, in [0, 1].
    """

    share: float
    start: float
    end: float
    accuracy: float = 0.0

    def along(self, curve: float) -> float:
        """Returns start + (end − start) · c, for a curve c that goes from 0 to 1."""
        return self.start + (self.end - self.start) * curve


def sampling_probability(
    schedule: str, *, progress: float, start: float, end: float, fraction: float, accuracy: float = 0.0
) -> float:
    """Returns p at a moment of training, where t = min(progress / fraction, 1).

    Args:
        schedule: one of `predgen.names.SCHEDULES`.
        progress: share of the optimizer steps that are done, in [0, 1].
        start: p at the first step, in [0, 1].
        end: p from the schedule's end on, in [0, 1].
        fraction: share of the steps until the schedule's end, in (0, 1].
        accuracy: as in `Moment`.

    Raises:
        UnknownNameError: there is no such schedule.

    Example:
        >>> sampling_probability("linear", progress=0.25, start=0.0, end=1.0, fraction=0.5)
        0.5
    """
    probability: float = SCHEDULES.load(schedule)(Moment(min(progress / fraction, 1.0), start, end, accuracy))
    return probability


def linear(moment: Moment) -> float:
    """Returns p along t."""
    return moment.along(moment.share)


def cosine(moment: Moment) -> float:
    """Returns p along (1 − cos πt) / 2."""
    return moment.along((1 - math.cos(math.pi * moment.share)) / 2)


def exponential(moment: Moment) -> float:
    """Returns p along 1 − k^t, scaled to meet its ends; k is `EXPONENTIAL_END`."""
    return moment.along((1 - EXPONENTIAL_END**moment.share) / (1 - EXPONENTIAL_END))


def inverse_sigmoid(moment: Moment) -> float:
    """Returns p along a logistic curve, scaled to meet its ends; its slope is `SIGMOID_STEEPNESS`."""
    first, last = (_logistic(SIGMOID_STEEPNESS * sign / 2) for sign in (-1, 1))
    return moment.along((_logistic(SIGMOID_STEEPNESS * (moment.share - 0.5)) - first) / (last - first))


def constant(moment: Moment) -> float:
    """Returns the end's p throughout."""
    return moment.end


def adaptive(moment: Moment) -> float:
    """Returns the end's p times the Writer's accuracy; there is nothing to tune."""
    return moment.end * moment.accuracy


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def follow_accuracy(average: float, accuracy: float) -> float:
    """Returns the moving average of the Writer's accuracy after one more step; it begins at 0.

    Args:
        average: before the step.
        accuracy: of the step's tokens that had a choice, after gold prefixes.
    """
    return average + ACCURACY_RATE * (accuracy - average)
