"""The probability of feeding own tokens, over training."""

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predgen.training.schedules import ScheduleName, follow_accuracy, sampling_probability

CURVES = [name for name in get_args(ScheduleName) if name not in ("constant", "adaptive")]
SHARE = st.floats(0, 1)
POSITIVE_SHARE = st.floats(0.01, 1)


def linear(progress: float, start: float = 0.1, end: float = 0.9, fraction: float = 0.5) -> float:
    return sampling_probability("linear", progress=progress, start=start, end=end, fraction=fraction)


def test_linear_goes_from_start_to_end_and_stays() -> None:
    found = [linear(progress) for progress in (0.0, 0.125, 0.25, 0.5, 0.75, 1.0)]
    assert found == pytest.approx([0.1, 0.3, 0.5, 0.9, 0.9, 0.9])


def test_linear_may_fall() -> None:
    assert [linear(progress, 1.0, 0.0, 1.0) for progress in (0.0, 0.25, 1.0)] == [1.0, 0.75, 0.0]


@pytest.mark.parametrize("schedule", CURVES)
@given(progress=SHARE, later=SHARE, start=SHARE, end=SHARE, fraction=POSITIVE_SHARE)
def test_a_curve_goes_from_start_to_end_and_turns_nowhere(
    schedule: ScheduleName, progress: float, later: float, start: float, end: float, fraction: float
) -> None:
    def at(moment: float) -> float:
        return sampling_probability(schedule, progress=moment, start=start, end=end, fraction=fraction)

    path = [at(0.0), *(at(moment) for moment in sorted((progress, later))), at(1.0)]
    assert path == pytest.approx(sorted(path, reverse=end < start), abs=1e-12)
    assert (path[0], path[-1], at(fraction)) == pytest.approx((start, end, end), abs=1e-9)


def test_the_curves_have_their_shapes() -> None:
    def at(schedule: ScheduleName, moment: float) -> float:
        return sampling_probability(schedule, progress=moment, start=0.0, end=1.0, fraction=1.0)

    for moment in (0.1, 0.25, 0.5, 0.8):
        assert at("cosine", moment) == pytest.approx((1 - math.cos(math.pi * moment)) / 2)
        assert at("exponential", moment) == pytest.approx((1 - 0.01**moment) / 0.99)
        # A logistic curve: its odds grow by the same factor in equal times, up to the scaling that meets the ends.
        assert at("inverse_sigmoid", moment) + at("inverse_sigmoid", 1 - moment) == pytest.approx(1)
    assert at("exponential", 0.25) > at("linear", 0.25) > at("cosine", 0.25) > at("inverse_sigmoid", 0.25)


@given(accuracy=SHARE, end=SHARE, progress=SHARE)
def test_adaptive_follows_the_accuracy_up_to_its_largest_value(accuracy: float, end: float, progress: float) -> None:
    found = sampling_probability("adaptive", progress=progress, start=0.3, end=end, fraction=0.5, accuracy=accuracy)
    assert found == end * accuracy


@given(st.lists(SHARE, min_size=1, max_size=50))
def test_the_accuracy_that_is_followed_is_a_moving_average(accuracies: list[float]) -> None:
    average = 0.0
    for accuracy in accuracies:
        average = follow_accuracy(average, accuracy)
    weights = [0.02 * 0.98 ** (len(accuracies) - 1 - step) for step in range(len(accuracies))]
    expected = sum(weight * accuracy for weight, accuracy in zip(weights, accuracies, strict=True))
    assert average == pytest.approx(expected, abs=1e-12)
    assert 0 <= average <= max(accuracies)


@given(progress=SHARE, start=SHARE, end=SHARE, fraction=POSITIVE_SHARE)
def test_constant_is_its_end_throughout(progress: float, start: float, end: float, fraction: float) -> None:
    assert sampling_probability("constant", progress=progress, start=start, end=end, fraction=fraction) == end
