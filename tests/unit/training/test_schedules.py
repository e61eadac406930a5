"""The probability of feeding own tokens, over training."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predgen.names import SCHEDULES
from predgen.training.schedules import follow_accuracy, sampling_probability

CURVES = ("linear", "cosine", "exponential", "inverse_sigmoid")
SHARE = st.floats(0, 1)
POSITIVE_SHARE = st.floats(0.01, 1)
MOMENTS = (0.1, 0.25, 0.5, 0.8)


def curve(schedule: str, moment: float) -> float:
    """Returns p on its way from 0 to 1."""
    return sampling_probability(schedule, progress=moment, start=0.0, end=1.0, fraction=1.0)


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(progress=SHARE, start=SHARE, end=SHARE, fraction=POSITIVE_SHARE, accuracy=SHARE)
def test_every_schedule_gives_a_probability(
    schedule: str, progress: float, start: float, end: float, fraction: float, accuracy: float
) -> None:
    probability = sampling_probability(
        schedule, progress=progress, start=start, end=end, fraction=fraction, accuracy=accuracy
    )
    assert -1e-12 <= probability <= 1 + 1e-12


# ── Curves ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_linear_goes_from_start_to_end_and_stays() -> None:
    path = [
        sampling_probability("linear", progress=progress, start=0.1, end=0.9, fraction=0.5)
        for progress in (0.0, 0.125, 0.25, 0.5, 0.75, 1.0)
    ]
    assert path == pytest.approx([0.1, 0.3, 0.5, 0.9, 0.9, 0.9])


@pytest.mark.parametrize("schedule", CURVES)
@given(progress=SHARE, later=SHARE, start=SHARE, end=SHARE, fraction=POSITIVE_SHARE)
def test_a_curve_goes_from_start_to_end_and_turns_nowhere(
    schedule: str, progress: float, later: float, start: float, end: float, fraction: float
) -> None:
    def at(moment: float) -> float:
        return sampling_probability(schedule, progress=moment, start=start, end=end, fraction=fraction)

    path = [at(0.0), *(at(moment) for moment in sorted((progress, later))), at(1.0)]
    assert path == pytest.approx(sorted(path, reverse=end < start), abs=1e-12)
    assert (path[0], path[-1], at(fraction)) == pytest.approx((start, end, end), abs=1e-9)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "inverse_sigmoid"])
def test_the_second_half_mirrors_the_first(schedule: str) -> None:
    for moment in MOMENTS:
        assert curve(schedule, moment) + curve(schedule, 1 - moment) == pytest.approx(1)


def test_cosine_has_a_quarter_of_its_way_after_a_third_of_the_time() -> None:
    assert curve("cosine", 1 / 3) == pytest.approx(0.25)


def test_exponential_leaves_the_same_share_of_its_way_in_equal_times() -> None:
    # Of the way to where it would go without an end: 1 / 0.99, of which it has all but a hundredth at 1.
    left = [1 / 0.99 - curve("exponential", moment) for moment in (0.0, 0.25, 0.5, 0.75, 1.0)]
    shares = [after / before for before, after in itertools.pairwise(left)]
    assert shares == pytest.approx([0.01**0.25] * 4)


def test_the_odds_of_the_inverse_sigmoid_grow_by_the_same_factor_in_equal_times() -> None:
    # Before the scaling that makes it meet 0 and 1, where the logistic curve has 1 / (1 + e⁵) and its complement.
    low = 1 / (1 + math.exp(5))
    raw = [low + (1 - 2 * low) * curve("inverse_sigmoid", moment) for moment in (0.0, 0.25, 0.5, 0.75, 1.0)]
    odds = [probability / (1 - probability) for probability in raw]
    factors = [after / before for before, after in itertools.pairwise(odds)]
    assert factors == pytest.approx([math.exp(2.5)] * 4)


def test_the_curves_differ_as_they_are_described() -> None:
    early = [curve(schedule, 0.25) for schedule in ("exponential", "linear", "cosine", "inverse_sigmoid")]
    assert early == sorted(early, reverse=True)
    assert len(set(early)) == 4


# ── Others ───────────────────────────────────────────────────────────────────────────────────────────────────


@given(moments=st.tuples(SHARE, SHARE), starts=st.tuples(SHARE, SHARE), fraction=POSITIVE_SHARE)
def test_constant_knows_neither_time_nor_start(
    moments: tuple[float, float], starts: tuple[float, float], fraction: float
) -> None:
    probabilities = {
        sampling_probability("constant", progress=moment, start=start, end=0.3, fraction=fraction)
        for moment in moments
        for start in starts
    }
    assert probabilities == {0.3}


@given(accuracies=st.tuples(SHARE, SHARE), progress=SHARE, start=SHARE)
def test_adaptive_rises_with_the_accuracy_alone_up_to_its_end(
    accuracies: tuple[float, float], progress: float, start: float
) -> None:
    def at(accuracy: float, moment: float = progress) -> float:
        return sampling_probability("adaptive", progress=moment, start=start, end=0.8, fraction=0.5, accuracy=accuracy)

    low, high = sorted(accuracies)
    assert 0 == at(0.0) <= at(low) <= at(high) <= at(1.0) == 0.8
    assert at(low) == at(low, 0.0)


@given(st.lists(SHARE, min_size=1, max_size=50))
def test_the_accuracy_that_is_followed_stays_among_what_was_measured(accuracies: list[float]) -> None:
    average = 0.0
    for accuracy in accuracies:
        before, average = average, follow_accuracy(average, accuracy)
        assert min(before, accuracy) - 1e-12 <= average <= max(before, accuracy) + 1e-12


def test_the_accuracy_that_is_followed_is_of_about_the_last_fifty_steps() -> None:
    average = 0.0
    for _ in range(50):
        average = follow_accuracy(average, 1.0)
    assert average == pytest.approx(1 - math.exp(-1), abs=0.01)
    for _ in range(500):
        average = follow_accuracy(average, 1.0)
    assert average == pytest.approx(1, abs=1e-4)
