"""Mixes of Director and Writer: what is fitted is the best on the rows that it was fitted on."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from predgen.measures.choices import MIXES, Mix, stack_labels, stack_numbers


def test_a_mix_is_a_weighted_sum() -> None:
    assert Mix(0.25, 0.5, 3.0).of(np.array([4.0]), np.array([8.0])).tolist() == [8.0]
    assert MIXES["mean"].of(torch.tensor([1.0]), torch.tensor([3.0])).tolist() == [2.0]
    assert MIXES["director"].of(torch.tensor([1.0]), torch.tensor([3.0])).tolist() == [1.0]
    assert MIXES["writer"].of(torch.tensor([1.0]), torch.tensor([3.0])).tolist() == [3.0]


@given(st.integers(0, 1000), st.integers(1, 30))
def test_a_stack_of_numbers_is_no_worse_than_any_share(seed: int, num_rows: int) -> None:
    draw = np.random.default_rng(seed)
    director, writer, truth = draw.normal(size=(3, num_rows))
    found = stack_numbers(director, writer, truth)
    assert found.director + found.writer == pytest.approx(1)
    assert 0 <= found.director <= 1
    mixes = [Mix(share, 1 - share) for share in np.linspace(0, 1, 21)]
    errors = [float(np.square(mix.of(director, writer) - truth).sum()) for mix in mixes]
    assert np.square(found.of(director, writer) - truth).sum() <= min(errors) + 1e-9


def test_a_stack_of_numbers_finds_the_share_that_they_have() -> None:
    director, writer = np.random.default_rng(0).normal(size=(2, 50))
    found = stack_numbers(director, writer, 0.3 * director + 0.7 * writer)
    assert (found.director, found.writer, found.intercept) == pytest.approx((0.3, 0.7, 0.0))
    # Two that are equal, or one that is not there, leave the Director.
    assert stack_numbers(np.ones(3), np.ones(3), np.array([3.0, 4.0, 9.0])) == MIXES["director"]
    assert stack_numbers(np.ones(3), np.full(3, np.nan), np.arange(3.0)) == MIXES["director"]


@given(st.integers(0, 1000), st.integers(1, 30))
def test_a_stack_of_labels_is_no_worse_than_any_share(seed: int, num_rows: int) -> None:
    draw = np.random.default_rng(seed)
    director, writer = draw.dirichlet([0.5] * 3, size=(2, num_rows))
    truth = draw.integers(-1, 3, size=num_rows)
    found = stack_labels(director, writer, truth)
    assert found.director + found.writer == pytest.approx(1)
    assert 0 <= found.director <= 1
    known = np.flatnonzero(truth >= 0)
    if not len(known):
        assert found == MIXES["mean"]
        return

    def log_loss(mix: Mix) -> float:
        return float(-np.log(np.maximum(mix.of(director, writer)[known, truth[known]], 1e-12)).mean())

    assert log_loss(found) <= min(log_loss(Mix(share, 1 - share)) for share in np.linspace(0, 1, 21)) + 1e-6


def test_the_better_of_two_takes_all() -> None:
    truth = np.array([0, 1, 0, 1])
    good, bad = np.eye(2)[truth] * 0.98 + 0.01, np.full((4, 2), 0.5)
    assert stack_labels(good, bad, truth) == Mix(1.0, 0.0)
    assert stack_labels(bad, good, truth) == Mix(0.0, 1.0)
