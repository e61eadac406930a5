"""Information that is known: the data-processing inequality holds on every table and every Gaussian."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from predgen.errors import DataError
from predgen.information.exact import (
    coarsened,
    correlation_of,
    entropy,
    gaussian_information,
    mutual_information,
    projected_information,
)


@st.composite
def joints(draw: st.DrawFn) -> np.ndarray:
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 8)))
    # Whole numbers, with zeros among them: pairs that never come together.
    counts = draw(arrays(np.int64, shape, elements=st.integers(0, 9)).filter(lambda table: table.sum() > 0))
    return counts / counts.sum()


@given(joints(), st.data())
def test_no_function_of_the_state_says_more(joint: np.ndarray, data: st.DataObject) -> None:
    states = joint.shape[1]
    g = np.array(data.draw(st.lists(st.integers(0, 9), min_size=states, max_size=states)))
    whole, part = mutual_information(joint), mutual_information(coarsened(joint, g))
    assert part <= whole + 1e-12
    assert 0 <= whole <= entropy(joint.sum(axis=1)) + 1e-12
    assert whole <= entropy(joint.sum(axis=0)) + 1e-12


@given(joints(), st.data())
def test_a_one_to_one_function_says_the_same(joint: np.ndarray, data: st.DataObject) -> None:
    g = np.array(data.draw(st.permutations(range(joint.shape[1]))))
    assert mutual_information(coarsened(joint, g)) == pytest.approx(mutual_information(joint), abs=1e-12)


@given(joints())
def test_a_constant_says_nothing(joint: np.ndarray) -> None:
    assert mutual_information(coarsened(joint, np.zeros(joint.shape[1], dtype=int))) == pytest.approx(0, abs=1e-12)


def test_information_is_that_of_the_definition() -> None:
    assert mutual_information(np.eye(4) / 4) == pytest.approx(np.log(4))
    assert mutual_information(np.outer([0.2, 0.8], [0.5, 0.3, 0.2])) == pytest.approx(0, abs=1e-12)
    joint = np.array([[0.4, 0.1], [0.1, 0.4]])  # a channel that errs in a fifth of all cases
    assert mutual_information(joint) == pytest.approx(np.log(2) - entropy(np.array([0.2, 0.8])))
    assert entropy(np.array([1.0, 0.0])) == 0


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_no_projection_of_a_gaussian_says_more(size: int, kept: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((size + 1, size + 3))
    covariance = root @ root.T
    projection = rng.standard_normal((min(kept, size), size))
    whole = projected_information(covariance, np.eye(size))
    assert projected_information(covariance, projection) <= whole + 1e-9
    # A square W that can be undone loses nothing.
    if len(projection) == size:
        assert projected_information(covariance, projection) == pytest.approx(whole, rel=1e-5, abs=1e-9)
    # The same from determinants: I = 1/2 log |Σ_y| |Σ_z| / |Σ|.
    by_volume = 0.5 * np.log(covariance[0, 0] * np.linalg.det(covariance[1:, 1:]) / np.linalg.det(covariance))
    assert whole == pytest.approx(by_volume, rel=1e-4, abs=1e-6)


@given(st.floats(0, 6), st.integers(1, 30))
def test_a_correlation_has_the_information_it_was_made_for(information: float, dimension: int) -> None:
    assert gaussian_information(correlation_of(information, dimension), dimension) == pytest.approx(
        information, abs=1e-9
    )


def test_a_gaussian_of_one_coordinate_is_both_forms() -> None:
    covariance = np.array([[1.0, 0.6], [0.6, 1.0]])
    assert projected_information(covariance, np.eye(1)) == pytest.approx(gaussian_information(0.6))
    assert gaussian_information(0.6) == pytest.approx(-0.5 * np.log(1 - 0.36))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mutual_information(np.array([[0.5, 0.6]])), r"sum to 1, found a sum of 1\.1"),
        (lambda: mutual_information(np.array([[1.5, -0.5]])), r"a least value of -0\.5"),
        (lambda: coarsened(np.eye(2) / 2, np.array([0, -1])), "one value from 0 on"),
        (lambda: projected_information(np.ones((2, 2)), np.eye(1)), "share of 1 of its variance explained"),
        (lambda: gaussian_information(1.0), "between -1 and 1, found 1.0"),
        (lambda: correlation_of(-0.1), "at least 0 nats"),
        (lambda: projected_information(np.eye(3), np.eye(3)), "as many columns as Z has coordinates"),
    ],
)
def test_what_is_no_distribution_is_refused(call: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        call()  # type: ignore[operator]
