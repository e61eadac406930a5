"""Thresholds of the labels of a set."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from predgen.measures.choices import fitted_thresholds


@settings(max_examples=100)
@given(st.integers(0, 10**6), st.integers(1, 30))
def test_no_threshold_has_a_better_f1(seed: int, rows: int) -> None:
    draw = np.random.default_rng(seed)
    probabilities = draw.integers(0, 8, size=(rows, 3)) / 8 if seed % 2 else draw.random((rows, 3))
    truth = (draw.random((rows, 3)) < 0.4).astype(float)
    found = fitted_thresholds(probabilities, truth)
    for label in range(3):
        if not truth[:, label].any():
            assert found[label] == 0.5
            continue
        of = [
            f1_score(truth[:, label], probabilities[:, label] >= cut, zero_division=0.0)
            for cut in (found[label], *np.unique(probabilities[:, label]), 0.5)
        ]
        assert of[0] >= max(of) - 1e-12


def test_of_several_best_thresholds_the_one_nearest_to_one_half() -> None:
    probabilities = np.array([[0.9], [0.8], [0.1]])
    assert fitted_thresholds(probabilities, np.array([[1.0], [1.0], [0.0]])).tolist() == [0.45]
